"""The song without a voice that was sung anew."""

import pathlib

import numpy as np
import pytest
import soundfile

from sep_tf import audio_io, audio_write, extract, subtraction
from tests import harness

RATE = harness.RATE
SONG = pathlib.Path(__file__).parent.parent / "examples" / "sakura"


def removed(mixture, voice, sizes, rate=RATE) -> np.ndarray:
    """All blocks through one Remover, cut to the mixture's length."""
    remover = subtraction.Remover(rate, mixture.shape[1])
    ends = np.cumsum(sizes)
    pairs = zip(np.split(mixture, ends), np.split(voice, ends), strict=True)
    parts = [remover.push(*pair) for pair in pairs]
    return np.concatenate([*parts, remover.finish()])[: len(mixture)]


def sdr(wanted, found) -> float:
    return 10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum())


def test_without_a_voice_nothing_changes():
    song = np.random.default_rng(0).normal(0, 0.1, (20_011, 2)).astype(np.float32)
    for sizes in ([], [1, 5000, 7], [511, 512, 513]):
        left = removed(song, np.zeros(len(song), np.float32), sizes)
        np.testing.assert_allclose(left, song, atol=1e-6)


def test_blocks_do_not_matter():
    rng = np.random.default_rng(1)
    song = rng.normal(0, 0.1, (30_000, 1)).astype(np.float32)
    voice = harness.sung(1.0, 220.0)[:30_000].astype(np.float32)
    whole = removed(song, voice, [])
    np.testing.assert_allclose(removed(song, voice, [3, 9000, 1, 12_000]), whole, atol=1e-6)


def test_a_voice_of_other_phases_is_taken_out():
    """What is left is far nearer to the music than the song is; the voice comes 1 ms late."""
    voice = harness.sung(2.0, 220.0)
    music = 0.7 * harness.band(2.0, 1)
    song = np.stack([voice + music, voice + 0.5 * music], axis=1).astype(np.float32)
    left = removed(song, np.roll(voice, 32).astype(np.float32), [10_000])
    for channel, level in ((0, 1.0), (1, 0.5)):
        before, after = (sdr(level * music, x[:, channel]) for x in (song, left))
        assert after > before + 5.0


@pytest.mark.parametrize(("rate", "out_rate"), [(44_100, 44_100), (48_000, 16_000), (8000, 8000)])
def test_lengths_and_rates(rate, out_rate, tmp_path):
    """As long as the song to the sample, and above 16 kHz the song itself, at any rate."""
    song = np.random.default_rng(2).normal(0, 0.1, (rate + 77, 2)).astype(np.float32)
    with audio_write.VoiceWriter(tmp_path / "b.wav", out_rate, "none", channels=2) as writer:
        band = subtraction.Accompaniment(writer, rate, out_rate)
        given = list(band.kept(np.array_split(song, [10, 3000])))
        np.testing.assert_array_equal(np.concatenate(given), song)
        silent = np.zeros(audio_io.resampled_length(len(song), rate, RATE) + 300, np.float32)
        for part in np.array_split(silent, 3):
            band.add(part)
        band.finish()
    left, _ = soundfile.read(tmp_path / "b.wav", dtype="float32")
    expected = np.concatenate(list(audio_io.resampled([song], rate, out_rate, 2)))
    assert left.shape == expected.shape
    np.testing.assert_allclose(left, expected, atol=1e-4)


def test_extract_writes_the_song_without_the_voice(tmp_path, capsys):
    """The bundled song with the bundled weights: the band, in stereo, is heard far better."""
    paths = [str(tmp_path / name) for name in ("voice.wav", "band.wav")]
    argv = [str(SONG / "mix.flac"), f"--output={paths[0]}", f"--accompaniment={paths[1]}"]
    argv += ["--offset=4", "--duration=9"]
    assert extract.run(argv) == 0
    mix, dry = (
        audio_io.read(SONG / f"{name}.flac", mono=False, offset=4, duration=9)[0]
        for name in ("mix", "vocals")
    )
    left, _ = soundfile.read(paths[1], always_2d=True)
    assert left.shape == mix.shape
    music = mix - dry
    assert sdr(music, left) > sdr(music, mix) + 4.0
    argv[1] = f"--output={tmp_path / 'other.wav'}"
    line = harness.one_line_error(extract.run, [*argv, "--transpose=2"], capsys)
    assert "no transpose, no formant" in line and not (tmp_path / "other.wav").exists()
