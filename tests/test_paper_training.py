"""`paper.flags` trains as section 4.2 and eq. 3 to 8 say, and with nothing of ours."""

import dataclasses
import shutil

import numpy as np
import pytest

from sep_tf.config import PAPER_GAINS
from tests import harness
from tfrecords import dataset

FRAMES = 96


def plain(run, name: str):
    """A stage of the `run` with the paper's losses."""
    return started(run, name, "plain")


def started(run, name: str, feature_loss: str):
    """A stage that starts from the weights of the `run`; SIN also has its F0."""
    folder = run.model_dir.parent / f"{feature_loss}-{name}"
    if name == "sin":
        shutil.copytree(run.model_dir / "f0", folder / "f0", dirs_exist_ok=True)
    trainer = harness.make_trainer(
        name, folder, harness.one_batch, feature_loss=feature_loss,
        init_from=run.model_dir / name / "best.weights.h5",
    )  # fmt: skip
    return trainer.stage


@pytest.mark.parametrize("name", ["sdn", "sin"])
def test_equations_7_and_8(run, name):
    """The mean square of the output alone: no weights, nothing before the post-net."""
    stage, batch = plain(run, name), harness.batch(3)
    batch["audible"][:, :9] = batch["voiced"][:, :9] = 0.0
    condition = [np.asarray(stage.one_hot(batch))]
    if name == "sin":
        condition = [batch["magnitude"], stage.pitched(batch)]
    _, after = stage.model.decode(stage.model.encoder(batch["magnitude"]), *condition)
    target = np.asarray(stage.model.normaliser(batch["features"]))
    expected = np.mean((np.asarray(after) - target) ** 2)
    assert float(stage.losses(batch, training=False)["loss"]) == pytest.approx(expected, rel=1e-5)


def test_equation_5(run):
    """Reconstruction before and after the post-net, and the code of the output; lambda is 1."""
    stage, batch = plain(run, "autovc"), harness.batch(3)
    batch["audible"][:, :9] = 0.0
    singer = stage.one_hot(batch)
    out = harness.flat(stage.model({"features": batch["features"], "singer": singer}))
    again = np.asarray(stage.model.encode(out["after"], singer))
    expected = sum(np.mean((out[part] - out["target"]) ** 2) for part in ("before", "after"))
    expected += np.mean(np.abs(again - out["code"]))
    assert float(stage.losses(batch, training=False)["loss"]) == pytest.approx(expected, rel=1e-5)


def test_weighted_losses_are_others(run):
    stage, batch = plain(run, "sin"), harness.batch(3)
    other = started(run, "sin", "squared")
    values = [float(s.losses(batch, training=False)["loss"]) for s in (stage, other)]
    assert values[0] != pytest.approx(values[1], rel=0.05)


# Variable gains


@pytest.fixture(scope="module")
def records(corpus):
    voice = next(dataset.examples(corpus.records, "train"))
    backing = next(dataset.examples(corpus.records, "train_backing"))
    return voice, backing


def mixed(records, number: int, config=PAPER_GAINS) -> dict[str, np.ndarray]:
    return harness.mixed(*records, number, config, FRAMES)


def test_gains_are_those_of_the_authors(records):
    """Vocals times 0.5 to 1, backing times 0 to 1, and the target stays as it was recorded."""
    one = dataclasses.replace(PAPER_GAINS, vocals_gain=(1.0, 1.0), backing_gain=(1.0, 1.0))
    found = []
    for number in range(40):
        made, recorded = mixed(records, number), mixed(records, number, one)
        np.testing.assert_array_equal(made["features"], recorded["features"])
        gains = []
        for part in ("voice", "accompaniment"):
            gain = np.abs(made[part]).max() / np.abs(recorded[part]).max()
            np.testing.assert_allclose(made[part], gain * recorded[part], atol=1e-6)
            gains.append(gain)
        found.append(gains)
    vocals, backing = np.transpose(found)
    assert 0.5 <= vocals.min() < 0.6 and 0.9 < vocals.max() <= 1.0
    assert 0.0 <= backing.min() < 0.1 and 0.9 < backing.max() <= 1.0
    assert abs(np.corrcoef(vocals, backing)[0, 1]) < 0.4


def test_magnitudes_of_voice_and_music_are_added(corpus):
    def first(**changes):
        options = dataset.PhraseOptions(
            "train", 3, FRAMES, 5, ("magnitude", "magnitude_4096/2", "voice_magnitude"),
            dataclasses.replace(PAPER_GAINS, **changes),
        )  # fmt: skip
        return {
            k: v.numpy() for k, v in next(iter(dataset.phrases(corpus.records, options))).items()
        }

    added, summed = first(), first(add_magnitudes=False)
    silent = first(backing_gain=(0.0, 0.0), add_magnitudes=False)
    alone = first(vocals_gain=(1e-9, 1e-9), add_magnitudes=False)
    np.testing.assert_allclose(silent["magnitude"], added["voice_magnitude"], rtol=1e-3, atol=1e-4)
    for name in ("magnitude", "magnitude_4096/2"):
        np.testing.assert_allclose(
            added[name], silent[name] + alone[name], rtol=1e-3, atol=1e-3, err_msg=name
        )
        assert np.abs(added[name] - summed[name]).max() > 0.1
