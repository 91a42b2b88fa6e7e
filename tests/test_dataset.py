"""The pipeline: mixtures, targets that follow the gain, order that can be resumed, bad shards."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from sep_tf import spectrogram, world
from sep_tf.config import AugmentConfig, RecordConfig
from sep_tf.errors import DataError
from tests import harness
from tfrecords import augment, cutting, dataset, schema

HOP, MARGIN = 160, RecordConfig().margin
FRAMES = 64
SILENCE = world.silence_features(1)


def levels(vocals_db: float = -20.0, snr_db: float = 3.0, **others) -> AugmentConfig:
    """No chance: levels fixed, voice and music always there."""
    fixed = {"vocals_db": (vocals_db,) * 2, "snr_db": (snr_db,) * 2}
    return AugmentConfig(**({"vocal_free": 0.0, "backing_free": 0.0} | fixed | others))


@pytest.fixture(scope="module")
def records(corpus):
    """Parsed examples by song id, with the number of the piece; and of music."""
    index = schema.DatasetIndex.load(corpus.records)
    found = {}
    for family in ("train", "train_backing"):
        for record in dataset.examples(corpus.records, family):
            name = index.songs[int(record["song_index"])]
            found[name, sum(key[0] == name for key in found)] = record
    return found


def mix(voice, music, number=0, config=None, frames=FRAMES):
    return harness.mixed(voice, music, number, config or levels(), frames)


def stored(record, name):
    """A field of a record as numpy's."""
    kinds = {"vocals": "<i2", "backing": "<i2", "features": "<f4", "f0": "<f4", "voiced": np.uint8}
    values = np.frombuffer(record[name].numpy(), kinds[name])
    if name == "features":
        return values.reshape(-1, 64)
    return values / np.float32(32767) if kinds[name] == "<i2" else values


def find_start(record, mixed) -> int:
    """The frame of the record at which the phrase starts; there must be one only."""
    features = stored(record, "features")[:, 1:]
    frames = len(mixed["features"])
    starts = [
        s
        for s in range(len(features) - frames + 1)
        if np.array_equal(features[s : s + frames], mixed["features"][:, 1:])
    ]
    assert len(starts) == 1, "the phrase's features are not a stretch of the record's"
    return starts[0]


def cut(samples, start, frames=FRAMES):
    return samples[start * HOP : start * HOP + (frames - 1) * HOP + 2 * MARGIN]


def gain_of(level_db: float, record, name: str) -> float:
    return 10 ** ((level_db - float(record[name])) / 20)


@pytest.mark.parametrize("number", range(3))
def test_mixture_is_voice_plus_music_of_the_same_place(records, number):
    """A record with its own music: both from one place, at the levels drawn."""
    record = records["ben-both", 0]
    mixed = mix(record, records["band-1", 0], number)
    np.testing.assert_array_equal(mixed["mixture"], mixed["voice"] + mixed["accompaniment"])
    start = find_start(record, mixed)
    sung = cut(stored(record, "vocals"), start) * gain_of(-20.0, record, "vocals_db")
    np.testing.assert_allclose(mixed["voice"], sung, rtol=1e-5, atol=1e-7)
    played = cut(stored(record, "backing"), start) * gain_of(-23.0, record, "backing_db")
    np.testing.assert_allclose(mixed["accompaniment"], played, rtol=1e-5, atol=1e-7)
    for name in ("f0", "voiced"):
        np.testing.assert_array_equal(mixed[name], stored(record, name)[start : start + FRAMES])
    assert mixed["song_index"] == record["song_index"] and mixed["singer"] == record["singer"]


def test_a_voice_alone_is_paired_with_the_music_given(records):
    record, music = records["ann-solo", 1], records["band-2", 0]
    mixed = mix(record, music)
    played = stored(music, "backing") * np.float32(gain_of(-23.0, music, "backing_db"))
    length = len(mixed["accompaniment"])
    places = range(0, len(played) - length + 1, HOP)
    differences = [np.abs(played[p : p + length] - mixed["accompaniment"]).max() for p in places]
    assert min(differences) < 1e-6 < sorted(differences)[1]


def test_phrases_differ_from_one_example_to_the_next(records):
    record = records["ann-solo", 0]
    starts = {find_start(record, mix(record, records["band-1", 0], n)) for n in range(6)}
    assert len(starts) > 3
    assert all(0 <= start <= int(record["frames"]) - FRAMES for start in starts)


