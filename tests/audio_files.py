"""Tones and files of every format, for the tests of audio_io and audio_write."""

import os

import numpy as np
import soundfile

RATE = 44_100
# format -> (extension, subtype, rate, largest error of a round trip of the tone below: one step
# of the integers, or what a lossy codec does to it)
FORMATS = {
    "wav16": (".wav", "PCM_16", RATE, 2**-15),
    "wav24": (".wav", "PCM_24", RATE, 2**-23),
    "wav_float": (".wav", "FLOAT", RATE, 0.0),
    "wav_double": (".wav", "DOUBLE", RATE, 0.0),
    "wav_u8": (".wav", "PCM_U8", RATE, 2**-7),
    "flac": (".flac", "PCM_16", RATE, 2**-15),
    "ogg": (".ogg", "VORBIS", RATE, 0.02),
    "opus": (".opus", "OPUS", 48_000, 0.05),
    "mp3": (".mp3", "MPEG_LAYER_III", RATE, 0.05),
    "aiff": (".aiff", "PCM_24", RATE, 2**-23),
    "au": (".au", "PCM_16", RATE, 2**-15),
    "caf": (".caf", "FLOAT", RATE, 0.0),
    "w64": (".w64", "PCM_24", RATE, 2**-23),
    "rf64": (".rf64", "PCM_24", RATE, 2**-23),
}


def tone(n: int, rate: int = RATE, channels: int = 1) -> np.ndarray:
    t = np.arange(n) / rate
    audio = np.stack([0.3 * np.sin(2 * np.pi * 220 * (c + 1) * t) for c in range(channels)], 1)
    return audio.astype(np.float32)


def write(path, audio, rate=RATE, subtype=None):
    container = {".opus": "OGG", ".rf64": "RF64"}.get(os.path.splitext(path)[1])
    with soundfile.SoundFile(
        path, "w", rate, audio.shape[1], subtype=subtype, format=container
    ) as file:
        for start in range(0, len(audio), 16_384):
            file.write(audio[start : start + 16_384])
    return str(path)


def hidden_files(folder) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]
