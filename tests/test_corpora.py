"""Adapters of corpora: what they read of each layout, what they say of files that do not fit."""

import importlib
import importlib.util
import os
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from tests import harness
from tests.corpus_trees import RATE, TREES, medley_song, wav
from tfrecords import manifest
from tfrecords.corpora import scan
from tfrecords.corpora.scan import Part, Scan


@pytest.fixture
def run_on(tmp_path):
    """Runs an adapter on `root`; returns its exit code and the manifest's rows by song_id."""

    def run(name, *flags):
        module = importlib.import_module(f"tfrecords.corpora.{name}")
        output = tmp_path / "out" / "m.csv"
        code = module.run([f"--root={tmp_path / 'root'}", f"--output={output}", *flags])
        rows = manifest.read_manifest(output) if output.exists() else []
        return code, {row.song_id: row for row in rows}

    return run


def described(row, root, made):
    """(singer, voice, backing) of a row as the trees tell it."""

    def place(path):
        if path is None:
            return ""
        return "made" if path.is_relative_to(made) else path.relative_to(root).as_posix()

    return row.singer, place(row.vocals), place(row.backing)


@pytest.mark.parametrize("name", TREES)
def test_every_song_of_the_layout(name, run_on, tmp_path, capsys):
    root = tmp_path / "root"
    TREES[name].make(root)
    code, rows = run_on(name)
    assert code == 0
    made = tmp_path / "out" / "m_audio"
    assert {song: described(row, root, made) for song, row in rows.items()} == TREES[name].songs
    assert list(rows) == sorted(rows)
    for row in rows.values():
        assert all(
            path.is_absolute() and path.is_file() for path in (row.vocals, row.backing) if path
        )
    manifest.check_splits(list(rows.values()))
    assert f"{len(rows)} songs, " in capsys.readouterr().out


@pytest.mark.parametrize("name", TREES)
def test_a_file_that_is_no_audio_stops_it_or_is_left_out(name, run_on, tmp_path, capsys):
    tree = TREES[name]
    tree.make(tmp_path / "root")
    bad = tmp_path / "root" / tree.bad
    bad.write_bytes(b"RIFF")
    line = harness.one_line_error(lambda flags: run_on(name, *flags)[0], [], capsys)
    assert str(bad) in line and "--skip_bad" in line
    assert not (tmp_path / "out" / "m.csv").exists()
    code, rows = run_on(name, "--skip_bad")
    out = capsys.readouterr()
    assert code == 0 and set(rows) == set(tree.songs) - set(tree.spoiled)
    assert str(bad) in out.err and out.err.count("\n") == 1 and "; 1 left out" in out.out


ODD = {
    "folder": ("vocals/loose.wav", "singer's folder"),
    "musdb18": ("train/no artist/vocals.wav", "<artist> - <title>"),
    "medleydb": ("Audio/V_New/V_New_MIX.wav", "V_New_METADATA.yaml"),
    "ikala": ("Wavfile/99999_verse.wav", "no singer of song 99999"),
    "nus48e": ("MCUR/read/01.wav", "MCUR/sing: has no songs"),
    "vocalset": ("FULL/female1/loose.wav", "<technique>"),
    "csd": ("english/wav/intro.wav", "en001a"),
    "m4singer": ("extra/0000.wav", "<singer>#<song>"),
    "ravdess": ("Actor_03/03-02-01-01-01-01-04.wav", "Actor_01/"),
}


@pytest.mark.parametrize("name", TREES)
def test_what_the_layout_does_not_know_is_named(name, run_on, tmp_path, capsys):
    TREES[name].make(tmp_path / "root")
    path, words = ODD[name]
    wav(tmp_path / "root" / path)
    line = harness.one_line_error(lambda flags: run_on(name, *flags)[0], [], capsys)
    assert words in line and path.split("/")[0] in line
    code, rows = run_on(name, "--skip_bad")
    assert code == 0 and set(rows) == set(TREES[name].songs)


@pytest.mark.parametrize("name", ["lists", *TREES])
def test_a_folder_that_is_something_else(name, run_on, tmp_path, capsys):
    fail = lambda flags: run_on(name, *flags)[0]  # noqa: E731
    assert "no such folder" in harness.one_line_error(fail, [], capsys)
    (tmp_path / "root").mkdir()
    assert str(tmp_path / "root") in harness.one_line_error(fail, [], capsys)
    module = importlib.import_module(f"tfrecords.corpora.{name}")
    assert "no --root given" in harness.one_line_error(module.run, [], capsys)
    # The help says what the module does.
    assert module.run(["--help"]) == 0
    said = capsys.readouterr().out
    assert "--exclude_singers" in said and module.__doc__.strip() in said
    for heading in ("Get it:", "Licence:"):
        assert name in ("lists", "folder") or heading in said
    assert "Layout" in said


