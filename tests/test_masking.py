"""From masks to sound: the inverse STFT, the mixture's phase, chunks that leave no seam."""

import dataclasses

import numpy as np
import pytest
import soundfile

from sep_tf import audio_io, audio_write, masking, models, spectrogram
from sep_tf.config import PRESETS
from sep_tf.runtimes import ModelInfo
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


class MaskRuntime:
    """A U-Net, or any function of magnitudes, as a runtime."""

    name = "keras"

    def __init__(self, network, context: int, chunk_frames: int) -> None:
        self.info = ModelInfo("unet", {}, context, chunk_frames, alignment=16)
        self._network = network

    def __call__(self, inputs):
        return {"mask": np.asarray(self._network(inputs["magnitude"][None])[0])}


def test_chunks_of_a_song_leave_no_seam():
    """The same sound whatever the chunks, with a U-Net whose masks are far from flat."""
    config = dataclasses.replace(PRESETS["tiny"], unet_channels=(3, 3, 4))
    model = models.build("unet", config)
    harness.randomise(model)
    song = harness.sung(1.5, 220.0) + harness.band(1.5, 1)
    context = -(-model.context // 16) * 16
    found = []
    for frames in (64, 144, 512):
        blocks = np.array_split(song[:, None], [1, 7000])
        parts = list(masking.separate(MaskRuntime(model, context, frames), blocks, 1))
        found.append(np.concatenate(parts)[: len(song), 0])
    assert found[0].shape == song.shape and found[0].dtype == np.float32
    assert np.abs(found[0] - song).max() > 0.05
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5)
    # And that of the mask of the whole song at once, behind its own end as well.
    wide = np.pad(song, (0, 160 * 400))
    magnitude = spectrogram.magnitude(wide)[: 1 + len(wide) // 160 // 8 * 8 - 1]
    mask = np.asarray(model(magnitude[None, : len(magnitude) // 8 * 8]))[0, : 1 + len(song) // 160]
    inner = slice(context * 160, None)
    np.testing.assert_allclose(found[0][inner], masking.apply_mask(song, mask)[inner], atol=1e-4)


def test_channels_share_one_mask():
    song = np.stack([tone(500, 20_000), 0.5 * tone(6000, 20_000)], axis=1)

    def low_pass(magnitude):
        return np.ones_like(magnitude) * (np.arange(513) < 96)

    voice = np.concatenate(list(masking.voice(MaskRuntime(low_pass, 16, 64), [song], RATE, RATE)))
    inner = slice(1000, -1000)
    assert voice.shape == song.shape
    np.testing.assert_allclose(voice[inner, 0], song[inner, 0], atol=2e-3)
    assert np.abs(voice[inner, 1]).max() < 2e-3


@pytest.mark.parametrize("rate, out_rate", [(44_100, 44_100), (48_000, 16_000), (8_000, 8_000)])
def test_voice_and_accompaniment_are_the_song(rate, out_rate, tmp_path):
    """Whatever the mask is, in all channels, above 16 kHz too; at other rates after resampling."""
    rng = np.random.default_rng(1)
    song = rng.normal(0, 0.1, (rate * 2 + 77, 2)).astype(np.float32)

    def half(magnitude):
        return np.full_like(magnitude, 0.5)

    with audio_write.VoiceWriter(tmp_path / "b.wav", out_rate, "none", channels=2) as band:
        blocks = np.array_split(song, [10, 9000, 9001])
        parts = masking.voice(MaskRuntime(half, 16, 64), blocks, rate, out_rate, accompaniment=band)
        voice = np.concatenate(list(parts))
    accompaniment, _ = soundfile.read(tmp_path / "b.wav", dtype="float32")
    expected = np.concatenate(list(audio_io.resampled([song], rate, out_rate, 2)))
    assert voice.shape == accompaniment.shape == expected.shape
    np.testing.assert_allclose(voice + accompaniment, expected, atol=1e-5)
    if rate == 44_100:  # a quarter of the power is voice below 16 kHz, and none above
        spectrum = np.abs(np.fft.rfft(voice[:, 0])) ** 2, np.abs(np.fft.rfft(song[:, 0])) ** 2
        hz = np.fft.rfftfreq(len(song), 1 / rate)
        ratio = [spectrum[0][b].sum() / spectrum[1][b].sum() for b in (hz < 14_000, hz > 17_000)]
        assert ratio[0] == pytest.approx(0.25, rel=0.01) and ratio[1] < 1e-3


@pytest.mark.parametrize("n", [1, 100, 159, 160, 161])
def test_short_songs(n):
    song = tone(300, n)
    runtime = MaskRuntime(lambda m: np.ones_like(m), 16, 32)
    voice = np.concatenate(list(masking.voice(runtime, [song], RATE, RATE)))
    np.testing.assert_allclose(voice, song, atol=1e-5)
    assert not list(masking.voice(runtime, [], RATE, RATE))
