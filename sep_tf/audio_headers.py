"""Does a file hold what its header promises, no less and no more?

libsndfile shortens most formats in silence, and reads the first of joined files alone.
"""

import os
import struct
from typing import BinaryIO, NamedTuple


class _Chunks(NamedTuple):
    """How a chunked container is laid out: where chunks start, how they are named and sized."""

    first: int
    id_length: int
    size_format: str
    header_in_size: bool
    alignment: int
    data_id: bytes


_CONTAINERS = {
    b"RIFF": _Chunks(12, 4, "<I", False, 2, b"data"),
    b"RIFX": _Chunks(12, 4, ">I", False, 2, b"data"),
    b"RF64": _Chunks(12, 4, "<I", False, 2, b"data"),
    b"BW64": _Chunks(12, 4, "<I", False, 2, b"data"),
    b"FORM": _Chunks(12, 4, ">I", False, 2, b"SSND"),
    b"caff": _Chunks(8, 4, ">q", False, 1, b"data"),
    b"riff": _Chunks(40, 16, "<q", True, 8, b"data"),  # Sony Wave64
}
# Sizes that writers to a pipe leave behind: "until the end". Those of SoX and arecord, and of
# ffmpeg's Wave64, of which 24 bytes are the chunk's header, are a little below the largest number.
_OPEN_ENDED = (
    *(0, -1, 0x7FFF0000, 0x7FFFF000, 0x7FFFFF00, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF),
    *(2**63 - 1, 2**63 - 1 - 24),
)

_MP3_SEARCH = 65_536
# Whole frames behind the last that is counted are more than an encoder's own way of counting.
_MP3_JOINED = 8_192
_ID3V1 = 128
_OGG_MAX_PAGE = 27 + 255 + 255 * 255
_OGG_FIRST_PAGE, _OGG_LAST_PAGE = 2, 4


def missing(file: BinaryIO) -> str | None:
    """Says what is missing at the end of an audio file.

    Args:
      file: opened for reading, seekable; its position changes.

    Returns:
      None where nothing is missing or the format does not tell (then decoding does: FLAC, and
      MP3 with an index); otherwise a phrase such as "12 of 100 bytes of audio are missing".
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    magic = file.read(4)
    if magic in _CONTAINERS:
        return _missing_bytes(_data_chunk(file, size, _CONTAINERS[magic]), size)
    if magic == b".snd" and len(header := file.read(8)) == 8:
        return _missing_bytes(struct.unpack(">II", header), size)
    if magic == b"OggS":
        return None if _ogg_has_end(file, size) else "its last page is missing"
    index = mp3_index(file)
    # Some encoders count their tags too: what is off by less is left to the decoder to notice.
    if index and index[0] + 0.995 * index[1] > size:
        return _missing_bytes(index, size)
    return None


def joined(file: BinaryIO, index: tuple[int, int] | None) -> bool:
    """Whether another recording follows, which libsndfile does not read: `cat a.mp3 b.mp3`.

    Args:
      file: see `missing`, which found nothing missing.
      index: its `mp3_index`.
    """
    file.seek(0)
    if file.read(4) == b"OggS":
        return _ogg_begins_again(file)
    # Without one, libsndfile counts the frames and reads them all; 0 is of a killed encoder.
    if index is None or not index[1]:
        return False
    behind = _after_tags(file, sum(index))
    first, next_one = (_mp3_kind(file, position) for position in (index[0], behind))
    return first == next_one and _before_tags(file) - behind > _MP3_JOINED


def bytes_behind_no_samples(file: BinaryIO) -> int:
    """Bytes in a WAV file, or one like it, behind a header that says that there is no audio."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    layout = _CONTAINERS.get(file.read(4))
    data = _data_chunk(file, size, layout) if layout else None
    return size - data[0] if data else 0


def mp3_index(file: BinaryIO) -> tuple[int, int] | None:
    """Where an MP3 starts and how many bytes its Xing/Info header counts; None without one.

    Without it, libsndfile guesses the length from the first frame's bit rate.
    """
    file.seek(0)
    start = _id3_size(file.read(10))
    file.seek(start)
    data = file.read(_MP3_SEARCH)
    sync = data.find(b"\xff")
    while sync >= 0 and data[sync + 1 : sync + 2] < b"\xe0":
        sync = data.find(b"\xff", sync + 1)
    if sync < 0 or len(data) < sync + 56:
        return None
    mpeg1 = data[sync + 1] & 0x08
    mono = data[sync + 3] >> 6 == 3
    side_info = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    tag = sync + 4 + side_info
    if data[tag : tag + 4] not in (b"Xing", b"Info"):
        return None
    (flags,) = struct.unpack_from(">I", data, tag + 4)
    has_frames, has_bytes = flags & 1, flags & 2
    if not (has_frames and has_bytes):
        return None
    return start + sync, struct.unpack_from(">I", data, tag + 12)[0]


