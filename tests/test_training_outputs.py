"""What a training shows and how it computes: curves, pictures, mixed precision, `paper` blocks."""

import csv

import keras
import numpy as np
import pytest

from sep_tf import models, train
from sep_tf.config import PRESETS
from sep_tf.training import log, pictures
from tests import backend_steps, harness

NAMES = train.ORDER

# Curves and pictures


def events(folder) -> dict[str, list]:
    """TensorBoard's values by tag: kind and step."""
    from tensorflow.python.summary.summary_iterator import summary_iterator

    found: dict[str, list] = {}
    for path in folder.glob("events*"):
        for event in summary_iterator(str(path)):
            for value in event.summary.value:
                kind = value.metadata.plugin_data.plugin_name
                found.setdefault(value.tag, []).append((kind, event.step))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_tensorboard_has_curves_and_pictures(run, name):
    found = events(run.model_dir / name / "tensorboard")
    steps = [50, 100, 150, 200]
    parts = {
        "autovc": ("before", "after", "content"),
        "f0": ("salience", "contour", "voicing"),
        "sin": ("after", "voicing"),
        "ss": ("features", "contour", "voicing"),
    }.get(name, ())
    losses = [f"{kind}_{part}" for kind in ("train", "valid") for part in ("loss", *parts)]
    for tag in (*losses, "learning_rate", "examples_per_second"):
        assert found[tag] == [("scalars", step) for step in steps]
    pictures = {tag for tag, values in found.items() if ("images", 200) in values}
    expected = {
        "autovc": {"target", "found"},
        "encoder": {"mixture", "teacher", "code"},
        "f0": {"mixture", "target", "salience"},
        "unet": {"mixture", "target", "masked"},
    }
    assert pictures == expected.get(name, {"mixture", "target", "found"})
    heard = {tag for tag, values in found.items() if ("audio", 200) in values}
    assert heard == (set() if name == "encoder" else {"mixture", "target", "found"})
    figures = {tag for tag in found if tag.startswith(("valid_mcd", "valid_f0", "valid_code"))}
    f0 = {"valid_f0_average", "valid_f0_viterbi", "valid_f0_continuous"}
    others = {
        "autovc": {"valid_mcd_db", "valid_code_spread"},
        "encoder": {"valid_code_spread"},
        "f0": f0,
        "ss": {"valid_mcd_db", "valid_f0_continuous"},
        "unet": set(),  # noise has no voiced frame for WORLD
    }
    assert figures == others.get(name, {"valid_mcd_db"})


def test_the_distortion_falls_while_a_network_learns(run):
    """The figure that says how it will sound, not the loss."""
    text = (run.model_dir / "sin" / "log.csv").read_text().splitlines()
    rows = [float(row["valid_mcd_db"]) for row in csv.DictReader(text)]
    assert rows[-1] < 0.8 * rows[0]


def test_the_learning_rate_is_the_schedule(run):
    text = (run.model_dir / "sin" / "log.csv").read_text().splitlines()
    rates = [float(row["learning_rate"]) for row in csv.DictReader(text)]
    # Twenty steps of warm-up, then a cosine down to a fiftieth of the peak.
    cosine = 0.5 * (1 + np.cos(np.pi * np.array([30, 80, 130, 180]) / 180))
    assert rates == pytest.approx(1e-2 * (0.02 + 0.98 * cosine), rel=1e-4)


def test_pictures_show_envelopes_with_low_bins_at_the_bottom():
    features = np.zeros((2, 5, 64))
    features[:, :, 0] = -4.0
    features[1, :, 1] = 2.0  # the first cosine: low frequencies strong, high ones weak
    power = pictures.envelope_db(features)
    assert power.shape == (2, 5, 257)
    np.testing.assert_allclose(power[0], power[0, 0, 0], atol=1e-3)
    assert power[1, 0, 0] > power[1, 0, -1] + 10
    images = pictures.images(power)
    assert images.shape == (2, 257, 5, 1) and images.min() == 0 and images.max() == 1
    assert images[1, -1, 0, 0] > images[1, 0, 0, 0]


def test_pictures_of_mixtures_are_in_db():
    """Every bin of a 1024-point spectrum; of a 4096-point one those up to 4 kHz."""
    magnitude = np.full((1, 3, 2049), 10.0)
    magnitude[:, 1] = 0.0
    found = pictures.magnitude_db(magnitude)
    assert found.shape == pictures.magnitude_db(magnitude[:, :, :513]).shape == (1, 3, 513)
    np.testing.assert_allclose(found[0, :, 7], [20.0, -40.0, 20.0])


def test_a_log_begun_by_another_version_keeps_its_columns(tmp_path):
    (tmp_path / "log.csv").write_text("step,train_loss,old\n1,0.5,7\n")
    log.RunLog(tmp_path).row({"step": 2, "train_loss": 0.25, "learning_rate": 1e-3})
    assert (tmp_path / "log.csv").read_text().splitlines()[1:] == ["1,0.5,7", "2,0.25,"]


# Mixed precision


@pytest.mark.parametrize("preset", ["tiny", pytest.param("tiny-paper", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", [n if n == "f0" else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_mixed_precision_trains_and_outputs_stay_float32_and_close(tmp_path, name, preset):
    keras.utils.set_random_seed(1)
    backend_steps.save_earlier(tmp_path, preset)
    keras.config.set_dtype_policy("mixed_bfloat16")
    trainer = harness.make_trainer(
        name, tmp_path, harness.one_batch, preset=preset, precision="mixed_bfloat16", steps=16,
        validate_every=8, learning_rate=1e-2,
    )  # fmt: skip
    trainer.run()
    rows = harness.log_rows(trainer)
    assert float(rows[1]["train_loss"]) < 0.95 * float(rows[0]["train_loss"])
    mixed = trainer.stage.model
    assert {"bfloat16", "float32"} <= {layer.compute_dtype for layer in mixed._flatten_layers()}
    # Beside the weights an LSTM has the state of a dropout that it does not use.
    dtypes = {v.dtype for v in mixed.variables if "seed_generator" not in v.path}
    assert dtypes == {"float32"}
    keras.config.set_dtype_policy("float32")
    exact = models.build(name, PRESETS[preset], singers=len(harness.SINGERS))
    for model in (mixed, exact):
        model.load_weights(trainer.best_path)
    batch = harness.batch(0)
    one_hot = np.eye(len(harness.SINGERS), dtype=np.float32)[batch["singer"]]
    inputs = {
        "autovc": {"features": batch["features"], "singer": one_hot},
        "sdn": {"magnitude": batch["magnitude"], "singer": one_hot},
        "f0": batch,
        "sin": batch | {"voicing": batch["voiced"]},
    }.get(name, batch["magnitude"])
    found, expected = harness.flat(mixed(inputs)), harness.flat(exact(inputs))
    for key, value in expected.items():
        assert found[key].dtype == np.float32
        error = np.sqrt(np.mean((found[key] - value) ** 2)) / value.std()
        assert error < 0.1, (key, error)


# The paper's blocks


@pytest.mark.slow
def test_every_stage_of_the_paper_preset_learns_a_batch_by_heart(tmp_path):
    for name in NAMES:
        keras.utils.set_random_seed(1)
        trainer = harness.make_trainer(
            name, tmp_path, harness.one_batch, preset="tiny-paper", steps=40, validate_every=20,
            learning_rate=1e-2,
        )  # fmt: skip
        trainer.run()
        first, last = (float(row["train_loss"]) for row in harness.log_rows(trainer))
        assert np.isfinite([first, last]).all() and last < 0.8 * first, name
