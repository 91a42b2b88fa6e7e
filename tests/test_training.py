"""Stages learn, leave alone what they must, and go on after an interruption as if none had been."""

import dataclasses
import math
import os
import shutil
import signal
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from sep_tf import models, train
from sep_tf.config import PRESETS
from sep_tf.errors import SepTfError
from sep_tf.training import loop, stages
from sep_tf.training import strategy as distribution
from tests import harness

NAMES = train.ORDER


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_learns_a_batch_by_heart(run, name):
    losses = np.array([float(row["train_loss"]) for row in run.rows[name]])
    if name == "f0":
        # Below the entropy of a blurred pitch no cross-entropy comes; 7 of 8 frames have one.
        losses -= 7 / 8 * math.log(1.25 * math.sqrt(2 * math.pi * math.e))
    assert len(losses) == 4 and np.isfinite(losses).all()
    assert losses[-1] < 0.4 * losses[0], losses


@pytest.mark.parametrize(
    ("name", "part"),
    [("encoder", "autovc"), ("sdn", "encoder"), ("sin", "encoder"), ("sin", "f0")],
)
def test_what_is_frozen_stays_bit_identical(run, name, part):
    """What a stage takes from an earlier one it leaves alone: batch statistics as well."""
    before, after = run.frozen[name][part]
    assert_equal(before, after)


def assert_equal(before: list[np.ndarray], after: list[np.ndarray]) -> None:
    assert len(before) > 5
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_sin_can_go_on_training_its_encoder(run):
    stage = harness.make_stage("sin", run.model_dir, tune_encoder=True)
    assert "encoder trained on, from " in stage.summary
    encoder = stage.model.encoder
    statistics = harness.weights(encoder)
    with tf.GradientTape() as tape:
        loss = stage.losses(harness.batch(0), training=True)["loss"]
    assert len(encoder.trainable_variables) > 5
    for gradient in tape.gradient(loss, [v.value for v in encoder.trainable_variables]):
        assert np.abs(gradient).max() > 0
    # The decoder learns in training mode, the encoder's batch statistics stay.
    assert_equal(statistics, harness.weights(encoder))


def test_stages_start_from_the_best_weights_of_those_before(run):
    teacher = models.build("autovc", PRESETS["tiny"], singers=len(harness.SINGERS))
    teacher.load_weights(stages.weights_path(run.model_dir, "autovc"))
    encoder = models.build("encoder", PRESETS["tiny"])
    encoder.load_weights(stages.weights_path(run.model_dir, "encoder"))
    sin = models.build("sin", PRESETS["tiny"])
    sin.load_weights(stages.weights_path(run.model_dir, "sin"))
    for found, expected in (
        (run.frozen["encoder"]["autovc"][0], harness.weights(teacher)),
        (run.frozen["sin"]["encoder"][0], harness.weights(encoder)),
        (harness.weights(sin.encoder), harness.weights(encoder)),
    ):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_batch_statistics_of_what_is_trained_do_move(run):
    sin = models.build("sin", PRESETS["tiny"])
    sin.load_weights(stages.weights_path(run.model_dir, "sin"))
    assert np.abs(np.array(sin.log_magnitude.norm.moving_mean)).max() > 1e-3


def test_singers_nobody_trains_have_no_one_hot(run):
    trainer = harness.make_trainer("autovc", run.model_dir, harness.one_batch, **RUN)
    found = np.asarray(trainer.stage.one_hot({"singer": np.array([1, -1, 0])}))
    np.testing.assert_array_equal(found, [[0, 1], [0, 0], [1, 0]])


def test_the_teacher_can_hear_what_sdn_sings(run):
    """The authors' second content term: weighed, curved, and the teacher stays as it is."""
    plain, heard = (
        harness.make_stage("sdn", run.model_dir, content_weight=weight) for weight in (0.0, 0.5)
    )
    heard.model.set_weights(plain.model.get_weights())
    batch = harness.batch(0)
    values, without = (stage.losses(batch, training=False) for stage in (heard, plain))
    assert "content" not in without and float(values["content"]) > 0.01
    assert float(values["loss"]) == pytest.approx(
        float(without["loss"]) + 0.5 * float(values["content"]), rel=1e-5
    )
    assert not heard.teacher.model.trainable_variables
    # The teacher hears the same voice whatever the statistics it was itself trained with.
    heard.teacher.model.normaliser.set_statistics(np.ones(64), np.full(64, 2.0))
    singer = heard.one_hot(batch)
    code = heard.model.encoder(batch["magnitude"], training=False)
    _, after = heard.model.decode(code, singer, training=False)
    said = heard.teacher.code(heard.model.normaliser.denormalise(after), singer)
    wanted = heard.content_loss(heard.teacher.code(batch["features"], singer), said)
    values = heard.losses(batch, training=False)
    assert float(values["content"]) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.slow
