"""What a training keeps of its settings, what it refuses, and what a preset's flags say."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

from export import module
from sep_tf import models, runtimes, train
from sep_tf.config import PRESETS
from sep_tf.errors import ModelError
from sep_tf.runtimes.keras import save_weights
from sep_tf.training import settings, stages
from tests import harness

# Kept


def test_settings_are_beside_the_checkpoints(run):
    values = json.loads((run.model_dir / "encoder" / "config.json").read_text())
    assert values["train"]["steps"] == harness.RUN["steps"] and values["model"]["preset"] == "tiny"
    assert values["singers"] == list(harness.SINGERS)
    assert values["augment"]["reverb"] == 0.5
    found = settings.load(run.model_dir / "encoder")
    assert found.singers == harness.SINGERS and found.model == PRESETS["tiny"]
    assert found.augment == stages.STAGES["encoder"].augment
    assert settings.load(run.model_dir) is None


def test_a_file_of_two_documents_is_read_as_earlier_versions_wrote_it(copied):
    path = copied / "autovc" / settings.NAME
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values["train"], indent=2) + "\n" + json.dumps(values["model"]))
    assert settings.load(path.parent).singers is None
    assert harness.make_trainer("autovc", copied, harness.one_batch, **harness.RUN).run() < 2


@pytest.mark.parametrize("preset", ["lite", "paper"])
def test_flag_files_of_the_presets(preset, tmp_path, capsys):
    """They parse, and `paper` has the paper's batches."""
    path = pathlib.Path(train.__file__).parent / "presets" / f"{preset}.flags"
    argv = [f"--flagfile={path}", f"--data_dir={tmp_path}/none", f"--model_dir={tmp_path}"]
    assert "none is no data set" in harness.one_line_error(train.run, argv, capsys)
    assert train.FLAGS.preset == preset
    if preset == "paper":
        given = {name: getattr(train.FLAGS, name) for name in train._OVERRIDES}
        config = stages.train_config("sin", **given)
        assert (config.batch_size, config.phrase_frames, config.learning_rate) == (30, 128, 1e-3)
        assert (config.feature_loss, config.schedule, config.clip_norm) == ("plain", "constant", 0)
        assert (config.validation_split, config.augmentation) == ("validation", "gains")
        assert config.patience * config.validate_every < config.steps


# What is refused


def test_a_content_term_without_the_teacher(copied):
    shutil.rmtree(copied / "autovc")
    with pytest.raises(ModelError, match="stage sdn needs the weights of stage autovc: run"):
        harness.make_trainer("sdn", copied, harness.one_batch, content_weight=0.5)


def test_phrases_too_short_for_the_pictures_of_the_unet(tmp_path):
    with pytest.raises(ModelError, match="stage unet needs phrases of a multiple of 8 frames"):
        harness.make_trainer("unet", tmp_path, harness.one_batch, phrase_frames=36)


@pytest.mark.parametrize(
    ("name", "needed"),
    [("encoder", "autovc"), ("sdn", "encoder"), ("sin", "encoder"), ("sin", "f0")],
)
def test_a_stage_without_the_one_before(copied, name, needed):
    shutil.rmtree(copied / needed)
    with pytest.raises(ModelError) as error:
        harness.make_trainer(name, copied, harness.one_batch)
    assert f"`sep-tf train --stage={needed}`" in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_of_another_network(copied):
    """Named: what the weights were trained with, and what this run has."""
    info = stages.DataInfo((*harness.SINGERS, "cid"), np.zeros(64), np.ones(64))
    with pytest.raises(ModelError, match=r"trained on other singers \(2, this data set trains 3\)"):
        stages.EncoderStage(PRESETS["tiny"], info, copied)
    known = stages.DataInfo(harness.SINGERS, np.zeros(64), np.ones(64))
    words = r"autovc.*another preset or other singers \(stage autovc, preset tiny, 2 singers\)"
    with pytest.raises(ModelError, match=words):
        stages.EncoderStage(PRESETS["tiny-paper"], known, copied)


def test_as_many_singers_but_others(copied):
    """Their one-hots would mean other people, without any shape to show it."""
    for singers, words in (
        (harness.SINGERS[::-1], "the same 2 in another order"),
        (("ann", "cid"), "ben is not among the 2 of this data set"),
    ):
        info = stages.DataInfo(singers, np.zeros(64), np.ones(64))
        with pytest.raises(ModelError, match=rf"trained on other singers \({words}\)"):
            stages.EncoderStage(PRESETS["tiny"], info, copied)
        start = copied / "autovc" / "best.weights.h5"
        with pytest.raises(ModelError, match=rf"trained on other singers \({words}\)"):
            stages.AutoVCStage(PRESETS["tiny"], info, copied, init_from=start)
    harness.rewrite_settings(copied / "autovc", lambda values: values["singers"].reverse())
    words = r"config.json was made with other singers \(the same 2 in another order\); choose"
    with pytest.raises(ModelError, match=words):
        harness.make_trainer("autovc", copied, harness.one_batch, **harness.RUN)


