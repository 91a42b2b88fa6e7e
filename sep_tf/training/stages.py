"""Stages autovc -> encoder -> sin, and f0: what each trains, freezes, restores and minimises."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from sep_tf import config as configuration
from sep_tf import losses, models
from sep_tf.config import AugmentConfig, ModelConfig, TrainConfig
from sep_tf.errors import ModelError
from sep_tf.models import f0 as f0_network

WEIGHTS_NAME = "best.weights.h5"
# Frames without a voice teach the level only; they are many and easy.
_SILENT_WEIGHT = 0.2
# Other melodies, tracts, microphones, rooms and bands: unseen ones are the point. Half of the
# examples stay as recorded, so that what is common to real voices is learned as well.
PRODUCED = AugmentConfig(
    altered=0.5,
    speed=(0.8, 1.25),
    backing_speed=(0.8, 1.25),
    vocals_eq_db=2.0,
    backing_eq_db=4.0,
    reverb=0.5,
)


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """What stages need to know of the data set: singers and feature statistics."""

    singers: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray


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
    """One stage. Subclasses set the attributes, `model` (trained) and `losses(batch, training)`."""

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

    def __init__(self, model_config: ModelConfig, info: DataInfo, model_dir: Path) -> None:
        for needed in self.requires:
            if not weights_path(model_dir, needed).is_file():
                raise ModelError(
                    f"stage {self.name} needs the weights of stage {needed}: run "
                    f"`sep-tf train --stage={needed}` with --model_dir={model_dir} first"
                )
        self.info = info
        self.frame_loss = losses.FeatureLoss(losses.feature_weights(info.std))
        self.content_loss = losses.ContentLoss()
        self.create(model_config, model_dir)

    def create(self, config: ModelConfig, model_dir: Path) -> None:
        """Builds `self.model`, restoring what earlier stages learned."""
        raise NotImplementedError

    def losses(self, batch: dict[str, Any], training: bool) -> dict[str, Any]:
        """Scalars of a batch: `loss` to minimise, and whatever else is worth a curve."""
        raise NotImplementedError

    def one_hot(self, batch: dict[str, Any]) -> Any:
        """Singer one-hot [B, singers]; all zeros for singers that the data set does not train."""
        return ops.one_hot(batch["singer"], len(self.info.singers))


def frame_weights(batch: dict[str, Any]) -> Any:
    """[B, T]: 1 where the voice sounds, less where it is silent."""
    return _SILENT_WEIGHT + (1.0 - _SILENT_WEIGHT) * batch["audible"]


def sung_weights(batch: dict[str, Any]) -> Any:
    """[B, T]: 1 in voiced frames, less in consonants, least in silence."""
    return 0.5 * (frame_weights(batch) + _SILENT_WEIGHT + (1.0 - _SILENT_WEIGHT) * batch["voiced"])


class AutoVCStage(Stage):
    """The teacher on clean features: eq. 3-5, reconstruction before and after the post-net."""

    name = "autovc"
    spectrograms = ()
    validation_split = "validation"
    defaults = {"batch_size": 30, "phrase_frames": 128, "steps": 4000}
    averages = frozenset({"code_spread"})
    content_weight = 1.0

    def create(self, config: ModelConfig, model_dir: Path) -> None:
        self.model = models.build("autovc", config, singers=len(self.info.singers))
        self.model.normaliser.set_statistics(self.info.mean, self.info.std)

    def losses(self, batch, training):
        singer = self.one_hot(batch)
        out = self.model({"features": batch["features"], "singer": singer}, training=training)
        weight = frame_weights(batch)
        before = self.frame_loss(out["target"], out["before"], sample_weight=weight)
        after = self.frame_loss(out["target"], out["after"], sample_weight=weight)
        again = self.model.encode(out["after"], singer, training=training)
        content = self.content_loss(out["code"], again)
        spread = ops.mean(ops.std(out["code"], axis=(0, 1)))
        total = before + after + self.content_weight * content
        return {"loss": total, "after": after, "content": content, "code_spread": spread}


class EncoderStage(Stage):
    """The mixture encoder, distilled from the frozen teacher: eq. 6."""

    name = "encoder"
    requires = ("autovc",)
    validation_split = "validation"
    defaults = {"batch_size": 16, "phrase_frames": 256, "steps": 4000}
    # The voice stays as it is: the teacher knows the singers at their own speed and colour.
    augment = dataclasses.replace(PRODUCED, speed=(1.0, 1.0), vocals_eq_db=0.0)

    def create(self, config: ModelConfig, model_dir: Path) -> None:
        self.teacher = models.build("autovc", config, singers=len(self.info.singers))
        restore(self.teacher, weights_path(model_dir, "autovc"))
        self.teacher.trainable = False
        self.model = models.build("encoder", config)

    def losses(self, batch, training):
        clean = self.teacher.normaliser(batch["features"])
        # training=False keeps the teacher's batch statistics frozen as well.
        target = self.teacher.encode(clean, self.one_hot(batch), training=False)
        code = self.model(batch["magnitude"], training=training)
        loss = self.content_loss(ops.stop_gradient(target), code)
        return {"loss": loss, "relative": loss / ops.mean(ops.std(target, axis=(0, 1)))}


class SINStage(Stage):
    """The singer independent decoder on the frozen mixture encoder: eq. 8."""

    name = "sin"
    requires = ("encoder",)
    defaults = {"batch_size": 16, "phrase_frames": 256, "steps": 14000}
    augment = PRODUCED

    def create(self, config: ModelConfig, model_dir: Path) -> None:
        self.model = models.build("sin", config)
        restore(self.model.encoder, weights_path(model_dir, "encoder"))
        self.model.encoder.trainable = False
        self.model.normaliser.set_statistics(self.info.mean, self.info.std)
        self.distortion_loss = losses.DistortionLoss(losses.distortion_weights(self.info.std))

    def losses(self, batch, training):
        code = ops.stop_gradient(self.model.encoder(batch["magnitude"], training=False))
        before, after = self.model.decode(code, batch["magnitude"], training=training)
        target = self.model.normaliser(batch["features"])
        weight = sung_weights(batch)
        first = self.distortion_loss(target, before, sample_weight=weight)
        second = self.distortion_loss(target, after, sample_weight=weight)
        return {"loss": first + second, "after": second}


class F0Stage(Stage):
    """f0 (discrete and continuous heads) and voicing from the mixture, [23]."""

    name = "f0"
    spectrograms = (f"magnitude_4096/{f0_network.STRIDE}",)
    defaults = {"batch_size": 16, "phrase_frames": 256, "steps": 6000}
    averages = frozenset({"within_50_cents", "voicing_right"})
    # Other melodies, far from those of the recordings; long passages where nobody sings.
    augment = dataclasses.replace(PRODUCED, altered=0.7, speed=(0.7, 1.4), vocal_free=0.12)

    def create(self, config: ModelConfig, model_dir: Path) -> None:
        self.model = models.build("f0", config)
        self.salience_loss = losses.SalienceLoss()
        self.contour_loss = losses.ContourLoss()
        self.voicing_loss = losses.VoicingLoss()

    def losses(self, batch, training):
        heads = self.model.heads(batch[self.spectrograms[0]], training=training)
        f0 = batch["f0"]
        # Sped-up voices leave the range of the salience bins: nothing to learn there.
        inside = (f0 > f0_network.LOWEST_HZ) & (f0 < f0_network.HIGHEST_HZ)
        voiced = batch["voiced"] * ops.cast(inside, "float32")
        salience = self.salience_loss(f0, heads["salience"], sample_weight=voiced)
        contour = self.contour_loss(f0, heads["f0_normalised"], sample_weight=voiced)
        voicing = self.voicing_loss(batch["voiced"], heads["voicing"])
        estimate = f0_network.decode_salience(heads["salience"])
        cents = 1200.0 / np.log(2.0) * ops.abs(ops.log(estimate / ops.maximum(f0, 1.0)))
        hit = ops.cast(cents < 50.0, "float32")
        right = ops.cast((heads["voicing"] > 0) == (batch["voiced"] > 0.5), "float32")
        count = ops.maximum(ops.sum(voiced), 1.0)
        return {
            "loss": salience + 5.0 * contour + 2.0 * voicing,
            "within_50_cents": ops.sum(hit * voiced) / count,
            "voicing_right": ops.mean(right),
        }


STAGES: dict[str, type[Stage]] = {
    stage.name: stage for stage in (AutoVCStage, EncoderStage, SINStage, F0Stage)
}


def train_config(stage: str, **overrides: Any) -> TrainConfig:
    """The stage's defaults with overrides; None leaves a default."""
    values = {"stage": stage, **STAGES[stage].defaults}
    values |= {name: value for name, value in overrides.items() if value is not None}
    return configuration.TrainConfig(**values)
