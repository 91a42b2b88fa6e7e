"""Records hold the manifest's songs: samples, analysis, statistics."""

import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest
import soundfile

from sep_tf import world
from sep_tf.config import AudioConfig, RecordConfig
from tests import harness
from tests.conftest import VOICES
from tfrecords import dataset, schema, songs

HOP, MARGIN = AudioConfig().hop_length, RecordConfig().margin


@pytest.fixture(scope="module")
def index(corpus):
    return schema.DatasetIndex.load(corpus.records)


@pytest.fixture(scope="module")
def pieces(corpus, index):
    """The parsed examples of each song, in order, values as numpy's."""
    found = {song: [] for song in index.songs}
    for family in index.counts:
        for record in dataset.examples(corpus.records, family):
            values = {name: value.numpy() for name, value in record.items()}
            found[index.songs[values["song_index"]]].append(values)
    return found


def test_counts_songs_and_singers(corpus, index, pieces):
    assert index.counts == {
        "train": 4,
        "train_backing": 2,
        "validation": 1,
        "validation_backing": 2,
        "validation_unseen": 1,
    }
    assert index.singers == ("ann", "ben")
    assert index.songs == tuple(sorted(index.songs)) and len(index.songs) == 9
    singers = {song: {piece["singer"] for piece in found} for song, found in pieces.items()}
    assert singers["ann-solo"] == {0} and singers["ben-both"] == {1}
    # -1: nobody the data set trains.
    assert singers["cid-valid"] == {-1} and singers["band-1"] == {-1}
    stored = [path.name for path in corpus.records.iterdir()]
    assert all(name == "dataset.json" or "-of-00002.tfrecord" in name for name in stored)


@pytest.mark.parametrize("song", ["ann-solo", "ann-short", "ben-both", "cid-valid"])
def test_pieces_are_the_song(song, pieces, rows):
    """Cut points and margins: piece i holds the samples around its own frames, to half a bit."""
    original, _ = soundfile.read(rows[song].vocals)
    padded = np.pad(original, (MARGIN, MARGIN + HOP))
    found = pieces[song]
    frames = [piece["frames"] for piece in found]
    assert sum(frames) == 1 + len(original) // HOP
    assert len(frames) == math.ceil(sum(frames) / 800) and max(frames) - min(frames) <= 1
    first, gains = 0, []
    for piece in found:
        samples = np.frombuffer(piece["vocals"], "<i2").astype(np.float64) / 32767
        inside = padded[first * HOP :][: (piece["frames"] - 1) * HOP + 2 * MARGIN]
        assert len(samples) == len(inside)
        gains.append(samples @ inside / (inside @ inside))
        assert np.abs(samples - gains[-1] * inside).max() <= 0.51 / 32767
        first += piece["frames"]
    assert np.ptp(gains) < 1e-5
    # Nothing was limited here: the song stands at the reference level.
    assert found[0]["vocals_db"] == pytest.approx(schema.REFERENCE_DB, abs=1e-3)
    assert songs.active_level_db(original * gains[0]) == pytest.approx(-23.0, abs=0.01)


def test_features_are_the_analysis_of_the_levelled_song(pieces, rows):
    (piece,) = pieces["ann-short"]
    audio, _ = soundfile.read(rows["ann-short"].vocals, dtype="float32")
    expected = world.analyse(audio * songs.level_gain(audio))
    features = np.frombuffer(piece["features"], "<f4").reshape(-1, 64)
    np.testing.assert_array_equal(features, expected.stacked)
    np.testing.assert_array_equal(np.frombuffer(piece["f0"], "<f4"), expected.f0)
    np.testing.assert_array_equal(np.frombuffer(piece["voiced"], np.uint8), expected.voiced)
    assert 0.5 < expected.voiced.mean() < 1.0
    sung = expected.f0[expected.voiced]
    assert np.abs(1200 * np.log2(np.median(sung) / VOICES["ann-short"][3])) < 20


def test_features_of_a_later_piece_are_those_of_its_frames(pieces, rows, corpus):
    """The analysis is of the whole song: no piece starts with the edge of an analysis."""
    song = songs.load_song(rows["ann-solo"], corpus.cache)
    stored = [np.frombuffer(p["features"], "<f4").reshape(-1, 64) for p in pieces["ann-solo"]]
    assert len(stored) == 2
    np.testing.assert_array_equal(np.concatenate(stored), song.features.stacked)
    f0 = np.concatenate([np.frombuffer(p["f0"], "<f4") for p in pieces["ann-solo"]])
    np.testing.assert_array_equal(f0, song.features.f0)


def test_music_has_no_voice_and_voices_may_have_their_own_music(pieces, rows):
    for song in ("band-1", "band-4"):
        (piece,) = pieces[song]
        assert piece["vocals"] == piece["features"] == piece["f0"] == piece["voiced"] == b""
        audio, _ = soundfile.read(rows[song].backing)
        samples = np.frombuffer(piece["backing"], "<i2")[MARGIN:][: len(audio)] / 32767
        assert np.abs(samples - audio[: len(samples)]).max() <= 0.51 / 32767
        assert piece["backing_db"] == pytest.approx(songs.active_level_db(audio), abs=1e-3)
        assert piece["vocals_db"] == -120.0
    (both,) = pieces["ben-both"]
    assert len(both["backing"]) == len(both["vocals"]) > 0
    assert pieces["ann-short"][0]["backing"] == b""


