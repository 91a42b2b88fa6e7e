"""Graphs around a network: what the signatures of a SavedModel compute, and what they refuse."""

import json
from collections.abc import Callable

import keras
import tensorflow as tf

from sep_tf import spectrogram
from sep_tf.config import AudioConfig
from sep_tf.runtimes import ModelInfo
from sep_tf.runtimes.signatures import SIGNATURES

# Longest request. gRPC's own limit of 4 MB is reached at 32 s of one song.
MAX_SECONDS = 60
_AUDIO = AudioConfig()

Endpoint = tuple[Callable[[dict], dict], dict[str, tf.TensorSpec]]


def endpoints(model: keras.Model, info: ModelInfo) -> dict[str, Endpoint]:
    """Functions of the SavedModel and what they take, by the name of their signature.

    `serving_default` takes `audio` (of autovc: features); the signature of the system what its
    network reads, `info` tells what the model is. Batch and length are dynamic in all.
    """
    found = {info.signature.name: (_network(model, info), _specs(info.signature.inputs))}
    if info.signature.transforms:
        others = {k: p for k, p in info.signature.inputs.items() if p.width is None}
        audio = {"audio": tf.TensorSpec([None, None], tf.float32, "audio")}
        found["serving_default"] = (_audio(model, info), audio | _specs(others))
    else:
        found["serving_default"] = found[info.signature.name]
    found["info"] = (_info(info), {"any": tf.TensorSpec([None], tf.int32, "any")})
    return found


def _specs(ports: dict) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec([None, *port.shape(None)], port.dtype, name)
        for name, port in ports.items()
    }


def _info(info: ModelInfo) -> Callable[[dict], dict]:
    text = json.dumps(info.to_dict())

    # With a batch, as all inputs and outputs: a server that batches requires one.
    return lambda inputs: {"config": tf.fill(tf.shape(inputs["any"]), text)}


def _network(model: keras.Model, info: ModelInfo) -> Callable[[dict], dict]:
    """The network on inputs of any length, padded to its alignment and cut again."""

    def call(inputs: dict) -> dict:
        timed = [name for name, port in info.signature.inputs.items() if port.width is not None]
        frames = tf.shape(inputs[timed[0]])[1]
        checks = [_finite(inputs[name], name) for name in timed]
        checks += [
            tf.debugging.assert_equal(
                tf.shape(inputs[name])[1], frames, f"{name} and {timed[0]} differ in their frames"
            )
            for name in timed[1:]
        ]
        longest = round(MAX_SECONDS * _AUDIO.frames_per_second)
        checks += [_length(frames, 1, longest, "frames"), *_singers(inputs, info)]
        with tf.control_dependencies(checks):
            padded = {name: tf.identity(value) for name, value in inputs.items()}
        missing = -frames % info.alignment
        for name in timed:
            padded[name] = tf.pad(padded[name], [[0, 0], [0, missing], [0, 0]])
        return {name: value[:, :frames] for name, value in model(padded).items()}

    return call


def _audio(model: keras.Model, info: ModelInfo) -> Callable[[dict], dict]:
    """Audio [B, samples] at 32 kHz to the outputs of every frame, 1 + samples // 160.

    Silence of the length of the context goes before and after: the same as the library computes,
    which cuts its chunks with context.
    """
    hop, unit, context = _AUDIO.hop_length, info.alignment, info.context

    def call(inputs: dict) -> dict:
        audio = inputs["audio"]
        samples = tf.shape(audio)[1]
        checks = [
            _finite(audio, "audio"),
            _length(samples, 1, MAX_SECONDS * _AUDIO.sample_rate, "samples"),
            *_singers(inputs, info),
        ]
        with tf.control_dependencies(checks):
            audio = tf.identity(audio)
        frames = 1 + samples // hop
        total = frames + 2 * context
        total += -total % unit
        front = context * hop
        audio = tf.pad(audio, [[0, 0], [front, (total - 1) * hop - front - samples]])
        known = {name: value for name, value in inputs.items() if name != "audio"}
        exact = tf.cast(audio, tf.float64)
        for name, length in info.signature.transforms.items():
            known[name] = tf.cast(spectrogram.magnitude_ops(exact, length, hop), tf.float32)
        return {name: value[:, context : context + frames] for name, value in model(known).items()}

    return call


def _finite(value: tf.Tensor, name: str) -> tf.Operation:
    good = tf.reduce_all(tf.math.is_finite(value))
    return tf.debugging.Assert(good, [f"{name} has NaN or infinite values"])


def _length(count: tf.Tensor, least: int, most: int, what: str) -> tf.Operation:
    good = tf.logical_and(count >= least, count <= most)
    return tf.debugging.Assert(good, [f"expected {least} to {most} {what}, got", count])


def _singers(inputs: dict, info: ModelInfo) -> list[tf.Operation]:
    count = len(info.singers)
    return [
        tf.debugging.Assert(
            tf.reduce_all(tf.logical_and(inputs[name] >= -1, inputs[name] < count)),
            [f"{name} must be -1 to {count - 1}, got", inputs[name]],
        )
        for name, port in SIGNATURES[info.system].inputs.items()
        if port.width is None
    ]
