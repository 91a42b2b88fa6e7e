"""Runs models on a server: TensorFlow Serving, or whatever speaks its protocol (gRPC or REST)."""

import dataclasses
import json
import random
import threading
import time
from typing import Any, Protocol

import numpy as np

from sep_tf.errors import ModelError, SepTfError
from sep_tf.runtimes import ModelInfo, chunks

# Requests under way at once.
IN_FLIGHT = 4
# A server's default limit of a message, less what the protocol adds.
MAX_MESSAGE = 4 * 2**20 - 4096
# A server that batches gives every request of a batch the error of one. These speak of values or
# lengths that this client does not send, so that they are another's, and pass.
_OF_OTHERS = ("NaN or infinite", "from different tasks have different shapes")


class RequestError(Exception):
    """A request that failed.

    Attributes:
      passing: whether it may succeed when it is sent again.
      unknown_model: the server does not have the model, or not yet.
    """

    def __init__(self, text: str, passing: bool = False, unknown_model: bool = False) -> None:
        super().__init__(text)
        self.passing, self.unknown_model = passing, unknown_model


class Transport(Protocol):
    """One way to reach a server. Safe to call from several threads."""

    def status(self, model: str, deadline: float) -> None:
        """Returns when a version of the model is available; raises RequestError."""

    def predict(
        self, model: str, signature: str, inputs: dict[str, np.ndarray], deadline: float
    ) -> dict[str, np.ndarray]:
        """Outputs by name; raises RequestError. `deadline` in seconds."""


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long a client waits.

    Attributes:
      deadline: seconds of one request.
      total: seconds until a request that fails again and again is given up.
      first: seconds before it is sent again, doubled each time; half of it at random.
      longest: of these pauses.
    """

    deadline: float = 30.0
    total: float = 60.0
    first: float = 0.1
    longest: float = 5.0


class ServingRuntime:
    """A model on a server, named "HOST:PORT" (gRPC) or "http://HOST:PORT" (REST)."""

    name = "serving"
    in_flight = IN_FLIGHT

    def __init__(self, server: str, model: str, patience: Patience | None = None) -> None:
        """Asks the server what the model is.

        Raises:
          ModelError: no such server or model, or none of sep_tf.
        """
        self.server, self.model, self.patience = server, model, patience or Patience()
        self.retries = 0
        self._lock = threading.Lock()
        self._transport = connect(server)
        self._seen = self._known = False
        self._attempt(lambda deadline: self._transport.status(model, deadline))
        self._seen = True
        described = self._predict("info", {"any": np.zeros(1, np.int32)})
        try:
            text = described["config"].reshape(-1)[0]
            values = json.loads(text if isinstance(text, str) else bytes(text))
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise ModelError(f"{self._where}: does not describe itself: {error}") from error
        self.model_info = ModelInfo.from_dict(values, self._where)
        # A request has zeros beyond its ends: frames whose windows reach there are thrown away.
        unit = self.model_info.alignment
        wide = self.model_info.context + -(-chunks.MARGIN // (chunks.HOP * unit)) * unit
        self.info = dataclasses.replace(self.model_info, context=wide)
        self._known = True

    @property
    def _where(self) -> str:
        return f"model {self.model} on {self.server}"

    def run_audio(
        self, audio: np.ndarray, stop: threading.Event | None = None, **others: Any
    ) -> dict[str, np.ndarray]:
        """Outputs of every frame of a chunk cut with margins; the server makes spectrograms.

        Once `stop` is set, what fails is not sent again.
        """
        sound = np.asarray(audio[chunks.MARGIN : len(audio) - chunks.MARGIN], np.float32)
        ports = self.info.signature.inputs
        inputs = {name: np.asarray([v], ports[name].dtype) for name, v in others.items()}
        frames = 1 + len(sound) // chunks.HOP
        return self._checked(
            "serving_default", {"audio": sound[np.newaxis], **inputs}, frames, stop
        )

    def __call__(self, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        """As every runtime; spectrograms of more than two seconds are too long for a message."""
        batch = self.info.batch(inputs, None)
        frames = next(value.shape[1] for value in batch.values() if value.ndim > 1)
        return self._checked(self.info.signature.name, batch, frames)

    def _checked(
        self,
        signature: str,
        inputs: dict[str, np.ndarray],
        frames: int,
        stop: threading.Event | None = None,
    ) -> dict[str, np.ndarray]:
        """Outputs of a batch of one, without the batch; raises ModelError when they are odd."""
        size = sum(value.nbytes for value in inputs.values())
        if size > MAX_MESSAGE:
            raise ModelError(f"a request of {size} bytes, a server takes {MAX_MESSAGE}")
        for name, value in inputs.items():
            if not np.isfinite(value).all():
                raise ModelError(f"{name} has NaN or infinite values")
        found = self._predict(signature, inputs, stop)
        out = {}
        for name, port in self.info.signature.outputs.items():
            wanted = (1, *port.shape(frames))
            if name not in found or found[name].shape != wanted:
                got = found[name].shape if name in found else "nothing"
                raise ModelError(f"{self._where} gave {got} for {name}, expected {wanted}")
            if not np.isfinite(found[name]).all():
                raise ModelError(f"{self._where} gave {name} that is not finite")
            out[name] = found[name][0].astype(np.float32)
        return out

    def _predict(
        self, signature: str, inputs: dict[str, np.ndarray], stop: threading.Event | None = None
    ) -> dict[str, np.ndarray]:
        return self._attempt(
            lambda deadline: self._transport.predict(self.model, signature, inputs, deadline), stop
        )

    def _attempt(self, request: Any, stop: threading.Event | None = None) -> Any:
        """Sends a request until it succeeds, or fails for good, or `stop` is set.

        Raises:
          ModelError: the request or the model is wrong, or the server was never there.
          SepTfError: a server that has worked did not answer in time.
        """
        patience, pause = self.patience, self.patience.first
        stop = stop or threading.Event()
        until = time.monotonic() + patience.total
        while True:
            try:
                return request(min(patience.deadline, max(until - time.monotonic(), 0.1)))
            except RequestError as error:
                # A server that restarts has no models at first.
                passing = error.passing or (error.unknown_model and self._seen)
                passing = passing or any(text in str(error) for text in _OF_OTHERS)
                if not passing:
                    raise ModelError(f"{self._where}: {error}") from error
                if time.monotonic() + pause > until:
                    # One that has told its model may be back for the next song.
                    failure = SepTfError if self._known else ModelError
                    raise failure(
                        f"{self._where}: given up after {patience.total:g} s: {error}"
                    ) from error
            with self._lock:
                self.retries += 1
            # At random: clients that failed together would come back together.
            if stop.wait(pause * random.uniform(0.5, 1.0)):
                raise SepTfError(f"{self._where}: stopped")
            pause = min(2 * pause, patience.longest)


def connect(server: str) -> Transport:
    """The transport of an address; raises ModelError when it is none."""
    scheme, _, rest = server.rpartition("://")
    if scheme not in ("", "http", "https") or not rest.rpartition(":")[2].strip("/").isdecimal():
        raise ModelError(f"server '{server}' is neither HOST:PORT nor http://HOST:PORT")
    if scheme:
        from sep_tf.runtimes.serving_rest import RestTransport

        return RestTransport(server)
    from sep_tf.runtimes.serving_grpc import GrpcTransport

    return GrpcTransport(server)
