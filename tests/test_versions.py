"""Versions of voices made at build time: what is sung is what features say; targets stay dry."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sep_tf import world
from sep_tf.config import AugmentConfig
from sep_tf.errors import DataError
from tests import harness
from tests.test_build_runs import digest
from tfrecords import build, dataset, inspect, melodies, schema, songs, versions
from tfrecords.recipe import Recipe


@pytest.fixture(scope="module")
def song(rows, corpus):
    return songs.load_song(rows["ann-solo"], corpus.cache)


@pytest.fixture(scope="module")
def donor(tmp_path_factory) -> Path:
    """A melody that rises by an octave in three seconds."""
    path = tmp_path_factory.mktemp("donor") / "glide.wav"
    time = np.arange(3 * harness.RATE) / harness.RATE
    phase = 2 * np.pi * np.cumsum(200.0 * 2.0 ** (time / 3.0)) / harness.RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 12))
    soundfile.write(path, 0.1 * tone, harness.RATE)
    return path


def cents(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.abs(1200 * np.log2(found / expected))


@pytest.mark.parametrize("number", [1, 3])
def test_what_is_sung_again_is_what_its_features_say(song, number):
    version = versions.Version(f"ann-solo#sung{number}", "sung")
    made = versions.make(song, version)
    again = world.synthesise(made.features, song.n_samples)
    # The gain is in c0 as a float32: a hundredth of a decibel at most.
    np.testing.assert_allclose(made.vocals, again, atol=2e-4 * np.abs(again).max())
    assert songs.active_level_db(made.vocals) == pytest.approx(schema.REFERENCE_DB, abs=0.1)
    shift = 12 * np.log2(np.median(made.features.f0 / song.features.f0))
    assert 0.9 < abs(shift) < 7.1
    np.testing.assert_array_equal(made.features.voiced, song.features.voiced)
    found = world.estimate_f0(made.vocals)
    both = (found > 0) & made.features.voiced
    assert both.sum() > 0.8 * made.features.voiced.sum()
    assert np.median(cents(found[both], made.features.f0[both])) < 5
    same = versions.make(song, version)
    np.testing.assert_array_equal(same.vocals, made.vocals)


def test_a_borrowed_melody(song, donor):
    made = versions.make(song, versions.Version("ann-solo#sung2", "sung", donor))
    voiced = made.features.voiced
    semitones = 12 * np.log2(made.features.f0)
    # It rises and falls by four semitones a second, through an octave, near the voice's height.
    slope = np.abs(np.gradient(semitones)) * 200
    assert np.median(slope) == pytest.approx(4.0, abs=0.3)
    assert 9 < np.ptp(semitones) < 13
    own = 12 * np.log2(np.median(song.features.f0[voiced]))
    assert abs(np.median(semitones) - own) < 7
    found = world.estimate_f0(made.vocals)
    both = (found > 0) & voiced
    assert np.median(cents(found[both], made.features.f0[both])) < 10


def made_of(song, kind: str, count: int = 6) -> list[songs.Song]:
    return [
        versions.make(song, versions.Version(f"ann-solo#{kind}{number}", kind))
        for number in range(1, count + 1)
    ]


@pytest.fixture(scope="module")
def wandering(song) -> songs.Song:
    """The song with vibrato of 60 cents, on a pitch that rises by five semitones a second."""
    time = np.arange(len(song.features)) / 200.0
    semitones = 5.0 * time + 0.6 * np.sin(2 * np.pi * 5.5 * time)
    f0 = (220.0 * 2.0 ** (semitones / 12.0)).astype(np.float32)
    return dataclasses.replace(song, features=dataclasses.replace(song.features, f0=f0))


def test_a_pitch_that_is_corrected_whole_is_on_notes(wandering, monkeypatch):
    """A whole number of semitones from note to note, and never far from where it was."""
    monkeypatch.setattr(melodies, "_CORRECTION", (1.0, 1.0))
    monkeypatch.setattr(melodies, "_RETUNE_FRAMES", (1, 2))
    for seed in range(8):
        made = melodies.tuned(wandering.features, np.random.default_rng(seed))
        semitones = 12 * np.log2(made.f0.astype(np.float64) / 440.0)
        apart = semitones - semitones[0]
        np.testing.assert_allclose(apart, np.round(apart), atol=1e-3)
        assert len(np.unique(np.round(apart))) > 2
        moved = semitones - 12 * np.log2(wandering.features.f0 / 440.0)
        # Half of three semitones, the widest step, and the vibrato.
        assert np.abs(moved).max() < 2.5


def test_most_of_a_corrected_pitch_is_straight(wandering):
    straight = []
    for made in made_of(wandering, "tuned"):
        assert len(made.vocals) == wandering.n_samples
        np.testing.assert_array_equal(made.features.voiced, wandering.features.voiced)
        semitones = 12 * np.log2(made.features.f0 / 440.0)
        moved = semitones - 12 * np.log2(wandering.features.f0 / 440.0)
        # Transposed by half of seven semitones at most.
        assert np.abs(moved).max() < 3.5 + 2.5
        slope = np.abs(np.gradient(semitones)) * 200
        straight.append(np.median(slope) / np.median(np.abs(np.gradient(moved) * 200)))
        again = world.synthesise(made.features, wandering.n_samples)
        np.testing.assert_allclose(made.vocals, again, atol=2e-4 * np.abs(again).max())
    # What is taken away of the pitch's movement is more than what is left.
    assert np.median(straight) < 0.5 and max(straight) < 1.0


def test_a_speaker_is_faster_and_lower(song):
    shares, heights = [], []
    for made in made_of(song, "spoken"):
        features, share = made.features, len(made.features) / len(song.features)
        assert len(made.vocals) // 160 + 1 == len(features)
        assert 1 / 1.81 < share < 1 / 1.09
        assert features.voiced.mean() == pytest.approx(song.features.voiced.mean(), abs=0.02)
        semitones = 12 * np.log2(features.f0 / np.median(song.features.f0))
        # It moves as speech does, by several semitones a second, and never leaves the voice.
        assert 2.0 < np.median(np.abs(np.gradient(semitones))) * 200 < 40.0
        assert np.ptp(semitones) < 24.0
        assert songs.active_level_db(made.vocals) == pytest.approx(schema.REFERENCE_DB, abs=0.1)
        found = world.estimate_f0(made.vocals)
        both = (found > 0) & features.voiced
        assert np.median(cents(found[both], features.f0[both])) < 10
        shares.append(share)
        heights.append(np.median(semitones))
    assert len(set(np.round(shares, 3))) == 6 and np.ptp(heights) > 1.0
    # Seven semitones lower at most; where accents fall moves the median a little.
    assert max(heights) < 1.0 and min(heights) > -8.0 and np.median(heights) < -1.0


@pytest.mark.parametrize("kind", ["tuned", "spoken"])
def test_a_voice_that_is_never_voiced_is_sung_again_all_the_same(song, kind):
    never = dataclasses.replace(song.features, voiced=np.zeros_like(song.features.voiced))
    made = versions.make(
        dataclasses.replace(song, features=never), versions.Version(f"x#{kind}1", kind)
    )
    assert np.isfinite(made.vocals).all() and not made.features.voiced.any()


@pytest.mark.parametrize("level", [0.02, 0.22])
def test_effects_change_the_sound_and_nothing_else(song, level):
    state = random.getstate(), np.random.get_state()[1].copy()
    # Bursts of noise, because a held note is like itself at every period.
    sounding = np.arange(song.n_samples) % 9000 < 2000
    noise = np.random.default_rng(1).normal(size=song.n_samples) * sounding
    song = dataclasses.replace(song, vocals=(level * noise).astype(np.float32))
    changed, lower = [], []
    for number in range(4):
        made = versions.make(song, versions.Version(f"ann-solo#effects{number}", "effects"))
        assert len(made.vocals) == song.n_samples
        # The target is as loud as what is heard of it.
        lower_db = songs.active_level_db(made.vocals) - songs.active_level_db(song.vocals)
        levels = world.frame_level_db(song.vocals) + lower_db
        np.testing.assert_allclose(made.levels, levels, atol=1e-3)
        envelope = song.features.envelope + np.eye(60)[0] * lower_db * np.log(10) / 10
        np.testing.assert_allclose(made.features.envelope, envelope, atol=1e-3)
        lower.append(lower_db)
        np.testing.assert_array_equal(made.features.f0, song.features.f0)
        assert np.abs(made.vocals).max() < 1.0
        # Nothing is shifted in time: they are most alike at no lag, within two milliseconds.
        spectra = [np.fft.rfft(x, 2 * len(x)) for x in (made.vocals, song.vocals)]
        alike = np.fft.irfft(spectra[0] * np.conj(spectra[1]))
        lag = int(np.argmax(alike))
        assert min(lag, len(alike) - lag) <= 64
        gain = made.vocals @ song.vocals / (song.vocals @ song.vocals)
        rest = made.vocals - gain * song.vocals
        changed.append(np.sqrt(np.mean(rest**2) / np.mean(made.vocals**2)))
        same = versions.make(song, versions.Version(f"ann-solo#effects{number}", "effects"))
        np.testing.assert_array_equal(same.vocals, made.vocals)
    # Only peaks keep it below the dry voice, where that reaches full scale itself.
    assert max(lower) < 1e-3 and (min(lower) < -1.0) == (level > 0.1)
    assert max(changed) > 0.3 and len(set(np.round(changed, 4))) == 4
    assert random.getstate() == state[0]
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])


def build_versions(corpus, folder: Path, workers: int) -> None:
    """Records with versions of every voice, in a folder named after the number of workers."""
    argv = [f"--manifest={corpus.manifest}", "--num_shards=2", f"--cache_dir={corpus.cache}"]
    argv += ["--sung_again=2", "--with_effects=1", "--tuned=1", "--spoken=1"]
    argv += [f"--workers={workers}"]
    assert build.run([*argv, f"--output_dir={folder / str(workers)}"]) == 0


@pytest.fixture(scope="module")
def built(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("versions")
    build_versions(corpus, folder, 1)
    return folder


@pytest.mark.slow
def test_versions_of_two_processes_are_those_of_one(built, corpus):
    build_versions(corpus, built, 2)
    assert digest(built / "1") == digest(built / "2")


def test_versions_in_records(built, corpus):
    assert inspect.run([str(built / "1"), "--check"]) == 0
    index, plain = (schema.DatasetIndex.load(path) for path in (built / "1", corpus.records))
    assert index.statistics == plain.statistics and index.singers == plain.singers
    names = {name for name in index.songs if "#" in name}
    expected = {f"{s}#{v}" for s in ("ann-solo", "ann-short", "ben-both")
                for v in ("sung1", "sung2", "tuned1", "spoken1", "effects1")}  # fmt: skip
    assert names == expected
    examples = list(dataset.examples(built / "1", "train"))
    found = {index.songs[int(r["song_index"])]: r for r in examples}
    # Who speaks is done earlier; the others last as long as the voice.
    spoken = [r for r in examples if "#spoken" in index.songs[int(r["song_index"])]]
    assert 3 <= len(spoken) < plain.counts["train"]
    train = {"train": 5 * plain.counts["train"] + len(spoken)}
    assert index.counts == plain.counts | train
    wet, dry = found["ben-both#effects1"], found["ben-both"]
    for field in ("features", "f0", "voiced", "backing"):
        assert wet[field].numpy() == dry[field].numpy()
    assert wet["vocals"].numpy() != dry["vocals"].numpy()
    assert not len(found["ben-both#sung1"]["backing"].numpy())
    assert not len(dry["levels"].numpy()) and len(wet["levels"].numpy()) == 4 * int(wet["frames"])


def test_what_is_heard_of_effects_is_not_in_the_target(built, corpus):
    """A tail rings where the dry voice is silent: neither audible nor voiced in training."""
    index = schema.DatasetIndex.load(built / "1")
    records = {index.songs[int(r["song_index"])]: r for r in dataset.examples(built / "1", "train")}
    (music,) = [r for r in dataset.examples(built / "1", "train_backing")][:1]
    levels = AugmentConfig(vocals_db=(-20.0,) * 2, vocal_free=0.0, backing_free=0.0)
    frames = int(records["ann-short"]["frames"])
    wet, dry = (
        harness.mixed(records[name], music, 1, levels, frames)
        for name in ("ann-short#effects1", "ann-short")
    )
    differing = wet["audible"] != dry["audible"]
    assert differing.mean() < 0.02 and 0 < dry["audible"].mean() < 1
    assert np.abs(wet["features"] - dry["features"]).max() < 0.5  # their levels differ a little
    np.testing.assert_array_equal(wet["f0"], dry["f0"])


def test_names_that_clash(rows, tmp_path):
    clash = dataclasses.replace(rows["ann-short"], song_id="ann-solo#sung1")
    with pytest.raises(DataError, match="named like a version"):
        build.build([rows["ann-solo"], clash], tmp_path / "out", 1, None, 1, recipe=Recipe(sung=1))


def test_music_of_a_fixed_mixture_begins_where_it_says(rows, corpus):
    row = rows["ben-both"]
    plain = songs.load_song(row, corpus.cache)
    later = songs.load_song(
        dataclasses.replace(row, backing_start=0.25, vocals_gain=0.5, backing_gain=0.5),
        corpus.cache,
    )
    shifted = plain.backing[8000:]
    np.testing.assert_allclose(later.backing[: len(shifted)], 0.5 * shifted, atol=1e-6)
    assert not later.backing[len(shifted) :].any()
    # The voice is brought to its level whatever its gain was.
    np.testing.assert_allclose(later.vocals, plain.vocals, atol=1e-6)
    silent = songs.load_song(dataclasses.replace(row, vocals_gain=0.0), None)
    assert not silent.vocals.any() and not silent.features.voiced.any()
    with pytest.raises(DataError, match=r"song 'ben-both': .*own\.wav ends before backing_start"):
        songs.load_song(dataclasses.replace(row, backing_start=1.2), corpus.cache)


def test_a_fixed_mixture_ends_with_its_voice(rows, tmp_path):
    """As `evaluate` takes it, however long the music is."""
    row, long = rows["ben-both"], tmp_path / "long.wav"
    soundfile.write(long, np.full(20 * 32_000, 0.1), 32_000)
    song = songs.load_song(dataclasses.replace(row, backing=long, backing_start=5.0), None)
    assert len(song.backing) == len(song.vocals) == soundfile.info(row.vocals).frames


def test_noise_is_not_brought_to_the_level_of_a_voice(rows, tmp_path):
    """A stem of an instrumental song, with dither."""
    path = tmp_path / "dither.wav"
    dither = np.random.default_rng(0).integers(-1, 2, 32_000).astype(np.int16)
    soundfile.write(path, dither, 32_000)
    song = songs.load_song(dataclasses.replace(rows["ann-short"], vocals=path), None)
    assert np.abs(song.vocals).max() == pytest.approx(1 / 32_768)
    assert songs.active_level_db(song.vocals) == -120.0


def test_who_lends_a_melody(rows):
    """Another training voice, whatever the order of the rows; nobody where there is no other."""
    voices = [row for row in rows.values() if row.vocals and row.split == "train"]
    train = {row.song_id: row.vocals for row in voices}
    planned = versions.plan(list(rows.values()), Recipe(6, 1, 2, 2))
    assert planned == versions.plan(list(rows.values())[::-1], Recipe(6, 1, 2, 2))
    assert planned.keys() == train.keys()
    lenders = set()
    for name, made in planned.items():
        assert [v.song_id for v in made if v.kind == "effects"] == [
            f"{name}#effects1",
            f"{name}#effects2",
        ]
        others = [v.song_id for v in made if v.kind in ("tuned", "spoken")]
        assert others == [f"{name}#tuned1", f"{name}#spoken1", f"{name}#spoken2"]
        donors = [v.donor for v in made if v.kind == "sung"]
        assert donors[::2] == [None] * 3
        assert set(donors[1::2]) <= set(train.values()) - {train[name]}
        lenders |= set(donors[1::2])
    assert lenders == set(train.values())
    alone = versions.plan([rows["ann-short"], rows["band-1"]], Recipe(sung=4))
    assert [v.donor for v in alone["ann-short"]] == [None] * 4 and len(alone) == 1


def test_a_lender_that_cannot_be_read(rows, corpus, tmp_path, capsys):
    """The version is listed as failed, with the file; what needs no lender is built."""
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    broken = dataclasses.replace(rows["ann-short"], song_id="bad", vocals=bad)
    listed = [rows["ben-both"], broken]
    index = build.build(
        listed, tmp_path / "out", 1, corpus.cache, 1, skip_bad=True, recipe=Recipe(sung=2)
    )
    assert index.failed == ("bad", "bad#sung1", "bad#sung2", "ben-both#sung2")
    assert index.counts == {"train": 2}
    letters = (tmp_path / "out.failed.csv").read_text().splitlines()[1:]
    assert len(letters) == 4 and all(str(bad) in line for line in letters)
