"""What is measured: bounds, the bundled and given models, other tools' results in a folder."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sep_tf import audio_io, cli, runtimes, world
from sep_tf.errors import DataError, ModelError, SepTfError
from sep_tf.evaluation.songs import LENGTH_TOLERANCE_SECONDS, SAMPLE_RATE, Item, Song, few

if TYPE_CHECKING:
    from sep_tf.separator import Separator

BOUNDS = {
    "mixture": "the mixture itself, f0 by harvest on it",
    "world": "the true vocal analysed, coded, decoded and synthesised: the upper bound",
}
# The F0 network's other head, on the timbre of the model `sin`: Keras only.
CONTINUOUS = "f0_continuous"
PRESET = "lite"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a system says about a mixture.

    Attributes:
      audio: float [samples], the voice as written.
      f0: float [T] Hz, a contour in every frame; None if the system has none of its own, then it
        is what harvest finds in `audio`.
      voiced: bool [T], or None with f0.
    """

    audio: np.ndarray
    f0: np.ndarray | None = None
    voiced: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class System:
    """A name in the table, what it does with a song, and what its results hang on.

    Attributes:
      name: as in the table.
      estimate: called from several threads.
      identity: changes whenever the results would, for example a digest of the model.
      singer: whom it sings every song as; "" where songs decide, or where it knows no singers.
    """

    name: str
    estimate: Callable[[Song], Estimate]
    identity: Callable[[Item], str]
    singer: str = ""


def known() -> dict[str, str]:
    """Names that can be asked for, with a word on each: bounds and the bundled models."""
    names = dict(BOUNDS)
    suffix = f"-{PRESET}"
    models = [model for model in runtimes.bundled() if model.endswith(suffix)]
    for model in models:
        names[model.removesuffix(suffix)] = f"the bundled model {model}"
    names[CONTINUOUS] = "as sin, f0 by the continuous head of the F0 network (needs TensorFlow)"
    return names


# Names of columns and folders that are no system's.
_TAKEN = ("mixture", "reference", "world")


def check_name(name: str, hint: str = "") -> None:
    """Raises UsageError, with a hint, for names that no system can have: folders are called so."""
    if name in _TAKEN or name in (".", "..") or "/" in name or "\\" in name:
        raise cli.UsageError(f"a system cannot be called '{name}'{hint}")


def parse(names: Sequence[str], sin_model: str | None = None) -> dict[str, str]:
    """{name in the table: model or bound} of --systems.

    Args:
      names: "sin", a bound, or "NAME=MODEL" for any model under any name.
      sin_model: replaces the bundled model of the system sin.

    Raises:
      UsageError: an unknown name, none, or one name for two systems.
    """
    there = known()
    parsed: dict[str, str] = {}
    for text in dict.fromkeys(names):
        name, equals, model = text.partition("=")
        if equals and not (name and model):
            raise cli.UsageError(f"system '{text}' is no NAME=MODEL")
        if equals:
            check_name(name)
        if not equals and text not in there:
            raise cli.UsageError(
                f"unknown system '{text}', expected NAME=MODEL or some of: {', '.join(there)}"
            )
        if name in parsed:
            raise cli.UsageError(f"two systems are called '{name}'")
        if not equals:
            model = text if text in BOUNDS else f"{text}-{PRESET}"
            if sin_model is not None and text in ("sin", CONTINUOUS):
                model = sin_model
            elif text == CONTINUOUS:
                model = f"sin-{PRESET}"
        parsed[name] = model
    if not parsed:
        raise cli.UsageError(f"no system given, expected some of: {', '.join(there)}")
    return parsed


def build(
    parsed: dict[str, str], runtime: str, items: Sequence[Item] = (), singer: str | None = None
) -> list[System]:
    """The systems, their models loaded: weights that do not fit are to be said before the work.

    Args:
      parsed: see `parse`.
      runtime: what runs the models.
      items: the songs, whose singers a model that needs one has to know.
      singer: for every song, instead of its target singer or its own.

    Raises:
      SepTfError: a model or runtime that is not there, a singer that a model does not know.
    """
    return [_build(name, model, runtime, items, singer) for name, model in parsed.items()]


