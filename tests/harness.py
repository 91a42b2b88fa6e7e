"""What several test modules share: synthetic singing, checks that every network must pass."""

import contextlib
import csv
import json
import pathlib
import resource
from collections.abc import Callable, Iterator

import numpy as np

from tfrecords import schema

RATE, HOP = 32_000, 160


def sung(seconds: float, pitch: float, level: float = 0.2, seed: int = 0) -> np.ndarray:
    """Harmonics under a formant with vibrato and breath, silent for 50 ms at both ends, float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(pitch * 2 ** (0.3 / 12 * np.sin(2 * np.pi * 5 * t))) / RATE
    voice = sum(
        (0.02 + np.exp(-0.5 * ((k * pitch - 700) / 300) ** 2)) * np.sin(k * phase)
        for k in range(1, int(8000 / pitch))
    )
    voice = voice / np.abs(voice).max() + 2e-3 * rng.normal(size=len(t))
    fade = np.clip(np.minimum(t - 0.05, t[-1] - 0.05 - t) / 0.02, 0.0, 1.0)
    return (level * voice * fade).astype(np.float32)


def band(seconds: float, seed: int) -> np.ndarray:
    """Chords and noise, float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    chord = sum(np.sin(2 * np.pi * hz * t + hz) for hz in rng.uniform(80, 2000, 6))
    return (0.05 * chord + 0.02 * rng.normal(size=len(t))).astype(np.float32)


def randomise(model, seed: int = 0, kernels: float = 1.0) -> None:
    """Random values in every variable, batch statistics too: what is zero at first hides faults.

    `kernels` scales those: deep stacks of large ones would leave float32.
    """
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        value = rng.normal(0.0, 0.3, variable.shape)
        if variable.path.endswith(("variance", "std")):
            value = 0.5 + np.abs(value)
        elif variable.path.endswith("kernel"):
            value *= kernels
        variable.assign(value.astype(np.float32))


def flat(outputs) -> dict[str, np.ndarray]:
    """Outputs of a model as named arrays."""
    if not isinstance(outputs, dict):
        outputs = {"output": outputs}
    return {name: np.asarray(value) for name, value in outputs.items()}


def assert_same(found, expected, **tolerance) -> None:
    """Every output of one model equals the other's; `tolerance` as in assert_allclose."""
    found, expected = flat(found), flat(expected)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, err_msg=name, **tolerance)


def check_save_and_load(make: Callable, inputs, path: pathlib.Path) -> None:
    """Weights written by one model give another made by `make` the same outputs."""
    first, second = make(), make()
    randomise(first, 1)
    randomise(second, 2)
    expected = flat(first(inputs))
    changed = [not np.allclose(v, expected[k]) for k, v in flat(second(inputs)).items()]
    assert all(changed), "other weights give the same outputs: the check would see nothing"
    first.save_weights(path)
    second.load_weights(path)
    assert_same(second(inputs), expected, rtol=0, atol=0)


