"""REST of TensorFlow Serving where the connection breaks."""

import socket
import struct
import threading

import pytest

from sep_tf.runtimes import serving_rest
from sep_tf.runtimes.serving import RequestError


def test_any_name_of_a_model_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(
        serving_rest.RestTransport, "_ask", lambda self, path, *_: asked.append(path) or {}
    )
    transport = serving_rest.RestTransport("http://127.0.0.1:1")
    with pytest.raises(RequestError, match="no version"):
        transport.status("mon modèle/1", 5.0)
    transport.predict("mon modèle/1", "info", {}, 5.0)
    path = "/v1/models/mon%20mod%C3%A8le%2F1"
    assert asked == [path, f"{path}:predict"]


@pytest.fixture
def broken():
    """Address of a server that begins to say 503 and resets the connection."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer():
        peer, _ = listening.accept()
        peer.recv(65_536)
        peer.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\nbus")
        # To linger for no time is to reset.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    thread.join(5)
    listening.close()


def test_an_error_that_breaks_off_may_be_tried_again(broken):
    with pytest.raises(RequestError, match="status 503") as caught:
        serving_rest.RestTransport(broken).status("sin", 5.0)
    assert caught.value.passing
