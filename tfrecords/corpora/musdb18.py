"""MUSDB18 and MUSDB18-HQ: 150 songs with stems, about 10 hours.

Get it: https://doi.org/10.5281/zenodo.3338373 (HQ, wav), https://doi.org/10.5281/zenodo.1117372
(compressed stems). Licence: for education only, the songs keep licences of their own, many of them
CC BY-NC-SA. Layout of HQ, and of compressed stems, five streams in a file:

    {train,test}/<artist> - <title>/{mixture,drums,bass,other,vocals}.wav
    {train,test}/<artist> - <title>.stem.mp4

    python -m tfrecords.corpora.musdb18 --root=musdb18hq --output=manifest.csv

Compressed stems are read by the package `musdb`, which needs ffmpeg. HQ is read without either.

The vocals are mixed stems, with effects and often several voices: not the dry solo voice that the
other corpora have. The backing is the sum of the other stems, made as a file; of compressed stems
the vocals are made as a file too. Its own test folder is the test split, and no other song is;
songs of its artists in the train folder are left out. 46 of the songs are in MedleyDB too: use one
of the two.
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sep_tf import audio_io, cli
from sep_tf.errors import DataError
from tfrecords.corpora import scan
from tfrecords.corpora.splits import Track

_BACKING = ("drums", "bass", "other")
_PACKED = ".stem.mp4"
# A stream may lack samples of its last AAC frames.
_SPARE = 4096


def tracks(root: Path, reading: scan.Scan) -> Iterator[Track]:
    """Tracks of both folders, of folders and of compressed stems."""
    for part in ("train", "test"):
        folder = scan.need_folder(root, part)
        packed = sorted(folder.glob(f"*{_PACKED}"))
        split = "test" if part == "test" else None

        def song(path: Path, part: str = part, split: str | None = split) -> Track:
            name = path.name.removesuffix(_PACKED)
            artist, dash, _ = name.partition(" - ")
            if not dash:
                raise scan.BadFile(f"{path}: is not named <artist> - <title>")
            voices = _unpacked if path.name.endswith(_PACKED) else _of_folder
            vocals, backing = voices(path, f"{part}/{name}", reading)
            return Track(f"musdb18/{name}", f"musdb18_{artist}", vocals, backing, split=split)

        yield from reading.each([*scan.folders(folder), *packed], song)


def _of_folder(folder: Path, name: str, reading: scan.Scan) -> tuple[Path, Path]:
    """The vocals of a song of HQ, and its backing."""
    others = [scan.Part(folder / f"{stem}.wav") for stem in _BACKING]
    return reading.audio(folder / "vocals.wav"), reading.mixed(name, others)


def _unpacked(path: Path, name: str, reading: scan.Scan) -> tuple[Path, Path]:
    """Both of a song in compressed stems."""
    parts = {"_vocals": ("vocals",), "": _BACKING}
    return tuple(
        reading.made(name + end, [path], lambda target, stems=stems: _decode(path, stems, target))
        for end, stems in parts.items()
    )


def _decode(path: Path, stems: Sequence[str], target: Path) -> None:
    """Writes the sum of stems as mono; raises BadFile, and DataError without ffmpeg."""
    cli.require_packages("musdb")
    # musdb cannot even be imported without them.
    if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        raise DataError(f"{path}: compressed stems need ffmpeg, which is not here")
    import ffmpeg
    import musdb

    try:
        track = musdb.MultiTrack(str(path), path.name.removesuffix(_PACKED), stem_id=0)
        number_of = musdb.DB(root=str(path.parent), subsets=[]).setup["stem_ids"]
        if len(number_of) != track.info.nb_audio_streams:
            found = track.info.nb_audio_streams
            raise scan.BadFile(f"{path}: has {found} streams, not {len(number_of)}")
        parts = []
        for stem in stems:
            number = number_of[stem]
            audio = track.load_audio(str(path), number).astype(np.float32)
            audio = audio.reshape(len(audio), -1).mean(axis=1)  # a mono stream has one axis
            # What ffmpeg cannot decode is missing without a word.
            if len(audio) < track.info.samples(number) - _SPARE:
                raise scan.BadFile(f"{path}: ends within its {stem}")
            parts.append(audio)
    except FileNotFoundError as error:
        raise scan.BadFile(f"{path}: does not exist") from error
    except ffmpeg.Error as error:
        raise scan.BadFile(f"{path}: ffmpeg cannot read it") from error
    with audio_io.Writer(target, int(track.rate), 1, "FLOAT") as file:
        # Encoders end a few samples apart.
        total = max(map(len, parts))
        file.write(sum(np.pad(part, (0, total - len(part))) for part in parts))


run = scan.program("musdb18", "Writes the manifest of MUSDB18 and of MUSDB18-HQ.", tracks)

if __name__ == "__main__":
    sys.exit(run())
