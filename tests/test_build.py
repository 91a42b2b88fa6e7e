"""Records hold the manifest's songs: samples, analysis, statistics; complete or not at all."""

import csv
import dataclasses
import hashlib
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sep_tf import world
from sep_tf.config import AudioConfig, RecordConfig
from sep_tf.errors import DataError
from tests import harness
from tests.conftest import VOICES
from tfrecords import build, dataset, inspect, manifest, schema, songs

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


@pytest.fixture(scope="module")
def rows(manifest_file):
    return {row.song_id: row for row in manifest.read_manifest(manifest_file)}


def digest(folder):
    """Name and content of every file."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


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
    frames = []
    for name in ("ann-solo", "ann-short", "ben-both"):
        song = songs.load_song(rows[name], corpus.cache)
        audible = world.frame_level_db(song.vocals) > -60.0
        assert 0 < audible.sum() < len(audible)
        at_reference = song.features.stacked.astype(np.float64)
        gain_db = schema.REFERENCE_DB - songs.active_level_db(song.vocals)
        at_reference[:, 0] += 2 * np.log(10 ** (gain_db / 20))
        frames.append(at_reference[audible])
    frames = np.concatenate(frames)
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


def test_a_second_build_gives_the_same_bytes_without_analysis(
    corpus, manifest_file, tmp_path, monkeypatch
):
    """Two workers, rows in another order, analyses from the cache: the same records."""
    monkeypatch.setattr(world, "analyse", lambda audio: pytest.fail("analysed again"))
    before = {path: path.stat().st_mtime_ns for path in corpus.cache.iterdir()}
    assert len(before) == len(VOICES) and all(p.suffix == ".npz" for p in before)
    rows = manifest.read_manifest(manifest_file)[::-1]
    seen = []
    build.build(
        rows, tmp_path / "again", 2, corpus.cache, 2, lambda done, total: seen.append((done, total))
    )
    assert digest(tmp_path / "again") == digest(corpus.records)
    assert {path: path.stat().st_mtime_ns for path in corpus.cache.iterdir()} == before
    assert seen[-1] == (len(rows), len(rows)) and seen == sorted(seen)


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


def few(rows, *names):
    return [rows[name] for name in names]


@pytest.mark.parametrize("content", [None, b"", b"RIFF this is no audio"])
def test_a_song_that_cannot_be_read(rows, corpus, tmp_path, content):
    bad = tmp_path / "bad.wav"
    if content is not None:
        bad.write_bytes(content)
    listed = few(rows, "ann-short", "band-1")
    listed.append(dataclasses.replace(rows["ann-valid"], song_id="broken one", vocals=bad))
    with pytest.raises(DataError) as error:
        build.build(listed, tmp_path / "out", 2, corpus.cache, 1)
    assert "song 'broken one'" in str(error.value) and str(bad) in str(error.value)
    assert [p.name for p in tmp_path.iterdir() if p != bad] == ["out.failed.csv"]
    with (tmp_path / "out.failed.csv").open(newline="") as file:
        ((song, why),) = list(csv.reader(file))[1:]
    assert song == "broken one" and str(bad) in why


def test_songs_that_fail_can_be_left_out(corpus, rows, tmp_path, capsys):
    """The others get the records they would have had, and the data set says who is missing."""
    lines = ["song_id,singer,vocals,backing,split"]
    for song in ("ann-short", "ben-both", "band-1"):
        row = rows[song]
        lines.append(f"{song},{row.singer},{row.vocals or ''},{row.backing or ''},{row.split}")
    lines += ["gone,ann,gone.wav,,train", "odd,,,odd.wav,train"]
    (tmp_path / "odd.wav").write_text("no audio")
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"
    argv = [f"--manifest={tmp_path / 'm.csv'}", f"--output_dir={out}", "--num_shards=2"]
    argv += ["--workers=1", f"--cache_dir={corpus.cache}"]
    assert "gone.wav" in harness.one_line_error(build.run, argv, capsys)
    assert build.run([*argv, "--skip_bad"]) == 0
    said = capsys.readouterr()
    assert "3 songs, 2 singers" in said.out
    assert "2 songs failed" in said.err and str(tmp_path / "out.failed.csv") in said.err
    index = schema.DatasetIndex.load(out)
    assert index.failed == ("gone", "odd")
    assert index.songs == ("ann-short", "band-1", "ben-both", "gone", "odd")
    assert inspect.run([str(out), "--check"]) == 0
    for number, name in enumerate(index.songs[:3]):
        family = "train_backing" if name == "band-1" else "train"
        (found,) = [r for r in dataset.examples(out, family) if r["song_index"] == number]
        earlier = schema.DatasetIndex.load(corpus.records).songs.index(name)
        (before,) = [
            r for r in dataset.examples(corpus.records, family) if r["song_index"] == earlier
        ]
        for field in schema.SPEC_STRINGS:
            assert found[field].numpy() == before[field].numpy()
    # A build that succeeds takes the list of an earlier one away.
    (tmp_path / "m.csv").write_text("\n".join(lines[:4]) + "\n")
    shutil.rmtree(out)
    assert build.run(argv) == 0
    assert not (tmp_path / "out.failed.csv").exists()


def test_a_folder_that_is_not_empty_is_left_alone(rows, corpus, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty"):
        build.build(few(rows, "ann-short"), tmp_path / "out", 2, corpus.cache, 1)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_and_remains_of_an_interrupted_build_are_no_hindrance(
    rows, corpus, tmp_path
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "train-00000-of-00001.tfrecord").write_text("remains")
    index = build.build(few(rows, "ann-short", "band-1"), tmp_path / "out", 1, corpus.cache, 1)
    assert schema.DatasetIndex.load(tmp_path / "out") == index
    assert len(list(dataset.examples(tmp_path / "out", "train"))) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_no_audible_training_voice(rows, corpus, tmp_path):
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(16_000), harness.RATE)
    quiet = dataclasses.replace(rows["ann-short"], vocals=silent)
    with pytest.raises(DataError, match="no audible vocal frame"):
        build.build([quiet, rows["band-1"]], tmp_path / "out", 1, None, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["silent.wav"]


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


def test_command_line(corpus, manifest_file, tmp_path, capsys):
    argv = [f"--manifest={manifest_file}", f"--output_dir={tmp_path / 'records'}"]
    argv += ["--num_shards=2", "--workers=1", f"--cache_dir={corpus.cache}"]
    assert build.run(argv) == 0
    assert "9 songs, 2 singers" in capsys.readouterr().out
    assert digest(tmp_path / "records") == digest(corpus.records)
    assert "is not empty" in harness.one_line_error(build.run, argv, capsys)
    line = harness.one_line_error(build.run, argv[:1], capsys)
    assert "--output_dir" in line


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--num_shrads=3", "unknown flag --num_shrads (did you mean --num_shards?)"),
        ("--runer=FlinkRunner", "unknown flag --runer (did you mean --runner?)"),
        ("extra", "unexpected argument 'extra'"),
        ("--runner=NoSuchRunner", "the pipeline failed: "),
        ("--runner=no.such.Runner", "the engine cannot be loaded: "),
    ],
)
def test_flags_that_neither_program_nor_beam_knows(
    flag, words, corpus, manifest_file, tmp_path, capsys
):
    argv = [f"--manifest={manifest_file}", f"--output_dir={tmp_path / 'records'}", flag]
    line = harness.one_line_error(build.run, [*argv, f"--cache_dir={corpus.cache}"], capsys)
    assert words in line
    assert list(tmp_path.iterdir()) == []


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


@pytest.fixture
def long_manifest(tmp_path):
    """Nine songs, one of which takes several seconds to analyse; no cache knows them."""
    lines = ["song_id,singer,vocals,backing,split", "music,,,music.wav,train"]
    soundfile.write(tmp_path / "music.wav", harness.band(2.0, 5), harness.RATE)
    for number in range(8):
        audio = harness.sung(25.0 if number == 4 else 1.0, 200.0 + number, seed=50 + number)
        soundfile.write(tmp_path / f"{number}.wav", audio, harness.RATE)
        lines.append(f"s{number},ann,{number}.wav,,train")
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def start(path, output, workers):
    """A build in a process of its own."""
    command = [sys.executable, "-m", "tfrecords.build", f"--manifest={path}", "--num_shards=3"]
    return subprocess.Popen(
        [*command, f"--output_dir={output}", f"--workers={workers}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


def children_of(process):
    """Worker processes below a process."""
    done = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    mark = f"tfrecords.worker {process.pid} "
    return [line for line in done.stdout.splitlines() if mark in line]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_build_that_was_killed_goes_on_to_the_same_bytes(long_manifest, tmp_path, number, code):
    undisturbed = tmp_path / "undisturbed"
    build.build(manifest.read_manifest(long_manifest), undisturbed, 3, None, 1)
    output, cache = tmp_path / "out", tmp_path / "out.cache"
    process = start(long_manifest, output, 2)
    until = time.monotonic() + 120
    while len(list(cache.glob("*.npz"))) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.count("\n") == (0 if number == signal.SIGKILL else 1), err
    until = time.monotonic() + 30
    while children_of(process) and time.monotonic() < until:
        time.sleep(0.2)
    assert not children_of(process), "workers go on without their parent"
    # Nothing that looks finished, and some analyses are kept.
    assert not output.exists() and not (tmp_path / "out.partial" / "dataset.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in cache.glob("*.npz")}
    assert 2 <= len(kept) < 8
    again = start(long_manifest, output, 2)
    while again.poll() is None and not output.exists():
        for path, before in kept.items():
            assert not path.exists() or path.stat().st_mtime_ns == before, "analysed again"
        time.sleep(0.2)
    out, err = again.communicate(timeout=200)
    assert again.returncode == 0 and err == "", err
    assert digest(output) == digest(undisturbed)
    left = {p.name for p in tmp_path.iterdir() if p.is_dir()}
    assert left == {"undisturbed", "out"}


def test_command_line_names_missing_audio_before_it_starts(manifest_file, tmp_path, capsys):
    text = manifest_file.read_text().replace("band-3.wav", "gone.wav")
    (tmp_path / "m.csv").write_text(text.replace(",ann-", f",{manifest_file.parent}/ann-"))
    argv = [f"--manifest={tmp_path / 'm.csv'}", f"--output_dir={tmp_path / 'records'}"]
    line = harness.one_line_error(build.run, argv, capsys)
    assert "audio files are missing" in line and str(tmp_path) in line
    assert not (tmp_path / "records").exists()