@settings(max_examples=15, deadline=None)
@given(level=st.floats(-34.0, -6.0))
def test_target_follows_the_gain(records, level):
    """C0 rises by 2 ln g (not below silence) and nothing else changes."""
    record = records["ann-solo", 0]
    low, high = (mix(record, records["band-1", 0], 1, levels(x)) for x in (-40.0, level))
    gain = 10 ** ((level + 40.0) / 20)
    audible = low["features"][:, 0] > SILENCE.envelope[0, 0]
    assert audible.any()
    rise = high["features"][:, 0] - low["features"][:, 0]
    np.testing.assert_allclose(rise[audible], 2 * math.log(gain), atol=1e-4)
    np.testing.assert_allclose(high["voice"], low["voice"] * gain, rtol=1e-4, atol=1e-8)
    for name in ("f0", "song_index"):
        np.testing.assert_array_equal(high[name], low[name])
    np.testing.assert_array_equal(high["features"][:, 1:], low["features"][:, 1:])
    start = find_start(record, high)
    expected = stored(record, "features")[start : start + FRAMES, 0] + 2 * math.log(
        gain_of(level, record, "vocals_db")
    )
    expected = np.maximum(expected, SILENCE.envelope[0, 0])
    np.testing.assert_allclose(high["features"][:, 0], expected, atol=1e-4)


def test_the_target_is_the_analysis_of_the_voice_in_the_mixture(records):
    """Independent of how records are made: WORLD on the scaled voice gives the target's c0."""
    record = records["ann-short", 0]
    mixed = mix(record, records["band-1", 0], 2, levels(-12.0), frames=96)
    # Frame k of the analysis is the phrase's frame k - 12.
    found = world.analyse(mixed["voice"][MARGIN - 12 * HOP :], "dio")[12:][:96]
    inner = slice(16, 80)
    difference = (found.envelope - mixed["features"][:, :60])[inner]
    assert abs(np.median(difference[:, 0])) < 0.05


def test_vocal_free_examples_hold_silence(records):
    record, music = records["ann-solo", 0], records["band-1", 0]
    mixed = mix(record, music, 3, levels(vocal_free=1.0))
    assert np.all(mixed["voice"] == 0.0)
    np.testing.assert_array_equal(mixed["mixture"], mixed["accompaniment"])
    assert np.abs(mixed["mixture"]).max() > 0.01
    np.testing.assert_array_equal(mixed["features"], np.repeat(SILENCE.stacked, FRAMES, axis=0))
    assert not mixed["voiced"].any() and not mixed["audible"].any()


def test_backing_free_examples_are_the_voice(records):
    mixed = mix(records["ann-solo", 0], records["band-1", 0], 3, levels(backing_free=1.0))
    np.testing.assert_array_equal(mixed["mixture"], mixed["voice"])
    assert mixed["voiced"].any()


def test_silent_recordings_stay_silent(records):
    """A silent track has no level; it must not be brought to one."""
    silent = {"vocals_db": tf.constant(-120.0), "backing_db": tf.constant(-120.0)}
    record = records["ben-both", 0] | silent
    mixed = mix(record, records["band-1", 0])
    assert np.abs(mixed["mixture"]).max() == 0.0
    np.testing.assert_array_equal(mixed["features"], np.repeat(SILENCE.stacked, FRAMES, axis=0))


def test_a_piece_shorter_than_the_phrase_is_followed_by_silence(records):
    record = records["ann-short", 0]
    length = int(record["frames"])
    mixed = mix(record, records["band-1", 0], frames=length + 48)
    np.testing.assert_array_equal(mixed["f0"][:length], stored(record, "f0"))
    assert not mixed["voiced"][length:].any() and not mixed["audible"][length:].any()
    tail = mixed["features"][length:]
    np.testing.assert_array_equal(tail, np.repeat(SILENCE.stacked, 48, axis=0))
    assert np.all(mixed["voice"][(length + 16) * HOP + MARGIN :] == 0.0)


@pytest.mark.parametrize("speed", [0.7, 1.4])
def test_pitch_follows_the_speed(records, speed):
    """The f0 label is the one WORLD finds in the voice that plays faster or slower."""
    record = records["ann-solo", 0]
    mixed = mix(record, records["band-1", 0], 4, levels(speed=(speed, speed)))
    found = world.estimate_f0(mixed["voice"][MARGIN - 12 * HOP :], "dio")[12:][:FRAMES]
    both = (found > 0) & (mixed["voiced"] > 0)
    assert both.sum() > FRAMES // 2
    cents = 1200 * np.abs(np.log2(found[both] / mixed["f0"][both]))
    assert np.median(cents) < 5 and np.quantile(cents, 0.9) < 30
    assert abs(np.median(mixed["f0"]) / (220.0 * speed) - 1) < 0.03


