"""audio_headers: files that hold less or more than their headers say."""

import pathlib
import struct

import numpy as np
import pytest

from sep_tf import audio_io
from sep_tf.errors import AudioError
from tests.audio_files import FORMATS, tone, write

ID3V1 = b"TAG" + bytes(125)
# An item of 100 kB, which may hold whatever there is.
PICTURE = np.random.default_rng(0).bytes(100_000)
APE = struct.pack("<8sIIIIQ", b"APETAGEX", 2000, len(PICTURE) + 32, 1, 0, 0)


@pytest.mark.parametrize(
    "name, between",
    [("ogg", b""), ("opus", b""), ("mp3", b""), ("mp3", ID3V1), ("mp3", b"ID3\4\0\0\0\0\0\0")],
)
def test_joined_files_are_not_their_first(tmp_path, name, between):
    """`cat a.ogg b.ogg > c.ogg`: players give both, libsndfile the first."""
    extension, subtype, rate, _ = FORMATS[name]
    parts = [tmp_path / f"{part}{extension}" for part in "abc"]
    rng = np.random.default_rng(0)
    for part, count in zip(parts, (50_000, 70_000), strict=False):
        noise = 0.1 * rng.standard_normal((count, 1))
        assert len(audio_io.read(write(part, noise, rate, subtype))[0]) == count
    one, other = (part.read_bytes() for part in parts[:2])
    for joined in (one + between + other, one + between + one + between):
        parts[2].write_bytes(joined)
        with pytest.raises(AudioError, match="several recordings, join them: ffmpeg"):
            audio_io.probe(parts[2])


def test_two_streams_beside_each_other_are_one_recording(tmp_path):
    """An Ogg file with the pages of another stream among those that are read."""
    first, other = (
        pathlib.Path(write(tmp_path / f"{name}.ogg", tone(1_000, 48_000), 48_000, subtype))
        for name, subtype in (("a", "VORBIS"), ("b", "OPUS"))
    )
    data, beside = first.read_bytes(), other.read_bytes()
    (first_end, second_end), last = (
        (x.find(b"OggS", 1) for x in (data, beside)),
        data.rfind(b"OggS"),
    )
    pages = data[:first_end], beside[:second_end], data[first_end:last], beside[second_end:]
    first.write_bytes(b"".join(pages) + data[last:])
    assert audio_io.probe(first).frames == 1_000


def test_tags_behind_an_mp3_are_no_recording(tmp_path):
    path = tmp_path / "a.mp3"
    write(path, tone(50_000))
    data = path.read_bytes()
    # Without a header, and with one.
    for tag in (PICTURE + APE, APE[:20] + b"\0\0\0\xa0" + APE[24:] + PICTURE + APE):
        path.write_bytes(data + tag + ID3V1)
        assert len(audio_io.read(path)[0]) == 50_000


@pytest.mark.parametrize("counted", ["all but the first frame", "nothing"])
def test_what_an_encoder_counts_of_its_frames_is_its_own_matter(tmp_path, counted):
    """The frame that says it is left out by some, and 0 is what a killed encoder leaves."""
    path = tmp_path / "a.mp3"
    write(path, 0.1 * np.random.default_rng(0).standard_normal((50_000, 1)))
    data = bytearray(path.read_bytes())
    at = max(data.find(b"Xing"), data.find(b"Info")) + 12
    (count,) = struct.unpack_from(">I", data, at)
    first_frame = data.find(data[:2], 4)
    struct.pack_into(">I", data, at, count - first_frame if counted != "nothing" else 0)
    path.write_bytes(data + PICTURE + APE)
    assert len(audio_io.read(path)[0]) == 50_000


def promising(path: pathlib.Path, size: int) -> pathlib.Path:
    """A file of 1000 samples, 2000 bytes, whose header says that so many bytes of audio follow."""
    write(path, tone(1_000), subtype="PCM_16")
    data = bytearray(path.read_bytes())
    id_length, length = (16, 8) if path.suffix == ".w64" else (4, 4)
    at = data.find(b"data") + id_length
    data[at : at + length] = size.to_bytes(length, "little")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x7FFFFF00])
def test_wav_from_a_pipe_has_no_promise(tmp_path, size):
    assert audio_io.read(promising(tmp_path / "a.wav", size))[0].shape == (1_000,)


def test_wave64_from_a_pipe_has_no_promise(tmp_path):
    assert audio_io.read(promising(tmp_path / "a.w64", 2**63 - 1))[0].shape == (1_000,)


def test_a_recording_that_was_cut_off_is_not_called_empty(tmp_path):
    path = promising(tmp_path / "a.wav", 0)
    with pytest.raises(AudioError, match="no samples by its header, but 2000 bytes, .*ffmpeg -i"):
        audio_io.probe(path)
