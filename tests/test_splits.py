"""Splits of a corpus: shares, groups, singers, and a draw that depends on its seed alone."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecords import manifest
from tfrecords.corpora import splits
from tfrecords.corpora.splits import Options, Track


def songs(singers: int, each: int, groups: int = 0) -> list[Track]:
    return [
        Track(f"{s}/{n}", f"s{s}", "v.wav", group=f"g{(s + n) % groups}" if groups else "")
        for s in range(singers)
        for n in range(each)
    ] + [Track(f"music/{n}", "", None, "b.wav") for n in range(20)]


def test_splits_take_their_shares():
    tracks = songs(20, 10)
    split_of = splits.assign(tracks, Options())
    singers = {split: set() for split in manifest.SPLITS}
    for track in tracks[:200]:
        singers[split_of[track.song_id]].add(track.singer)
    assert len(singers["test"]) == len(singers["validation_unseen"]) == 2
    assert len(singers["train"]) == 16 and singers["validation"] <= singers["train"]
    assert not singers["train"] & (singers["test"] | singers["validation_unseen"])
    assert not singers["test"] & singers["validation_unseen"]
    counts = [list(split_of.values()).count(split) for split in manifest.SPLITS]
    # 16 of 160 songs of known singers, 20 and 20 of the others; two tracks of music of 20 each.
    assert counts == [144 + 16, 16 + 2, 20, 20 + 2]


def test_groups_are_not_parted_among_known_singers():
    tracks = songs(12, 4, groups=20)
    split_of = splits.assign(tracks, Options(validation=0.3))
    known = {"train": set(), "validation": set()}
    for track in tracks:
        if track.vocals and split_of[track.song_id] in known:
            known[split_of[track.song_id]].add(track.group)
    assert known["train"] and known["validation"] and not known["train"] & known["validation"]


@given(
    singers=st.integers(1, 12),
    each=st.integers(1, 8),
    groups=st.integers(0, 9),
    shares=st.tuples(*[st.floats(0.0, 0.5)] * 3),
    seed=st.integers(0, 1000),
)
def test_no_two_splits_share_a_song(singers, each, groups, shares, seed):
    """Every track has one split, nobody in test or validation_unseen is heard in training."""
    tracks = songs(singers, each, groups)
    split_of = splits.assign(tracks, Options(seed, *shares))
    assert set(split_of) == {track.song_id for track in tracks}
    assert set(split_of.values()) <= set(manifest.SPLITS)
    parts = {
        split: [t for t in tracks if t.vocals and split_of[t.song_id] == split]
        for split in manifest.SPLITS
    }
    known = {t.singer for t in parts["train"] + parts["validation"]}
    assert not known & {t.singer for t in parts["validation_unseen"]}
    if singers >= 3:
        assert not known & {t.singer for t in parts["test"]}
    groups_of = {split: {t.group for t in part if t.group} for split, part in parts.items()}
    assert not groups_of["train"] & groups_of["validation"]


@pytest.mark.parametrize(("singers", "each"), [(1, 20), (2, 3), (3, 1), (1, 1), (8, 2)])
def test_every_known_singer_is_in_train(singers, each):
    tracks = songs(singers, each)[: singers * each]
    split_of = splits.assign(tracks, Options(validation=0.5, test=0.4, unseen=0.4))
    found = {
        split: {t.singer for t in tracks if split_of[t.song_id] == split}
        for split in manifest.SPLITS
    }
    assert found["train"] and found["validation"] <= found["train"]
    assert not found["validation_unseen"] & found["train"]
    if each > 2:
        assert found["test"] and found["validation"]


def test_given_splits_and_shares_of_nothing():
    tracks = songs(5, 5) + [Track("given", "s1", "v.wav", split="test")]
    split_of = splits.assign(tracks, Options(validation=0.0, unseen=0.0, test=0.0))
    assert split_of.pop("given") == "test" and set(split_of.values()) == {"train"}


_DRAW = """
from tests.test_splits import songs
from tfrecords.corpora import splits
tracks = songs(9, 6, 15)
print(sorted(splits.assign(tracks[::-1], splits.Options(seed=3)).items()))
"""


def test_splits_depend_on_the_seed_alone():
    tracks = songs(9, 6, 15)
    expected = splits.assign(tracks, Options(seed=3))
    assert splits.assign(tracks, Options(seed=4)) != expected
    for seed in ("0", "77"):
        done = subprocess.run(
            [sys.executable, "-c", _DRAW],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str(sorted(expected.items()))
