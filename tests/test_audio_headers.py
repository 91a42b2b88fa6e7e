"""audio_headers: files that hold less or more than their headers say."""

import pathlib

import numpy as np
import pytest

from sep_tf import audio_io
from sep_tf.errors import AudioError
from tests.audio_files import FORMATS, tone, write


@pytest.mark.parametrize("name", ["ogg", "opus", "mp3"])
def test_joined_files_are_not_their_first(tmp_path, name):
    """`cat a.ogg b.ogg > c.ogg`: players give both, libsndfile the first."""
    extension, subtype, rate, _ = FORMATS[name]
    parts = [tmp_path / f"{part}{extension}" for part in "abc"]
    rng = np.random.default_rng(0)
    for part, count in zip(parts, (50_000, 70_000), strict=False):
        noise = 0.1 * rng.standard_normal((count, 1))
        assert len(audio_io.read(write(part, noise, rate, subtype))[0]) == count
    parts[2].write_bytes(parts[0].read_bytes() + parts[1].read_bytes())
    with pytest.raises(AudioError, match="several recordings, join them: ffmpeg"):
        audio_io.probe(parts[2])


def test_two_streams_beside_each_other_are_one_recording(tmp_path):
    """An Ogg file with the pages of another stream among those that are read."""
    first, other = (
        pathlib.Path(write(tmp_path / f"{name}.ogg", tone(1_000, 48_000), 48_000, subtype))
        for name, subtype in (("a", "VORBIS"), ("b", "OPUS"))
    )
    data, begins = first.read_bytes(), other.read_bytes()
    end = data.find(b"OggS", 1)
    first.write_bytes(data[:end] + begins[: begins.find(b"OggS", 1)] + data[end:])
    assert audio_io.probe(first).frames == 1_000


def test_tags_behind_an_mp3_are_no_recording(tmp_path):
    path = tmp_path / "a.mp3"
    write(path, tone(50_000))
    picture = np.random.default_rng(0).bytes(100_000)
    path.write_bytes(path.read_bytes() + b"APETAGEX" + bytes(24) + picture + b"TAG" + bytes(125))
    assert len(audio_io.read(path)[0]) == 50_000


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x7FFFFF00])
def test_wav_from_a_pipe_has_no_promise(tmp_path, size):
    path = tmp_path / "a.wav"
    write(path, tone(1_000), subtype="PCM_16")
    data = bytearray(path.read_bytes())
    at = data.find(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)
    assert audio_io.read(path)[0].shape == (1_000,)


def test_wave64_from_a_pipe_has_no_promise(tmp_path):
    path = tmp_path / "a.w64"
    write(path, tone(1_000), subtype="PCM_16")
    data = bytearray(path.read_bytes())
    at = data.find(b"data") + 16
    data[at : at + 8] = (2**63 - 1).to_bytes(8, "little")
    path.write_bytes(data)
    assert audio_io.read(path)[0].shape == (1_000,)


def test_a_recording_that_was_cut_off_is_not_called_empty(tmp_path):
    path = tmp_path / "a.wav"
    write(path, tone(1_000), subtype="PCM_16")
    data = bytearray(path.read_bytes())
    at = data.find(b"data") + 4
    data[at : at + 4] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(AudioError, match="no samples by its header, but 2000 bytes, .*ffmpeg -i"):
        audio_io.probe(path)