needs_ffmpeg = pytest.mark.skipif(
    not shutil.which("ffmpeg"), reason="needs ffmpeg, which musdb reads compressed stems with"
)
STEMS = ("mixture", "drums", "bass", "other", "vocals")


def pack(folder, streams=STEMS):
    """A song of HQ as one file of streams, without loss; the folder goes."""
    command = ["ffmpeg", "-v", "error"]
    for stem in streams:
        command += ["-i", folder / f"{stem}.wav"]
    for number in range(len(streams)):
        command += ["-map", f"{number}:a"]
    path = folder.with_name(f"{folder.name}.stem.mp4")
    subprocess.run([*command, "-c:a", "alac", path], check=True)
    shutil.rmtree(folder)
    return path


@needs_ffmpeg
def test_compressed_stems_are_read_by_musdb(run_on, tmp_path):
    """The rows of HQ, and the samples of its files."""
    root = tmp_path / "root"
    TREES["musdb18"].make(root)
    _, plain = run_on("musdb18")
    kept = {
        song: [soundfile.read(p, dtype="float32")[0] for p in (row.vocals, row.backing)]
        for song, row in plain.items()
    }
    shutil.rmtree(tmp_path / "out")
    for folder in list(root.glob("*/*")):
        pack(folder)
    code, rows = run_on("musdb18")
    assert code == 0 and rows.keys() == plain.keys()
    for song, row in rows.items():
        assert (row.singer, row.split) == (plain[song].singer, plain[song].split)
        for path, expected in zip((row.vocals, row.backing), kept[song], strict=True):
            assert path.is_relative_to(tmp_path / "out")
            found, rate = soundfile.read(path, dtype="float32")
            mono = expected.mean(axis=1) if expected.ndim == 2 else expected
            assert rate == 44_100
            np.testing.assert_allclose(found, mono, atol=1e-6)


