"""Data sets that are damaged, or are something else: what is wrong, and in which file."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from sep_tf import train
from sep_tf.errors import DataError
from tests import harness
from tfrecords import dataset, inspect, schema


@pytest.fixture
def options(monkeypatch):
    # Filling the real buffer takes longer than everything else here.
    monkeypatch.setattr(dataset, "_SHUFFLE_RECORDS", 6)
    return dataset.PhraseOptions(batch_size=3, phrase_frames=32, seed=5)


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


@pytest.mark.parametrize("family", ["train", "train_backing"])
def test_a_shard_of_another_schema_is_named(damaged, options, family):
    """Before the first batch: in the stream of all records nobody knows where one is from."""
    shard = max(damaged.glob(f"{family}-*"))
    stored = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(shard))]
    stored[0].features.feature.pop("f0")
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for example in stored:
            writer.write(example.SerializeToString())
    with pytest.raises(DataError) as error:
        dataset.phrases(damaged, options)
    assert str(damaged) in str(error.value) and f"of {shard.name}: " in str(error.value)
    assert "f0 (data type: string) is required" in str(error.value)


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
        (lambda v: v.pop("statistics"), "lacks 'statistics'"),
        (lambda v: v["statistics"].pop("mean"), "lacks 'mean'"),
        (lambda v: v["statistics"]["std"].pop(), "'std' is not 64 numbers"),
        (lambda v: v["statistics"]["voiced"].update(mean=[None] * 64), "'mean' is not 64"),
        (lambda v: v["statistics"].update(std=[float("nan")] * 64), "'std' is not 64 numbers"),
        (lambda v: v.update(statistics=None), "is damaged"),
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


@pytest.mark.parametrize(
    "values", [{"counts": None}, {"singers": 5}, {"songs": [1, 2]}, {"failed": ["nobody"]}]
)
def test_an_index_of_other_types(damaged, values):
    changed_index(damaged, lambda index: index.update(values))
    with pytest.raises(DataError, match="is damaged"):
        schema.DatasetIndex.load(damaged)


def test_no_data_set_no_split_no_music(corpus, damaged, options, tmp_path):
    with pytest.raises(DataError, match="is no data set"):
        dataset.phrases(tmp_path / "nowhere", options)
    with pytest.raises(DataError, match="has no 'test' records"):
        dataset.phrases(corpus.records, dataclasses.replace(options, split="test"))
    index = schema.DatasetIndex.load(damaged)
    alone = dataclasses.replace(index, counts={"validation": index.counts["validation"]})
    harness.write_index(alone, damaged)
    with pytest.raises(DataError, match="no music to pair 'validation' voices with"):
        dataset.phrases(damaged, dataclasses.replace(options, split="validation"))


def test_whole_songs_alone_are_paired_with_their_own_music(corpus, damaged, options):
    """Without rows of music: train has a song with a backing of its own."""
    index = schema.DatasetIndex.load(damaged)
    harness.write_index(
        dataclasses.replace(index, counts={"train": index.counts["train"]}), damaged
    )
    batch = next(iter(dataset.phrases(damaged, options)))
    assert np.isfinite(batch["magnitude"]).all()


def cut_short(folder):
    shard = max(folder.glob("train-*"), key=lambda path: path.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:-1000])
    return shard, "is truncated; build the records again"


def of_another_schema(folder):
    return changed_index(folder, lambda v: v.update(schema_version=99)), "schema version 99"


def without_a_statistic(folder):
    return changed_index(folder, lambda v: v["statistics"].pop("std")), "lacks 'std'"


def changed_index(folder, change):
    path = folder / "dataset.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("damage", [cut_short, of_another_schema, without_a_statistic])
def test_programs_say_in_one_line_what_is_wrong_and_where(damage, damaged, tmp_path, capsys):
    path, words = damage(damaged)
    argv = ["--stage=autovc", "--preset=tiny", "--steps=1", "--batch_size=2", "--phrase_frames=32"]
    argv += [f"--data_dir={damaged}", f"--model_dir={tmp_path / 'model'}"]
    # What training is about to do may have been said already.
    assert train.run(argv) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line and words in line
    line = harness.one_line_error(inspect.run, [str(damaged), "--check"], capsys)
    assert str(path) in line
