"""STFT magnitude: numpy against the definition, and keras.ops against numpy."""

import numpy as np
import pytest

from sep_tf import spectrogram

RATE = 32_000
LENGTHS = (1024, 4096)


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(5).uniform(-1, 1, n).astype(np.float32)


@pytest.mark.parametrize("fft_length", LENGTHS)
def test_window_is_periodic_hann(fft_length):
    window = spectrogram.hann(fft_length)
    assert window[0] == 0 and window[fft_length // 2] == 1
    # Periodic: shifted by a half, it complements itself to one everywhere.
    np.testing.assert_allclose(window + np.roll(window, fft_length // 2), 1.0, atol=1e-6)
    with pytest.raises(ValueError):
        window[0] = 1.0


@pytest.mark.parametrize("fft_length", LENGTHS)
def test_magnitude_is_the_definition(fft_length):
    audio = noise(3000)
    found = spectrogram.magnitude(audio, fft_length)
    assert found.shape == (1 + 3000 // 160, fft_length // 2 + 1) and found.dtype == np.float32
    n = np.arange(fft_length)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / fft_length)
    for t in (0, 7, 18):
        index = 160 * t - fft_length // 2 + n
        inside = (index >= 0) & (index < 3000)
        frame = np.where(inside, audio[np.clip(index, 0, 2999)], 0.0)
        expected = np.abs(np.fft.rfft(frame * hann))
        np.testing.assert_allclose(found[t], expected, atol=1e-6 * fft_length / 2)


def test_a_sine_on_a_bin_has_half_the_windows_sum():
    t = np.arange(RATE)
    found = spectrogram.magnitude(np.sin(2 * np.pi * 64 / 1024 * t))[50]
    assert found.argmax() == 64
    assert found[64] == pytest.approx(512 / 2, rel=1e-3)


def test_blocks_do_not_show(monkeypatch):
    audio = noise(20_000)
    whole = spectrogram.magnitude(audio)
    monkeypatch.setattr(spectrogram, "_BLOCK_FRAMES", 7)
    np.testing.assert_array_equal(spectrogram.magnitude(audio), whole)


@pytest.mark.parametrize("fft_length", LENGTHS)
@pytest.mark.parametrize("n", [1, 159, 160, 4801, 16_000])
def test_keras_agrees_with_numpy(fft_length, n):
    pytest.importorskip("keras")
    audio = noise(n)
    expected = spectrogram.magnitude(audio, fft_length)
    found = np.asarray(spectrogram.magnitude_ops(audio[None], fft_length))[0]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5 * spectrogram.hann(fft_length).sum())


@pytest.mark.parametrize("fft_length", LENGTHS)
def test_keras_in_float64_agrees_far_below_a_loud_tone(fft_length):
    """Bins 100 dB below the loudest are the same to rounding: SIN reads logarithms."""
    tf = pytest.importorskip("tensorflow")
    audio = noise(16_000) * 1e-4 + np.sin(np.arange(16_000) * 0.2).astype(np.float32)
    expected = spectrogram.magnitude(audio, fft_length)
    exact = spectrogram.magnitude_ops(tf.constant(audio[None], tf.float64), fft_length)
    np.testing.assert_allclose(tf.cast(exact, tf.float32)[0], expected, rtol=1e-6, atol=1e-7)


def test_keras_on_audio_cut_with_margins():
    pytest.importorskip("keras")
    audio = noise(12_000)
    # Frames 20..40 of the song: from 512 samples before the first to 512 after the last.
    piece = audio[20 * 160 - 512 : 40 * 160 + 512]
    found = np.asarray(spectrogram.magnitude_ops(piece[None], pad=False))[0]
    np.testing.assert_allclose(found, spectrogram.magnitude(audio)[20:41], atol=1e-5 * 512)


def test_keras_takes_batches_and_has_a_gradient_in_silence():
    tf = pytest.importorskip("tensorflow")
    batch = tf.Variable(np.stack([noise(2000), np.zeros(2000, np.float32)]))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(spectrogram.magnitude_ops(batch))
    assert np.isfinite(tape.gradient(total, batch)).all()


def test_silence_is_zero():
    assert not spectrogram.magnitude(np.zeros(1000)).any()


def test_names_give_each_spectrogram_its_length():
    assert spectrogram.names() == {"magnitude": 1024, "magnitude_4096": 4096}
