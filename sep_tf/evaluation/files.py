"""The output folder of an evaluation: where its files are, and whether they belong together."""

import json
import tokenize
import zipfile
from pathlib import Path

import numpy as np

from sep_tf import overwriting
from sep_tf.errors import SepTfError
from sep_tf.evaluation.scores import Score
from sep_tf.evaluation.songs import Item

AUDIO_SUFFIX = ".flac"
# Clips of a song that all systems share.
SHARED = ("mixture", "reference")
# What numpy says of a file of arrays that is cut short or something else.
DAMAGED = (
    OSError, ValueError, KeyError, EOFError, RuntimeError, tokenize.TokenError,
    zipfile.BadZipFile,
)  # fmt: skip


class Files:
    """Scores, analyses and audio of an output folder.

    `scores/SONG/SYSTEM.json` holds what is done, SYSTEM.f0.npy beside it the f0 of the voice.
    `analyses/` holds the references' WORLD analyses. `audio/SYSTEM/SONG.flac` is for listening: 16
    bit, clips of one song with one gain. Other tools can be run on `audio/mixture/*.flac`.
    """

    def __init__(self, folder: Path) -> None:
        """Names the folder, which need not exist."""
        self.folder = folder

    def audio(self, item: Item, name: str) -> Path:
        """Where a system's voice is, or the "mixture" and the "reference"."""
        return self.folder / "audio" / name / f"{item.file_name}{AUDIO_SUFFIX}"

    def f0(self, item: Item, name: str) -> Path:
        """Where the f0 of a system's voice is, as harvest hears it: [T] Hz, 0 where unvoiced."""
        return self.folder / "scores" / item.file_name / f"{name}.f0.npy"

    def analysis(self, item: Item, kind: str) -> Path:
        """Where the analysis of the reference is, "raw" or "world"."""
        return self.folder / "analyses" / f"{item.file_name}.{kind}.npz"

    def reference_f0(self, item: Item) -> np.ndarray:
        """f0 of the true voice, [T] Hz, once its song has been scored."""
        return self._f0_in(self.analysis(item, "raw"))

    def voice_f0(self, item: Item, name: str) -> np.ndarray:
        """f0 of a system's voice, as long, once it has been scored with audio."""
        return self._f0_in(self.f0(item, name))

    @staticmethod
    def _f0_in(path: Path) -> np.ndarray:
        """The f0 in a file; raises SepTfError where it is damaged, and removes it."""
        try:
            with open(path, "rb") as file:
                stored = np.load(file)
                return stored if isinstance(stored, np.ndarray) else stored["f0"]
        except DAMAGED as error:
            path.unlink(missing_ok=True)
            raise SepTfError(f"{path} was damaged; run again, it will be made anew") from error

    def can_be_heard(self, item: Item, name: str) -> bool:
        """Whether everything is there that an index.html with audio needs."""
        wanted = [self.audio(item, n) for n in (name, *SHARED)]
        return all(path.is_file() for path in (*wanted, self.f0(item, name)))

    def scores(self, item: Item, name: str, key: str) -> list[Score] | None:
        """The scores of an earlier run; None where there are none, or other things were scored."""
        try:
            stored = json.loads(self._scores(item, name).read_text(encoding="utf-8"))
            return [Score.from_dict(s) for s in stored["scores"]] if stored["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # scored anew: nothing is lost

    def forget_scores(self, item: Item, name: str) -> None:
        """Before a system is scored anew: stopped on the way, its clip would be another's."""
        self._scores(item, name).unlink(missing_ok=True)

    def keep_scores(self, item: Item, name: str, key: str, scores: list[Score]) -> None:
        """What `scores` gives in later runs."""
        text = json.dumps({"key": key, "scores": [s.to_dict() for s in scores]}, allow_nan=False)
        self._write(self._scores(item, name), text + "\n")

    def forget_shared_clips(self, item: Item, key: str) -> None:
        """Removes clips of mixture and reference that are of anything else."""
        path = self._shared_key(item)
        if not path.is_file() or path.read_text(encoding="utf-8") != key:
            for name in SHARED:
                self.audio(item, name).unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    def keep_shared_clips(self, item: Item, key: str) -> None:
        """Says what the clips of mixture and reference, which are there now, are of."""
        self._write(self._shared_key(item), key)

    def _scores(self, item: Item, name: str) -> Path:
        return self.folder / "scores" / item.file_name / f"{name}.json"

    def _shared_key(self, item: Item) -> Path:
        return self.folder / "scores" / item.file_name / "clips.key"

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with overwriting.replacing(path) as partial:
            Path(partial).write_text(text, encoding="utf-8")