def test_audible_and_voiced_follow_the_gate(records):
    mixed = mix(records["ann-short", 0], records["band-1", 0], frames=201)
    trimmed = mixed["voice"][MARGIN : MARGIN + 200 * HOP]
    level = world.frame_level_db(trimmed)
    sure = np.abs(level + 60.0) > 0.5
    np.testing.assert_array_equal(mixed["audible"][:201][sure], (level > -60.0)[sure])
    assert 0 < mixed["audible"].sum() < 201
    assert np.all(mixed["voiced"] <= mixed["audible"])


def test_spectrograms_are_those_of_the_mixture_and_of_the_voice_in_it(records):
    pair = [mix(records["ann-solo", n], records["band-1", 0], n, levels(-6.0)) for n in (0, 1)]
    sources = dataset.spectrogram_sources()
    assert set(sources) == {*spectrogram.names(), "voice_magnitude"}
    names = tuple(sources)
    batch = dataset.add_spectrograms(
        {k: tf.stack([example[k] for example in pair]) for k in pair[0]}, names
    )
    assert not {"mixture", "voice", "accompaniment"} & set(batch)
    for name, (waveform, length) in sources.items():
        for example, found in zip(pair, batch[name].numpy(), strict=True):
            first = MARGIN - length // 2
            windows = [example[waveform][first + t * HOP :][:length] for t in range(FRAMES)]
            expected = spectrogram.framed_magnitude(np.stack(windows))
            np.testing.assert_allclose(found, expected, atol=1e-5 * length / 2, rtol=1e-4)
            assert expected.max() > 10


@pytest.fixture
def options(monkeypatch):
    # Filling the real buffer takes longer than everything else here.
    monkeypatch.setattr(dataset, "_SHUFFLE_RECORDS", 6)
    return dataset.PhraseOptions(batch_size=3, phrase_frames=32, seed=5)


def take(corpus, options, skip=0, count=1):
    batches = dataset.phrases(corpus.records, options, skip).take(count)
    return [{name: value.numpy() for name, value in batch.items()} for batch in batches]


def test_batches_are_a_function_of_the_seed_and_can_be_resumed(corpus, options):
    batches = take(corpus, options, count=5)
    for skip in (0, 3):
        (again,) = take(corpus, options, skip=skip)
        harness.assert_same(again, batches[skip], rtol=0, atol=0)
    assert not np.array_equal(batches[0]["magnitude"], batches[1]["magnitude"])
    tf.random.set_seed(0)  # A program's own seed is another matter.
    skipped = next(iter(dataset.phrases(corpus.records, options).skip(3)))
    harness.assert_same({k: v.numpy() for k, v in skipped.items()}, batches[3], rtol=0, atol=0)
    (other,) = take(corpus, dataclasses.replace(options, seed=6))
    assert not np.array_equal(other["magnitude"], batches[0]["magnitude"])


def test_a_start_far_from_the_first_batch_is_the_same_example(corpus, options, monkeypatch):
    """Beyond several blocks and rounds of the records, altered in every way."""
    monkeypatch.setattr(dataset, "_BLOCK_FRAMES", 512)
    monkeypatch.setattr(dataset, "_BLOCK_EXAMPLES", 16)
    altered = AugmentConfig(
        altered=0.7, speed=(0.8, 1.2), backing_speed=(0.9, 1.3), vocals_eq_db=2.0,
        backing_eq_db=3.0, reverb=0.5,
    )  # fmt: skip
    options = dataclasses.replace(options, augment=altered, debug=True)
    whole = take(corpus, options, count=31)
    for first in (7, 30):
        (again,) = take(corpus, options, first)
        # Batches of other rows are summed up in another order by the processor.
        harness.assert_same(again, whole[first], rtol=1e-5, atol=1e-5)
    starts = {batch["f0"][0].tobytes() for batch in whole}
    assert len(starts) > 25


