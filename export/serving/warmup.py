"""Requests that a server runs before it says that a model is ready."""

from pathlib import Path

import numpy as np

from sep_tf.config import AudioConfig
from sep_tf.runtimes import ModelInfo
from sep_tf.runtimes.chunks import MARGIN

_AUDIO = AudioConfig()


def requests(info: ModelInfo, batches: tuple[int, ...] = (1, 4)) -> list[tuple[str, dict]]:
    """Signature and inputs, of the length that clients of this project send: noise at -60 dB."""
    rng = np.random.default_rng(0)
    unit = info.alignment
    extra = -(-MARGIN // (_AUDIO.hop_length * unit)) * unit
    frames = info.frames + 2 * extra
    out = []
    for batch in batches:
        inputs = {}
        for name, port in info.signature.inputs.items():
            if port.width is None:
                inputs[name] = np.zeros(batch, port.dtype)
            elif not info.signature.transforms:
                inputs[name] = np.zeros((batch, *port.shape(frames)), port.dtype)
        if info.signature.transforms:
            shape = (batch, (frames - 1) * _AUDIO.hop_length)
            inputs["audio"] = rng.normal(0, 1e-3, shape).astype(np.float32)
        out.append(("serving_default", inputs))
    return out


def write(path: Path, info: ModelInfo) -> None:
    """Writes the requests as TensorFlow Serving reads them: a TFRecord of PredictionLog."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    from sep_tf.runtimes.serving_grpc import to_proto

    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests(info):
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(to_proto(value))
            writer.write(log.SerializeToString())
