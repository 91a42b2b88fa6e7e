"""Records of a singer are written as often as the build's weights say."""

import collections
import dataclasses
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sep_tf.errors import DataError
from tfrecords import build, dataset, inspect, manifest, recipe, schema


@given(st.text(max_size=20), st.integers(1, 300), st.floats(0.01, 100.0))
@example("song", 100, 0.35)
def test_records_of_a_song_are_there_as_often_as_it_weighs(song_id, records, weight):
    found = [recipe.copies(song_id, number, weight) for number in range(records)]
    assert set(found) <= {int(weight), int(weight) + 1}
    assert abs(sum(found) - records * weight) <= 1.0 + 1e-6


@given(st.text(max_size=20), st.integers(0, 300), st.integers(1, 100))
def test_whole_weights_are_exact(song_id, number, weight):
    assert recipe.copies(song_id, number, weight) == weight


def test_short_songs_are_kept_as_often_as_long_ones():
    kept = sum(recipe.copies(f"song-{i}", 0, 0.25) for i in range(4000))
    assert 900 < kept < 1100


def test_the_first_pattern_counts():
    weights = recipe.Recipe(weights=(("pro_1", 2.0), ("pro_*", 4.0), ("*", 0.5)))
    rows = [manifest.Row("song", name, Path("a.wav"), None, "train")
            for name in ("pro_1", "pro_2", "ann")]  # fmt: skip
    assert [weights.weight(row) for row in rows] == [2.0, 4.0, 0.5]
    assert recipe.Recipe().weight(rows[0]) == 1.0
    for other in ({"split": "validation"}, {"vocals": None, "backing": Path("b.wav")}):
        assert weights.weight(dataclasses.replace(rows[0], **other)) == 1.0


@pytest.mark.parametrize("text", ["ann", "ann=", "=2", "ann=two", "ann=0", "ann=-1", "ann=nan",
                                  "ann=inf", "ann=101"])  # fmt: skip
def test_weights_that_are_none(text):
    with pytest.raises(DataError, match="SINGER=NUMBER"):
        recipe.read_weight(text)


def test_names_may_hold_an_equals_sign():
    assert recipe.read_weight("a=b=0.5") == ("a=b", 0.5)


def argv(corpus, folder, *weights):
    flags = [f"--weight={weight}" for weight in weights]
    return [f"--manifest={corpus.manifest}", f"--output_dir={folder}", "--num_shards=2",
            f"--cache_dir={corpus.cache}", "--workers=1", "--tuned=1", *flags]  # fmt: skip


def test_a_build_writes_them(corpus, tmp_path):
    assert build.run(argv(corpus, tmp_path / "even")) == 0
    assert build.run(argv(corpus, tmp_path / "more", "ann=3", "b*=0.5")) == 0
    even, more = (schema.DatasetIndex.load(tmp_path / name) for name in ("even", "more"))
    # Of recordings, each once.
    assert even.statistics == more.statistics and even.songs == more.songs
    assert inspect.run([str(tmp_path / "more"), "--check"]) == 0

    def found(name, family):
        """How often each record is there: by its song and its sound."""
        records = dataset.examples(tmp_path / name, family)
        return collections.Counter(
            (even.songs[int(r["song_index"])], r["vocals"].numpy() + r["backing"].numpy())
            for r in records
        )

    before, after = found("even", "train"), found("more", "train")
    assert set(before.values()) == {1}
    for (song, sound), count in before.items():
        written = after[song, sound]
        assert written == 3 * count if song.startswith("ann") else written in (0, 1)
    assert sum(after.values()) == more.counts["train"]
    for family in ("train_backing", "validation", "validation_unseen"):
        assert found("even", family) == found("more", family)


def test_a_weight_for_nobody_is_an_error(corpus, tmp_path, capsys):
    assert build.run(argv(corpus, tmp_path / "out", "anne=2")) == 1
    said = capsys.readouterr().err.strip()
    assert said.endswith("--weight=anne=...: no training singer is called so")
    assert not (tmp_path / "out").exists()