def _build(
    name: str, model: str, runtime: str, items: Sequence[Item], singer: str | None
) -> System:
    if model == "mixture":
        return System(name, lambda song: Estimate(song.mixture), lambda item: "mixture")
    if model == "world":
        return System(name, _upper_bound, lambda item: "world")
    if name == CONTINUOUS:
        return _continuous(name, model, runtime)
    info = runtimes.describe(model, runtime)
    if info.system == "autovc":
        return _converting(name, model, runtime, items, singer)
    if info.singers:
        return _singing_as(name, model, runtime, items, singer)
    separator = _loaded(model, runtime)
    return System(name, _estimator(separator), lambda item: runtimes.identity(model, runtime))


def _who(singer: str | None, item: Item) -> str:
    """Whom a song is to be sung by: by default its target singer, or its own."""
    return singer or item.target_singer or item.row.singer


def _singing_as(
    name: str, model: str, runtime: str, items: Sequence[Item], singer: str | None
) -> System:
    """SDN: sings every song as somebody it knows; one network for all of them."""
    from sep_tf.separator import Separator

    loaded = _load(model, runtime)
    estimators: dict[str, Callable[[Song], Estimate]] = {}
    for item in items:
        who = _who(singer, item)
        if who in estimators:
            continue
        separator = Separator.from_pretrained(model, runtime=runtime, singer=who)
        with _named(name, item):
            separator.use(loaded)
        estimators[who] = _estimator(separator)
    return System(
        name,
        lambda song: estimators[_who(singer, song.item)](song),
        lambda item: f"{runtimes.identity(model, runtime)} {_who(singer, item)}",
        singer or "",
    )


def _converting(
    name: str, model: str, runtime: str, items: Sequence[Item], singer: str | None
) -> System:
    """AutoVC: solo voices in the timbre of their target singers, as `sep-tf convert` makes them."""
    from sep_tf import convert

    loaded = _load(model, runtime)
    known = loaded.info.singers
    for item in items:
        if item.row.backing is not None:
            raise DataError(
                f"system {name}, song {item.row.song_id}: has music, and {model} converts solo "
                "voices: see `tfrecords.testsets --kind=convert`"
            )
        with _named(name, item):
            loaded.info.singer(_who(singer, item))

    def estimate(song: Song) -> Estimate:
        gain, own = convert.level_gain([song.voice]), song.item.row.singer
        # f0 is known from the reference: it is the same voice.
        heard = world.analyse(gain * song.voice, f0=song.features.f0 * song.features.voiced)
        source = known.index(own) if own in known else -1
        target = loaded.info.singer(_who(singer, song.item))
        converted = world.VocoderFeatures.concatenate(
            list(convert.convert(loaded, [heard], target, source))
        )
        features = convert.with_gain(converted, 1.0 / gain)
        voice = world.synthesise(features, len(song.voice))
        return Estimate(voice, features.f0, features.voiced)

    return System(
        name,
        estimate,
        lambda item: f"{runtimes.identity(model, runtime)} {_who(singer, item)}",
        singer or "",
    )


@contextlib.contextmanager
def _named(name: str, item: Item) -> Iterator[None]:
    """Says of which system and song a singer is not known."""
    try:
        yield
    except ModelError as error:
        raise ModelError(
            f"system {name}, song {item.row.song_id}: {error}; choose one by --singer"
        ) from error


def _upper_bound(song: Song) -> Estimate:
    return Estimate(song.resynthesis, song.features.f0, song.features.voiced)


def _load(model: str, runtime: str) -> runtimes.Runtime:
    cli.quiet_tensorflow()
    with cli.quiet_native_log():
        return runtimes.load(model, runtime)


def _loaded(model: str, runtime: str) -> "Separator":
    from sep_tf.separator import Separator

    separator = Separator.from_pretrained(model, runtime=runtime)
    cli.quiet_tensorflow()
    with cli.quiet_native_log():
        separator.load()
    return separator


def _estimator(separator: "Separator") -> Callable[[Song], Estimate]:
    def vocoder(song: Song) -> Estimate:
        features = separator.analyse(song.mixture, SAMPLE_RATE)
        voice = world.synthesise(features, len(song.mixture))
        return Estimate(voice, features.f0, features.voiced)

    def mask(song: Song) -> Estimate:
        return Estimate(separator.separate(song.mixture, SAMPLE_RATE))

    return mask if separator.system == "unet" else vocoder


