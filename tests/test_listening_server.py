"""Listening tests: the server, and the report it ends in."""

import contextlib
import http.client
import json
import re
import threading

import listening
import pytest
from listening import ABOUT, answer

from sep_tf import cli
from sep_tf.listening_test import builder, server, store

pytest.importorskip("pyloudnorm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    evaluation = listening.make_evaluation(tmp_path_factory.mktemp("evaluation"))
    out = tmp_path_factory.mktemp("served") / "test"
    argv = ["listen", "build", str(evaluation), f"--output_dir={out}", "--questions=1"]
    assert cli.main(argv) == 0
    return out


@contextlib.contextmanager
def running(folder):
    served = server.Server(folder, "127.0.0.1", 0)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        served.shutdown()
        thread.join()
        served.server_close()


@pytest.fixture(scope="module")
def served(folder):
    with running(folder) as started:
        yield started


def ask(served, method, path, body=None, **headers):
    """(status, headers, body) of a request that is sent as it is."""
    connection = http.client.HTTPConnection(*served.server_address[:2], timeout=10)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()


def post(served, path, value, **headers):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    headers = {"Content_Type": "application/json", "Content_Length": str(len(body))} | headers
    status, _, reply = ask(served, "POST", path, body, **headers)
    return status, json.loads(reply)


def test_the_site_is_served_and_nothing_else(served, folder):
    status, headers, body = ask(served, "GET", "/")
    assert status == 200 and body == (folder / "site" / "index.html").read_bytes()
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    clip = next((folder / "site" / "clips").iterdir())
    status, headers, body = ask(served, "GET", f"/clips/{clip.name}")
    assert (status, headers["Content-Type"], body) == (200, "audio/flac", clip.read_bytes())
    assert ask(served, "HEAD", f"/clips/{clip.name}")[2] == b""
    hidden = ("/key.json", "/../key.json", "/clips/../../key.json", "/%2e%2e/key.json", "/clips")
    for path in (*hidden, "/answers.sqlite", "//etc/passwd", "/api/answers"):
        assert ask(served, "GET", path)[0] == 404, path


def test_parts_of_clips(served, folder):
    clip = next((folder / "site" / "clips").iterdir())
    data, path = clip.read_bytes(), f"/clips/{clip.name}"
    for header, part in (("bytes=0-1", data[:2]), ("bytes=5-", data[5:]), ("bytes=-3", data[-3:])):
        status, headers, body = ask(served, "GET", path, Range=header)
        assert (status, body) == (206, part)
        assert headers["Content-Range"].endswith(f"/{len(data)}")
    for header in ("bytes=9-2", "lines=0-1", "bytes=a-b", "bytes=0-1,4-5", f"bytes={10**9}-"):
        assert ask(served, "GET", path, Range=header)[0] == 200


def test_a_participant_through_the_server(served, folder):
    status, reply = post(served, "/api/participants", {})
    assert status == 200
    identity, sheet = reply["participant"], reply["sheet"]
    asked = [p.question for p in builder.read_key(folder)["design"].sheets[sheet]]
    message = {"participant": identity, "answers": [answer(q) for q in asked], "finished": True}
    for _ in range(2):
        status, reply = post(served, "/api/answers", message)
        assert status == 200 and sorted(reply["kept"]) == sorted(asked)
    person = next(p for p in store.read(folder / store.FILE) if p.identity == identity)
    assert person.finished and len(person.answers) == len(asked)


def test_forged_and_oversized_messages_are_refused(served, folder):
    before = store.read(folder / store.FILE)
    status, reply = post(served, "/api/answers", {"participant": "x" * 22, "answers": []})
    assert (status, reply) == (400, {"error": "not accepted: an unknown participant"})
    large = b'{"participant": "' + b"x" * server.LARGEST_MESSAGE + b'"}'
    assert post(served, "/api/answers", large)[0] == 413
    assert post(served, "/api/participants", b"no json")[0] == 400
    assert post(served, "/api/participants", b"[" * 60_000)[0] == 400
    assert post(served, "/api/participants", [1])[0] == 400
    assert post(served, "/api/participants", {"sheet": 10**9})[0] == 400
    assert post(served, "/api/participants", {}, Content_Type="text/plain")[0] == 415
    for length in ("", "-1", "1e3", "²"):
        status = post(served, "/api/participants", {}, Content_Length=length.encode())[0]
        assert status == 411
    elsewhere = {"Origin": "https://elsewhere.example"}
    assert post(served, "/api/participants", {}, **elsewhere)[0] == 403
    assert post(served, "/api/other", {})[0] == 404
    host = f"{served.server_address[0]}:{served.server_address[1]}"
    assert store.read(folder / store.FILE) == before
    assert post(served, "/api/participants", {}, Host=host, Origin=f"http://{host}")[0] == 200


def test_answers_survive_a_killed_server(folder):
    with listening.serving(folder) as (url, process):
        host = re.search(r"http://([\d.]+):(\d+)/", url)

        class At:
            server_address = (host.group(1), int(host.group(2)))

        _, reply = post(At, "/api/participants", {})
        question = builder.read_key(folder)["design"].sheets[reply["sheet"]][0].question
        message = {"participant": reply["participant"], "answers": [answer(question)]}
        assert post(At, "/api/answers", message)[0] == 200
        process.kill()
        process.wait()
    with running(folder) as again:
        status, reply = post(again, "/api/answers", {"participant": message["participant"]})
        assert (status, reply) == (200, {"kept": [question]})


def test_an_address_that_is_taken(served, folder, capsys):
    port = served.server_address[1]
    assert cli.main(["listen", "serve", str(folder), f"--port={port}"]) == 1
    err = capsys.readouterr().err
    assert err == f"sep-tf listen serve: error: 127.0.0.1:{port}: address already in use\n"


def test_the_report_is_written(folder, tmp_path, capsys):
    key = builder.read_key(folder)
    total = len(key["design"].questions)
    kept = store.Store(tmp_path / store.FILE, key["id"], key["design"], False)
    for number in range(4):
        identity, sheet = kept.enrol()
        asked = [p.question for p in key["design"].sheets[sheet]]
        answers = [answer(q, "ab"[(n + number) % 2]) for n, q in enumerate(asked)]
        about = ABOUT | {"language": "<script>alert(1)</script>"}
        kept.keep({"participant": identity, "answers": answers, "questionnaire": about})
    kept.close()
    (tmp_path / "key.json").write_text((folder / "key.json").read_text())
    assert cli.main(["listen", "report", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    out = tmp_path / "report"
    assert (out / "report.md").read_text() == printed
    assert "4 participants count, 0 are left out" in printed
    report = json.loads((out / "report.json").read_text())
    sums = [p["for_first"] + p["for_second"] for p in report["preferences"]]
    assert sum(sums) + sum(report["identical_pairs"].values()) == 4 * total
    page = (out / "report.html").read_text()
    assert "<script" not in page and not re.search(r"https?://", page)
    assert (out / "preferences.png").read_bytes().startswith(b"\x89PNG")
