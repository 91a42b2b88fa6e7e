"""Builds a listening test from an evaluation folder.

What participants may see is in `site/`; which clip is whose is in `key.json` beside it, which is
not for them. Clips are named by digests.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sep_tf.errors import DataError
from sep_tf.listening_test import clips, design

PAGE = Path(__file__).with_name("page")
SCHEMA = 1
# Trials of the headphone check (Woods et al. 2017).
HEADPHONE_TRIALS = 6
MIXTURE, VOICES = "mixture", ("world", "reference")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a test is like.

    Attributes:
      title: shown to participants.
      pairs: of systems to compare.
      criteria: names.
      questions: for each pair and criterion.
      identical: hidden identical pairs for each criterion.
      clip_seconds: longest clip.
      ties: whether "no difference" may be chosen; the paper's participants had to pick.
      headphone_trials: 0 leaves the check out.
      contact: whom to write to; shown on the first page.
      seed: of every draw.
    """

    title: str
    pairs: tuple[tuple[str, str], ...]
    criteria: tuple[str, ...] = tuple(design.CRITERIA)
    questions: int = 5
    identical: int = 1
    clip_seconds: float = 8.0
    ties: bool = False
    headphone_trials: int = HEADPHONE_TRIALS
    contact: str = ""
    seed: int = 1


@dataclasses.dataclass(frozen=True)
class Material:
    """What every format of a test is written from.

    Attributes:
      settings: of the test.
      design: questions and sheets.
      clips: {(signal, song): [samples]}, all equally loud.
      voice: the signal that is the reference voice.
    """

    settings: Settings
    design: design.Design
    clips: dict[tuple[str, str], np.ndarray]
    voice: str

    @property
    def identity(self) -> str:
        """Names the test: the same for the same settings and sound."""
        digest = hashlib.sha256(repr(self.settings).encode())
        for key in sorted(self.clips):
            digest.update(repr(key).encode())
            digest.update(self.clips[key].tobytes())
        return digest.hexdigest()[:16]

    def reference(self, criterion: str) -> str:
        """The signal that is heard beside the clips of a criterion."""
        wanted = design.CRITERIA[criterion].reference
        return MIXTURE if wanted == "mixture" else self.voice


def collect(evaluation: Path, settings: Settings) -> Material:
    """Draws the questions and cuts the clips.

    Raises:
      DataError: the folder is no evaluation with audio, lacks a system, or has no song of all.
    """
    audio = evaluation / "audio"
    if not audio.is_dir():
        raise DataError(f"{evaluation}: no evaluation with audio; `sep-tf evaluate` makes one")
    there = {
        path.name: {clip.stem for clip in path.glob("*.flac")}
        for path in sorted(audio.iterdir())
        if path.is_dir()
    }
    systems = list(dict.fromkeys(name for pair in settings.pairs for name in pair))
    for name in systems:
        if not there.get(name):
            others = ", ".join(n for n in there if n != "reference")
            raise DataError(
                f"{evaluation}: no audio of system '{name}', only of: {others}; choose --pairs of "
                "these, or evaluate it"
            )
    voice = next((name for name in VOICES if there.get(name)), None)
    if voice is None or not there.get(MIXTURE):
        raise DataError(f"{evaluation}: no audio of the mixtures or of the reference")
    songs = sorted(set.intersection(*(there[name] for name in [*systems, voice, MIXTURE])))
    if not songs:
        raise DataError(f"{evaluation}: no song that all of {', '.join(systems)} were run on")
    drawn = design.make(
        songs, settings.pairs, settings.criteria, settings.questions, settings.identical,
        settings.seed,
    )  # fmt: skip
    cut = clips.match(_cut(audio, drawn.questions, voice, settings))
    return Material(settings, drawn, cut, voice)


def _cut(
    audio: Path, questions: Iterable[design.Question], voice: str, settings: Settings
) -> dict[tuple[str, str], np.ndarray]:
    """The excerpts that the questions need, as they are in the evaluation."""
    wanted: dict[str, set[str]] = {}
    for q in questions:
        reference = design.CRITERIA[q.criterion].reference
        names = {q.first, q.second, MIXTURE if reference == "mixture" else voice}
        wanted.setdefault(q.song, set()).update(names)
    cut = {}
    for song, names in sorted(wanted.items()):
        start, stop = clips.excerpt(
            clips.read(audio / voice / f"{song}.flac"), settings.clip_seconds
        )
        for name in sorted(names):
            cut[name, song] = clips.read(audio / name / f"{song}.flac")[start:stop]
    return cut


