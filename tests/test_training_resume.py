"""What a training that is resumed must have in common with the one that was interrupted."""

import shutil

import numpy as np
import pytest

from sep_tf.errors import ModelError
from sep_tf.training import settings, stages
from tests import harness


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 41}, "(steps 200, now 41)"),
        ({"preset": "tiny-paper"}, "(preset tiny, now tiny-paper; "),
    ],
)
def test_other_settings_on_resume(copied, change, words):
    path = copied / "autovc" / settings.NAME
    before = path.read_text()
    with pytest.raises(ModelError) as error:
        harness.make_trainer("autovc", copied, harness.one_batch, **(harness.RUN | change))
    assert str(path) in str(error.value) and "--model_dir" in str(error.value)
    assert words in str(error.value)
    assert path.read_text() == before


def test_other_alterations_on_resume(copied):
    """Refused where they are known; a file of a version that did not keep them goes on."""
    harness.rewrite_settings(copied / "encoder", lambda values: values["augment"].update(fade=0.1))
    words = r"encoder.config.json was made with other settings \(fade 0.1, now 0.0\); resume"
    with pytest.raises(ModelError, match=words):
        harness.make_trainer("encoder", copied, harness.one_batch, **harness.RUN)
    harness.rewrite_settings(copied / "encoder", lambda values: values.update(augment=None))
    harness.make_trainer("encoder", copied, harness.one_batch, **harness.RUN)


def test_other_weights_to_start_from_on_resume(run, tmp_path):
    """They would be said to be trained, and those of the checkpoint would."""
    given = stages.weights_path(run.model_dir, "autovc")
    values = {"steps": 2, "validate_every": 1}
    harness.make_trainer("autovc", tmp_path, harness.one_batch, init_from=given, **values).run()
    for same in (given, None):
        harness.make_trainer("autovc", tmp_path, harness.one_batch, init_from=same, **values)
    other = stages.weights_path(tmp_path, "autovc")
    with pytest.raises(ModelError, match=r"config.json began with other weights: give those"):
        harness.make_trainer("autovc", tmp_path, harness.one_batch, init_from=other, **values)
    harness.rewrite_settings(tmp_path / "autovc", lambda values: values.pop("init_from"))
    harness.make_trainer("autovc", tmp_path, harness.one_batch, init_from=other, **values)


def test_settings_that_came_later_have_their_defaults_on_resume(copied):
    """A config.json of a version that knew fewer settings is no other configuration."""
    harness.rewrite_settings(copied / "autovc", lambda values: values["train"].pop("feature_loss"))
    trainer = harness.make_trainer("autovc", copied, harness.one_batch, **harness.RUN)
    trainer.run()
    assert trainer.step == harness.RUN["steps"]


def test_other_records_on_resume(tmp_path):
    """Refused where both are known; no digest is of a version that kept none."""
    values = {"steps": 2, "validate_every": 1}

    def again(identity):
        info = harness.data_info(identity)
        return harness.make_trainer("autovc", tmp_path, harness.one_batch, info=info, **values)

    again("these").run()
    again("these")
    with pytest.raises(ModelError, match=r"config.json was made with other records, of which"):
        again("those")
    harness.rewrite_settings(tmp_path / "autovc", lambda kept: kept.pop("records"))
    again("those")


@pytest.mark.parametrize(("name", "earlier"), [("encoder", "autovc"), ("sin", "f0")])
def test_other_weights_of_an_earlier_stage_on_resume(copied, name, earlier):
    """They are not in the checkpoint, and would be heard from there on."""
    values = {"steps": 2, "validate_every": 1, "learning_rate": 1e-2}
    shutil.rmtree(copied / name, ignore_errors=True)
    harness.make_trainer(name, copied, harness.one_batch, **values).run()
    harness.make_trainer(name, copied, harness.one_batch, **values)
    other = harness.make_stage(earlier, copied).model
    harness.randomise(other, 5)
    other.save_weights(stages.weights_path(copied, earlier))
    with pytest.raises(ModelError, match=f"was made with other weights of stage {earlier}: put"):
        harness.make_trainer(name, copied, harness.one_batch, **values)


@pytest.mark.parametrize("name", ["sdn", "sin"])
def test_what_is_frozen_is_in_the_checkpoint(run, tmp_path, name):
    """Without a stage encoder in the folder, and without the file that a training began with."""
    given = stages.weights_path(run.model_dir, name)
    if name == "sin":  # F0 is no part of SIN's weights
        shutil.copytree(run.model_dir / "f0", tmp_path / "f0")
    values = {"steps": 2, "validate_every": 1}
    first = harness.make_trainer(name, tmp_path, harness.one_batch, init_from=given, **values)
    first.run()
    again = harness.make_trainer(name, tmp_path, harness.one_batch, **values)
    assert "encoder frozen, from its checkpoint" in again.stage.summary
    again.run()
    pairs = zip(harness.weights(first.stage.model), harness.weights(again.stage.model), strict=True)
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)