def check_context(
    call: Callable, inputs: dict, context: int, start: int, stop: int, align: int = 16
) -> None:
    """Frames start..stop depend on `context` frames around them and on nothing beyond.

    Args:
      call: maps {name: [1, T, ...]} to outputs at frame rate or at code rate (T / 16).
      inputs: arrays of T frames; those without a time axis are left alone.
      context: claimed by the model.
      start: multiple of `align`.
      stop: multiple of `align`.
      align: frames that chunks of the model start on.
    """
    frames = max(value.shape[1] for value in inputs.values())
    rng = np.random.default_rng(3)
    timed = {name for name, value in inputs.items() if value.shape[1] == frames}

    def changed(first: int, last: int) -> dict:
        """Inputs with everything outside first..last exchanged."""
        out = {}
        for name, value in inputs.items():
            out[name] = value
            if name in timed:
                out[name] = rng.permutation(value, axis=1) * 3.0
                out[name][:, max(first, 0) : last] = value[:, max(first, 0) : last]
        return out

    def kept(outputs) -> dict:
        """Frames start..stop of outputs that have a time axis."""
        return {
            name: value[:, start * value.shape[1] // frames : stop * value.shape[1] // frames]
            for name, value in flat(outputs).items()
        }

    whole = kept(call(inputs))
    assert start - context > 0 and stop + context < frames, "nothing is left outside to change"
    assert_same(kept(call(changed(start - context, stop + context))), whole, rtol=0, atol=1e-5)
    # Without half the neighbours it must not hold: else the check, or the context, says nothing.
    less = kept(call(changed(start, stop)))
    assert any(np.abs(less[name] - whole[name]).max() > 1e-3 for name in whole)
    # A chunk cut with its context (rounded up) is the same as the whole song.
    wide = -(-context // align) * align
    assert start - wide >= 0 and stop + wide <= frames
    cut = {
        name: value[:, start - wide : stop + wide] if name in timed else value
        for name, value in inputs.items()
    }
    length = stop - start + 2 * wide
    inner = {
        name: value[:, wide * value.shape[1] // length :][:, : whole[name].shape[1]]
        for name, value in flat(call(cut)).items()
    }
    assert_same(inner, whole, rtol=1e-4, atol=1e-4)


# Training

SINGERS = ("ann", "ben")
SONGS = ("ann-solo", "ben-solo", "ann-duet")
PHRASE = 32


def batch(seed: int, size: int = 3) -> dict[str, np.ndarray]:
    """One training batch with something to learn: spectra and pitch follow the features."""
    rng = np.random.default_rng(seed)
    shape = (size, PHRASE, 1)
    drift = np.sin(np.linspace(0, 3, PHRASE))[None, :, None] + rng.normal(0, 1, (size, 1, 1))
    slope = rng.normal(0, 1, 64)
    features = drift * slope + rng.normal(0, 0.05, (size, PHRASE, 64))
    values = {
        "features": features,
        "magnitude": np.exp(drift * rng.normal(0, 1, 513) - 2 + 0.1 * rng.normal(size=shape)),
        "magnitude_4096": np.exp(drift * rng.normal(0, 1, 2049) + 0.1 * rng.normal(size=shape)),
        "f0": 220.0 * 2 ** (drift[:, :, 0] / 4),
        "voiced": (np.arange(PHRASE) % 8 > 0) * np.ones((size, 1)),
        "audible": np.ones((size, PHRASE)),
    }
    # Of waveforms the stages learn nothing; validation phrases are heard.
    for name in ("mixture", "voice"):
        values[name] = 0.1 * rng.normal(size=(size, (PHRASE - 1) * HOP))
    for name in ("magnitude", "magnitude_4096"):
        values[f"{name}/2"] = values[name][:, ::2]
    out = {name: value.astype(np.float32) for name, value in values.items()}
    out["voice_magnitude"] = out["magnitude"] * (np.arange(513) % 3 > 0).astype(np.float32)
    numbers = np.arange(size, dtype=np.int32)
    return out | {"singer": numbers % len(SINGERS), "song_index": numbers % len(SONGS)}


def mixed(voice, music, number: int, config, frames: int) -> dict[str, np.ndarray]:
    """One training example of two parsed records, the draws numbered."""
    import tensorflow as tf

    from tfrecords import augment, cutting

    one = [{name: value[None] for name, value in record.items()} for record in (voice, music)]
    cuts = cutting.cut(*one, cutting.draw(7, number, 1), frames, config)
    made = augment.mix(cuts | {"number": tf.constant([number], tf.int64)}, frames, config)
    return {name: value[0].numpy() for name, value in made.items()}


def one_batch(split: str, seed: int, first_batch: int = 0):
    """Data source that gives one batch for ever."""
    import tensorflow as tf

    del split, seed, first_batch
    return tf.data.Dataset.from_tensors(batch(0)).repeat()


def many_batches(split: str, seed: int, first_batch: int = 0):
    """Data source of eight batches that depend on split and seed."""
    import tensorflow as tf

    first = 1000 * len(split) + 10 * (seed % 97)
    made = [batch(first + i) for i in range(8)]
    stacked = {name: np.stack([b[name] for b in made]) for name in made[0]}
    return tf.data.Dataset.from_tensor_slices(stacked).repeat().skip(first_batch)


def make_trainer(
    name: str,
    model_dir: pathlib.Path,
    data: Callable,
    strategy=None,
    preset="tiny",
    info=None,
    stop=None,
    init_from=None,
    **overrides,
):
    """A Trainer of the stage in a tiny preset."""
    import tensorflow as tf

    from sep_tf.config import PRESETS
    from sep_tf.training import loop, stages

    values = {"preset": preset, "batch_size": 3, "phrase_frames": PHRASE, "validation_batches": 1}
    config = stages.train_config(name, **(values | overrides))
    info = info or data_info()
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        stage = stages.STAGES[name](PRESETS[preset], info, model_dir, config, init_from)
    return loop.Trainer(stage, config, PRESETS[preset], data, model_dir, strategy, stop)


def data_info(identity: str = ""):
    """Of the batches here."""
    from sep_tf.training import stages

    return stages.DataInfo(SINGERS, np.zeros(64), np.ones(64), SONGS, identity)


def make_stage(name: str, model_dir: pathlib.Path, init_from=None, singers=SINGERS, **settings):
    """The stage in preset tiny, as it begins."""
    from sep_tf.config import PRESETS
    from sep_tf.training import stages

    config = stages.train_config(name, preset="tiny", **settings)
    info = stages.DataInfo(singers, np.zeros(64), np.ones(64))
    return stages.STAGES[name](PRESETS["tiny"], info, model_dir, config, init_from)


# Flags of the `run` fixture's stages.
RUN = {"steps": 200, "validate_every": 50, "learning_rate": 1e-2}


def rewrite_settings(folder: pathlib.Path, change: Callable) -> None:
    """config.json of a stage after `change` of its values."""
    path = folder / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def weights(model) -> list[np.ndarray]:
    """Copies of all variables, batch statistics included."""
    return [np.array(variable) for variable in model.variables]


def log_rows(trainer) -> list[dict[str, str]]:
    """Rows of the stage's log.csv."""
    with (trainer.folder / "log.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_index(index: schema.DatasetIndex, folder: pathlib.Path) -> None:
    """Replaces dataset.json."""
    (folder / schema.INDEX_NAME).write_text(index.to_json(), encoding="utf-8")


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Within, files may not grow beyond so many bytes: the system refuses as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))  # Python ignores the signal
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def one_line_error(program: Callable, argv: list[str], capsys) -> str:
    """Runs a program that must fail with exit code 1; returns its one line on stderr."""
    capsys.readouterr()
    assert program(argv) == 1
    out = capsys.readouterr()
    lines = out.err.strip().splitlines()
    assert len(lines) == 1, out.err
    assert out.out == ""
    return lines[0]


def few(rows: dict, *names: str) -> list:
    """The rows of these songs."""
    return [rows[name] for name in names]
