"""What the corpora share: tracks found, files checked, tracks made from others, the program.

An adapter is a module with a generator `tracks(root, scan)`; `program` makes its command:

    python -m tfrecords.corpora.NAME --root=CORPUS --output=manifest.csv
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from sep_tf import audio_io, cli
from sep_tf.errors import AudioError, DataError
from sep_tf.jobs import AUDIO_EXTENSIONS
from tfrecords import manifest
from tfrecords.corpora import splits
from tfrecords.corpora.splits import Track


class BadFile(DataError):
    """A file of a corpus that is missing or not what its layout says."""


@dataclasses.dataclass(frozen=True)
class Part:
    """What goes into a track that is made: a file, or one channel of it."""

    path: Path
    channel: int | None = None


@dataclasses.dataclass
class Scan:
    """One reading of a corpus.

    Attributes:
      audio_dir: folder for tracks that have to be made.
      skip_bad: leave bad files out instead of raising.
      report: called with a line for each file that is left out.
      bad: files left out so far.
    """

    audio_dir: Path
    skip_bad: bool = False
    report: Callable[[str], None] = print
    bad: int = 0

    def audio(self, path: Path) -> Path:
        """The absolute path of an audio file whose header can be read; raises BadFile."""
        try:
            audio_io.probe(path)
        except AudioError as error:
            raise BadFile(str(error)) from error
        return path.resolve()

    def each(self, items: Sequence, make: Callable) -> Iterator:
        """What `make` returns for each item, None left out; bad files stop it or are counted."""
        for item in items:
            try:
                made = make(item)
            except BadFile as error:
                if not self.skip_bad:
                    raise BadFile(f"{error} (--skip_bad leaves bad files out)") from error
                self.bad += 1
                self.report(f"left out: {error}")
                continue
            if made is not None:
                yield made

    def mixed(self, name: str, parts: Sequence[Part]) -> Path:
        """A mono float WAV in `audio_dir`: the sum of parts, each the mean of its channels.

        Parts may differ in length; an older file is made again when a part is newer.

        Raises:
          BadFile: a part cannot be read, lacks the channel, or has another rate than the first.
        """
        sources = [self.audio(part.path) for part in parts]
        return self.made(name, sources, lambda target: _write_sum(target, parts))

    def made(self, name: str, sources: Sequence[Path], write: Callable[[Path], None]) -> Path:
        """A WAV in `audio_dir` that `write` makes, unless there is one newer than its sources."""
        target = self.audio_dir / f"{name}.wav"
        newest = max(source.stat().st_mtime for source in sources)
        if not (target.is_file() and target.stat().st_mtime >= newest):
            target.parent.mkdir(parents=True, exist_ok=True)
            write(target)
        return target.resolve()


def _write_sum(target: Path, parts: Sequence[Part]) -> None:
    infos = [audio_io.probe(part.path) for part in parts]
    rate = infos[0].sample_rate
    for part, info in zip(parts, infos, strict=True):
        if info.sample_rate != rate:
            raise BadFile(f"{part.path}: {info.sample_rate} Hz, but {parts[0].path} has {rate} Hz")
        if part.channel is not None and info.channels <= part.channel:
            raise BadFile(f"{part.path}: has {info.channels} channel, not two")
    left = max(info.frames for info in infos)
    streams = [audio_io.read_blocks(part.path, audio_io.BLOCK_FRAMES) for part in parts]
    with audio_io.Writer(target, rate, 1, "FLOAT", expected_frames=left) as file:
        while left > 0:
            total = np.zeros(min(left, audio_io.BLOCK_FRAMES), np.float32)
            for part, stream in zip(parts, streams, strict=True):
                block = _mono(part, stream)
                total[: len(block)] += block
            file.write(total)
            left -= len(total)


def _mono(part: Part, stream: Iterator[np.ndarray]) -> np.ndarray:
    """The next block of a part as mono, empty after its end."""
    try:
        block = next(stream, np.zeros((0, 1 + (part.channel or 0)), np.float32))
    except AudioError as error:
        raise BadFile(str(error)) from error
    return block.mean(axis=1) if part.channel is None else block[:, part.channel]


def files(folder: Path, recursive: bool = False) -> list[Path]:
    """Audio files of a folder (with its subfolders), sorted, hidden ones left out."""
    found = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(
        path
        for path in found
        if path.suffix.lower() in AUDIO_EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def folders(folder: Path) -> list[Path]:
    """Folders of a folder, sorted, hidden ones left out."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def unwrapped(root: Path, name: str) -> Path:
    """The folder `name` in root, which archives may be packed in, or root itself."""
    return root / name if (root / name).is_dir() else root