def test_statistics_are_those_of_the_audible_training_frames(index, rows, corpus):
    frames, voiced = [], []
    for name in ("ann-solo", "ann-short", "ben-both"):
        song = songs.load_song(rows[name], corpus.cache)
        audible = world.frame_level_db(song.vocals) > -60.0
        assert 0 < audible.sum() < len(audible)
        at_reference = song.features.stacked.astype(np.float64)
        gain_db = schema.REFERENCE_DB - songs.active_level_db(song.vocals)
        at_reference[:, 0] += 2 * np.log(10 ** (gain_db / 20))
        frames.append(at_reference[audible])
        voiced.append(at_reference[audible & song.features.voiced])
    frames, voiced = np.concatenate(frames), np.concatenate(voiced)
    assert 0 < len(voiced) < len(frames)
    np.testing.assert_allclose(index.statistics.minimum, frames.min(axis=0), rtol=1e-12)
    np.testing.assert_allclose(index.statistics.maximum, frames.max(axis=0), rtol=1e-12)
    sung = index.statistics.voiced
    np.testing.assert_allclose(sung.mean, voiced.mean(axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(sung.std, voiced.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(sung.maximum, voiced.max(axis=0), rtol=1e-12)
    np.testing.assert_allclose(index.statistics.mean, frames.mean(axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(index.statistics.std, frames.std(axis=0), rtol=1e-6)


def test_statistics_know_no_order_and_no_recording_level():
    rng = np.random.default_rng(0)
    frames = [rng.normal(i, 3.0, (50 + i, 64)) for i in range(5)]
    parts = [schema.StatisticsSum.of(s, np.ones(len(s), bool), -23.0) for s in frames]
    assert schema.reduce_statistics(parts) == schema.reduce_statistics(parts[::-1])
    louder = frames[0].copy()
    louder[:, 0] += 2 * np.log(10 ** (6.0 / 20))
    parts[0] = schema.StatisticsSum.of(louder, np.ones(50, bool), -17.0)
    np.testing.assert_allclose(
        schema.reduce_statistics(parts).mean, np.concatenate(frames).mean(axis=0), atol=1e-9
    )


def test_another_recording_is_not_taken_from_the_cache(corpus, rows, monkeypatch):
    calls = []
    monkeypatch.setattr(world, "analyse", lambda audio: calls.append(audio) or "analysis")
    audio = songs.load_song(rows["ann-short"], corpus.cache).vocals
    assert not calls
    other = audio.copy()
    other[1000] += 1e-4
    with pytest.raises(AttributeError):  # the stand-in cannot be stored
        songs.analyse_cached(other, corpus.cache)
    assert len(calls) == 1


def test_loud_music_is_not_clipped(rows, corpus, tmp_path):
    """Neither by the gain of a quiet voice beside it, nor where a lossy file overshoots."""
    music = 1.2 * np.sin(np.arange(32_000) * 0.1).astype(np.float32)
    soundfile.write(tmp_path / "loud.wav", music, harness.RATE, "FLOAT")
    for row in (rows["ann-short"], rows["band-1"]):
        song = songs.load_song(
            dataclasses.replace(row, backing=tmp_path / "loud.wav"), corpus.cache
        )
        assert np.abs(song.backing).max() == pytest.approx(0.99, abs=1e-4)
        np.testing.assert_allclose(song.backing, music * (0.99 / np.abs(music).max()), rtol=1e-5)


def test_data_sets_without_the_newer_statistics_are_read(corpus, index, tmp_path):
    """As the first builds wrote dataset.json."""
    values = json.loads((corpus.records / "dataset.json").read_text())
    del values["failed"], values["digests"]
    values["statistics"] = {name: values["statistics"][name] for name in ("mean", "std")}
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    old = schema.DatasetIndex.load(tmp_path)
    assert (old.statistics.mean, old.statistics.std) == (
        index.statistics.mean,
        index.statistics.std,
    )
    assert len(old.identity) == 64 and old.digests == {}
    assert old.statistics.voiced is None and old.failed == () and old.counts == index.counts


def test_what_training_sees_is_known_by_its_shards(corpus, index):
    """Other music, another order or other voices are other records; test records are not seen."""
    shards = {path.name: path.read_bytes() for path in corpus.records.glob("*.tfrecord")}
    assert index.digests == {
        name: hashlib.sha256(data).hexdigest() for name, data in shards.items()
    }

    def identity(**digests):
        return dataclasses.replace(index, digests=index.digests | digests).identity

    assert identity() == index.identity
    assert all(identity(**{name: "0"}) != index.identity for name in shards)
    unseen = schema.shard_name("test", 0, 1)
    assert identity(**{unseen: "0"}) == index.identity


def test_damaged_analyses_are_made_again(corpus, rows, tmp_path):
    """What a full disk or another program left in the cache is no analysis."""
    audio = songs.load_song(rows["ann-short"], corpus.cache).vocals
    expected = songs.analyse_cached(audio, tmp_path)
    (stored,) = tmp_path.iterdir()
    whole = stored.read_bytes()
    for content in (b"", b"PK no zip", whole[: len(whole) // 2]):
        stored.write_bytes(content)
        again = songs.analyse_cached(audio, tmp_path)
        np.testing.assert_array_equal(again.stacked, expected.stacked)
        assert [p.read_bytes() for p in tmp_path.iterdir()] == [whole]