def write_site(folder: Path, material: Material) -> dict[str, Any]:
    """Writes our own page, its clips and the key into a new folder; returns what is in test.js."""
    settings, identity = material.settings, material.identity
    site = folder / "site"
    (site / "clips").mkdir(parents=True)

    def name_of(*parts: object) -> str:
        text = "/".join(map(str, (identity, settings.seed, *parts)))
        return f"clips/{hashlib.sha256(text.encode()).hexdigest()[:12]}.flac"

    written: set[str] = set()

    def file(signal: str, song: str, copy: int = 0) -> str:
        path = name_of(signal, song, copy)
        if path not in written:
            clips.write(site / path, material.clips[signal, song])
            written.add(path)
        return path

    questions = {}
    for q in material.design.questions:
        # The same clip twice has two names: nobody is to see it in a network log.
        second = file(q.second, q.song, copy=1 if q.kind == design.IDENTICAL else 0)
        questions[q.identity] = {
            "criterion": q.criterion,
            # Its own copy: it may be one of the clips, which nobody is to see.
            "reference": file(material.reference(q.criterion), q.song, copy=2),
            "clips": [file(q.first, q.song), second],
        }
    trials = []
    rng = np.random.default_rng(settings.seed)
    for number in range(settings.headphone_trials):
        quietest = int(rng.integers(3))
        path = name_of("headphones", number)
        clips.write(site / path, clips.headphone_trial(quietest, settings.seed + number))
        trials.append({"clip": path, "quietest": quietest})
    test = {
        "schema": SCHEMA,
        "id": identity,
        "title": settings.title,
        "contact": settings.contact,
        "ties": settings.ties,
        "criteria": [dataclasses.asdict(design.CRITERIA[name]) for name in settings.criteria],
        "questions": questions,
        "sheets": material.design.to_dict()["sheets"],
        "headphones": trials,
    }
    for name in ("index.html", "listen.js", "sound.js", "listen.css"):
        shutil.copyfile(PAGE / name, site / name)
    text = json.dumps(test, allow_nan=False).replace("<", "\\u003c")
    (site / "test.js").write_text(f'"use strict";\nconst TEST = {text};\n', encoding="utf-8")
    return test


def write_key(folder: Path, material: Material, **more: Any) -> None:
    """Writes key.json: which question compares what; for the report, not for participants."""
    key = {
        "schema": SCHEMA,
        "id": material.identity,
        "settings": dataclasses.asdict(material.settings),
        "voice": material.voice,
        "design": material.design.to_dict(),
    } | more
    text = json.dumps(key, indent=1, allow_nan=False) + "\n"
    (folder / "key.json").write_text(text, encoding="utf-8")


def read_key(folder: Path) -> dict[str, Any]:
    """key.json of a test, its design parsed.

    Raises:
      DataError: there is none, or it was made by another version.
    """
    path = folder / "key.json"
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        if key["schema"] == SCHEMA:
            return key | {"design": design.Design.from_dict(key["design"])}
    except FileNotFoundError as error:
        raise DataError(f"{folder}: no listening test; `sep-tf listen build` makes one") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    raise DataError(f"{path}: was made by another version of sep_tf")


def parse_pairs(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """("sin-unet", ...) -> (("sin", "unet"), ...); of names with hyphens, as "a:b".

    Raises:
      DataError: no pair, one that is none, or one that is given twice.
    """
    pairs = []
    for text in texts:
        first, mark, second = text.partition(":" if ":" in text else "-")
        if not (mark and first and second) or first == second:
            raise DataError(f"--pairs: '{text}' is no pair of systems such as sin-unet or a:b")
        pairs.append((first, second))
    if not pairs or len({frozenset(pair) for pair in pairs}) < len(pairs):
        raise DataError("--pairs: a pair is given twice" if pairs else "--pairs: none is given")
    return tuple(pairs)


def new_folder(path: str) -> Path:
    """A folder that is not there yet, or is empty.

    Raises:
      DataError: it holds something: answers may be among it.
    """
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"--output_dir: {folder} exists and is not empty")
    return folder
