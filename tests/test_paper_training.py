"""`paper.flags` trains as section 4.2 and eq. 3 to 8 say, and with nothing of ours."""

import dataclasses
import shutil

import numpy as np
import pytest

from sep_tf import losses, pitch
from sep_tf.config import PAPER_GAINS
from tests import harness
from tfrecords import dataset

FRAMES = 96
# What F0 of the tiny preset reads.
SPECTRA = ("magnitude_4096/2", "magnitude/2")


def plain(run, name: str):
    """A stage of the `run` with the paper's losses."""
    return started(run, name, "plain")


def started(run, name: str, feature_loss: str):
    """A stage that starts from the weights of the `run`, beside it what it takes from others."""
    folder = run.model_dir.parent / f"{feature_loss}-{name}"
    if needed := {"encoder": "autovc", "sin": "f0"}.get(name):
        shutil.copytree(run.model_dir / needed, folder / needed, dirs_exist_ok=True)
    trainer = harness.make_trainer(
        name, folder, harness.one_batch, feature_loss=feature_loss,
        init_from=run.model_dir / name / "best.weights.h5",
    )  # fmt: skip
    return trainer.stage


@pytest.mark.parametrize("name", ["sdn", "sin"])
def test_equations_7_and_8(run, name):
    """The mean square of the output alone: no weights, nothing before the post-net.

    SIN of other presets than `paper` learns voicing as well: the entropy of that is added.
    """
    stage, batch = plain(run, name), harness.batch(3)
    batch["audible"][:, :9] = batch["voiced"][:, :9] = 0.0
    condition = [np.asarray(stage.one_hot(batch))]
    if name == "sin":
        condition = [batch["magnitude"], stage.pitched(batch)]
    _, after, *voicing = stage.model.decode(stage.model.encoder(batch["magnitude"]), *condition)
    target = np.asarray(stage.model.normaliser(batch["features"]))
    expected = np.mean((np.asarray(after) - target) ** 2)
    if name == "sin":
        probability = 1 / (1 + np.exp(-np.asarray(voicing[0], np.float64)))
        right = np.where(batch["voiced"] > 0.5, probability, 1 - probability)
        expected -= np.mean(np.log(right))
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


def test_equation_6(run):
    """The code of the mixture against the teacher's of the dry voice: a mean of differences."""
    stage, batch = plain(run, "encoder"), harness.batch(3)
    teacher = stage.teacher.model
    normalised = teacher.normaliser(batch["features"])
    target = np.asarray(teacher.encode(normalised, stage.one_hot(batch)))
    expected = np.mean(np.abs(np.asarray(stage.model(batch["magnitude"])) - target))
    assert expected > 0.01
    assert float(stage.losses(batch, training=False)["loss"]) == pytest.approx(expected, rel=1e-5)


def mean(values, weights=1.0) -> float:
    """Over all frames, those of weight 0 as well."""
    return np.mean(np.asarray(values, np.float64) * weights)


def cross_entropy(logits, target):
    """Of a probability for each logit, as its definition has it."""
    found = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -(target * np.log(found) + (1 - target) * np.log(1 - found))


@pytest.mark.parametrize(("feature_loss", "weights"), [("plain", (1, 1)), ("distortion", (5, 2))])
def test_the_losses_of_f0(run, feature_loss, weights):
    """Salience, contour and voicing; pitch is learned where it is voiced and inside the bins."""
    stage, batch = started(run, "f0", feature_loss), harness.batch(3)
    batch["f0"][:, 4:7] = np.array([[30.0, 1300.0, 46.0]])
    learned = batch["voiced"].copy()
    learned[:, 4:7] = 0.0
    heads = harness.flat(
        stage.model.heads(batch | {k.partition("/")[0]: batch[k] for k in SPECTRA})
    )
    target = pitch.salience(batch["f0"], 1.25)
    target /= target.sum(axis=-1, keepdims=True) + 1e-12
    logits = heads["salience"].astype(np.float64)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    parts = {
        "salience": mean(-(target * logits).sum(axis=-1), learned),
        "contour": mean(abs(heads["f0_normalised"] - pitch.normalise(batch["f0"])), learned),
        "voicing": mean(cross_entropy(heads["voicing"], batch["voiced"])),
    }
    found = {k: float(v) for k, v in stage.losses(batch, training=False).items()}
    assert {name: found[name] for name in parts} == pytest.approx(parts, rel=1e-4)
    expected = parts["salience"] + weights[0] * parts["contour"] + weights[1] * parts["voicing"]
    assert found["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("feature_loss", ["plain", "distortion"])
def test_the_losses_of_ss(run, feature_loss):
    """L1 of features, contour where it is voiced, voicing: added up as they are ([13])."""
    stage, batch = started(run, "ss", feature_loss), harness.batch(3)
    batch["audible"][:, :9] = batch["voiced"][:, :9] = 0.0
    heads = harness.flat(stage.model.heads(batch["magnitude"]))
    target = np.asarray(stage.model.normaliser(batch["features"]))
    error = np.mean(abs(heads["features"] - target) * losses.ss_weights(), axis=-1)
    frames = 1.0
    if feature_loss != "plain":  # 1 where it is voiced, 0.65 in consonants, 0.3 in silence
        frames = 0.3 + 0.35 * (batch["audible"] + batch["voiced"])
    contour = abs(heads["f0_normalised"] - pitch.normalise(batch["f0"]))
    parts = {
        "features": mean(error, frames),
        "contour": mean(contour, batch["voiced"]),
        "voicing": mean(cross_entropy(heads["voicing"], batch["voiced"])),
    }
    expected = parts | {"loss": sum(parts.values())}
    found = {k: float(v) for k, v in stage.losses(batch, training=False).items()}
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_loss_of_the_unet(run):
    """L1 between masked mixture and the vocal as mixed ([7], eq. 1)."""
    stage, batch = plain(run, "unet"), harness.batch(3)
    masked = batch["magnitude"] * np.asarray(stage.model(batch["magnitude"]))
    expected = mean(abs(masked - batch["voice_magnitude"]))
    assert float(stage.losses(batch, training=False)["loss"]) == pytest.approx(expected, rel=1e-4)


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


@pytest.mark.slow
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


@pytest.mark.slow
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
