"""MedleyDB 1 and 2: multitracks with their raw recordings, 196 songs.

Get it: https://medleydb.weebly.com, on request; metadata: https://github.com/marl/medleydb.
Licence: CC BY-NC-SA 4.0. Layout, of each <song> of Audio/ (or V1/, V2/):

    <song>/<song>_METADATA.yaml
    <song>/<song>_MIX.wav
    <song>/<song>_STEMS/<song>_STEM_01.wav
    <song>/<song>_RAW/<song>_RAW_01_01.wav

Where the metadata come separately (version 2), put each file into its song's folder. They are read
here: mirdata's loaders list mixes with melodies and 103 single stems, no raw tracks and no bleed.

    python -m tfrecords.corpora.medleydb --root=MedleyDB --output=manifest.csv

Every raw track of a solo singer is a row: the voice as it was recorded. Its backing, made as a
file, is the sum of the stems without any voice. (The mix minus the vocal stem would keep a rest of
the voice, because stems enter the mix with gains.) Songs whose tracks bleed into each other
are left out; instrumental ones are music to pair with. The label of a singer is the artist.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfrecords.corpora import scan
from tfrecords.corpora.splits import Track

_SOLO = {"male singer", "female singer"}
# Quoted in the metadata, or not: then it is YAML's own.
_YES = ("yes", True)
# A stem with any of these has a voice in it.
_VOICES = ("singer", "vocalist", "choir", "rapper", "speaker", "screamer", "beatbox")


def tracks(root: Path, reading: scan.Scan) -> Iterator[Track]:
    """Tracks of all songs without bleed."""
    homes = [root / name for name in ("Audio", "V1", "V2") if (root / name).is_dir()] or [root]
    songs = [folder for home in homes for folder in scan.folders(home)]
    for found in reading.each(songs, lambda folder: _song(folder, reading)):
        yield from found


def _song(folder: Path, reading: scan.Scan) -> list[Track]:
    name = folder.name
    metadata = _metadata(folder / f"{name}_METADATA.yaml")
    if metadata["has_bleed"] in _YES:
        return []
    group = f"medleydb/{name}"
    if metadata["instrumental"] in _YES:
        return [Track(group, "", None, reading.audio(folder / f"{name}_MIX.wav"))]
    raw_dir, stem_dir = folder / f"{name}_RAW", folder / f"{name}_STEMS"
    voices, others = [], []
    for stem in metadata["stems"].values():
        raws = list((stem.get("raw") or {}).values())
        if not any(_is_voice(part) for part in [stem, *raws]):
            others.append(scan.Part(stem_dir / stem["filename"]))
        voices += [raw_dir / raw["filename"] for raw in raws if _instruments(raw) <= _SOLO]
    if not voices or not others:
        return []  # a choir, a rapper, or nobody but voices
    checked = [reading.audio(path) for path in voices]
    backing = reading.mixed(name, others)
    singer = f"medleydb_{metadata['artist']}"
    return [
        Track(f"{group}/{path.stem.removeprefix(f'{name}_')}", singer, path, backing, group)
        for path in checked
    ]


def _metadata(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise scan.BadFile(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise scan.BadFile(f"{path}: is not YAML") from error
    try:
        _check(values)
    except (KeyError, TypeError, AttributeError) as error:
        raise scan.BadFile(f"{path}: lacks {error}") from error
    return values


def _check(values: Any) -> None:
    """Raises KeyError, TypeError or AttributeError when an entry that is used is not there."""
    for name in ("artist", "has_bleed", "instrumental", "stems"):
        values[name]
    for stem in values["stems"].values():
        for part in [stem, *(stem.get("raw") or {}).values()]:
            if not part["filename"] or not part["instrument"]:
                raise TypeError("the file or the instrument of a stem")


def _instruments(part: dict[str, Any]) -> set[str]:
    """One instrument, or several in a list."""
    value = part["instrument"]
    return {value} if isinstance(value, str) else set(value)


def _is_voice(part: dict[str, Any]) -> bool:
    return any(voice in name for name in _instruments(part) for voice in _VOICES)


run = scan.program("medleydb", "Writes the manifest of MedleyDB: raw voices, stems.", tracks)

if __name__ == "__main__":
    sys.exit(run())
