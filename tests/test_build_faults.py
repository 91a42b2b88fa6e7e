"""Builds that cannot be: which song, file or flag is to blame, and what is left behind."""

import csv
import dataclasses
import shutil

import numpy as np
import pytest
import soundfile

from sep_tf import world
from sep_tf.errors import DataError, SepTfError
from tests import harness
from tfrecords import (
    build,
    dataset,
    engine,
    exclusive,
    inspect,
    manifest,
    pipeline,
    schema,
    songs,
    versions,
)
from tfrecords.recipe import Recipe


@pytest.mark.parametrize("content", [None, b"", b"RIFF this is no audio"])
def test_a_song_that_cannot_be_read(rows, corpus, tmp_path, content):
    bad = tmp_path / "bad.wav"
    if content is not None:
        bad.write_bytes(content)
    listed = harness.few(rows, "ann-short", "band-1")
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


def test_an_analysis_that_is_not_finite_is_that_of_one_song(corpus, rows, tmp_path, monkeypatch):
    """The song fails as any other does, with its versions, and nothing is cached of it."""
    analyse, broken = world.analyse, soundfile.info(rows["ben-both"].vocals).frames

    def spoiled(audio):
        found = analyse(audio)
        if len(audio) == broken:
            found.envelope[7, 3] = np.inf
        return found

    monkeypatch.setattr(world, "analyse", spoiled)
    listed = harness.few(rows, "ann-short", "ben-both", "band-1")
    index = build.build(
        listed, tmp_path / "out", 2, tmp_path / "cache", 1, skip_bad=True, recipe=Recipe(sung=1)
    )
    assert index.failed == ("ben-both", "ben-both#sung1") and index.counts["train"] == 2
    with (tmp_path / "out.failed.csv").open(newline="") as file:
        assert list(csv.reader(file))[1:] == [
            [song, f"song '{song}': its analysis is not finite"] for song in index.failed
        ]
    assert len(list((tmp_path / "cache").iterdir())) == 1
    # What an earlier program kept of it is no analysis either.
    monkeypatch.setattr(songs, "finite", lambda features: features)
    songs.load_song(rows["ben-both"], tmp_path / "cache")
    monkeypatch.undo()
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert np.isfinite(songs.load_song(rows["ben-both"], tmp_path / "cache").features.stacked).all()


def test_a_version_that_is_not_finite(corpus, rows):
    song = songs.load_song(rows["ann-short"], corpus.cache)
    song.features.envelope[7, 3] = np.nan
    with pytest.raises(SepTfError, match="not finite"):
        versions.make(song, versions.Version("ann-short#sung1", "sung"))


def test_splits_that_share_a_recording_or_a_singer(rows, tmp_path):
    """Under whatever name; a singer of validation_unseen may have no training voice."""
    voice = rows["ann-short"]
    (tmp_path / "link.wav").symlink_to(voice.vocals)
    around = voice.vocals.parent / ".." / voice.vocals.parent.name / voice.vocals.name
    for path in (voice.vocals, tmp_path / "link.wav", around):
        other = dataclasses.replace(voice, song_id="again", vocals=path, split="test")
        with pytest.raises(DataError, match=f"{path} is in two splits: train and test"):
            manifest.check_splits([voice, other])
    music = dataclasses.replace(rows["band-1"], song_id="again", split="validation")
    with pytest.raises(DataError, match="is in two splits: train and validation"):
        manifest.check_splits([rows["band-1"], music])
    unseen = dataclasses.replace(rows["cid-valid"], singer="ann")
    with pytest.raises(DataError, match="'ann' is in train and in validation_unseen"):
        manifest.check_splits([voice, unseen])
    stranger = dataclasses.replace(rows["cid-valid"], split="validation")
    with pytest.raises(DataError, match="'cid' is in validation and not in train"):
        manifest.check_splits([voice, stranger])
    # Of singers without a name nobody knows.
    manifest.check_splits([voice, dataclasses.replace(stranger, singer="")])
    manifest.check_splits(list(rows.values()))


