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


@pytest.mark.parametrize("weight", [0.0, -1.0, 101.0, float("nan")])
def test_recipes_have_no_such_weights(weight):
    with pytest.raises(ValueError, match="weight of ann"):
        recipe.Recipe(weights=(("ann", weight),))


def test_a_name_is_a_name_before_it_is_a_pattern():
    weights = recipe.Recipe(weights=(("ann [1]", 2.0),))
    weights.check(["ann [1]"])
    with pytest.raises(DataError, match="no training singer"):
        weights.check(["ann"])


def test_names_may_hold_an_equals_sign():
    assert recipe.read_weight("a=b=0.5") == ("a=b", 0.5)


def argv(corpus, folder, *weights):
    """Of eight shards some are of songs alone that weights leave out."""
    return [f"--manifest={corpus.manifest}", f"--output_dir={folder}", "--num_shards=8",
            f"--cache_dir={corpus.cache}", "--workers=1", "--tuned=1",
            *(f"--weight={weight}" for weight in weights)]  # fmt: skip


def test_a_build_writes_them(corpus, tmp_path):
    assert build.run(argv(corpus, tmp_path / "even")) == 0
    assert build.run(argv(corpus, tmp_path / "more", "ann=1.5", "b*=0.5")) == 0
    even, more = (schema.DatasetIndex.load(tmp_path / name) for name in ("even", "more"))
    # Of recordings, each once.
    assert even.statistics == more.statistics and even.songs == more.songs
    # Both of one record.
    assert more.unwritten == ("ben-both", "ben-both#tuned1") and not even.unwritten
    assert inspect.run([str(tmp_path / "more"), "--check"]) == 0

    def found(name, family):
        """Sounds of the records of each song, in their order."""
        sounds = collections.defaultdict(list)
        for record in dataset.examples(tmp_path / name, family):
            song = even.songs[int(record["song_index"])]
            sounds[song].append(record["vocals"].numpy() + record["backing"].numpy())
        return sounds

    expected = {}
    for song, sounds in found("even", "train").items():
        weight = 1.5 if song.startswith("ann") else 0.5
        copies = [recipe.copies(song, number, weight) for number in range(len(sounds))]
        expected[song] = collections.Counter(dict(zip(sounds, copies, strict=True)))
    written = {song: collections.Counter(sounds) for song, sounds in found("more", "train").items()}
    assert written == {song: +counts for song, counts in expected.items() if +counts}
    assert sorted(written["ann-solo"].values()) == [1, 2]
    assert sum(map(len, found("more", "train").values())) == more.counts["train"]
    for family in ("train_backing", "validation", "validation_unseen"):
        assert found("even", family) == found("more", family)


@pytest.mark.parametrize("weights, said", [
    (["anne=2"], "--weight=anne=...: no training singer is called so"),
    (["*=0.5", "ann=2"], "--weight=ann=...: no training singer is called so, or all are weighed"),
    (["*=0.01"], "--weight leaves no training record"),
    (["ann=many"], "--weight=ann=many: not SINGER=NUMBER"),
])  # fmt: skip
def test_weights_that_cannot_be_are_an_error(weights, said, corpus, tmp_path, capsys):
    assert build.run(argv(corpus, tmp_path / "out", *weights)) == 1
    assert f"error: {said}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == []
