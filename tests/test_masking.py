"""From masks to sound: the inverse STFT, the mixture's phase, chunks that leave no seam."""

import dataclasses

import numpy as np
import pytest

from sep_tf import masking, models, spectrogram
from sep_tf.config import PRESETS
from tests import harness

RATE = 32_000


def tone(hz: float, n: int) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(n) / RATE).astype(np.float32)


@pytest.mark.parametrize("n", [1, 159, 160, 161, 1023, 5000])
def test_istft_inverts_stft(n):
    audio = np.random.default_rng(n).normal(0, 0.3, n).astype(np.float32)
    spectra = spectrogram.stft(audio)
    np.testing.assert_allclose(np.abs(spectra), spectrogram.magnitude(audio), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(spectrogram.istft(spectra, n), audio, atol=2e-6)


def test_istft_refuses_another_length():
    with pytest.raises(ValueError, match="5 frames do not make 1000 samples"):
        spectrogram.istft(np.zeros((5, 513), np.complex64), 1000)


def test_a_mask_takes_out_what_it_hides():
    low, high = tone(500, 16_000), tone(6000, 16_000)
    mask = np.zeros((101, 513), np.float32)
    mask[:, : 3000 * 1024 // RATE] = 1.0
    found = masking.apply_mask(low + high, mask)
    inner = slice(1000, -1000)
    assert np.abs(found - low)[inner].max() < 2e-3
    quarter = masking.apply_mask(low, np.full((101, 513), 0.25, np.float32))
    np.testing.assert_allclose(quarter, 0.25 * low, atol=1e-5)


def test_a_mask_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"mask \(100, 513\) for a mixture of 101 frames"):
        masking.apply_mask(tone(500, 16_000), np.ones((100, 513), np.float32))


def test_chunks_of_a_song_leave_no_seam():
    """The same sound whatever the chunks, with a U-Net whose masks are far from flat."""
    config = dataclasses.replace(PRESETS["tiny"], unet_channels=(3, 3, 4))
    model = models.build("unet", config)
    harness.randomise(model)
    song = harness.sung(1.5, 220.0) + harness.band(1.5, 1)
    found = [
        masking.separate(song, model, model.context, model.alignment, chunk_frames)
        for chunk_frames in (64, 136, 512)
    ]
    assert found[0].shape == song.shape and found[0].dtype == np.float32
    assert np.abs(found[0] - song).max() > 0.05
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 100])
def test_short_and_empty_songs(n):
    song = tone(300, n)
    found = masking.separate(song, lambda m: np.ones_like(m), context=8, alignment=8)
    np.testing.assert_allclose(found, song, atol=1e-5)
