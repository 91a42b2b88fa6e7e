"""Parts of the bundled networks that measures read."""

from pathlib import Path

import numpy as np
import soundfile

from sep_tf import presets
from sep_tf.evaluation import networks

ROOT = Path(__file__).parents[1]
WEIGHTS = Path(presets.__path__[0]) / "sin-lite.weights.h5"


def test_the_continuous_head_of_the_bundled_weights_gives_a_contour_in_hz():
    song, _ = soundfile.read(
        ROOT / "examples" / "sakura" / "mix.flac", dtype="float32", always_2d=True
    )
    contour = networks.ContinuousHead(WEIGHTS)(song[: 2 * 32000].mean(axis=1))
    assert contour.shape == (401,) and np.isfinite(contour).all()
    assert (contour > 40).all() and (contour < 1200).all()
