"""The pipeline: mixtures, targets that follow the gain, order that can be resumed, bad shards."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from sep_tf import spectrogram, world
from sep_tf.config import AugmentConfig, RecordConfig
from tests import harness
from tfrecords import cutting, dataset, schema

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


@settings(max_examples=30, deadline=None)
@given(level=st.floats(-60.0, 6.0, width=32), number=st.integers(0, 50))
def test_one_number_scales_input_and_target_exactly(records, level, number):
    """Input × g gives target × g, to the last bit: the samples' own factor is the features'."""
    record = records["ann-solo", 0]
    mixed = mix(record, records["band-1", 0], number, levels(level))
    start = find_start(record, mixed)
    sung = cut(stored(record, "vocals"), start)
    rise_db = tf.constant(level, tf.float32) - record["vocals_db"]
    gain = tf.exp(rise_db * (math.log(10.0) / 20.0))
    np.testing.assert_array_equal(mixed["voice"], sung * gain.numpy())
    np.testing.assert_array_equal(mixed["mixture"], mixed["voice"] + mixed["accompaniment"])
    c0 = stored(record, "features")[start : start + FRAMES, 0] + (2.0 * tf.math.log(gain)).numpy()
    np.testing.assert_array_equal(
        mixed["features"][:, 0], np.maximum(c0, np.float32(SILENCE.envelope[0, 0]))
    )


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


@pytest.mark.parametrize("speed", [1.0, 0.75, 1.25])
def test_nothing_is_sung_behind_a_piece_that_the_song_goes_on_after(records, speed):
    """Its margin has the voice of what follows; a phrase that reaches there has no target."""
    record = records["ann-solo", 0]
    length = int(record["frames"])
    assert np.abs(stored(record, "vocals")[-MARGIN:]).max() > 0.01
    mixed = mix(record, records["band-1", 0], 0, levels(speed=(speed,) * 2), 1120)
    behind = int(np.ceil(length / speed))
    assert not mixed["voice"][MARGIN + behind * HOP :].any()
    assert not mixed["audible"][behind:].any() and not mixed["voiced"][behind:].any()
    # Until then nothing is missing.
    assert mixed["audible"][behind - 20 : behind - 2].all()
    before = mixed["voice"][MARGIN : MARGIN + (behind - 4) * HOP]
    assert np.abs(before[-800:]).max() > 0.3 * np.abs(before).max()


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


def test_a_backing_voice_is_another_phrase_at_its_level_and_leaves_the_target(records):
    voice, music = records["ann-solo", 0], records["band-1", 0]
    two = levels(backing_voices=1.0, backing_voices_db=(-12.0, -12.0))
    plain, both = mix(voice, music, 5), mix(voice, music, 5, two)
    for name in ("voice", "features", "f0", "voiced", "audible"):
        np.testing.assert_array_equal(both[name], plain[name])
    np.testing.assert_array_equal(both["mixture"], both["voice"] + both["accompaniment"])
    second = both["accompaniment"] - plain["accompaniment"]
    expected = stored(voice, "vocals") * gain_of(-32.0, voice, "vocals_db")
    last = int(voice["frames"]) - FRAMES
    gaps = [np.abs(cut(expected, start) - second).max() for start in range(last + 1)]
    assert min(gaps) < 1e-6 and int(np.argmin(gaps)) != find_start(voice, both)


@pytest.mark.slow
def test_backing_voices_sing_in_their_share_and_never_alone(records):
    voice, music = records["ann-solo", 0], records["band-1", 0]

    def found(number, **more):
        share = levels(backing_voices=0.4, **more)
        plain = dataclasses.replace(share, backing_voices=0.0)
        pair = [mix(voice, music, number, config)["accompaniment"] for config in (plain, share)]
        return bool(np.any(pair[0] != pair[1]))

    assert 4 <= sum(found(number) for number in range(30)) <= 20
    assert not any(found(number, vocal_free=1.0) for number in range(10))
    assert not any(found(number, altered=0.0) for number in range(10))


def test_the_levels_drawn_stay_in_their_range():
    """SNR as drawn: measured on mixtures whose music and voice both sound."""
    augmented = AugmentConfig(vocals_db=(-30.0, -15.0), snr_db=(-6.0, 12.0))
    drawn = cutting.draw(1, 3, 200)
    draws = cutting.between(drawn["level"], augmented.vocals_db).numpy()
    assert -30 <= min(draws) < -29 and -16 < max(draws) <= -15
    assert np.mean(draws) == pytest.approx(-22.5, abs=1.0)
    assert abs(np.corrcoef(draws, drawn["snr"])[0, 1]) < 0.25
    assert not np.array_equal(drawn["level"], cutting.draw(1, 4, 200)["level"])
