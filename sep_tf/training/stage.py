"""What every training stage shares: prerequisites, the data's facts, weights of frames."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from sep_tf import losses, runtimes
from sep_tf.config import PAPER_GAINS, AugmentConfig, ModelConfig, TrainConfig
from sep_tf.errors import ModelError
from sep_tf.training import averaging, settings, starting
from sep_tf.training.heard import Found
from sep_tf.training.pictures import envelopes, magnitude_db

WEIGHTS_NAME = "best.weights.h5"
# Frames without a voice teach the level only; they are many and easy.
_SILENT_WEIGHT = 0.3


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """What stages need to know of the data set: singers, feature statistics, names of songs."""

    singers: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    songs: tuple[str, ...] = ()
    # `DatasetIndex.identity`, by which other records are known; "" where nobody asks.
    identity: str = ""

    def song(self, index: int) -> str:
        """The song of a batch's `song_index`."""
        return self.songs[index] if 0 <= index < len(self.songs) else f"song {index}"


def weights_path(model_dir: Path, stage: str) -> Path:
    """Best weights of a stage."""
    return model_dir / stage / WEIGHTS_NAME


def restore(model: Any, path: Path) -> None:
    """Loads an earlier stage's weights; raises ModelError when they are another network's."""
    try:
        # Keras itself passes over layers of the file that a shallower network lacks.
        if len(averaging.read(path)) != len(model.weights):
            raise ValueError
        model.load_weights(path)
    except (ValueError, OSError, ModelError) as error:
        # Keras' own message lists every layer.
        known = settings.describe(settings.load(path.parent))
        made = f" ({known})" if known else ""
        raise ModelError(
            f"{path} was trained with another preset or other singers{made}, is of another stage "
            "or damaged"
        ) from error


def check_singers(info: "DataInfo", path: Path) -> None:
    """Raises ModelError if the weights of `path` know other singers, or in another order."""
    made = settings.load(path.parent)
    if made and made.singers not in (None, info.singers):
        others = settings.other_singers(made.singers, info.singers)
        raise ModelError(f"{path} was trained on other singers ({others})")


