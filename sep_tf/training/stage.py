"""What every training stage shares: prerequisites, the data's facts, weights of frames."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from sep_tf import losses
from sep_tf.config import AugmentConfig, ModelConfig, TrainConfig
from sep_tf.errors import ModelError

WEIGHTS_NAME = "best.weights.h5"
# Frames without a voice teach the level only; they are many and easy.
_SILENT_WEIGHT = 0.2


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """What stages need to know of the data set: singers, feature statistics, names of songs."""

    singers: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    songs: tuple[str, ...] = ()

    def song(self, index: int) -> str:
        """The song of a batch's `song_index`."""
        return self.songs[index] if 0 <= index < len(self.songs) else f"song {index}"


def weights_path(model_dir: Path, stage: str) -> Path:
    """Best weights of a stage."""
    return model_dir / stage / WEIGHTS_NAME


def restore(model: Any, path: Path) -> None:
    """Loads an earlier stage's weights; raises ModelError when they are another network's."""
    try:
        model.load_weights(path)
    except ValueError as error:
        # Keras' own message lists every layer.
        raise ModelError(f"{path} was trained with another preset or other singers") from error


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
    # Curves that are means over a replica's batch; everything else is a reduced loss.
    averages: frozenset[str] = frozenset()

    def __init__(
        self,
        model_config: ModelConfig,
        info: DataInfo,
        model_dir: Path,
        config: TrainConfig | None = None,
    ) -> None:
        """Builds the networks of the stage.

        Args:
          model_config: sizes.
          info: facts of the data set.
          model_dir: where the weights of earlier stages are.
          config: settings of the stage; None for its defaults.

        Raises:
          ModelError: the weights of an earlier stage are missing, or another network's.
        """
        for needed in self.requires:
            self.require(needed, model_dir)
        self.info = info
        self.config = config or TrainConfig(stage=self.name, **self.defaults)
        self.frame_loss = losses.feature_loss("squared", info.std)
        self.feature_loss = losses.feature_loss(self.config.feature_loss, info.std)
        self.content_loss = losses.ContentLoss()
        self.create(model_config, model_dir)

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

    def losses(self, batch: dict[str, Any], training: bool) -> dict[str, Any]:
        """Scalars of a batch: `loss` to minimise, and whatever else is worth a curve."""
        raise NotImplementedError

    def pictures(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        """Pictures of a few validation phrases by name: [n, T, bins], larger is brighter."""
        del batch
        return {}

    def one_hot(self, batch: dict[str, Any]) -> Any:
        """Singer one-hot [B, singers]; all zeros for singers that the data set does not train."""
        return ops.one_hot(batch["singer"], len(self.info.singers))


def frame_weights(batch: dict[str, Any]) -> Any:
    """[B, T]: 1 where the voice sounds, less where it is silent."""
    return _SILENT_WEIGHT + (1.0 - _SILENT_WEIGHT) * batch["audible"]


def sung_weights(batch: dict[str, Any]) -> Any:
    """[B, T]: 1 in voiced frames, less in consonants, least in silence."""
    return 0.5 * (frame_weights(batch) + _SILENT_WEIGHT + (1.0 - _SILENT_WEIGHT) * batch["voiced"])
