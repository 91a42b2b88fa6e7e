"""Manifests: what is read, what is refused, and which line is to blame."""

import dataclasses
from pathlib import Path

import pytest
import tensorflow as tf

from sep_tf.errors import DataError
from tests import corpus_trees, harness
from tfrecords import manifest
from tfrecords.corpora import lists
from tfrecords.manifest import Row

HEADER = "song_id,singer,vocals,backing,split,backing_start,vocals_gain,backing_gain\n"


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "manifest.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding=encoding)
        return path

    return write


def test_round_trip(tmp_path):
    rows = [
        Row("a, b", "Zoë", tmp_path / "a 1.wav", None, "train"),
        Row('"quoted"', "", None, Path("/music/c.flac"), "validation_unseen"),
        Row("d", "x", tmp_path / "d.wav", tmp_path / "e.wav", "test", 12.125, 0.1, 1e-3),
    ]
    path = tmp_path / "new" / "folder" / "manifest.csv"
    manifest.write_manifest(path, iter(rows))
    assert manifest.read_manifest(path) == rows
    assert [p.name for p in path.parent.iterdir()] == ["manifest.csv"]


def test_paths_are_relative_to_the_manifest(write, tmp_path):
    path = write(HEADER + "a,s,audio/a.wav,/abs/b.wav,train,,,\n")
    (row,) = manifest.read_manifest(path)
    assert row.vocals == tmp_path / "audio/a.wav"
    assert row.backing == Path("/abs/b.wav")


@pytest.mark.parametrize("alias", ["song_id", "id", "song"])
def test_aliases_and_defaults(write, alias):
    # As spreadsheets write them: a byte order mark, CRLF, blanks, columns nobody knows.
    path = write(f"{alias},vocals,backing,mood\r\n t1 , v.wav ,,sad\r\n", encoding="utf-8-sig")
    (row,) = manifest.read_manifest(path, default_split="validation")
    assert row == Row("t1", "", path.parent / "v.wav", None, "validation", 0.0, 1.0, 1.0)


def test_rows_shorter_than_the_header(write):
    (row,) = manifest.read_manifest(write(HEADER + "a,s,v.wav,,train\n"))
    assert (row.backing_start, row.vocals_gain, row.backing_gain) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize("split", manifest.SPLITS)
def test_splits(write, split):
    assert manifest.read_manifest(write(HEADER + f"a,s,v.wav,,{split}\n"))[0].split == split


GOOD = "ok,s,v.wav,,train,,,\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a,s,v.wav,,training,,,\n", ["split", "'training'"]),
        ("a,s,v.wav,,train,soon,,\n", ["backing_start", "'soon'"]),
        ("a,s,v.wav,,train,-1,,\n", ["backing_start", "'-1'"]),
        ("a,s,v.wav,,train,,nan,\n", ["vocals_gain", "'nan'"]),
        ("a,s,v.wav,,train,,,inf\n", ["backing_gain", "'inf'"]),
        ("a,s,,,train,,,\n", ["vocals or backing"]),
        (",s,v.wav,,train,,,\n", ["id"]),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(write, line, words):
    path = write(HEADER + GOOD + line)
    with pytest.raises(DataError) as error:
        manifest.read_manifest(path)
    for word in [f"{path} line 3", *words]:
        assert word in str(error.value)


def test_songs_listed_twice(write, tmp_path):
    path = write(HEADER + GOOD + "other,s,v.wav,,train,,,\n" + GOOD)
    with pytest.raises(DataError, match="'ok' is listed twice"):
        manifest.read_manifest(path)
    row = Row("a", "", Path("v.wav"), None, "train")
    with pytest.raises(DataError, match="listed twice"):
        manifest.write_manifest(tmp_path / "out.csv", [row, dataclasses.replace(row, split="test")])
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no column song_id"),
        (b"song_id,vocals\na,b\n", "no column backing"),
        (b"vocals,backing\na,b\n", "no column song_id"),
        (b"song_id,vocals,backing\na,b,c\n", "no column split"),
        (b"song_id,vocals,backing,split\na,b,c,\n", "unknown split ''"),
        (HEADER.encode(), "has no songs"),
        (b"song_id,vocals,backing\n\xff\xfe\x00,a,b\n", "not a CSV text file"),
    ],
)
def test_files_that_are_no_manifest(tmp_path, content, words):
    path = tmp_path / "manifest.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        manifest.read_manifest(path)
    assert str(path) in str(error.value) and words in str(error.value)


def test_missing_manifest(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path, "ram://nowhere/none.csv"):
        with pytest.raises(DataError, match=f"manifest {path} does not exist"):
            manifest.read_manifest(path)
    # A file system that this TensorFlow does not know.
    with pytest.raises(DataError, match="nosuch://bucket/m.csv: File system scheme 'nosuch'"):
        manifest.read_manifest("nosuch://bucket/m.csv")


