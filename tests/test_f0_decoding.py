"""Every decoding of f0 is exported, and the exported file decodes as Keras does."""

import dataclasses

import numpy as np
import pytest

from sep_tf import models
from sep_tf.config import F0_DECODINGS, PRESETS
from sep_tf.runtimes.litert import LiteRTRuntime
from tests import harness


@pytest.mark.slow
@pytest.mark.parametrize("decoding", F0_DECODINGS)
def test_decodings_on_a_device(decoding, tmp_path):
    from export import module, tflite

    config = dataclasses.replace(PRESETS["tiny"], f0_decoding=decoding)
    model = models.build_system("sin", config, 0)
    harness.randomise(model, seed=1)  # one whose pitch moves under every decoding
    info = dataclasses.replace(module.model_info(model, config, "sin", ()), chunk_frames=64)
    path = tmp_path / "sin.tflite"
    tflite.write(tflite.convert(model, info, "none", None), info, path)
    inputs = module.example(harness.band(3.0, 1), info)
    found = LiteRTRuntime(path)(inputs)["f0"]
    expected = np.ravel(module.call(model, info, inputs)["f0"])
    cents = 1200 * np.log2(np.ravel(found) / expected)
    assert np.mean(np.abs(cents) < 1) > 0.98 and np.ptp(expected) > 1
