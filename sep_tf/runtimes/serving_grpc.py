"""TensorFlow Serving's PredictionService and ModelService over gRPC."""

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from sep_tf.runtimes.serving import RequestError

_TYPES = {"float32": types_pb2.DT_FLOAT, "int32": types_pb2.DT_INT32}
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
}
# What a client accepts: masks of a chunk are larger than what it sends.
_MAX_ANSWER = 64 * 2**20


def to_proto(value: np.ndarray) -> tensor_pb2.TensorProto:
    """A float32 or int32 array as a TensorProto."""
    shape = tensor_shape_pb2.TensorShapeProto()
    for size in value.shape:
        shape.dim.add().size = size
    dtype = _TYPES[value.dtype.name]
    return tensor_pb2.TensorProto(
        dtype=dtype, tensor_shape=shape, tensor_content=np.ascontiguousarray(value).tobytes()
    )


def from_proto(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """A TensorProto as an array: float32, int32, or bytes as objects."""
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.dtype == types_pb2.DT_STRING:
        values = np.array(list(proto.string_val), object)
    else:
        name = {number: name for name, number in _TYPES.items()}.get(proto.dtype)
        if name is None:
            raise RequestError(f"the server gave a tensor of type {proto.dtype}")
        listed = proto.float_val if name == "float32" else proto.int_val
        content = proto.tensor_content
        values = np.frombuffer(content, name) if content else np.array(listed, name)
    try:
        # One value may stand for all.
        return np.broadcast_to(values, shape) if values.size == 1 else values.reshape(shape)
    except ValueError as error:
        raise RequestError(f"the server gave {values.size} values for {shape}") from error


class GrpcTransport:
    """One channel; gRPC multiplexes requests and reconnects by itself."""

    def __init__(self, address: str) -> None:
        options = [
            ("grpc.max_receive_message_length", _MAX_ANSWER),
            # A server that restarts is back in seconds, not minutes.
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        self._channel = grpc.insecure_channel(address, options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def status(self, model: str, deadline: float) -> None:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        found = _call(self._models.GetModelStatus, request, deadline)
        states = get_model_status_pb2.ModelVersionStatus
        names = [states.State.Name(v.state) for v in found.model_version_status]
        if "AVAILABLE" not in names:
            loading = any(name in ("START", "LOADING") for name in names)
            raise RequestError(f"no version is available: {names}", passing=loading)

    def predict(
        self, model: str, signature: str, inputs: dict[str, np.ndarray], deadline: float
    ) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(to_proto(value))
        found = _call(self._predictions.Predict, request, deadline)
        return {name: from_proto(value) for name, value in found.outputs.items()}


def _call(method: Callable[..., Any], request: Any, deadline: float) -> Any:
    try:
        return method(request, timeout=deadline)
    except grpc.RpcError as error:
        code = error.code()
        text = " ".join((error.details() or "").split())
        raise RequestError(
            f"{code.name}: {text}",
            passing=code in _PASSING,
            unknown_model=code == grpc.StatusCode.NOT_FOUND,
        ) from error
