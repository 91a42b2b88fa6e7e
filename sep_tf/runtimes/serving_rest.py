"""TensorFlow Serving's REST interface: JSON over HTTP, no package but the standard library."""

import contextlib
import http.client
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

import numpy as np

from sep_tf.runtimes.serving import RequestError

_PASSING = {429, 502, 503, 504}


class RestTransport:
    """http://HOST:PORT; a connection for every request."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")

    def status(self, model: str, deadline: float) -> None:
        versions = self._ask(_path(model), None, deadline).get("model_version_status", [])
        states = [version.get("state") for version in versions]
        if "AVAILABLE" not in states:
            loading = any(state in ("START", "LOADING") for state in states)
            raise RequestError(f"no version is available: {states}", passing=loading)

    def predict(
        self, model: str, signature: str, inputs: dict[str, np.ndarray], deadline: float
    ) -> dict[str, np.ndarray]:
        body = {
            "signature_name": signature,
            "inputs": {name: value.tolist() for name, value in inputs.items()},
        }
        out = self._ask(f"{_path(model)}:predict", body, deadline).get("outputs")
        # A signature with one output gives it without its name.
        named = out if isinstance(out, dict) else {_ONLY.get(signature, signature): out}
        try:
            return {name: _array(value) for name, value in named.items()}
        except (ValueError, TypeError) as error:
            raise RequestError(f"the server gave no tensors: {error}") from error

    def _ask(self, path: str, body: dict | None, deadline: float) -> dict[str, Any]:
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._address + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=deadline) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            text = ""
            with contextlib.suppress(OSError, http.client.HTTPException):  # it ends within it
                text = error.read(500).decode("utf-8", "replace")
            raise RequestError(
                f"status {error.code}: {' '.join(text.split())}",
                passing=error.code in _PASSING,
                unknown_model=error.code == 404,
            ) from error
        except (OSError, http.client.HTTPException) as error:
            # Refused, reset, timed out: what a server that restarts looks like.
            raise RequestError(str(error) or type(error).__name__, passing=True) from error
        except ValueError as error:
            raise RequestError(f"the server gave no JSON: {error}") from error
        if not isinstance(found, dict):
            raise RequestError("the server gave no JSON object")
        return found


# The output of signatures that have one.
_ONLY = {"info": "config", "mask": "mask", "serving_default": "mask"}


def _path(model: str) -> str:
    return f"/v1/models/{quote(model, safe='')}"


def _array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind == "U" else array.astype(np.float32)
