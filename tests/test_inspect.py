"""`sep-tf inspect`: its figures are the corpus', its checks find faults, its audio is right."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from sep_tf import world
from tests import harness
from tests.conftest import VOICES
from tfrecords import check, dataset, inspect, schema, songs


@pytest.fixture
def copy(corpus, tmp_path):
    return shutil.copytree(corpus.records, tmp_path / "records")


def test_the_figures_of_the_corpus(corpus, capsys):
    assert inspect.run([str(corpus.records), "--check"]) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert "schema 1, 9 songs, 2 singers" in out
    # Frames of a song: 1 + samples // 160.
    frames = [1 + round(200 * VOICES[s][2]) for s in ("ann-solo", "ann-short", "ben-both")]
    row = lines["train"]
    assert row[1:4] == ["4", "3", "2"]
    assert float(row[4]) == pytest.approx(sum(frames) / 720_000, abs=5e-4)
    assert [float(value.strip(",")) for value in row[6:]] == pytest.approx(
        [1.0, 1.2, 4.3], abs=0.06
    )
    assert 50 < float(row[5].strip("%")) < 100
    assert lines["train_backing"][1:4] == ["2", "2", "-"]
    assert float(lines["ann"][1]) == pytest.approx((frames[0] + frames[1]) / 720_000, abs=5e-4)
    assert lines["ann"][-2:] == ["2", "songs"] and "1 voices have their own music" in out
    index = schema.DatasetIndex.load(corpus.records)
    assert f"c0 {index.statistics.mean[0]:.2f} ({index.statistics.std[0]:.2f})" in out
    found = index.statistics
    assert f"range of c0 {found.minimum[0]:.2f} to {found.maximum[0]:.2f}" in out
    assert f"c0 of voiced frames {found.voiced.mean[0]:.2f} ({found.voiced.std[0]:.2f})" in out
    low, middle, high = (
        int(v.split(" Hz")[0].split()[-1]) for v in out.split("f0:")[1].split(",")[:3]
    )
    # Ann sings 220 and 330 Hz, Ben 140, with 0.3 semitones of vibrato.
    assert 130 < low < 145 and 210 < middle < 230 and 320 < high < 345
    assert "all 10 records are as they should be" in out


def rewrite(path, change):
    """Writes a shard again after `change` has seen the list of its parsed examples."""
    parsed = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    change(parsed)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in parsed:
            writer.write(example.SerializeToString())


def put(name, value, number=0):
    """A change of one field of one example."""

    def change(parsed):
        feature = parsed[number].features.feature[name]
        for kind in ("bytes_list", "int64_list", "float_list"):
            if feature.HasField(kind):
                old = getattr(feature, kind).value[0]
                getattr(feature, kind).value[0] = value(old) if callable(value) else value

    return change


def shard_with(folder, song):
    index = schema.DatasetIndex.load(folder)
    number = schema.shard_of(song, 2)
    for path in map(pathlib.Path, dataset.shard_files(folder)):
        if schema.parse_shard_name(path.name)[1] != number:
            continue
        for record in check.records(path):
            if index.songs[record.values["song_index"]] == song:
                return path, record.number
    raise AssertionError(song)


def nan(data, kind="<f4"):
    values = np.frombuffer(data, kind).copy()
    values[5] = np.nan
    return values.tobytes()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("frames", 801, "801 frames, not 1 to 800"),
        ("frames", 0, "0 frames"),
        ("frames", lambda n: n - 1, "samples of vocals, not"),
        ("vocals", lambda b: b[:-2], "samples of vocals, not"),
        ("vocals", lambda b: b[:-1], "vocals ends within a value"),
        ("vocals", b"", "neither vocals nor backing"),
        ("features", lambda b: b[:-4], "features ends within a frame"),
        ("features", lambda b: b[:-256], "frames of features, not"),
        ("features", nan, "features is not finite"),
        ("f0", nan, "f0 is not finite"),
        (
            "f0",
            lambda b: np.full(len(b) // 4, 2000.0, "<f4").tobytes(),
            "f0 of 2000.0 to 2000.0 Hz",
        ),
        ("f0", lambda b: np.full(len(b) // 4, 20.0, "<f4").tobytes(), "f0 of 20.0 to 20.0 Hz"),
        ("voiced", lambda b: b"\x02" * len(b), "voiced is neither 0 nor 1"),
        ("backing_db", -20.0, "a level of backing, but no backing"),
        ("vocals_db", float("nan"), "vocals_db is not finite"),
        ("song_index", 99, "song 99, but there are 9"),
        ("singer", 7, "singer 7, but there are 2"),
        ("singer", -1, "a training voice of no singer"),
        ("singer", 1, "two singers"),
    ],
)
def test_every_fault_is_found_and_placed(copy, capsys, field, value, words):
    path, number = shard_with(copy, "ann-short")
    change = put(field, value, number)
    if (field, value) == ("singer", 1):
        path, number = shard_with(copy, "ann-solo")
        change = put(field, value, number + 1)
    rewrite(path, change)
    line = harness.one_line_error(inspect.run, [f"--data_dir={copy}", "--check"], capsys)
    assert words in line and f"{path} record " in line


def test_a_record_without_sense_is_one_line_without_the_check_too(copy, capsys):
    path, number = shard_with(copy, "ann-short")
    rewrite(path, put("f0", lambda b: b[:-4], number))
    line = harness.one_line_error(inspect.run, [str(copy)], capsys)
    assert f"{path} record {number} (song 'ann-short'): " in line and " frames of f0, " in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda feature: feature.pop("f0"), "f0 (data type: string) is required"),
        (lambda feature: feature["singer"].float_list.value.append(1.0), "Key: singer."),
    ],
)
def test_a_record_of_another_schema(copy, capsys, change, words):
    path, number = shard_with(copy, "ann-short")
    rewrite(path, lambda parsed: change(parsed[number].features.feature))
    for argv in ([str(copy)], [str(copy), "--check"]):
        line = harness.one_line_error(inspect.run, argv, capsys)
        assert words in line and f"{path} record {number} is damaged: " in line
        assert "{{" not in line


def test_examples_are_no_longer_than_records(corpus, tmp_path, capsys):
    argv = [str(corpus.records), "--examples=1", f"--output_dir={tmp_path}", "--seconds=4.1"]
    assert "seconds" in harness.one_line_error(inspect.run, argv, capsys)


@pytest.mark.slow
def test_records_on_another_file_system(corpus, tmp_path, capsys):
    """The same figures and examples, from a folder and from one whose name is a pattern."""
    local = shutil.copytree(corpus.records, tmp_path / "records [1]")
    for path in local.iterdir():
        with tf.io.gfile.GFile(f"ram://inspected/records/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    said = {}
    for number, folder in enumerate((str(local), "ram://inspected/records")):
        argv = [folder, "--check", "--examples=1", f"--output_dir={tmp_path / str(number)}"]
        assert inspect.run([*argv, "--seconds=0.5"]) == 0
        said[folder] = capsys.readouterr().out.replace(folder, "").splitlines()[:-1]
        assert len(list((tmp_path / str(number)).iterdir())) == 4
    assert said[str(local)] == said["ram://inspected/records"]
    for path, words in (("ram://nowhere", "is no data set"), ("ram://inspected", "is no data set")):
        assert f"{path} {words}" in harness.one_line_error(inspect.run, [path], capsys)
    shard = "ram://inspected/records/train-00000-of-00002.tfrecord"
    tf.io.gfile.remove(shard)
    with tf.io.gfile.GFile(shard, "wb") as file:
        file.write(b"no records at all")
    line = harness.one_line_error(inspect.run, ["ram://inspected/records", "--check"], capsys)
    assert f"{shard} record 0 is damaged" in line


def test_a_song_in_two_splits(copy, capsys):
    index = schema.DatasetIndex.load(copy)
    path, number = shard_with(copy, "ann-short")
    rewrite(path, put("song_index", index.songs.index("cid-valid"), number))
    line = harness.one_line_error(inspect.run, [f"--data_dir={copy}", "--check"], capsys)
    assert "(song 'cid-valid'): the song is in train too" in line
    assert str(shard_with(copy, "cid-valid")[0].parent) in line


def test_every_bad_shard_has_its_line(copy, capsys):
    paths = [shard_with(copy, song)[0] for song in ("ann-short", "cid-valid")]
    for path in paths:
        rewrite(path, lambda parsed: put("features", nan, len(parsed) - 1)(parsed))
    paths.append(shard_with(copy, "ann-valid")[0])
    content = bytearray(paths[-1].read_bytes())
    content[200] ^= 1
    paths[-1].write_bytes(content)
    assert inspect.run([str(copy), "--check"]) == 1
    out = capsys.readouterr()
    assert out.out == "" and len(out.err.splitlines()) == 3
    assert all(any(str(path) in line for line in out.err.splitlines()) for path in paths)


def test_records_that_are_gone_or_in_the_wrong_place(copy, capsys):
    fail = [str(copy), "--check"]
    path, number = shard_with(copy, "band-1")
    rewrite(path, lambda parsed: parsed.pop(number))
    assert "dataset.json counts others" in harness.one_line_error(inspect.run, fail, capsys)
    index = schema.DatasetIndex.load(copy)
    counts = index.counts | {"train_backing": 1}
    harness.write_index(dataclasses.replace(index, counts=counts), copy)
    line = harness.one_line_error(inspect.run, fail, capsys)
    assert "no record of 1 songs, the first is 'band-1'" in line
    harness.write_index(dataclasses.replace(index, songs=("other", *index.songs[1:])), copy)
    assert "another shard" in harness.one_line_error(inspect.run, fail, capsys)
    voices, _ = shard_with(copy, "ben-both")
    shutil.copy(voices, copy / voices.name.replace("train", "train_backing"))
    assert "a voice among music" in capsys_error(fail, capsys)


def capsys_error(argv, capsys):
    capsys.readouterr()
    assert inspect.run(argv) == 1
    return capsys.readouterr().err


def test_a_song_that_lies_in_two_places(corpus, copy, capsys):
    path, _ = shard_with(copy, "ann-solo")
    names = schema.DatasetIndex.load(copy).songs

    def part(parsed) -> None:
        def of_others(example) -> bool:
            (number,) = example.features.feature["song_index"].int64_list.value
            return names[number] != "ann-solo"

        parsed.sort(key=of_others)
        assert not of_others(parsed[1]) and of_others(parsed[-1])
        parsed.append(parsed.pop(0))

    rewrite(path, part)
    line = harness.one_line_error(inspect.run, [str(copy), "--check"], capsys)
    assert "the song's records lie apart" in line and str(path) in line


@pytest.mark.slow
def test_examples_are_what_training_hears(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tfrecords.dataset._SHUFFLE_RECORDS", 6)
    target = tmp_path / "listen"
    argv = [str(corpus.records), "--examples=4", f"--output_dir={target}", "--seconds=0.8"]
    assert inspect.run(argv) == 0
    assert len(list(target.iterdir())) == 16
    sung = 0
    for number in range(4):
        heard = {}
        for name in ("mixture", "voice", "backing", "target"):
            audio, rate = soundfile.read(target / f"{number:03d}_{name}.wav", dtype="float32")
            assert rate == 32_000 and len(audio) == 159 * 160
            heard[name] = audio
        np.testing.assert_allclose(heard["mixture"], heard["voice"] + heard["backing"], atol=1e-6)
        assert np.abs(heard["mixture"]).max() > 1e-3
        voice, made = (songs.active_level_db(heard[name]) for name in ("voice", "target"))
        if voice > -60:
            # WORLD sings the same voice at the same level.
            assert made == pytest.approx(voice, abs=2.0)
            both = [np.median(f[v]) for f, v in (_pitch(heard[n]) for n in ("voice", "target"))]
            assert abs(1200 * np.log2(both[1] / both[0])) < 20
            sung += 1
    assert sung >= 2
    altered = tmp_path / "altered"
    assert inspect.run([*argv[:2], f"--output_dir={altered}", "--seconds=0.8", "--stage=sin"]) == 0
    for name in sorted(path.name for path in target.glob("*_mixture.wav")):
        plain, other = (soundfile.read(folder / name)[0] for folder in (target, altered))
        assert np.abs(plain - other).max() > 1e-3
    again = tmp_path / "again"
    assert inspect.run([*argv[:2], f"--output_dir={again}", "--seconds=0.8"]) == 0
    for path in target.iterdir():
        # Not their bytes: libsndfile writes the time into files of floats.
        np.testing.assert_array_equal(soundfile.read(path)[0], soundfile.read(again / path.name)[0])


def _pitch(audio):
    analysed = world.analyse(audio)
    return analysed.f0, analysed.voiced


def test_usage(corpus, tmp_path, capsys):
    fail = inspect.run
    assert "one folder of records" in harness.one_line_error(fail, [], capsys)
    assert "one folder" in harness.one_line_error(fail, ["a", "--data_dir=b"], capsys)
    argv = [str(corpus.records), "--examples=2"]
    assert "--output_dir" in harness.one_line_error(fail, argv, capsys)
    assert "is no data set" in harness.one_line_error(fail, [str(tmp_path)], capsys)
    shutil.copy(corpus.records / "dataset.json", tmp_path)
    assert "has no records" in harness.one_line_error(fail, [str(tmp_path)], capsys)