def test_records_may_lie_on_another_file_system(corpus, options):
    for path in corpus.records.iterdir():
        with tf.io.gfile.GFile(f"ram://far/records/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    near = take(corpus, options)
    far = dataset.phrases("ram://far/records", options).take(1)
    for batch in far:
        harness.assert_same({k: v.numpy() for k, v in batch.items()}, near[0], rtol=0, atol=0)
    with pytest.raises(DataError, match="ram://nowhere is no data set"):
        dataset.phrases("ram://nowhere", options)


def test_masks_silence_a_band_and_a_stretch_of_the_mixture(corpus, options):
    """No wider than asked for, of the mixture's spectrograms alone; fades are of the music."""
    names = ("magnitude", "voice_magnitude", "magnitude_4096/2")
    fixed = dataclasses.replace(levels(), backing_free=1.0)
    options = dataclasses.replace(options, batch_size=12, spectrograms=names, augment=fixed)
    masked = dataclasses.replace(fixed, freq_mask=2000.0, time_mask=0.05)
    (plain,) = take(corpus, options)
    (found,) = take(corpus, dataclasses.replace(options, augment=masked))
    np.testing.assert_array_equal(found["voice_magnitude"], plain["voice_magnitude"])
    np.testing.assert_array_equal(found["features"], plain["features"])
    for name, bins, frames in (("magnitude", 64, 10), ("magnitude_4096/2", 256, 5)):
        changed = found[name] != plain[name]
        assert np.all(found[name][changed] == 0.0)
        bands, stretches = changed.all(axis=1).sum(axis=1), changed.all(axis=2).sum(axis=1)
        assert bins / 2 < bands.max() <= bins and len(set(bands)) > 3
        assert 1 < stretches.max() <= frames
        rest = changed & ~changed.all(axis=1, keepdims=True) & ~changed.all(axis=2, keepdims=True)
        assert not rest.any()


def test_fades_are_of_the_music_alone(records):
    voice, music = records["ann-solo", 0], records["band-1", 0]
    plain, faded = mix(voice, music), mix(voice, music, config=levels(fade=0.1))
    for name in ("voice", "features", "voiced"):
        np.testing.assert_array_equal(faded[name], plain[name])
    np.testing.assert_array_equal(faded["mixture"], faded["voice"] + faded["accompaniment"])
    sure = np.abs(plain["accompaniment"]) > 1e-3
    curve = faded["accompaniment"][sure] / plain["accompaniment"][sure]
    assert curve.max() <= 1.0 + 1e-5 and curve.min() >= 0.0
    assert min(curve[0], curve[-1]) < 0.2 and np.median(curve) == pytest.approx(1.0, abs=0.02)
    rising = np.argmax(curve)
    assert np.all(np.diff(curve[:rising]) > -1e-3)


def test_values_that_are_not_finite_are_named_in_debug(corpus, options, monkeypatch):
    mix = augment.mix

    def spoiled(*arguments):
        made = mix(*arguments)
        return made | {"f0": made["f0"] / tf.zeros_like(made["f0"])}

    monkeypatch.setattr(augment, "mix", spoiled)
    take(corpus, options)
    with pytest.raises(tf.errors.InvalidArgumentError, match="f0 is not finite in a batch of"):
        take(corpus, dataclasses.replace(options, debug=True))


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_the_batches_of_one(corpus, options, workers):
    options = dataclasses.replace(options, batch_size=6)
    whole = take(corpus, options, count=2)
    shares = [
        take(corpus, dataclasses.replace(options, shard=(worker, workers)), count=2)
        for worker in range(workers)
    ]
    for number, batch in enumerate(whole):
        joined = {name: np.concatenate([share[number][name] for share in shares]) for name in batch}
        harness.assert_same(joined, batch, rtol=0, atol=1e-6)


def test_workers_that_cannot_share_a_batch(corpus, options):
    with pytest.raises(DataError, match="2 workers cannot share a batch of 3 equally"):
        dataset.phrases(corpus.records, dataclasses.replace(options, shard=(0, 2)))


def test_batches_hold_their_split_only(corpus, options):
    index = schema.DatasetIndex.load(corpus.records)
    options = dataclasses.replace(options, spectrograms=("magnitude", "magnitude_4096"))
    batches = take(corpus, options, count=8)
    shapes = {
        "features": (3, 32, 64),
        "f0": (3, 32),
        "voiced": (3, 32),
        "audible": (3, 32),
        "singer": (3,),
        "song_index": (3,),
        "magnitude": (3, 32, 513),
        "magnitude_4096": (3, 32, 2049),
    }
    assert {name: value.shape for name, value in batches[0].items()} == shapes
    numbers = np.concatenate([batch["song_index"] for batch in batches])
    assert {index.songs[n] for n in numbers} == {"ann-solo", "ann-short", "ben-both"}
    for batch in batches:
        for number, singer in zip(batch["song_index"], batch["singer"], strict=True):
            assert index.songs[number].startswith(index.singers[singer])
        assert all(np.isfinite(value).all() for value in batch.values())
    (valid,) = take(corpus, dataclasses.replace(options, split="validation_unseen"))
    assert {index.songs[n] for n in valid["song_index"]} == {"cid-valid"}
    assert set(valid["singer"]) == {-1}


def test_the_levels_drawn_stay_in_their_range(corpus, options):
    """SNR as drawn: measured on mixtures whose music and voice both sound."""
    augmented = AugmentConfig(vocals_db=(-30.0, -15.0), snr_db=(-6.0, 12.0))
    drawn = cutting.draw(1, 3, 200)
    draws = cutting.between(drawn["level"], augmented.vocals_db).numpy()
    assert -30 <= min(draws) < -29 and -16 < max(draws) <= -15
    assert np.mean(draws) == pytest.approx(-22.5, abs=1.0)
    assert abs(np.corrcoef(draws, drawn["snr"])[0, 1]) < 0.25
    assert not np.array_equal(drawn["level"], cutting.draw(1, 4, 200)["level"])


@pytest.fixture
def damaged(corpus, tmp_path):
    return shutil.copytree(corpus.records, tmp_path / "records")


@pytest.mark.parametrize("missing", [1, 20_000])
def test_a_truncated_shard_is_named(damaged, options, missing):
    shard = max(damaged.glob("train-*"), key=lambda path: path.stat().st_size)
    content = shard.read_bytes()
    shard.write_bytes(content[:-missing])
    for read in (
        lambda: dataset.phrases(damaged, options),
        lambda: list(dataset.examples(damaged, "train")),
    ):
        with pytest.raises(DataError) as error:
            read()
        assert str(shard) in str(error.value)
    with pytest.raises(DataError, match="truncated"):
        dataset.phrases(damaged, options)


def test_a_shard_that_is_gone(damaged, options):
    next(damaged.glob("train-*")).unlink()
    with pytest.raises(DataError, match="'train' records in 1 files, but dataset.json counts 4"):
        dataset.phrases(damaged, options)
    for shard in damaged.glob("train-*"):
        shard.unlink()
    with pytest.raises(DataError, match="has no 'train' records"):
        dataset.phrases(damaged, options)


def test_a_flipped_bit_is_found(damaged):
    shard = max(damaged.glob("train-*"), key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError) as error:
        list(dataset.examples(damaged, "train"))
    assert str(shard) in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.update(schema_version=99), "schema version 99"),
        (lambda v: v["audio"].update(hop_length=320), "other signal constants"),
        (lambda v: v["record"].update(margin=512), "other record sizes"),
        (lambda v: v.pop("statistics"), "is damaged"),
        (lambda v: v.update(mood="sad"), "is damaged"),
    ],
)
def test_another_schema_is_named(damaged, options, change, words):
    path = damaged / "dataset.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(DataError) as error:
        dataset.phrases(damaged, options)
    assert str(path) in str(error.value) and words in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00"])