def _continuous(name: str, model: str, runtime: str) -> System:
    """SIN sung on the contour of the continuous f0 head, which exported files leave out."""
    from sep_tf.evaluation import networks

    separator = _loaded(model, runtime)
    path = runtimes.find(model, "keras")[1]
    with cli.quiet_native_log():
        head = networks.ContinuousHead(path)

    def estimate(song: Song) -> Estimate:
        features = separator.analyse(song.mixture, SAMPLE_RATE)
        contour = head(song.mixture).astype(np.float32)
        features = dataclasses.replace(features, f0=contour)
        voice = world.synthesise(features, len(song.mixture))
        return Estimate(voice, features.f0, features.voiced)

    identity = f"{runtimes.identity(model, runtime)} continuous {runtimes.file_digest(path)}"
    return System(name, estimate, lambda item: identity)


class Folder:
    """Another tool's results: one audio file a song, of any format and rate.

    Of the evaluation's own `audio/mixture/*.flac`, whose gain is taken out again.
    Found as SONG.wav (or flac, ogg, ...), SONG.voice.wav, or SONG/vocals.wav, the layout that
    Spleeter and Demucs write.
    """

    def __init__(self, name: str, folder: str | Path) -> None:
        """Names the folder; see `check`."""
        self.name, self.folder = name, Path(folder)
        self._files: dict[str, Path] = {}

    def check(self, items: Sequence[Item]) -> list[str]:
        """Finds the file of every song.

        Returns:
          What the user should know: rates below 32 kHz, and small differences in length.

        Raises:
          DataError: no such folder; the names of songs without a file, or whose length is wrong.
        """
        if not self.folder.is_dir():
            raise DataError(f"--estimates_dir: {self.folder} is no folder")
        missing, lengths, notes = [], [], []
        for item in items:
            path = self._find(item)
            if path is None:
                missing.append(item.row.song_id)
                continue
            self._files[item.row.song_id] = path
            wrong, note = _compare(item, path)
            lengths += wrong
            notes += note
        if missing:
            raise DataError(
                f"{self.folder}: no audio of {len(missing)} of {len(items)} songs: {few(missing)}"
            )
        if lengths:
            raise DataError(f"{self.folder}: lengths differ from the songs': {few(lengths)}")
        return [f"{self.name}: {few(notes)}"] if notes else []

    def _find(self, item: Item) -> Path | None:
        from sep_tf.jobs import AUDIO_EXTENSIONS

        for song in dict.fromkeys((item.row.song_id, item.file_name)):
            for stem in (song, f"{song}.voice", f"{song}/vocals", f"{song}/{self.name}"):
                for extension in AUDIO_EXTENSIONS:
                    path = self.folder / f"{stem}{extension}"
                    if path.is_file():
                        return path
        return None

    def system(self) -> System:
        """The folder as a system; `check` comes first."""

        def identity(item: Item) -> str:
            path = self._files[item.row.song_id]
            return f"{path.resolve()} {path.stat().st_size} {path.stat().st_mtime_ns}"

        def estimate(song: Song) -> Estimate:
            path = self._files[song.item.row.song_id]
            try:
                audio, _ = audio_io.read(path, SAMPLE_RATE)
            except SepTfError as error:
                raise DataError(f"row {song.item.row.song_id}: {error}") from error
            n = len(song.mixture)
            # At the level of the clips that it was made from.
            audio = audio[:n] / song.clip_gain
            return Estimate(np.pad(audio, (0, n - len(audio))))

        return System(self.name, estimate, identity)


def _compare(item: Item, path: Path) -> tuple[list[str], list[str]]:
    """([what is wrong], [what is worth a note]) of an estimate's length and rate."""
    found, song = audio_io.probe(path), audio_io.probe(item.row.vocals)
    name, difference = item.row.song_id, found.duration - song.duration
    if abs(difference) > LENGTH_TOLERANCE_SECONDS:
        return [f"{name} ({found.duration:.3f} s instead of {song.duration:.3f} s)"], []
    notes = []
    if abs(difference) > 1.0 / SAMPLE_RATE:
        notes.append(f"{name} is {abs(difference) * 1000:.1f} ms too {_which(difference)}")
    if found.sample_rate < SAMPLE_RATE:
        notes.append(f"{name} has {found.sample_rate} Hz, nothing above half of it")
    return [], notes


def _which(difference: float) -> str:
    return "long" if difference > 0 else "short"
