"""The songs of a manifest as an evaluation takes them: mixture, true voice, who is to sing."""

import contextlib
import csv
import dataclasses
import functools
import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np

from sep_tf import audio_io, metrics, world
from sep_tf.errors import DataError, SepTfError

if TYPE_CHECKING:
    from tfrecords.manifest import Row

SAMPLE_RATE = world.AUDIO.sample_rate
# Files of one song may differ by so much: codecs and frames of other tools.
LENGTH_TOLERANCE_SECONDS = 0.05
# Clips of one song share a gain, so that they can be compared; a louder mixture is brought here.
_CLIP_PEAK = 0.7


@dataclasses.dataclass(frozen=True)
class Item:
    """A row of the manifest with what only evaluations know of.

    Attributes:
      row: the song.
      condition: songs of one condition are summed up together, for example "dry" and "wet".
      target_singer: who is to be heard in the result, for singer conversion; "" for the singer.
    """

    row: "Row"
    condition: str = ""
    target_singer: str = ""

    @property
    def file_name(self) -> str:
        """The song's name as a file name: where that is unsafe, with a digest."""
        song = self.row.song_id
        safe = re.sub(r"[^\w.-]", "_", song).lstrip(".")
        if safe == song:
            return safe
        return f"{safe}-{hashlib.sha256(song.encode()).hexdigest()[:8]}"


class Song:
    """The signals of one row; what is costly is made when it is first asked for.

    Attributes:
      item: the row.
      mixture: float32 [samples] at 32 kHz.
      voice: float32 [samples], the raw vocal as it is in the mixture.
      f0: of the true voice, [T] Hz, once it is known.
    """

    f0: np.ndarray | None = None

    def __init__(self, item: Item) -> None:
        """Reads the audio; see `load_song`."""
        self.item = item
        self.mixture, self.voice = load_song(item.row)

    def analyse(self) -> metrics.Analysis:
        """The true voice's analysis; its features, which come with it, are kept."""
        analysis, self.features = metrics.analyse_reference(self.voice)
        return analysis

    @functools.cached_property
    def features(self) -> world.VocoderFeatures:
        """Vocoder features of the true voice."""
        f0 = metrics.audible_f0(self.voice) if self.f0 is None else self.f0
        return world.analyse(self.voice, f0=f0)

    @functools.cached_property
    def resynthesis(self) -> np.ndarray:
        """The true voice analysed, coded, decoded and synthesised, [samples]."""
        return world.synthesise(self.features, len(self.voice))

    @functools.cached_property
    def clip_gain(self) -> np.float32:
        """What the clips of this song that are kept, mixture and voices, are multiplied by."""
        peak = float(np.abs(self.mixture).max(initial=0.0))
        return np.float32(min(1.0, _CLIP_PEAK / peak) if peak else 1.0)

    @functools.cached_property
    def backing_db(self) -> np.ndarray:
        """Frame levels of the backing, dBFS [T]."""
        return world.frame_level_db(self.mixture - self.voice)


def load_song(row: "Row") -> tuple[np.ndarray, np.ndarray]:
    """The mixture of a row and its true vocal, float32 [samples] each, at 32 kHz.

    The backing is cut to the vocal's length, or followed by silence where it ends earlier. A row
    without backing is a solo voice.

    Raises:
      SepTfError: vocals or backing cannot be read; the message names the row.
    """
    try:
        vocals, _ = audio_io.read(row.vocals, SAMPLE_RATE)
        reference = vocals * np.float32(row.vocals_gain)
        mixture = reference.copy()
        if row.backing is not None:
            backing, _ = audio_io.read(
                row.backing,
                SAMPLE_RATE,
                offset=row.backing_start,
                duration=len(vocals) / SAMPLE_RATE,
            )
            n = min(len(mixture), len(backing))
            mixture[:n] += backing[:n] * np.float32(row.backing_gain)
    except SepTfError as error:
        raise DataError(f"row {row.song_id}: {error}") from error
    return mixture, reference


