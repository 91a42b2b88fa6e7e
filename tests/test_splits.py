"""Splits of a corpus: shares, groups, singers, and a draw that depends on its seed alone."""

import os
import subprocess
import sys

import pytest
from hypothesis import example, given
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


def parts_of(tracks: list[Track], split_of: dict[str, str]) -> dict[str, list[Track]]:
    """Voices of each split."""
    voices = [track for track in tracks if track.vocals and track.song_id in split_of]
    return {s: [t for t in voices if split_of[t.song_id] == s] for s in manifest.SPLITS}


def assert_no_song_is_shared(parts: dict[str, list[Track]]) -> None:
    """A song is what corpora name, whoever sings it."""
    places = {(track.group, split) for split, part in parts.items() for track in part}
    groups = [group for group, _ in places if group]
    assert len(groups) == len(set(groups)), sorted(places)


def test_a_song_that_several_sing_is_in_one_split():
    """As in NUS-48E: 12 singers, 20 songs; what is sung in test as well is left out."""
    tracks = songs(12, 4, groups=20)
    split_of = splits.assign(tracks, Options(validation=0.3))
    parts = parts_of(tracks, split_of)
    assert all(parts.values())
    assert_no_song_is_shared(parts)
    held = {track.group for track in parts["test"] + parts["validation_unseen"]}
    left_out = [track for track in tracks if track.song_id not in split_of]
    assert left_out and {track.group for track in left_out} <= held
    # Nobody is left out where nobody else sings the songs.
    assert len(splits.assign(songs(12, 4), Options())) == 12 * 4 + 20


def test_singers_who_all_sing_the_same_songs():
    """None of them can be spared: test takes songs, and train keeps others."""
    tracks = songs(5, 6, groups=6)
    split_of = splits.assign(tracks, Options())
    assert len(split_of) == len(tracks)
    parts = parts_of(tracks, split_of)
    assert_no_song_is_shared(parts)
    assert parts["train"] and parts["test"] and not parts["validation_unseen"]


@given(
    singers=st.integers(1, 12),
    each=st.integers(1, 8),
    groups=st.integers(0, 9),
    shares=st.tuples(*[st.floats(0.0, 0.5)] * 3),
    seed=st.integers(0, 1000),
)
# Two of three singers sing all four songs that there are.
@example(singers=3, each=2, groups=5, shares=(0.0, 0.0, 0.5), seed=1)
def test_no_two_splits_share_a_song(singers, each, groups, shares, seed):
    """Nobody in test or validation_unseen is heard in training, and no song of theirs is."""
    tracks = songs(singers, each, groups)
    split_of = splits.assign(tracks, Options(seed, *shares))
    assert set(split_of.values()) <= set(manifest.SPLITS)
    parts = parts_of(tracks, split_of)
    assert parts["train"]
    assert_no_song_is_shared(parts)
    known = {t.singer for t in parts["train"] + parts["validation"]}
    assert {t.singer for t in parts["validation"]} <= {t.singer for t in parts["train"]}
    assert not known & {t.singer for t in parts["validation_unseen"]}
    # So few singers for test that they cannot sing everybody's songs.
    sung = len({t.group for t in tracks if t.vocals and t.group})
    if singers >= 3 and not 0 < sung <= each * max(1, round(shares[2] * singers)):
        assert not known & {t.singer for t in parts["test"]}
    held = {t.group for t in parts["test"] + parts["validation_unseen"]}
    assert all(t.song_id in split_of or (t.group and t.group in held) for t in tracks)


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


def test_of_two_songs_one_is_for_validation():
    """Training needs it, and needs no test."""
    tracks = [Track(f"anna/{n}", "anna", "v.wav") for n in range(2)]
    tracks += [Track(f"music/{n}", "", None, "b.wav") for n in range(2)]
    split_of = splits.assign(tracks, Options())
    for part in (tracks[:2], tracks[2:]):
        assert {split_of[track.song_id] for track in part} == {"train", "validation"}


def test_shares_of_nothing():
    split_of = splits.assign(songs(5, 5), Options(validation=0.0, unseen=0.0, test=0.0))
    assert len(split_of) == 5 * 5 + 20 and set(split_of.values()) == {"train"}


@pytest.mark.parametrize("singers", [2, 8])
def test_a_test_split_that_the_corpus_gives_is_the_only_one(singers):
    """No other voice or music is drawn into it, and its singers are in no other."""
    given = [Track(name, name, "v.wav", split="test") for name in ("s1", "nobody else")]
    tracks = songs(singers, 5) + given
    split_of = splits.assign(tracks, Options())
    assert {song for song, split in split_of.items() if split == "test"} == {"s1", "nobody else"}
    assert {t.singer for t in tracks if t.song_id not in split_of} == {"s1"}
    parts = parts_of(tracks, split_of)
    assert {t.singer for t in parts["test"]} == {"s1", "nobody else"}
    assert bool(parts["validation_unseen"]) == (singers == 8) and parts["validation"]


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
