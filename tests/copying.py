"""A stand-in for the separator that copies its input, for the tests of `sep-tf extract`."""

import os

import numpy as np
import pytest
import soundfile

from sep_tf import audio_io, overwriting, runtimes, separator

RATE = 16_000
REAL_SEPARATOR = separator.Separator


class CopyingSeparator:
    """Writes the mean of the channels, times `scale`."""

    system = "sin"
    scale = 1.0
    fails_with: BaseException | None = None

    def __init__(self, model, runtime, f0, *, server=None, singer=None, transpose=0.0, formant=1.0):
        REAL_SEPARATOR(model, runtime, f0, singer=singer, transpose=transpose, formant=formant)

    def load(self):
        pass

    def separate_file(
        self,
        src,
        dst,
        *,
        output_rate,
        clip,
        encoding,
        offset,
        duration,
        accompaniment=None,
        features_out=None,
        f0_out=None,
        midi_out=None,
        plot=None,
        progress=None,
    ):
        info = audio_io.probe(src)
        rate = output_rate or info.sample_rate
        resampler = audio_io.Resampler(info.sample_rate, rate)
        with audio_io.VoiceWriter(dst, rate, clip, encoding) as writer:
            for block in audio_io.read_blocks(src, offset=offset, duration=duration):
                writer.write(resampler.push(self.scale * block.mean(axis=1)))
                if self.fails_with is not None:
                    raise self.fails_with
            writer.write(resampler.finish())
        if features_out:
            with overwriting.replacing(features_out) as path, open(path, "wb") as file:
                np.savez(file, f0=np.zeros(1))
        seconds = writer.frames / rate
        return separator.Result(
            input=str(src),
            output=str(dst),
            runtime="litert",
            sample_rate=rate,
            n_samples=writer.frames,
            seconds=seconds,
            elapsed=0.1,
            real_time_factor=0.1 / seconds,
            peak=writer.peak,
            gain=writer.gain,
            voiced_share=0.5,
        )


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Works in a folder with one good song, the stand-in for a separator, and a model file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(separator, "Separator", CopyingSeparator)
    monkeypatch.setattr(CopyingSeparator, "system", "sin")
    monkeypatch.setattr(CopyingSeparator, "scale", 1.0)
    monkeypatch.setattr(CopyingSeparator, "fails_with", None)
    model = tmp_path / "weights"
    model.mkdir()
    (model / "sin-lite.tflite").write_bytes(b"model")
    monkeypatch.setattr(runtimes, "PRESETS", model)
    song("song.wav")
    return tmp_path


def song(name, n=RATE, channels=1, scale=0.5, rate=RATE, subtype=None):
    os.makedirs(os.path.dirname(os.path.abspath(name)), exist_ok=True)
    audio = scale * np.sin(np.arange(n * channels) * 0.05).reshape(n, channels)
    soundfile.write(name, audio, rate, subtype=subtype)


def all_files() -> set[str]:
    return {
        os.path.relpath(os.path.join(parent, name))
        for parent, _, names in os.walk(".")
        for name in names
    }


def make_bad(kind):
    """Makes the bad file; returns its path."""
    content = {
        "empty.wav": b"",
        "text.wav": b"these are words\n" * 50,
        "text.mp3": b"these are words\n" * 50,
        "noise.flac": bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)),
        "video.mp4": b"\0\0\0\x20ftypisom" + bytes(100),
    }
    if kind in content:
        with open(kind, "wb") as file:
            file.write(content[kind])
    elif kind.startswith("truncated"):
        song(kind, 60_000)
        with open(kind, "rb") as file:
            data = file.read()
        with open(kind, "wb") as file:
            file.write(data[: len(data) // 2])
    elif kind in ("nan.wav", "inf.wav", "huge.wav"):
        audio = np.zeros(RATE)
        audio[-1] = {"nan.wav": np.nan, "inf.wav": np.inf, "huge.wav": 1e37}[kind]
        soundfile.write(kind, audio, RATE, subtype="FLOAT")
    elif kind == "channels.wav":
        soundfile.write(kind, np.zeros((100, 300)), RATE)
    elif kind == "zero_length.wav":
        soundfile.write(kind, np.zeros(0), RATE)
    elif kind == "folder_without_audio":
        os.mkdir(kind)
        with open(f"{kind}/cover.jpg", "w"):
            pass
    return kind