def test_a_distortion_is_one_of_the_statistics_that_are_started_from(run):
    """They come with the weights; by the data set's own the distance would be no decibels."""
    info = stages.DataInfo(harness.SINGERS, np.zeros(64), np.full(64, 3.0))
    start = run.model_dir / "sin" / "best.weights.h5"
    assert stages.train_config("sin").feature_loss == "distortion"
    first = stages.SINStage(PRESETS["tiny"], info, run.model_dir, init_from=start)
    info = stages.DataInfo(harness.SINGERS, np.zeros(64), np.ones(64))
    second = stages.SINStage(PRESETS["tiny"], info, run.model_dir, init_from=start)
    batch = harness.batch(0)
    values = [float(stage.losses(batch, training=False)["after"]) for stage in (first, second)]
    assert values[0] == pytest.approx(values[1])


def test_checkpoints_of_another_network_whose_settings_are_not_known(copied):
    harness.rewrite_settings(copied / "autovc", lambda values: values.update(singers=None))
    info = stages.DataInfo((*harness.SINGERS, "cid"), np.zeros(64), np.ones(64))
    trainer = harness.make_trainer("autovc", copied, harness.one_batch, info=info, **harness.RUN)
    with pytest.raises(ModelError, match="ckpt-200 is of another preset or other singers"):
        trainer.run()


def test_damaged_weights_of_an_earlier_stage(copied):
    path = stages.weights_path(copied, "autovc")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="of another stage or damaged"):
        harness.make_trainer("encoder", copied, harness.one_batch)


# Fine-tuning


@pytest.mark.parametrize("name", ["sdn", "sin"])
def test_weights_to_start_from(run, tmp_path, name):
    """All of them, encoder included, where the folder has none of its own."""
    given = stages.weights_path(run.model_dir, name)
    if name == "sin":  # F0 is no part of SIN's weights
        shutil.copytree(run.model_dir / "f0", tmp_path / "f0")
    stage = harness.make_stage(name, tmp_path, given)
    assert not stage.model.encoder.trainable_variables
    assert f"encoder frozen, from {given}" in stage.summary
    same = harness.make_stage(name, run.model_dir, given).model
    for a, b in zip(harness.weights(stage.model), harness.weights(same), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["sdn", "sin"])
def test_the_frozen_encoder_stays_that_of_the_folder(run, copied, name):
    other = _other_encoder(copied)
    stage = harness.make_stage(name, copied, stages.weights_path(run.model_dir, name))
    assert f"encoder frozen, from {stages.weights_path(copied, 'encoder')}" in stage.summary
    for a, b in zip(harness.weights(stage.model.encoder), harness.weights(other), strict=True):
        np.testing.assert_array_equal(a, b)
    expected = harness.make_stage(
        name, run.model_dir, stages.weights_path(run.model_dir, name)
    ).model
    pairs = zip(
        harness.weights(stage.model.decoder), harness.weights(expected.decoder), strict=True
    )
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)


def test_an_encoder_that_goes_on_learning_stays_with_its_decoder(run, copied):
    _other_encoder(copied)
    given = stages.weights_path(run.model_dir, "sin")
    tuned = harness.make_stage("sin", copied, given, tune_encoder=True)
    assert f"encoder trained on, from {given}" in tuned.summary
    expected = harness.make_stage("sin", run.model_dir, given).model
    pairs = zip(
        harness.weights(tuned.model.encoder), harness.weights(expected.encoder), strict=True
    )
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)


def _other_encoder(folder: pathlib.Path):
    """Another encoder than the one that SIN and SDN were trained with, as the folder's own."""
    other = harness.make_stage("encoder", folder).model
    harness.randomise(other, 5)
    other.save_weights(stages.weights_path(folder, "encoder"))
    return other


def test_weights_to_start_from_that_are_another_network_s(run, tmp_path):
    path = tmp_path / "ss.weights.h5"
    models.build("ss", PRESETS["tiny-paper"]).save_weights(path)
    encoder = stages.weights_path(run.model_dir, "encoder")
    for given, made in ((path, ""), (encoder, r" \(stage encoder, preset tiny, 2 singers\)")):
        words = rf"{given} was trained with another preset .*{made}, is of another stage or damaged"
        with pytest.raises(ModelError, match=words):
            harness.make_stage("ss", tmp_path, given)


# What is said


@pytest.mark.parametrize(
    ("name", "earlier"),
    [("autovc", []), ("encoder", ["autovc"]), ("sdn", ["encoder"]), ("sin", ["encoder", "f0"])],
)
def test_a_stage_says_what_it_trains_and_what_is_frozen(copied, name, earlier):
    stage = harness.make_stage(name, copied)
    count = sum(np.size(value) for value in stage.model.trainable_variables)
    expected = [f"{name}: trains {count:,} parameters"]
    expected += [f"{part} frozen, from {stages.weights_path(copied, part)}" for part in earlier]
    assert stage.summary.split("; ") == expected


def test_the_teacher_that_hears_sdn_is_named(run):
    stage = harness.make_stage("sdn", run.model_dir, content_weight=0.5)
    assert "; autovc frozen, from " in stage.summary