def early_backings(items: list[Item]) -> str:
    """Names the rows whose backing ends before the vocals, which nobody asks for; "" without any.

    Files that cannot be read are passed over: they are errors when their turn comes.
    """
    found = []
    for row in (item.row for item in items):
        if row.backing is None:
            continue
        with contextlib.suppress(SepTfError):
            backing = audio_io.probe(row.backing).duration - row.backing_start
            missing = audio_io.probe(row.vocals).duration - backing
            if missing > LENGTH_TOLERANCE_SECONDS:
                found.append(f"row {row.song_id}: backing ends {missing:.1f} s before the vocals")
    return few(found)


def few(names: list[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def select(manifest: str, split: str, limit: int | None) -> list[Item]:
    """The songs to measure, their files checked for existence.

    Beside the manifest's columns, `condition` and `target_singer` are read.

    Raises:
      DataError: no row is left; a row lacks a vocal, or files are missing; the names of target
        singers of whom there is no vocal.
    """
    from tfrecords.manifest import read_manifest

    rows = read_manifest(manifest, default_split=split)
    chosen = [row for row in rows if row.split == split][:limit]
    if not chosen:
        there = ", ".join(sorted({row.split for row in rows}))
        raise DataError(f"manifest {manifest} has no row of split '{split}', only of: {there}")
    for row in chosen:
        if row.vocals is None:
            raise DataError(f"manifest {manifest}: row {row.song_id} has no vocals")
        for path in (row.vocals, row.backing):
            if path is not None and not path.is_file():
                raise DataError(f"manifest {manifest}: row {row.song_id}: no file {path}")
    more = _more_columns(manifest)
    items = [Item(row, **more.get(row.song_id, {})) for row in chosen]
    wanted = {item.target_singer for item in items} - {""}
    unknown = sorted(wanted - {row.singer for row in rows if row.vocals is not None})
    if unknown:
        raise DataError(f"manifest {manifest}: no vocals of target singer {', '.join(unknown)}")
    names = [item.file_name for item in items]
    if len(set(map(str.casefold, names))) < len(names):
        raise DataError(f"manifest {manifest}: songs whose names differ in case only")
    return items


# As the attributes of Item.
_OWN_COLUMNS = ("condition", "target_singer")


def _more_columns(manifest: str) -> dict[str, dict[str, str]]:
    """{song_id: {column: text}} of the columns that only evaluations know; the rest is sound."""
    with open(manifest, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        header = reader.fieldnames or []
        identity = next(c for c in ("song_id", "id", "song") if c in header)
        return {
            row[identity].strip(): {name: (row.get(name) or "").strip() for name in _OWN_COLUMNS}
            for row in reader
        }


# A singer's timbre from so many seconds, which is plenty for a mean.
_ENROLMENT_SECONDS = 60.0


def target_timbres(
    items: list[Item], manifest: str, split: str, singer: str = ""
) -> dict[str, np.ndarray]:
    """{singer: timbre [24]} from up to a minute of each one's vocals in the manifest.

    Args:
      items: the songs, whose target singers are wanted.
      manifest: of the songs.
      split: of rows without one.
      singer: another who is wanted, but may have no vocals there.

    Raises:
      DataError: a target singer has no voiced vocals.
    """
    from sep_tf.evaluation import measures
    from tfrecords.manifest import read_manifest

    targets = {item.target_singer for item in items} - {""}
    wanted = sorted(targets | ({singer} - {""}))
    if not wanted:
        return {}
    rows = read_manifest(manifest, default_split=split)
    timbres = {}
    for who in wanted:
        parts, seconds = [], 0.0
        for row in rows:
            if row.singer == who and row.vocals is not None and seconds < _ENROLMENT_SECONDS:
                left = _ENROLMENT_SECONDS - seconds
                voice, _ = audio_io.read(row.vocals, SAMPLE_RATE, duration=left)
                analysis = metrics.analyse_voice(voice)
                if analysis.voiced.any():
                    parts.append((measures.timbre(analysis), int(analysis.voiced.sum())))
                seconds += len(voice) / SAMPLE_RATE
        if parts:
            vectors, counts = zip(*parts, strict=True)
            timbres[who] = np.average(vectors, axis=0, weights=counts)
        elif who in targets:
            raise DataError(f"manifest {manifest}: no voiced vocals of target singer {who}")
    return timbres