@needs_ffmpeg
def test_compressed_stems_that_are_damaged(run_on, tmp_path, capsys):
    root = tmp_path / "root"
    TREES["musdb18"].make(root)
    cut = pack(root / "train/A - One")
    cut.write_bytes(cut.read_bytes()[:2000])
    few = pack(root / "train/B & C - Two", STEMS[:4])
    fail = lambda flags: run_on("musdb18", *flags)[0]  # noqa: E731
    assert f"{cut}: ffmpeg cannot read it" in harness.one_line_error(fail, [], capsys)
    code, rows = run_on("musdb18", "--skip_bad")
    err = capsys.readouterr().err
    assert code == 0 and set(rows) == {"musdb18/D - Three"}
    assert str(cut) in err and f"{few}: has 4 streams, not 5" in err
    made = [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert sorted(made) == ["D - Three.wav", "m.csv"]


@needs_ffmpeg
def test_compressed_stems_that_end_early(run_on, tmp_path, capsys):
    """What ffmpeg leaves out without a word is found: the header says how long streams are."""
    for stem in STEMS:
        wav(tmp_path / f"root/train/A - One/{stem}.wav", 2, 60_000, 44_100)
    (tmp_path / "root/test").mkdir()
    path = pack(tmp_path / "root/train/A - One")
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat")
    data[at + 4 + 150_000 : data.index(b"moov") - 4] = bytes(
        data.index(b"moov") - 4 - (at + 4 + 150_000)
    )
    path.write_bytes(data)
    line = harness.one_line_error(lambda flags: run_on("musdb18", *flags)[0], [], capsys)
    assert f"{path}: ends within its" in line and "--skip_bad" in line


@pytest.mark.skipif(importlib.util.find_spec("musdb") is None, reason="needs the extra data")
def test_compressed_stems_without_ffmpeg(run_on, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for part in ("train", "test"):
        (tmp_path / "root" / part).mkdir(parents=True)
    path = tmp_path / "root/train/A - One.stem.mp4"
    path.write_bytes(b"no audio")
    line = harness.one_line_error(lambda flags: run_on("musdb18", *flags)[0], [], capsys)
    assert str(path) in line and "need ffmpeg" in line


def test_musdb_keeps_its_own_test_split(run_on, tmp_path, capsys):
    """Whatever the shares; and an artist of it is not for training."""
    TREES["musdb18"].make(tmp_path / "root")
    for song in ("A - Four", "C - Five", "D - Six", "E - Seven"):
        for stem in ("mixture", "drums", "bass", "other", "vocals"):
            wav(tmp_path / f"root/train/{song}/{stem}.wav", channels=2, rate=44_100)
    _, rows = run_on("musdb18")
    assert {song for song, row in rows.items() if row.split == "test"} == {"musdb18/D - Three"}
    assert len(rows) == 6 and "musdb18/D - Six" not in rows
    assert "1 recordings left out: test or" in capsys.readouterr().err


def test_nus48e_splits_share_no_song(run_on, tmp_path):
    for number, singer in enumerate(("ADIZ", "JLEE", "KENN", "MCUR", "MPOL")):
        for song in range(number, number + 4):
            wav(tmp_path / f"root/{singer}/sing/{song:02d}.wav")
    _, rows = run_on("nus48e")
    places = {(song.split("/")[-1], row.split) for song, row in rows.items()}
    assert len(places) == len({song for song, _ in places}) > 4
    assert {"train", "test", "validation_unseen"} <= {split for _, split in places}


def test_the_backing_is_the_sum_of_the_other_stems(run_on, tmp_path):
    TREES["musdb18"].make(tmp_path / "root")
    _, rows = run_on("musdb18")
    folder = tmp_path / "root/train/A - One"
    expected = sum(
        soundfile.read(folder / f"{stem}.wav", dtype="float32")[0].mean(axis=1)
        for stem in ("drums", "bass", "other")
    )
    made, rate = soundfile.read(rows["musdb18/A - One"].backing, dtype="float32")
    assert rate == 44_100
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_medleydb_backing_has_no_stem_with_a_voice(run_on, tmp_path):
    TREES["medleydb"].make(tmp_path / "root")
    _, rows = run_on("medleydb")
    folder = tmp_path / "root/Audio/X_Song/X_Song_STEMS"
    expected = sum(
        soundfile.read(folder / f"X_Song_STEM_0{n}.wav", dtype="float32")[0].mean(axis=1)
        for n in (1, 2)
    )
    made, _ = soundfile.read(rows["medleydb/X_Song/RAW_03_01"].backing, dtype="float32")
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_medleydb_answers_without_quotes(run_on, tmp_path):
    """YAML's own yes and no."""
    TREES["medleydb"].make(tmp_path / "root")
    for path in tmp_path.glob("root/*/*/*_METADATA.yaml"):
        path.write_text(path.read_text().replace("'yes'", "yes").replace("'no'", "no"))
    _, rows = run_on("medleydb")
    assert set(rows) == set(TREES["medleydb"].songs)


@pytest.mark.parametrize("content", ["artist: [", "artist: A\n", "- a\n", "stems: 3\n"])
def test_medleydb_metadata_that_are_damaged(run_on, tmp_path, capsys, content):
    medley_song(tmp_path / "root", "X_Song", [("drum set", ["drum set"])])
    (tmp_path / "root/Audio/X_Song/X_Song_METADATA.yaml").write_text(content)
    line = harness.one_line_error(lambda flags: run_on("medleydb", *flags)[0], [], capsys)
    assert "X_Song_METADATA.yaml" in line


def test_ikala_music_is_left_and_voice_is_right(run_on, tmp_path):
    TREES["ikala"].make(tmp_path / "root")
    _, rows = run_on("ikala", f"--audio_dir={tmp_path / 'elsewhere'}")
    both, _ = soundfile.read(tmp_path / "root/Wavfile/21025_verse.wav", dtype="float32")
    row = rows["ikala/21025_verse"]
    for channel, path in enumerate((row.backing, row.vocals)):
        assert path.parent == tmp_path / "elsewhere"
        np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0], both[:, channel])


def test_ikala_without_its_singers_or_in_mono(run_on, tmp_path, capsys):
    TREES["ikala"].make(tmp_path / "root")
    wav(tmp_path / "root/Wavfile/10161_verse.wav")
    fail = lambda flags: run_on("ikala", *flags)[0]  # noqa: E731
    assert "10161_verse.wav: has 1 channel" in harness.one_line_error(fail, [], capsys)
    (tmp_path / "root/id_mapping.txt").write_text("singer song\n")
    assert "id_mapping.txt: lines are not" in harness.one_line_error(fail, [], capsys)
    (tmp_path / "root/id_mapping.txt").write_bytes(b"1\t\xff\n")
    assert "id_mapping.txt: is no text" in harness.one_line_error(fail, [], capsys)
    (tmp_path / "root/id_mapping.txt").unlink()
    assert "id_mapping.txt: No such file" in harness.one_line_error(fail, [], capsys)


def test_singers_can_be_left_out(run_on, tmp_path):
    TREES["nus48e"].make(tmp_path / "root")
    _, rows = run_on("nus48e", "--exclude_singers=nus48e_ADIZ,nobody")
    assert {row.singer for row in rows.values()} == {"nus48e_JLEE"}


