"""The same step under TensorFlow and under JAX: losses, gradients and batch statistics."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from sep_tf.training import stages
from tests import backend_steps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("jax") is None, reason="jax is not installed: pip install jax"
    ),
]
ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """What one step of every stage gave under JAX, in a process of its own."""
    made = tmp_path_factory.mktemp("steps")
    backend_steps.prepare(made)
    argv = [sys.executable, "-m", "tests.backend_steps", str(made)]
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        # Everything is compiled for one call: optimising takes far longer than running.
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return made


@pytest.mark.parametrize("preset", backend_steps.PRESET_NAMES)
@pytest.mark.parametrize("name", stages.STAGES)
def test_a_step_is_the_same_under_jax_and_tensorflow(folder, preset, name):
    start = backend_steps.load(folder / f"{preset}-{name}-start.npz")
    jax = backend_steps.load(folder / f"{preset}-{name}-jax.npz")
    tensorflow = backend_steps.step(folder, preset, name)
    np.testing.assert_allclose(jax[0], tensorflow[0], rtol=1e-4)
    moved = 0
    for before, found, expected in zip(start, jax[1:], tensorflow[1:], strict=True):
        moved += not np.array_equal(expected, before)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert moved > len(start) // 4