def test_the_teacher_that_hears_sdn_stays_bit_identical(run, tmp_path):
    for name in ("autovc", "encoder"):
        shutil.copytree(run.model_dir / name, tmp_path / name)
    trainer = harness.make_trainer(
        "sdn", tmp_path, harness.one_batch, content_weight=0.5, steps=4, validate_every=4
    )
    teacher = trainer.stage.teacher.model
    before = harness.weights(teacher)
    trainer.run()
    assert_equal(before, harness.weights(teacher))


# The settings of the `run` fixture.
RUN = {"steps": 200, "validate_every": 50, "learning_rate": 1e-2}


# Interruption


class Watched:
    """`many_batches` that remembers which data sets were asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int]] = []

    def __call__(self, split: str, seed: int, first_batch: int = 0):
        self.asked.append((split, seed, first_batch))
        return harness.many_batches(split, seed, first_batch)


def autovc(folder, seed: int, **overrides):
    keras.utils.set_random_seed(seed)
    values = {"steps": 5, "validate_every": 3, "learning_rate": 1e-2, "seed": 2}
    return harness.make_trainer("autovc", folder, Watched(), **(values | overrides))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    trainer = autovc(tmp_path_factory.mktemp("whole"), seed=0)
    trainer.run()
    return trainer


def stop_after(trainer, steps: int) -> None:
    """SIGTERM reaches the process after so many steps."""
    inner, done = trainer.train_step, []

    def step(*arguments):
        values = inner(*arguments)
        done.append(None)
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return values

    trainer.train_step = step


@pytest.mark.parametrize("steps", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_an_interrupted_run_goes_on_exactly(uninterrupted, tmp_path, steps):
    """Stopped within a segment, and at its end: the same weights, data and curves as without."""
    before = signal.getsignal(signal.SIGTERM)
    first = autovc(tmp_path, seed=0)
    stop_after(first, steps)
    with pytest.raises(loop.Interrupted):
        first.run()
    assert first.step == steps
    assert signal.getsignal(signal.SIGTERM) is before
    second = autovc(tmp_path, seed=99)
    second.run()
    assert second.step == uninterrupted.step == 5
    for a, b in zip(
        harness.weights(second.stage.model), harness.weights(uninterrupted.stage.model), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    columns = ("step", "valid_loss")
    rows = [[row[c] for c in columns] for row in harness.log_rows(second)]
    assert rows == [[row[c] for c in columns] for row in harness.log_rows(uninterrupted)]
    assert first.data.asked == uninterrupted.data.asked
    *_, (split, seed, first_batch) = second.data.asked
    assert (split, seed, first_batch) == (*uninterrupted.data.asked[-1][:2], steps)


@pytest.mark.slow
def test_dropout_goes_on_exactly(tmp_path, monkeypatch):
    """Its random state is part of a checkpoint: 2 + 2 steps are 4."""
    half = dataclasses.replace(PRESETS["tiny"], unet_dropout=0.5)
    monkeypatch.setitem(PRESETS, "tiny", half)

    def unet(folder, seed: int):
        keras.utils.set_random_seed(seed)
        return harness.make_trainer(
            "unet", tmp_path / folder, harness.many_batches, steps=4, validate_every=4
        )

    whole, first = unet("whole", 0), unet("halves", 0)
    first.stage.model.set_weights(whole.stage.model.get_weights())
    whole.run()
    stop_after(first, 2)
    with pytest.raises(loop.Interrupted):
        first.run()
    second = unet("halves", 99)
    second.run()
    assert (first.step, second.step) == (2, 4)
    for a, b in zip(
        harness.weights(second.stage.model), harness.weights(whole.stage.model), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_data_asked_for(uninterrupted):
    """Training data once for all segments, so that all of it comes; validation data once."""
    validation, train = uninterrupted.data.asked
    assert (validation[0], train) == ("validation", ("train", 2, 0))


def test_a_finished_stage_is_not_trained_again(uninterrupted):
    again = autovc(uninterrupted.folder.parent, seed=7)
    assert again.run() == pytest.approx(float(uninterrupted.best))
    assert again.step == 5 and not again.data.asked


def test_early_stopping_keeps_the_best_weights(tmp_path):
    trainer = autovc(tmp_path, seed=0, steps=50, validate_every=1, patience=2)
    losses = iter([3.0, 1.0, 2.0, 1.5, 0.1])
    kept = []

    def validate():
        kept.append(harness.weights(trainer.stage.model))
        return {"loss": next(losses)}

    trainer.validate = validate
    assert trainer.run() == 1.0
    assert trainer.step == 4
    model = models.build("autovc", PRESETS["tiny"], singers=len(harness.SINGERS))
    model.load_weights(trainer.best_path)
    for a, b in zip(harness.weights(model), kept[1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    trainer = autovc(tmp_path, seed=0, steps=8, validate_every=2)
    losses = trainer.stage.losses

    def spoiled(batch, training):
        values = losses(batch, training)
        late = trainer.optimizer.iterations >= 3
        return values | {"loss": tf.where(late, np.float32(np.nan), values["loss"])}

    trainer.stage.losses = spoiled
    with pytest.raises(SepTfError) as error:
        trainer.run()
    assert "autovc: the loss is not finite at step 4" in str(error.value)
    assert f"on phrases of {', '.join(harness.SONGS)};" in str(error.value)
    assert "ckpt-2" in str(error.value) and trainer.checkpoints.paths[-1].endswith("ckpt-2")
    assert len(harness.log_rows(trainer)) == 1
    model = models.build("autovc", PRESETS["tiny"], singers=len(harness.SINGERS))
    model.load_weights(trainer.best_path)
    assert all(np.isfinite(value).all() for value in harness.weights(model))


def test_a_validation_loss_that_is_not_finite_ends_the_run(tmp_path):
    trainer = autovc(tmp_path, seed=0, steps=8, validate_every=2)
    losses = trainer.stage.losses

    def spoiled(batch, training):
        values = losses(batch, training)
        return values if training else values | {"loss": np.float32(np.nan) * values["loss"]}

    trainer.stage.losses = spoiled
    with pytest.raises(SepTfError) as error:
        trainer.run()
    assert str(error.value) == (
        "autovc: the validation loss is not finite at step 2, on phrases of "
        f"{', '.join(harness.SONGS)}; no checkpoint was written before"
    )
    assert not trainer.checkpoints.paths and not trainer.best_path.exists()


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_ends_the_run_although_the_loss_is(tmp_path):
    trainer = autovc(tmp_path, seed=0, steps=8, validate_every=2)
    losses = trainer.stage.losses

    def spoiled(batch, training):
        values = losses(batch, training)
        weight = tf.reduce_sum(trainer.stage.model.trainable_variables[0].value)
        # The root of nothing is 0, its slope is not finite.
        return values | {"loss": values["loss"] + tf.sqrt(0.0 * weight)}

    trainer.stage.losses = spoiled
    with pytest.raises(
        SepTfError, match="autovc: the gradient is not finite at step 1, on .*; no che"
    ):
        trainer.run()
    assert not trainer.checkpoints.paths and not trainer.best_path.exists()


@pytest.mark.parametrize("replicas", [1, 2])
def test_no_tuning_holds_the_end_of_a_segment(replicas):
    """Iterators of tuned data sets sleep on at times when they end, up to a minute."""
    strategy = types.SimpleNamespace(
        num_replicas_in_sync=replicas,
        cluster_resolver=None,
        distribute_datasets_from_function=lambda make: [make(None)],
    )
    batches = tf.data.Dataset.range(8).batch(4)
    (given,) = distribution.distribute(strategy, batches, batch_size=4)
    assert given.options().autotune.enabled is False
    assert [len(batch) for batch in given] == [4 // replicas] * 2 * replicas