@pytest.mark.parametrize(
    ("name", "folder"),
    [("csd", "CSD"), ("m4singer", "m4singer"), ("nus48e", "nus-smc-corpus_48")],
)
def test_archives_with_a_folder_around_them(name, folder, run_on, tmp_path):
    TREES[name].make(tmp_path / "root" / folder)
    code, rows = run_on(name)
    assert code == 0 and set(rows) == set(TREES[name].songs)


@pytest.mark.parametrize("content", ["vocals,split\nä.wav,train\n", "split,vocals\ntrain\n"])
def test_lists_that_are_damaged(run_on, tmp_path, capsys, content):
    """In another encoding; a row that ends early."""
    wav(tmp_path / "root/b.wav")
    (tmp_path / "root/vocals.csv").write_text(content, encoding="latin-1")
    (tmp_path / "root/backing.csv").write_text("backing,split\nb.wav,train\n")
    line = harness.one_line_error(lambda flags: run_on("lists", *flags)[0], [], capsys)
    assert str(tmp_path / "root") in line


def test_one_name_for_two_files(run_on, tmp_path, capsys):
    for suffix in ("wav", "flac"):
        wav(tmp_path / f"root/vocals/ann/one.{suffix}")
    line = harness.one_line_error(lambda flags: run_on("folder", *flags)[0], [], capsys)
    assert "song 'vocals/ann/one' is there twice" in line


def test_made_tracks(tmp_path, monkeypatch):
    """Of parts of several lengths, longer than a block; made again only when a part is newer."""
    monkeypatch.setattr(scan.audio_io, "BLOCK_FRAMES", 128)
    parts = {n: wav(tmp_path / f"{n}.wav", 2, n) for n in (400, 300, 512)}
    expected = np.zeros(512, np.float32)
    for n, audio in parts.items():
        expected[:n] += audio[:, 1] if n == 300 else audio.mean(axis=1)
    reading = Scan(tmp_path / "made")
    given = [Part(tmp_path / f"{n}.wav", 1 if n == 300 else None) for n in parts]
    path = reading.mixed("a/b", given)
    np.testing.assert_allclose(soundfile.read(path, dtype="float32")[0], expected, atol=1e-6)
    before = path.stat().st_mtime_ns
    assert reading.mixed("a/b", given) == path and path.stat().st_mtime_ns == before
    later = path.stat().st_mtime + 5
    os.utime(tmp_path / "300.wav", (later, later))
    reading.mixed("a/b", given)
    assert path.stat().st_mtime_ns != before
    wav(tmp_path / "fast.wav", rate=2 * RATE)
    with pytest.raises(scan.BadFile, match="fast.wav: 16000 Hz, but"):
        reading.mixed("c", [*given, Part(tmp_path / "fast.wav")])
    assert [p.name for p in (tmp_path / "made").rglob("*.wav")] == ["b.wav"]


@needs_ffmpeg
def test_compressed_stems_of_unequal_lengths(run_on, tmp_path):
    """Encoders end a few samples apart: the sum is as long as the longest."""
    pytest.importorskip("musdb")
    parts = {
        stem: wav(tmp_path / f"root/train/A - One/{stem}.wav", 1, 44_100 - 500 * n, 44_100)
        for n, stem in enumerate(STEMS)
    }
    (tmp_path / "root/test").mkdir()
    pack(tmp_path / "root/train/A - One")
    code, rows = run_on("musdb18")
    assert code == 0
    (row,) = rows.values()
    found, _ = soundfile.read(row.backing, dtype="float32")
    expected = np.zeros(44_100 - 500)
    for stem in ("drums", "bass", "other"):
        expected[: len(parts[stem])] += parts[stem][:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_files_of_one_song_are_in_one_split(run_on, tmp_path):
    """In vocals/<singer>/<song>/."""
    for song in range(6):
        for phrase in range(4):
            wav(tmp_path / f"root/vocals/ann/song{song}/{phrase}.wav")
    code, rows = run_on("folder", "--validation=0.3", "--test=0.3")
    assert code == 0 and len(rows) == 24
    splits = {}
    for row in rows.values():
        splits.setdefault(row.vocals.parent.name, set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {"train", "validation", "test"}


def test_the_only_folder_of_a_singer_is_no_song(run_on, tmp_path):
    """It is where the files lie: they are divided."""
    for phrase in range(10):
        wav(tmp_path / f"root/vocals/ann/wav/{phrase}.wav")
    code, rows = run_on("folder")
    assert code == 0 and len(rows) == 10
    assert {row.split for row in rows.values()} == {"train", "validation", "test"}