class Stage:
    """One stage. Subclasses set the attributes, `model` (trained) and `losses(batch, training)`.

    A stage restores the best weights of the stages in `requires` and never changes those of a
    network that it does not train, batch statistics included.
    """

    name: str
    requires: tuple[str, ...] = ()
    spectrograms: tuple[str, ...] = ("magnitude",)
    validation_split = "validation_unseen"
    # The paper has 30 phrases of 128 frames; longer ones suit the context of `lite`.
    defaults: dict[str, Any] = {}
    augment = AugmentConfig()
    # Validation mixtures stay as they are recorded: figures compare from run to run.
    validation_augment = AugmentConfig()
    # The part of the model that an earlier stage of the same name has trained, left as it is but
    # with `tune_encoder`.
    frozen: str = ""
    # Whether the network has a one-hot of singers.
    has_singers = False
    # Curves that are means over a replica's batch; everything else is a reduced loss.
    averages: frozenset[str] = frozenset()

    def __init__(
        self,
        model_config: ModelConfig,
        info: DataInfo,
        model_dir: Path,
        config: TrainConfig | None = None,
        init_from: Path | None = None,
    ) -> None:
        """Builds the networks of the stage.

        Args:
          model_config: sizes.
          info: facts of the data set.
          model_dir: where the weights of earlier stages are.
          config: settings of the stage; None for its defaults.
          init_from: weights of the same stage to start from, or of a system that has its network;
            what is frozen, and not tuned, still comes from `model_dir`, where it is there.

        Raises:
          ModelError: the weights of an earlier stage are missing, or another network's.
        """
        # Stages whose networks it uses.
        self.earlier = list(self.needed(model_config))
        # What is frozen is in checkpoints, too.
        self.resumes = any((model_dir / self.name / "checkpoints").glob("ckpt-*.index"))
        for needed in self.earlier:
            if needed != self.frozen or not (init_from or self.resumes):
                self.require(needed, model_dir)
        self.info = info
        # Of the weights it begins with: to go on from others would be another training.
        self.began_with = runtimes.file_digest(init_from) if init_from else ""
        self.config = config or TrainConfig(stage=self.name, **self.defaults)
        if self.config.augmentation == "gains":
            self.augment = self.validation_augment = PAPER_GAINS
        self.validation_split = self.config.validation_split or self.validation_split
        self.content_loss = losses.ContentLoss()
        self.create(model_config, model_dir)
        if init_from and not starting.from_system(self.model, self.name, init_from, info):
            restore(self.model, init_from)
            if self.has_singers:
                check_singers(info, init_from)
        self.weigh()
        if self.frozen:
            self._freeze(getattr(self.model, self.frozen), model_dir, init_from)
        # What is trained and what frozen, and where the weights come from, in one line.
        self.summary = self._summary(model_dir, init_from)
        # As with `began_with`, of networks that no checkpoint has.
        self.heard = {
            name: runtimes.file_digest(weights_path(model_dir, name))
            for name in self.earlier
            if name != self.frozen
        }

    @classmethod
    def needed(cls, model_config: ModelConfig) -> tuple[str, ...]:
        """Stages whose weights must be there, with networks of these sizes."""
        del model_config
        return cls.requires

    def _freeze(self, part: Any, model_dir: Path, init_from: Path | None) -> None:
        source = self._source(self.frozen, model_dir, init_from)
        if source not in (None, init_from):
            restore(part, source)
        part.trainable = self._tunes(self.frozen)

    def _source(self, earlier: str, model_dir: Path, init_from: Path | None) -> Path | None:
        """Where the weights of an earlier stage's network come from; None for a checkpoint."""
        if earlier == self.frozen and self.resumes:
            return None
        path = weights_path(model_dir, earlier)
        # What goes on learning stays with the decoder it has learned with.
        if init_from and self._tunes(earlier):
            return init_from
        return path if path.is_file() else init_from

    def _tunes(self, earlier: str) -> bool:
        return earlier == self.frozen and self.config.tune_encoder

    def _summary(self, model_dir: Path, init_from: Path | None) -> str:
        count = sum(math.prod(variable.shape) for variable in self.model.trainable_variables)
        parts = [f"{self.name}: trains {count:,} parameters"]
        if init_from:
            parts[0] += f", from {init_from}"
        for name in self.earlier:
            kept = "trained on" if self._tunes(name) else "frozen"
            source = self._source(name, model_dir, init_from) or "its checkpoint"
            parts.append(f"{name} {kept}, from {source}")
        return "; ".join(parts)

    @property
    def plain(self) -> bool:
        """Whether losses are the paper's to the letter: no weights on features or frames."""
        return self.config.feature_loss == "plain"

    def require(self, needed: str, model_dir: Path) -> None:
        """Raises ModelError, which names the command to run, unless a stage has left weights."""
        if not weights_path(model_dir, needed).is_file():
            raise ModelError(
                f"stage {self.name} needs the weights of stage {needed}: run "
                f"`sep-tf train --stage={needed}` with --model_dir={model_dir} first"
            )

    def create(self, config: ModelConfig, model_dir: Path) -> None:
        """Builds `self.model`, restoring what earlier stages learned."""
        raise NotImplementedError

    def weigh(self) -> None:
        """Makes losses that depend on the weights it starts from."""

    def losses(self, batch: dict[str, Any], training: bool) -> dict[str, Any]:
        """Scalars of a batch: `loss` to minimise, and whatever else is worth a curve."""
        raise NotImplementedError

    def pictures(self, batch: dict[str, Any], found: Found | None) -> dict[str, np.ndarray]:
        """Pictures of a few validation phrases by name: [n, T, bins], larger is brighter."""
        if found is None or found.features is None:
            return {}
        return self.mixture(batch) | envelopes(batch["features"], found.features)

    def mixture(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        """The picture of what the network hears, where that is a mixture."""
        if not self.spectrograms:
            return {}
        return {"mixture": magnitude_db(batch[self.spectrograms[0]])}

    def found(self, batch: dict[str, Any]) -> Found | None:
        """What the network says of validation phrases, to be measured and heard."""
        del batch
        return None

    def frame_weights(self, batch: dict[str, Any]) -> Any:
        """[B, T]: 1 where the voice sounds, less where it is silent; None for no weights."""
        if self.plain:
            return None
        return _SILENT_WEIGHT + (1.0 - _SILENT_WEIGHT) * batch["audible"]

    def sung_weights(self, batch: dict[str, Any]) -> Any:
        """[B, T]: 1 in voiced frames, less in consonants, least in silence; None for no weights."""
        if self.plain:
            return None
        voiced = _SILENT_WEIGHT + (1.0 - _SILENT_WEIGHT) * batch["voiced"]
        return 0.5 * (self.frame_weights(batch) + voiced)

    def one_hot(self, batch: dict[str, Any]) -> Any:
        """Singer one-hot [B, singers]; all zeros for singers that the data set does not train."""
        return ops.one_hot(batch["singer"], len(self.info.singers))