def test_an_index_that_is_no_json(damaged, content):
    (damaged / "dataset.json").write_bytes(content)
    with pytest.raises(DataError) as error:
        schema.DatasetIndex.load(damaged)
    assert str(damaged / "dataset.json") in str(error.value)


def test_no_data_set_no_split_no_music(corpus, damaged, options, tmp_path):
    with pytest.raises(DataError, match="is no data set"):
        dataset.phrases(tmp_path / "nowhere", options)
    with pytest.raises(DataError, match="has no 'test' records"):
        dataset.phrases(corpus.records, dataclasses.replace(options, split="test"))
    index = schema.DatasetIndex.load(damaged)
    alone = dataclasses.replace(index, counts={"validation": index.counts["validation"]})
    alone.save(damaged)
    with pytest.raises(DataError, match="no music to pair 'validation' voices with"):
        dataset.phrases(damaged, dataclasses.replace(options, split="validation"))


def test_whole_songs_alone_are_paired_with_their_own_music(corpus, damaged, options):
    """Without rows of music: train has a song with a backing of its own."""
    index = schema.DatasetIndex.load(damaged)
    dataclasses.replace(index, counts={"train": index.counts["train"]}).save(damaged)
    batch = next(iter(dataset.phrases(damaged, options)))
    assert np.isfinite(batch["magnitude"]).all()
