"""From the heads of an F0 network to one f0 a frame, in the graph: three ways.

"average" is the local average in cents around the most salient bin, "viterbi" the same around the
most likely path through all frames, "continuous" the contour head. The paper finds the discrete
head a little more accurate and the contour better for synthesis (section 3).
"""

import math

import numpy as np
from keras import ops

from sep_tf import pitch
from sep_tf.config import F0_DECODINGS, ConfigError


def decode(heads: dict, method: str, softmax: bool = True):
    """f0 [B, T] in Hz.

    Args:
      heads: `salience` logits [B, T, 360] and `f0_normalised` [B, T].
      method: of F0_DECODINGS.
      softmax: whether salience is a distribution over pitch; else every bin has a sigmoid.

    Raises:
      ConfigError: unknown method.
    """
    if method == "continuous":
        octaves = heads["f0_normalised"] * (pitch.RANGE_CENTS / 1200.0)
        return pitch.F_MIN * ops.exp(octaves * math.log(2.0))
    if method == "viterbi":
        centre = viterbi_path(ops.log_softmax(heads["salience"], axis=-1))
        return _around(heads["salience"], centre[..., None], softmax)
    if method == "average":
        return decode_salience(heads["salience"], softmax)
    raise ConfigError(f"unknown f0 decoding '{method}', expected one of: {', '.join(F0_DECODINGS)}")


def every(heads: dict, softmax: bool = True) -> dict[str, np.ndarray]:
    """What `decode` gives by each of F0_DECODINGS: [B, T] in Hz, computed at once and not a graph.

    The path is numpy's: frame by frame, an operation at a time, Keras takes ten times as long.
    """
    salience = heads["salience"]
    path = pitch.viterbi_path(np.asarray(ops.softmax(salience, axis=-1)))
    found = {
        "average": decode_salience(salience, softmax),
        "viterbi": _around(salience, path[..., None].astype(np.float32), softmax),
        "continuous": decode(heads, "continuous"),
    }
    return {method: np.asarray(found[method]) for method in F0_DECODINGS}


def decode_salience(logits, softmax: bool = True):
    """Local average in cents around the maximum: [B, T, 360] -> f0 [B, T] in Hz.

    The same as `pitch.decode_salience` of the softmax, or of the sigmoid.
    """
    return _around(logits, _argmax(logits), softmax)


def _argmax(values):
    """First index of the maximum of [..., n], float32 [..., 1].

    Not ops.argmax: its bit operations have no TFLite builtin.
    """
    size = values.shape[-1]
    highest = ops.max(values, axis=-1, keepdims=True)
    index = ops.arange(size, dtype="float32") + size * ops.cast(values < highest, "float32")
    return ops.min(index, axis=-1, keepdims=True)


def _around(logits, centre, softmax: bool):
    """Average in cents of the bins within REACH of `centre` [B, T, 1], f0 [B, T] in Hz."""
    bins = ops.arange(pitch.N_BINS, dtype="float32")
    near = ops.abs(bins - centre) <= pitch.REACH
    if softmax:
        # Relative to the highest near bin: a path may pass where salience is tiny.
        highest = ops.max(ops.where(near, logits, -1e9), axis=-1, keepdims=True)
        weights = ops.exp(ops.minimum(logits - highest, 0.0))
    else:
        weights = ops.sigmoid(logits) + 1e-9
    weights = weights * ops.cast(near, "float32")
    centres = ops.convert_to_tensor(pitch.bin_centres())
    cents = ops.sum(weights * centres, axis=-1) / ops.sum(weights, axis=-1)
    return pitch.F_MIN * ops.exp(cents * (math.log(2.0) / 1200.0))


def viterbi_path(log_probabilities):
    """Bins of the most likely path, float32 [B, T]; see `pitch.viterbi_path`, which it equals.

    A loop over frames: for Keras and SavedModel, not for small devices. Bins are float32 because
    Keras' scan wants one type for all that it carries and stacks.

    Args:
      log_probabilities: [B, T, 360].
    """
    frames = ops.transpose(log_probabilities, (1, 0, 2))
    reach = pitch.MAX_STEP
    shifts = range(-reach, reach + 1)
    costs = ops.convert_to_tensor([pitch.STEP_COST * abs(s) for s in shifts], "float32")
    bins = ops.arange(pitch.N_BINS, dtype="float32")

    def forward(score, emission):
        padded = ops.pad(score, [[0, 0], [reach, reach]], constant_values=-1e9)
        near = ops.stack([padded[:, reach + s : reach + s + pitch.N_BINS] for s in shifts], -1)
        near = near - costs
        best, step, highest = ops.max(near, axis=-1), _argmax(near)[..., 0], _argmax(score)
        anywhere = ops.max(score, axis=-1, keepdims=True) - pitch.JUMP_COST
        origin = ops.where(anywhere > best, highest, bins + step - reach)
        total = emission + ops.maximum(anywhere, best)
        # Only differences matter: songs are long, and float32 is not.
        return total - ops.max(total, axis=-1, keepdims=True), origin

    def backward(state, origin):
        index = ops.cast(state, "int32")[:, None]
        before = ops.take_along_axis(origin, index, axis=1)[:, 0]
        return before, before

    last, origins = ops.scan(forward, frames[0], frames[1:])
    end = _argmax(last)[:, 0]
    _, path = ops.scan(backward, end, origins, reverse=True)
    return ops.transpose(ops.concatenate([path, end[None]], axis=0), (1, 0))
