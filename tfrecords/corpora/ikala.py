"""iKala: 252 half-minutes of Chinese pop, six singers, music left and voice right.

Get it: it is no longer given out (https://mac.citi.sinica.edu.tw/ikala/); this is for those who
have it. Licence: its own, for research. Layout:

    Wavfile/<song>_{verse,chorus}.wav    stereo: music in the left channel, voice in the right
    id_mapping.txt                       columns: singer, song, separated by tabs

    python -m tfrecords.corpora.ikala --root=iKala --output=manifest.csv

Both channels are made as files. Excerpts of one song stay together.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from sep_tf.errors import DataError
from tfrecords.corpora import scan
from tfrecords.corpora.splits import Track


def tracks(root: Path, reading: scan.Scan) -> Iterator[Track]:
    """Tracks of all excerpts; raises DataError without the list of singers."""
    folder = scan.need_folder(root, "Wavfile")
    singer_of = _singers(root / "id_mapping.txt")

    def excerpt(path: Path) -> Track:
        song, _, section = path.stem.partition("_")
        if not section:
            raise scan.BadFile(f"{path}: is not named <song>_<section>")
        if song not in singer_of:
            raise scan.BadFile(f"{path}: id_mapping.txt has no singer of song {song}")
        backing, vocals = (
            reading.mixed(f"{path.stem}_{side}", [scan.Part(path, channel)])
            for channel, side in enumerate(("music", "voice"))
        )
        singer = f"ikala_{singer_of[song]}"
        return Track(f"ikala/{path.stem}", singer, vocals, backing, f"ikala/{song}")

    yield from reading.each(scan.files(folder), excerpt)


def _singers(path: Path) -> dict[str, str]:
    """Singer of each song."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text") from error
    fields = [line.split("\t") for line in lines if line.strip()]
    if any(len(field) < 2 for field in fields):
        raise DataError(f"{path}: lines are not singer and song, separated by a tab")
    return {song.strip(): singer.strip() for singer, song, *_ in fields}


run = scan.program("ikala", "Writes the manifest of iKala, its channels as files.", tracks)

if __name__ == "__main__":
    sys.exit(run())