def test_a_folder_that_is_not_empty_is_left_alone(rows, corpus, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty"):
        build.build(harness.few(rows, "ann-short"), tmp_path / "out", 2, corpus.cache, 1)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_two_builds_into_one_folder(rows, corpus, tmp_path, monkeypatch):
    """The second says so at once and touches nothing; the first ends as if it were alone."""
    run, listed = pipeline.run, harness.few(rows, "ann-short", "band-1")
    refused = []

    def while_it_runs(*args):
        monkeypatch.setattr(pipeline, "run", run)
        with pytest.raises(DataError) as error:
            build.build(listed, tmp_path / "out", 1, corpus.cache, 1)
        refused.append(str(error.value))
        return run(*args)

    monkeypatch.setattr(pipeline, "run", while_it_runs)
    build.build(listed, tmp_path / "out", 1, corpus.cache, 1)
    assert refused == [f"another process is writing {tmp_path / 'out'}.partial"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert len(list(dataset.examples(tmp_path / "out", "train"))) == 1
    # One that comes when the first has just ended is told the same, and loses nothing of it.
    with exclusive.held(f"{tmp_path}/next"):
        lock = exclusive._lock

        def late(descriptor):
            (tmp_path / "next").rename(tmp_path / "ended")
            return lock(descriptor) or True

        monkeypatch.setattr(exclusive, "_lock", late)
        with pytest.raises(DataError, match="another process"):
            with exclusive.held(f"{tmp_path}/next"):
                pytest.fail("held a folder that has another name now")


def test_no_audible_training_voice(rows, corpus, tmp_path):
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(16_000), harness.RATE)
    quiet = dataclasses.replace(rows["ann-short"], vocals=silent)
    with pytest.raises(DataError, match="no audible vocal frame"):
        build.build([quiet, rows["band-1"]], tmp_path / "out", 1, None, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["silent.wav"]


@pytest.mark.parametrize("below", ["", "below/it"])
def test_an_output_folder_that_cannot_be(corpus, manifest_file, tmp_path, capsys, below):
    taken = tmp_path / "taken"
    taken.write_text("a file")
    folder = taken / below if below else taken
    argv = [f"--manifest={manifest_file}", f"--output_dir={folder}", f"--cache_dir={corpus.cache}"]
    assert str(folder) in harness.one_line_error(build.run, argv, capsys)
    assert taken.read_text() == "a file" and list(tmp_path.iterdir()) == [taken]


_FLINK = ["--flink_master=host:8081", "--environment_type=DOCKER", "--environment_config=image"]


_SPARK = ["--spark_master_url=spark://host:7077", "--environment_type=PROCESS"]


_DATAFLOW = ["--project=p", "--region=europe-west1", "--temp_location=gs://bucket/temporary"]


_DATAFLOW += ["--setup_file=./setup.py", "--sdk_container_image=image", "--max_num_workers=40"]


@pytest.mark.parametrize(
    ("runner", "flags"),
    [
        ("FlinkRunner", _FLINK),
        ("SparkRunner", _SPARK),
        ("DataflowRunner", _DATAFLOW),
        ("PortableRunner", ["--job_endpoint=host:8099", "--environment_type=LOOPBACK"]),
    ],
)
def test_flags_of_clusters_are_known(runner, flags):
    engine.check_flags([f"--runner={runner}", *flags], build.FLAGS)
    with pytest.raises(SepTfError, match="unknown flag --flink_mastre"):
        engine.check_flags([f"--runner={runner}", *flags, "--flink_mastre=host"], build.FLAGS)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--num_shrads=3", "unknown flag --num_shrads (did you mean --num_shards?)"),
        ("--runer=FlinkRunner", "unknown flag --runer (did you mean --runner?)"),
        ("extra", "unexpected argument 'extra'"),
        ("--runner FlinkRunner", "--runner names no engine: write --runner=NAME"),
        ("--runner=", "write --runner=NAME"),
        ("--runner=NoSuchRunner", "the engine cannot be loaded: "),
        ("--direct_num_workers=few", "Beam refuses its flags: argument --direct_num_workers: "),
        ("--direct_running_mode=bogus", "argument --direct_running_mode: invalid choice: 'bogus'"),
        ("--runner=no.such.Runner", "the engine cannot be loaded: "),
    ],
)
def test_flags_that_neither_program_nor_beam_knows(
    flag, words, corpus, manifest_file, tmp_path, capsys
):
    argv = [f"--manifest={manifest_file}", f"--output_dir={tmp_path / 'records'}", *flag.split()]
    line = harness.one_line_error(build.run, [*argv, f"--cache_dir={corpus.cache}"], capsys)
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_command_line_names_missing_audio_before_it_starts(manifest_file, tmp_path, capsys):
    lines = ["song_id,singer,vocals,backing,split", "far,ann,gs://bucket/far.wav,,train"]
    lines += [f"there,ann,{manifest_file.parent / 'ann-short.wav'},,train"]
    lines += ["both,ann,gone.wav,lost.wav,train", "music,,,band.wav,train"]
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    argv = [f"--manifest={tmp_path / 'm.csv'}", f"--output_dir={tmp_path / 'new' / 'records'}"]
    line = harness.one_line_error(build.run, argv, capsys)
    letters = tmp_path / "new" / "records.failed.csv"
    assert f"3 audio files are missing, the first is {tmp_path / 'gone.wav'}; see {letters}" in line
    with letters.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["song_id", "error"],
            ["both", f"{tmp_path / 'gone.wav'} does not exist"],
            ["both", f"{tmp_path / 'lost.wav'} does not exist"],
            ["music", f"{tmp_path / 'band.wav'} does not exist"],
        ]
    assert [p.name for p in letters.parent.iterdir()] == [letters.name]
    below = f"--output_dir={tmp_path / 'm.csv' / 'records'}"
    assert str(tmp_path / "m.csv") in harness.one_line_error(build.run, [argv[0], below], capsys)