def need_folder(root: Path, *names: str) -> Path:
    """The first of the folders `names` in root that exists; DataError says which are expected."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root}: has no folder {' or '.join(names)}: not the layout of this corpus")


def collect(
    tracks: Callable[[Path, Scan], Iterator[Track]],
    root: Path,
    scan: Scan,
    options: splits.Options,
    exclude_singers: frozenset[str] = frozenset(),
) -> list[manifest.Row]:
    """Manifest rows of the corpus at root, sorted by song_id.

    Raises:
      DataError: root is no folder or holds no songs; a bad file, unless they are skipped.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found = [track for track in tracks(root, scan) if track.singer not in exclude_singers]
    if not found:
        raise DataError(f"{root}: no songs found: not the layout of this corpus")
    twice = [name for name, n in Counter(track.song_id for track in found).items() if n > 1]
    if twice:
        raise DataError(f"{root}: song '{min(twice)}' is there twice")
    split_of = splits.assign(found, options)
    if unused := len(found) - len(split_of):
        scan.report(f"{unused} recordings left out: test or validation_unseen has song or singer")
    return [
        manifest.Row(
            track.song_id, track.singer, track.vocals, track.backing, split_of[track.song_id]
        )
        for track in sorted(found, key=lambda track: track.song_id)
        if track.song_id in split_of
    ]


class _Adapter(cli.Program):
    """A program whose help ends with what its module says of the corpus."""

    about = ""

    def help(self) -> str:
        """The flags, then layout, source and licence."""
        return f"{super().help()}\n\n{self.about}"


def program(
    name: str, description: str, tracks: Callable[[Path, Scan], Iterator[Track]]
) -> Callable[[list[str] | None], int]:
    """The `run` of an adapter's command.

    Args:
      name: of the module.
      description: the first line of `--help`.
      tracks: the adapter's generator.
    """
    made = _Adapter(f"tfrecords.corpora.{name}", "--root=CORPUS [flags]", description)
    made.about = (tracks.__globals__["__doc__"] or "").strip()
    values = made.flags
    shares = splits.Options()
    flags.DEFINE_string("root", None, "The corpus' folder.", flag_values=values)
    flags.DEFINE_string("output", "manifest.csv", "Manifest to write.", flag_values=values)
    flags.DEFINE_bool(
        "skip_bad", False, "Leave missing and odd files out; each is named.", flag_values=values
    )
    flags.DEFINE_list("exclude_singers", [], "Singers to leave out.", flag_values=values)
    flags.DEFINE_string(
        "audio_dir",
        None,
        "Folder for tracks that have to be made, as sums of stems; default: beside the manifest.",
        flag_values=values,
    )
    flags.DEFINE_integer("seed", shares.seed, "Seed of the splits.", flag_values=values)
    for field, text in splits.SHARES.items():
        flags.DEFINE_float(field, getattr(shares, field), text, 0.0, 0.9, flag_values=values)

    def main(args: list[str]) -> int:
        made.require(args, "root", "output")
        output = Path(values.output)
        audio_dir = values.audio_dir or output.with_name(f"{output.stem}_audio")
        scan = Scan(Path(audio_dir), values.skip_bad, made.note)
        options = splits.Options(values.seed, *(values[field].value for field in splits.SHARES))
        excluded = frozenset(values.exclude_singers)
        rows = collect(tracks, Path(values.root), scan, options, excluded)
        manifest.write_manifest(output, rows)
        print(f"{output}: {len(rows)} songs{_counts(rows, scan.bad)}")
        return 0

    return lambda argv=None: made.run(main, argv)


def _counts(rows: list[manifest.Row], bad: int) -> str:
    singers = len({row.singer for row in rows if row.vocals and row.singer})
    parts = [f"{singers} singer{'' if singers == 1 else 's'}"]
    for split in manifest.SPLITS:
        parts.append(f"{split} {sum(row.split == split for row in rows)}")
    return ", " + ", ".join(parts) + (f"; {bad} left out" if bad else "")
