"""Frame arithmetic and chunk plans."""

import numpy as np
import pytest
import pyworld
from hypothesis import given, settings
from hypothesis import strategies as st

from sep_tf import framing

quick = settings(deadline=None, max_examples=50)


@quick
@given(st.integers(0, 10**7), st.integers(1, 4096))
def test_frame_count_is_exact(n_samples, hop):
    count = framing.frame_count(n_samples, hop)
    assert (count - 1) * hop <= n_samples < count * hop


@pytest.mark.parametrize("n", [16_000, 16_001, 16_159, 16_160, 16_161])
def test_frame_count_is_that_of_world(n):
    # Below about 40 ms harvest itself fails.
    f0, _ = pyworld.harvest(np.random.default_rng(0).normal(size=n), 32_000, frame_period=5.0)
    assert framing.frame_count(n, 160) == len(f0)


def test_a_negative_length_is_refused():
    with pytest.raises(ValueError, match="-1 samples"):
        framing.frame_count(-1, 160)


@quick
@given(st.integers(0, 900), st.sampled_from([2, 16, 64]), st.integers(1, 50))
def test_frames_are_centred_on_the_hop_with_zeros_outside(n, length, hop):
    audio = np.arange(1.0, n + 1)
    frames = framing.frame_signal(audio, length, hop)
    assert frames.shape == (framing.frame_count(n, hop), length)
    for t in {0, len(frames) // 2, len(frames) - 1}:
        index = t * hop - length // 2 + np.arange(length)
        inside = (index >= 0) & (index < n)
        np.testing.assert_array_equal(frames[t], np.where(inside, index + 1.0, 0.0))


@quick
@given(
    n=st.integers(0, 3000),
    size=st.integers(1, 6),
    context=st.integers(0, 3),
    align=st.sampled_from([1, 4, 16]),
    hop=st.integers(1, 7),
    cuts=st.lists(st.integers(0, 3000), max_size=5),
)
def test_chunks_cover_every_frame_once_however_blocks_were_cut(n, size, context, align, hop, cuts):
    size, context, margin = size * align, context * align, 5
    signal = np.arange(1.0, n + 1).astype(np.float32)
    blocks = np.split(signal, sorted(min(cut, n) for cut in cuts))
    covered = np.zeros(framing.frame_count(n, hop), int)
    for chunk, samples in framing.stream_chunks(blocks, size, context, margin, hop, align):
        covered[chunk.start : chunk.stop] += 1
        assert chunk.start % align == 0
        assert chunk.last - chunk.first == size + 2 * context
        # What is kept of the chunk's own frames are the frames start..stop of the song.
        own = np.arange(chunk.first, chunk.last)[chunk.keep]
        np.testing.assert_array_equal(own, np.arange(chunk.start, chunk.stop))
        index = np.arange(chunk.first * hop - margin, (chunk.last - 1) * hop + margin)
        inside = (index >= 0) & (index < n)
        np.testing.assert_array_equal(samples, np.where(inside, index + 1.0, 0.0))
    assert (covered == 1).all()


@pytest.mark.parametrize(("size", "context"), [(100, 16), (160, 10)])
def test_chunks_off_the_grid_are_refused(size, context):
    with pytest.raises(ValueError, match="multiples of 16"):
        list(framing.stream_chunks([], size, context, 5, 160))


def test_near():
    flags = np.zeros(20, bool)
    flags[[0, 10]] = True
    expected = np.zeros(20, bool)
    expected[[0, 1, 2, 8, 9, 10, 11, 12]] = True
    np.testing.assert_array_equal(framing.near(flags, 2), expected)
    assert not framing.near(np.zeros(5, bool), 3).any()