# What it starts from


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """Paths of the systems of `run` by their names."""
    folder = tmp_path_factory.mktemp("systems")
    paths = {system: folder / f"{system}.weights.h5" for system in ("sin", "sdn", "ss", "autovc")}
    for system, path in paths.items():
        save_weights(*module.assemble(run.model_dir, "tiny", system), path)
    return paths


@pytest.mark.parametrize(
    ("name", "system"),
    [
        ("sin", "sin"),
        ("f0", "sin"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (("encoder", "sdn"), ("sdn", "sdn"), ("autovc", "autovc"))
        ),
    ],
)
def test_a_stage_starts_from_its_network_in_a_system(run, exported, name, system):
    singers = len(harness.SINGERS) if name in ("autovc", "sdn") else 0
    expected = models.build(name, PRESETS["tiny"], singers)
    stages.restore(expected, stages.weights_path(run.model_dir, name))
    model = harness.make_stage(name, run.model_dir, exported[system]).model
    for found, value in zip(harness.weights(model), harness.weights(expected), strict=True):
        np.testing.assert_array_equal(found, value)


def test_a_sin_older_than_its_refinement_goes_on_as_it_is(run, tmp_path):
    config = dataclasses.replace(PRESETS["tiny"], sin_refinement_width=0)
    older = models.build("extractor", config)
    harness.randomise(older)
    save_weights(older, module.model_info(older, config), tmp_path / "o.weights.h5")
    # Without an encoder in the folder that of the file is taken.
    (tmp_path / "f0").symlink_to(run.model_dir / "f0")
    model = harness.make_stage("sin", tmp_path, tmp_path / "o.weights.h5").model
    rng = np.random.default_rng(0)
    heard = {
        "magnitude": rng.uniform(0, 10, (1, 32, 513)),
        "magnitude_4096": rng.uniform(0, 10, (1, 32, 2049)),
        "f0": rng.uniform(80, 800, (1, 32)),
        "voicing": rng.uniform(0, 1, (1, 32)),
    }
    heard = {name: value.astype(np.float32) for name, value in heard.items()}
    assert model.refinement is not None
    harness.assert_same(model(heard), older.sin(heard), rtol=0, atol=0)


def test_a_file_without_what_its_configuration_names_is_one_line(tmp_path):
    config = dataclasses.replace(PRESETS["tiny"], sin_refinement_width=0)
    older = models.build("extractor", config)
    info = dataclasses.replace(module.model_info(older, config), model=PRESETS["tiny"].to_dict())
    save_weights(older, info, tmp_path / "o.weights.h5")
    with pytest.raises(ModelError, match="does not fit its own configuration: .*[^\n]$") as error:
        runtimes.load(str(tmp_path / "o.weights.h5"), "keras")
    assert "\n" not in str(error.value)


def test_the_frozen_encoder_comes_with_sin_but_not_f0(run, exported, tmp_path):
    with pytest.raises(ModelError, match="stage f0: run `sep-tf train --stage=f0`"):
        harness.make_stage("sin", tmp_path, exported["sin"])
    (tmp_path / "f0").symlink_to(run.model_dir / "f0")
    stage = harness.make_stage("sin", tmp_path, exported["sin"])
    assert not stage.model.encoder.trainable
    assert f"encoder frozen, from {exported['sin']}" in stage.summary


def test_systems_that_do_not_fit(run, exported):
    with pytest.raises(ModelError, match="a model of ss, has no network of stage f0"):
        harness.make_stage("f0", run.model_dir, exported["ss"])
    with pytest.raises(ModelError, match="has no network of stage encoder"):
        harness.make_stage("encoder", run.model_dir, exported["autovc"])
    others = ("zoe", *harness.SINGERS[1:])
    with pytest.raises(ModelError, match=f"other singers .*{harness.SINGERS[0]} is not among"):
        harness.make_stage("sdn", run.model_dir, exported["sdn"], others)
    with pytest.raises(ModelError, match=r"another preset \(lite\)"):
        harness.make_stage("f0", run.model_dir, runtimes.find("sin-lite", "keras")[1])


def test_what_init_from_names_is_there(corpus, tmp_path, capsys):
    argv = [f"--data_dir={corpus.records}", f"--model_dir={tmp_path}", "--stage=f0"]
    line = harness.one_line_error(train.run, [*argv, "--init_from=sin-huge"], capsys)
    assert "unknown model 'sin-huge', expected one of: " in line
    line = harness.one_line_error(train.run, [*argv, "--init_from=no/f0.weights.h5"], capsys)
    assert "no/f0.weights.h5 does not exist" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["encoder", "sdn"])
def test_who_knows_singers_hears_them_in_their_own_colour(name):
    augment = stages.STAGES[name].augment
    assert augment.speed == (1.0, 1.0) and augment.backing_speed != (1.0, 1.0)
    assert not (augment.vocals_eq_db or augment.vocals_tilt_db or augment.vocals_dull)
    assert augment.band_limited and not augment.limited_target