def test_a_manifest_on_another_file_system():
    """Its paths are relative to it, too."""
    path = "ram://lists/deep/m.csv"
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(b"\xef\xbb\xbf" + (HEADER + "a,s,../v.wav,/abs/b.wav,train,,,\r\n").encode())
    for name in (path, Path(path)):
        (row,) = manifest.read_manifest(name)
        assert manifest.location(row.vocals) == "ram://lists/deep/../v.wav"
        assert row.backing == Path("/abs/b.wav")
    path = "ram://lists/odd.csv"
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(HEADER + "a,s,v.wav,,nowhere,,,\n")
    with pytest.raises(DataError, match=f"manifest {path} line 2: unknown split"):
        manifest.read_manifest(path)


@pytest.fixture
def corpus_folder(tmp_path):
    (tmp_path / "vocals.csv").write_text(
        "vocals,singer,split\nv/a.flac,ann,train\nv/b.flac,ben,validation_unseen\n"
    )
    (tmp_path / "backing.csv").write_text("backing,split\nb/a.flac,train\n")
    for name in ("v/a.flac", "v/b.flac", "b/a.flac"):
        corpus_trees.wav(tmp_path / name)
    return tmp_path


def test_lists_give_a_manifest_that_reads_back(corpus_folder, tmp_path, capsys):
    target = tmp_path / "out" / "manifest.csv"
    assert lists.run([f"--root={corpus_folder}", f"--output={target}"]) == 0
    assert "3 songs" in capsys.readouterr().out
    assert manifest.read_manifest(target) == [
        Row("b/a.flac", "", None, corpus_folder / "b/a.flac", "train"),
        Row("v/a.flac", "ann", corpus_folder / "v/a.flac", None, "train"),
        Row("v/b.flac", "ben", corpus_folder / "v/b.flac", None, "validation_unseen"),
    ]


def test_lists_of_songs_with_their_own_music(corpus_folder, tmp_path, capsys):
    """Without a column of splits they are for test, as published lists of whole songs are."""
    corpus_trees.wav(corpus_folder / "s/voice.flac")
    corpus_trees.wav(corpus_folder / "s/band.flac")
    path, target = corpus_folder / "aligned.csv", tmp_path / "out.csv"
    path.write_text("song,singer,vocals,backing\nblue,cid,s/voice.flac,s/band.flac\n")
    argv = [f"--root={corpus_folder}", f"--output={target}"]
    assert lists.run(argv) == 0
    voice, band = corpus_folder / "s/voice.flac", corpus_folder / "s/band.flac"
    blue = Row("aligned/blue", "cid", voice, band, "test")
    assert manifest.read_manifest(target)[0] == blue
    path.write_text("song,vocals,backing,split\nblue,s/voice.flac,s/band.flac,train\n")
    assert lists.run(argv) == 0
    expected = dataclasses.replace(blue, singer="", split="train")
    assert manifest.read_manifest(target)[0] == expected
    band.unlink()
    assert str(band) in harness.one_line_error(lists.run, argv, capsys)
    path.write_text("vocals,backing\n")
    assert f"{path}: no column song" in harness.one_line_error(lists.run, argv, capsys)


def test_lists_leave_singers_and_bad_files_out(corpus_folder, capsys):
    target = corpus_folder / "manifest.csv"
    argv = [f"--root={corpus_folder}", f"--output={target}"]
    assert lists.run([*argv, "--exclude_singers=ann"]) == 0
    assert {row.singer for row in manifest.read_manifest(target)} == {"ben", ""}
    (corpus_folder / "v/b.flac").unlink()
    line = harness.one_line_error(lists.run, argv, capsys)
    assert str(corpus_folder / "v/b.flac") in line
    (corpus_folder / "backing.csv").write_text("backing,split\nb/a.flac,lost\n")
    assert lists.run([*argv, "--skip_bad"]) == 0
    out = capsys.readouterr()
    assert "b/a.flac: unknown split 'lost'" in out.err and "1 songs" in out.out
    assert "; 2 left out" in out.out


def test_lists_with_a_column_or_a_file_missing(corpus_folder, capsys, tmp_path):
    (corpus_folder / "backing.csv").write_text("backing\nb/a.flac\n")
    argv = [f"--root={corpus_folder}", f"--output={tmp_path / 'm.csv'}"]
    line = harness.one_line_error(lists.run, argv, capsys)
    assert f"{corpus_folder / 'backing.csv'}: no column split" in line
    (corpus_folder / "backing.csv").unlink()
    line = harness.one_line_error(lists.run, argv, capsys)
    assert f"{corpus_folder / 'backing.csv'} does not exist" in line
    assert not (tmp_path / "m.csv").exists()


def test_names_that_are_no_utf_8_are_refused(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("earlier")
    with pytest.raises(DataError, match="no UTF-8"):
        manifest.write_manifest(path, [Row("a", "", Path("caf\udce9.wav"), None, "train")])
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]
