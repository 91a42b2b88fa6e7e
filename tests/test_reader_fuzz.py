"""Whatever a file holds, it is read or refused in one line: 2 400 damaged files of every format.

What decodes must be finite, of the promised length and channels; what does not, names the file.
"""

import random
import signal
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sep_tf import audio_io
from sep_tf.errors import AudioError
from tests.audio_files import FORMATS, tone, write

MUTATED, DRAWN = 1800, 600
HEADER = 200
# A file of 40 ms is read in milliseconds; a decoder that goes round in circles is not.
SECONDS = 2.0
# A decoder that never returns hears no exception: after so long pytest itself ends, by a signal.
HANG_SECONDS = 60
MAGIC = (
    *(b"RIFF\xff\0\0\0WAVEfmt ", b"RF64\xff\xff\xff\xffWAVEds64", b"FORM\0\0\0\xffAIFFCOMM"),
    *(b"FORM\0\0\0\xffAIFCCOMM", b"caff\0\1\0\0desc", b".snd\0\0\0\x1c", b"fLaC\0\0\0\x22"),
    *(b"OggS\0\2", b"ID3\4\0\0\0\0\0\x20", b"\xff\xfb\x90\x44", b"riff\x2e\x91\xcf\x11", b""),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A whole file of each format, by extension and name."""
    folder = tmp_path_factory.mktemp("whole")
    made = {}
    for name, (extension, subtype, rate, _) in FORMATS.items():
        path = write(folder / f"{name}{extension}", tone(1764, rate, 2), rate, subtype)
        with open(path, "rb") as file:
            made[name] = file.read()
    return made


def damaged(files: dict[str, bytes], rng: random.Random) -> tuple[str, bytes]:
    """One way of damage to one format; (extension, content)."""
    name = rng.choice(list(files))
    data = bytearray(files[name])
    kind = rng.choice(["header", "sizes", "anywhere", "cut", "insert", "splice"])
    if kind == "cut":
        del data[rng.randrange(len(data)) :]
    elif kind == "insert":
        at = rng.randrange(len(data))
        data[at:at] = rng.randbytes(rng.randint(1, HEADER))
    elif kind == "splice":
        at = rng.randrange(HEADER)
        data[at:] = files[rng.choice(list(files))][at:]
    else:
        for _ in range(rng.randint(1, 12)):
            at = rng.randrange(len(data) if kind == "anywhere" else HEADER)
            if kind == "sizes":  # what counts of bytes and samples go wrong with
                data[at : at + 4] = bytes([rng.choice([0, 1, 0x7F, 0x80, 0xFF])]) * 4
            else:
                data[at] = rng.randrange(256)
    return FORMATS[name][0], bytes(data)


def read_or_refused(path, content: bytes) -> bool:
    """Reads the file to its end; returns whether it was read, fails on anything but AudioError."""
    path.write_bytes(content)
    started = time.process_time()
    signal.alarm(HANG_SECONDS)
    try:
        info = audio_io.probe(path)
        frames = 0
        for block in audio_io.read_blocks(path):
            assert block.dtype == np.float32 and block.shape[1] == info.channels
            assert np.isfinite(block).all()
            frames += len(block)
        assert frames == info.frames and info.duration > 0
        read = True
    except AudioError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        read = False
    finally:
        signal.alarm(0)
    assert time.process_time() - started < SECONDS
    return read


def test_mutated_files(files, tmp_path):
    read = 0
    for seed in range(MUTATED):
        extension, content = damaged(files, random.Random(seed))
        try:
            read += read_or_refused(tmp_path / f"damaged{extension}", content)
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
    # Neither is everything refused, nor does everything pass.
    assert 0.2 * MUTATED < read < 0.8 * MUTATED


@settings(
    max_examples=DRAWN // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    magic=st.sampled_from(MAGIC),
    rest=st.binary(max_size=300),
    extension=st.sampled_from([".wav", ".flac", ".mp3", ".xyz", ""]),
)
def test_drawn_bytes_after_a_magic_word(tmp_path, magic, rest, extension):
    read_or_refused(tmp_path / f"drawn{extension}", magic + rest)


@settings(
    max_examples=DRAWN // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=st.sampled_from(list(FORMATS)),
    edits=st.lists(
        st.tuples(st.integers(0, HEADER - 1), st.integers(0, 255)), min_size=1, max_size=6
    ),
)
def test_drawn_headers(files, tmp_path, name, edits):
    content = bytearray(files[name])
    for at, value in edits:
        content[at] = value
    read_or_refused(tmp_path / f"drawn{FORMATS[name][0]}", bytes(content))