def _mp3_kind(file: BinaryIO, position: int) -> int:
    """What every frame of MP3 begins with: sync and layer."""
    file.seek(position)
    return int.from_bytes(file.read(2), "big") & 0xFFE6


def _after_tags(file: BinaryIO, position: int) -> int:
    """Where tags end that begin there: ID3v1 and APE of one recording, ID3v2 of the next."""
    while True:
        file.seek(position)
        head = file.read(32)
        length = _ID3V1 if head[:3] == b"TAG" else _id3_size(head) or _ape_size(head)
        if not length:
            return position
        position += length


def _before_tags(file: BinaryIO) -> int:
    """Where the tags begin that a file ends with: APE, then ID3v1."""
    position = file.seek(0, os.SEEK_END)
    file.seek(max(position - _ID3V1, 0))
    if file.read(3) == b"TAG":
        position -= _ID3V1
    file.seek(max(position - 32, 0))
    return position - _ape_size(file.read(32))


def _ape_size(mark: bytes) -> int:
    """Bytes of the APE tag that has this header or footer, 0 where it is none."""
    if len(mark) < 32 or mark[:8] != b"APETAGEX":
        return 0
    # Items and footer; 32 more where there is a header.
    length, _, flags = struct.unpack_from("<III", mark, 12)
    return length + 32 * (flags >> 31)


def _missing_bytes(data: tuple[int, int] | None, size: int) -> str | None:
    """Compares (start, length) of the audio with the size of the file."""
    if data is None or data[1] in _OPEN_ENDED or data[0] + data[1] <= size:
        return None
    lacking = min(data[0] + data[1] - size, data[1])
    return f"{lacking} of {data[1]} bytes of audio are missing"


def _data_chunk(file: BinaryIO, size: int, layout: _Chunks) -> tuple[int, int] | None:
    """Start and promised length in bytes of the chunk with the audio; None if there is none."""
    header_length = layout.id_length + struct.calcsize(layout.size_format)
    position, long_size = layout.first, None
    while position + header_length <= size:
        file.seek(position)
        header = file.read(header_length)
        (length,) = struct.unpack(layout.size_format, header[layout.id_length :])
        if layout.header_in_size:
            length -= header_length
        start = position + header_length
        if header[:4] == b"ds64":
            sizes = file.read(16)
            long_size = struct.unpack("<8xQ", sizes)[0] if len(sizes) == 16 else None
        if header[:4] == layout.data_id:
            return start, long_size if long_size is not None else length
        if length < 0:
            return None
        position = start + length + -length % layout.alignment
    return None


def _ogg_has_end(file: BinaryIO, size: int) -> bool:
    """Whether the last page is whole and marked as the end of its stream."""
    file.seek(max(0, size - 2 * _OGG_MAX_PAGE))
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27 or not tail[page + 5] & _OGG_LAST_PAGE:
        return False
    return len(tail) >= page + _ogg_page_length(tail[page:])


def _ogg_begins_again(file: BinaryIO) -> bool:
    """Whether a stream begins behind others' sound; those that begin together are one recording."""
    position, sounding = 0, False
    while True:
        file.seek(position)
        page = file.read(27 + 255)
        if len(page) < 27 or page[:4] != b"OggS":
            return False
        begins = bool(page[5] & _OGG_FIRST_PAGE)
        if begins and sounding:
            return True
        sounding = not begins
        position += _ogg_page_length(page)


def _ogg_page_length(head: bytes) -> int:
    """Bytes of a page, by its header and the table of segments behind it."""
    return 27 + head[26] + sum(head[27 : 27 + head[26]])


def _id3_size(header: bytes) -> int:
    """Bytes of the ID3v2 tag at the start of a file, 0 without one."""
    if len(header) < 10 or header[:3] != b"ID3":
        return 0
    size = 0
    for byte in header[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size
