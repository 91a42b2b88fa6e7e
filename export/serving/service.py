"""TensorFlow Serving's protocol over exported SavedModels, in Python: see `server`."""

import http.server
import json
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from sep_tf.errors import ModelError, tensorflow_says
from sep_tf.runtimes import version_folder

_STATUS = {
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class Refused(Exception):
    """A request that is answered with a status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Models:
    """The highest version of every model of a folder, loaded at its first use."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._loaded = folder, {}
        self._lock = threading.Lock()

    def version(self, name: str) -> Path:
        """Raises Refused when there is no such model."""
        found = version_folder(self._folder / name) if name and "/" not in name else None
        if found is None:
            text = f"Servable not found for request: Latest({name})"
            raise Refused(grpc.StatusCode.NOT_FOUND, text)
        return found

    def _signatures(self, name: str):
        path = self.version(name)
        with self._lock:
            if path not in self._loaded:
                self._loaded[path] = tf.saved_model.load(str(path))
            return self._loaded[path].signatures

    def predict(self, name: str, signature: str, inputs: dict[str, tf.Tensor]) -> dict:
        """Outputs as tensors; raises Refused as the real server does."""
        bad = grpc.StatusCode.INVALID_ARGUMENT
        signatures = self._signatures(name)
        if signature not in signatures:
            raise Refused(bad, f'Serving signature key "{signature}" not found.')
        function = signatures[signature]
        specs = function.structured_input_signature[1]
        if set(specs) != set(inputs):
            text = f"input size does not match signature: {sorted(inputs)} vs {sorted(specs)}"
            raise Refused(bad, text)
        for key, value in inputs.items():
            if value.dtype != specs[key].dtype:
                text = f"Expected {key} to be {specs[key].dtype.name}, got {value.dtype.name}"
                raise Refused(bad, text)
            if not specs[key].shape.is_compatible_with(value.shape):
                text = f"Expected {key} of shape {specs[key].shape}, got {value.shape}"
                raise Refused(bad, text)
        try:
            return dict(function(**inputs))
        except tf.errors.InvalidArgumentError as error:
            raise Refused(bad, tensorflow_says(error.message)) from error
        except tf.errors.ResourceExhaustedError as error:
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error.message)) from error


class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    """PredictionService.Predict."""

    def __init__(self, models: Models) -> None:
        self.models = models
        # What answers a request; tests put faults here.
        self.answer = self._answer

    def Predict(self, request, context):
        return self.answer(request, context)

    def _answer(self, request, context):
        spec = request.model_spec
        try:
            try:
                inputs = {k: tf.constant(tf.make_ndarray(v)) for k, v in request.inputs.items()}
            except (ValueError, TypeError) as error:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
            name = spec.signature_name or "serving_default"
            outputs = self.models.predict(spec.name, name, inputs)
        except Refused as error:
            context.abort(error.code, str(error))
        response = predict_pb2.PredictResponse(model_spec=spec)
        for key, value in outputs.items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
        return response


class Status(model_service_pb2_grpc.ModelServiceServicer):
    """ModelService.GetModelStatus."""

    def __init__(self, models: Models) -> None:
        self.models = models

    def GetModelStatus(self, request, context):
        try:
            path = self.models.version(request.model_spec.name)
        except Refused as error:
            context.abort(error.code, str(error))
        response = get_model_status_pb2.GetModelStatusResponse()
        version = int(path.name) if path.name.isdecimal() else 1
        state = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        response.model_version_status.add(version=version, state=state)
        return response


class Rest(http.server.BaseHTTPRequestHandler):
    """GET /v1/models/NAME and POST /v1/models/NAME:predict."""

    models: Models

    def do_GET(self):
        try:
            path = self.models.version(self._name())
            version = path.name if path.name.isdecimal() else "1"
            self._answer(
                200, {"model_version_status": [{"version": version, "state": "AVAILABLE"}]}
            )
        except Refused as error:
            self._answer(_STATUS.get(error.code, 500), {"error": str(error)})

    def do_POST(self):
        try:
            self._answer(200, self._predicted())
        except Refused as error:
            self._answer(_STATUS.get(error.code, 500), {"error": str(error)})

    def _predicted(self) -> dict[str, Any]:
        try:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            signature = body.get("signature_name", "serving_default")
            inputs = {name: np.asarray(value) for name, value in body["inputs"].items()}
            # JSON has one kind of number: whole ones are meant for int32 inputs.
            kinds = {"f": tf.float32, "i": tf.int32}
            tensors = {k: tf.constant(v, kinds[v.dtype.kind]) for k, v in inputs.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"not a request: {error}") from error
        outputs = self.models.predict(self._name().partition(":")[0], signature, tensors)
        listed = {name: _jsonable(value.numpy()) for name, value in outputs.items()}
        return {"outputs": listed if len(listed) > 1 else next(iter(listed.values()))}

    def _name(self) -> str:
        return self.path.removeprefix("/v1/models/")

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: requests are many."""


def _jsonable(value: np.ndarray) -> Any:
    if value.dtype == object:
        return [item.decode() for item in value.reshape(-1)]
    return value.tolist()


class Server:
    """Both services on 127.0.0.1; ports are known once it is made."""

    def __init__(self, folder: Path, port: int = 0, rest_port: int = 0, threads: int = 4) -> None:
        self.models = Models(folder)
        self.prediction = Prediction(self.models)
        # One port belongs to one server: SO_REUSEPORT would share it with a stale one.
        self._grpc = grpc.server(
            futures.ThreadPoolExecutor(threads), options=[("grpc.so_reuseport", 0)]
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            self.prediction, self._grpc
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(Status(self.models), self._grpc)
        try:
            self.port = self._grpc.add_insecure_port(f"127.0.0.1:{port}")
        except RuntimeError as error:
            raise ModelError(f"port {port} is taken") from error
        handler = type("Handler", (Rest,), {"models": self.models})
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", rest_port), handler)
        self.rest_port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    def start(self) -> None:
        self._grpc.start()
        self._thread.start()

    def stop(self) -> None:
        """Ends at once: requests under way fail."""
        self._grpc.stop(0).wait()
        self._http.shutdown()
        self._http.server_close()

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
