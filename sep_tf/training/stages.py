"""Stages autovc -> encoder -> sdn | sin, and f0, ss, unet: what each trains and minimises."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from sep_tf import config as configuration
from sep_tf import losses, models, pitch
from sep_tf.config import KNOWN_SINGERS, PRODUCED, ModelConfig, TrainConfig
from sep_tf.errors import ModelError
from sep_tf.models import f0 as f0_network
from sep_tf.models import f0_decoding
from sep_tf.training.heard import Found
from sep_tf.training.pictures import magnitude_db
from sep_tf.training.stage import DataInfo, Stage, check_singers, restore, weights_path

__all__ = ["STAGES", "DataInfo", "Stage", "restore", "train_config", "weights_path"]


class Teacher:
    """The trained AutoVC, frozen: C_avc of clean and of predicted features (eq. 1)."""

    def __init__(self, config: ModelConfig, info: DataInfo, model_dir: Path) -> None:
        self.model = models.build("autovc", config, singers=len(info.singers))
        path = weights_path(model_dir, "autovc")
        check_singers(info, path)
        restore(self.model, path)
        self.model.trainable = False

    def code(self, features: Any, singer: Any) -> Any:
        """C_avc [B, T / 16, 64] of features in physical units and singer one-hot."""
        # training=False keeps the batch statistics frozen as well.
        return self.model.encode(self.model.normaliser(features), singer, training=False)


class AutoVCStage(Stage):
    """The teacher on clean features: eq. 3-5, reconstruction before and after the post-net."""

    name = "autovc"
    spectrograms = ()
    validation_split = "validation"
    defaults = {"batch_size": 30, "phrase_frames": 128, "steps": 4000}
    averages = frozenset({"code_spread"})
    content_weight = 1.0
    has_singers = True

    def create(self, config: ModelConfig, model_dir: Path) -> None:
        self.model = models.build("autovc", config, singers=len(self.info.singers))
        self.model.normaliser.set_statistics(self.info.mean, self.info.std)

    def weigh(self) -> None:
        # A distortion in physical units is no reconstruction loss of eq. 3.
        name = "plain" if self.plain else "squared"
        self.frame_loss = losses.feature_loss(name, np.asarray(self.model.normaliser.std))

    def losses(self, batch, training):
        singer = self.one_hot(batch)
        out = self.model({"features": batch["features"], "singer": singer}, training=training)
        weight = self.frame_weights(batch)
        before = self.frame_loss(out["target"], out["before"], sample_weight=weight)
        after = self.frame_loss(out["target"], out["after"], sample_weight=weight)
        again = self.model.encode(out["after"], singer, training=training)
        content = self.content_loss(out["code"], again)
        spread = ops.mean(ops.std(out["code"], axis=(0, 1)))
        total = before + after + self.content_weight * content
        return {
            "loss": total,
            "before": before,
            "after": after,
            "content": content,
            "code_spread": spread,
        }

    def found(self, batch):
        out = self.model({"features": batch["features"], "singer": self.one_hot(batch)})
        return Found(np.asarray(self.model.normaliser.denormalise(out["after"])))


class EncoderStage(Stage):
    """The mixture encoder, distilled from the frozen teacher: eq. 6."""

    name = "encoder"
    requires = ("autovc",)
    validation_split = "validation"
    defaults = {"batch_size": 16, "phrase_frames": 256, "steps": 4000}
    averages = frozenset({"code_spread"})
    # The voice stays as it is: the teacher knows the singers at their own speed, colour and band.
    augment = KNOWN_SINGERS

    def create(self, config: ModelConfig, model_dir: Path) -> None:
        self.teacher = Teacher(config, self.info, model_dir)
        self.model = models.build("encoder", config)

    def losses(self, batch, training):
        target = self.teacher.code(batch["features"], self.one_hot(batch))
        code = self.model(batch["magnitude"], training=training)
        loss = self.content_loss(ops.stop_gradient(target), code)
        return {
            "loss": loss,
            "relative": loss / ops.mean(ops.std(target, axis=(0, 1))),
            "code_spread": ops.mean(ops.std(code, axis=(0, 1))),
        }

    def pictures(self, batch, found):
        target = self.teacher.code(batch["features"], self.one_hot(batch))
        code = np.asarray(self.model(batch["magnitude"]))
        return self.mixture(batch) | {"teacher": np.asarray(target), "code": code}


def decoder_losses(stage: Stage, target: Any, before: Any, after: Any, weight: Any) -> dict:
    """Losses of SDN and SIN, all [B, T, 64] normalised: eq. 7 and 8 know the output alone.

    Unless they are plain, what comes before the post-net is drawn to the target as well, as
    AutoVC's decoder is.
    """
    loss = second = stage.feature_loss(target, after, sample_weight=weight)
    if not stage.plain:
        loss = second + stage.feature_loss(target, before, sample_weight=weight)
    return {"loss": loss, "after": second}


class DecoderStage(Stage):
    """What decodes to features, by a distance that is chosen."""

    def weigh(self) -> None:
        self.feature_loss = losses.feature_loss(
            self.config.feature_loss, np.asarray(self.model.normaliser.std)
        )


class SDNStage(DecoderStage):
    """The singer dependent decoder on the frozen mixture encoder: eq. 7.

    With a content weight also ||E_avc(X-hat, S) - C_avc||_1, as the authors' code has it.
    """

    name = "sdn"
    requires = ("encoder",)
    frozen = "encoder"
    # Only singers of the training set have a one-hot.
    validation_split = "validation"
    defaults = {
        "batch_size": 16,
        "phrase_frames": 256,
        "steps": 6000,
        "feature_loss": "squared",
    }
    # The voices keep the tract and colour that their singer's one-hot stands for.
    augment = EncoderStage.augment
    has_singers = True

    def create(self, config: ModelConfig, model_dir: Path) -> None:
        singers = len(self.info.singers)
        self.teacher = None
        if self.config.content_weight:
            self.require("autovc", model_dir)
            self.earlier.append("autovc")
            self.teacher = Teacher(config, self.info, model_dir)
        self.model = models.build("sdn", config, singers=singers)
        self.model.normaliser.set_statistics(self.info.mean, self.info.std)

    def losses(self, batch, training):
        singer = self.one_hot(batch)
        code = ops.stop_gradient(self.model.encoder(batch["magnitude"], training=False))
        before, after = self.model.decode(code, singer, training=training)
        target = self.model.normaliser(batch["features"])
        weight = self.sung_weights(batch)
        values = decoder_losses(self, target, before, after, weight)
        if self.teacher:
            content = self.content_loss(
                self.teacher.code(batch["features"], singer),
                # By the teacher's own statistics.
                self.teacher.code(self.model.normaliser.denormalise(after), singer),
            )
            values["loss"] += self.config.content_weight * content
            values["content"] = content
        return values

    def found(self, batch):
        inputs = {"magnitude": batch["magnitude"], "singer": self.one_hot(batch)}
        return Found(np.asarray(self.model(inputs)))


class SINStage(DecoderStage):
    """The singer independent decoder on the mixture encoder: eq. 8, and its voicing."""

    name = "sin"
    requires = ("encoder",)
    frozen = "encoder"
    defaults = {"batch_size": 16, "phrase_frames": 256, "steps": 14000}
    augment = PRODUCED

    @classmethod
    def needed(cls, model_config: ModelConfig) -> tuple[str, ...]:
        return (*cls.requires, "f0") if model_config.sin_harmonic_points else cls.requires

    def create(self, config: ModelConfig, model_dir: Path) -> None:
        self.model = models.build("sin", config)
        self.model.normaliser.set_statistics(self.info.mean, self.info.std)
        self.voicing_loss = losses.VoicingLoss()
        self.f0 = None
        if config.sin_harmonic_points:
            self.f0 = models.build("f0", config)
            restore(self.f0, weights_path(model_dir, "f0"))
            self.f0.trainable = False
            self.pitch_spectrograms = _every(2, self.f0.spectrograms)
            self.spectrograms = ("magnitude", *self.pitch_spectrograms)

    def pitched(self, batch):
        """What the frozen F0 finds in every second frame; None where SIN does without."""
        if self.f0 is None:
            return None
        inputs = _by_name(batch, self.pitch_spectrograms)
        heads = self.f0.heads(inputs, training=False)
        found = {
            "magnitude_4096": inputs["magnitude_4096"],
            "f0": f0_decoding.decode(heads, "average", self.f0.softmax)[:, ::2],
            "voicing": ops.sigmoid(heads["voicing"])[:, ::2],
        }
        return {name: ops.stop_gradient(value) for name, value in found.items()}

    def losses(self, batch, training):
        code = self.model.encoder(batch["magnitude"], training=False)
        before, after, voicing = self.model.decode(
            code, batch["magnitude"], self.pitched(batch), training=training
        )
        target = self.model.normaliser(batch["features"])
        weight = self.sung_weights(batch)
        values = decoder_losses(self, target, before, after, weight)
        if voicing is not None:
            values["voicing"] = self.voicing_loss(batch["voiced"], voicing)
            values["loss"] += values["voicing"]
        return values

    def found(self, batch):
        code = self.model.encoder(batch["magnitude"], training=False)
        _, after, voicing = self.model.decode(code, batch["magnitude"], self.pitched(batch))
        voiced = None if voicing is None else np.asarray(voicing) > 0
        return Found(np.asarray(self.model.normaliser.denormalise(after)), voiced=voiced)


def _every(step: int, names: tuple[str, ...]) -> tuple[str, ...]:
    """Spectrograms by name, every `step`-th frame of each, as the data set calls them."""
    return names if step == 1 else tuple(f"{name}/{step}" for name in names)


def _by_name(batch: dict[str, Any], spectrograms: tuple[str, ...]) -> dict[str, Any]:
    """The batch's spectrograms without what says how many of their frames there are."""
    return {name.partition("/")[0]: batch[name] for name in spectrograms}


class F0Stage(Stage):
    """f0 (discrete and continuous heads) and voicing from the mixture, [23]."""

    name = "f0"
    defaults = {"batch_size": 16, "phrase_frames": 256, "steps": 6000}
    averages = frozenset({"within_50_cents", "voicing_right"})
    # Other melodies, far from those of the recordings, down to basses; long passages where nobody
    # sings. Wider levels brought false alarms (docs/experiments.md, "F0 at any level").
    augment = dataclasses.replace(
        PRODUCED, altered=0.7, speed=(0.6, 1.4), vocal_free=0.2, vocals_db=(-34.0, -12.0)
    )

    def create(self, config: ModelConfig, model_dir: Path) -> None:
        self.model = models.build("f0", config)
        self.spectrograms = _every(self.model.frame_step, self.model.spectrograms)
        softmax = self.model.softmax
        self.salience_loss = losses.SalienceLoss() if softmax else losses.BinarySalienceLoss()
        # Heads of lite are balanced by hand; the paper names no weights.
        self.weights = (1.0, 1.0) if self.plain else (5.0, 2.0)
        self.contour_loss = losses.ContourLoss()
        self.voicing_loss = losses.VoicingLoss()

    def losses(self, batch, training):
        heads = self.model.heads(_by_name(batch, self.spectrograms), training=training)
        f0 = batch["f0"]
        # Sped-up voices leave the range of the salience bins: nothing to learn there.
        inside = (f0 > f0_network.LOWEST_HZ) & (f0 < f0_network.HIGHEST_HZ)
        voiced = batch["voiced"] * ops.cast(inside, "float32")
        salience = self.salience_loss(f0, heads["salience"], sample_weight=voiced)
        contour = self.contour_loss(f0, heads["f0_normalised"], sample_weight=voiced)
        voicing = self.voicing_loss(batch["voiced"], heads["voicing"])
        estimate = f0_decoding.decode(heads, "average", self.model.softmax)
        cents = 1200.0 / np.log(2.0) * ops.abs(ops.log(estimate / ops.maximum(f0, 1.0)))
        hit = ops.cast(cents < 50.0, "float32")
        right = ops.cast((heads["voicing"] > 0) == (batch["voiced"] > 0.5), "float32")
        count = ops.maximum(ops.sum(voiced), 1.0)
        return {
            "loss": salience + self.weights[0] * contour + self.weights[1] * voicing,
            "salience": salience,
            "contour": contour,
            "voicing": voicing,
            "within_50_cents": ops.sum(hit * voiced) / count,
            "voicing_right": ops.mean(right),
        }

    def found(self, batch):
        heads = self.model.heads(_by_name(batch, self.spectrograms))
        f0 = f0_decoding.every(heads, self.model.softmax)
        return Found(f0=f0, voiced=np.asarray(heads["voicing"]) > 0)

    def pictures(self, batch, found):
        heads = self.model.heads(_by_name(batch, self.spectrograms))
        shown = ops.softmax(heads["salience"], axis=-1)
        if not self.model.softmax:
            shown = ops.sigmoid(heads["salience"])
        voiced = np.asarray(batch["voiced"])[:, :, None]
        return self.mixture(batch) | {
            "target": pitch.salience(np.maximum(np.asarray(batch["f0"]), 1.0)) * voiced,
            "salience": np.asarray(shown),
        }


class SSStage(Stage):
    """The authors' earlier system: features, f0 and voicing from the mixture alone, [13]."""

    name = "ss"
    defaults = {"batch_size": 16, "phrase_frames": 256, "steps": 6000}
    augment = PRODUCED

    def create(self, config: ModelConfig, model_dir: Path) -> None:
        self.model = models.build("ss", config)
        self.model.normaliser.set_statistics(self.info.mean, self.info.std)
        self.absolute_loss = losses.AbsoluteFeatureLoss(losses.ss_weights())
        self.contour_loss = losses.ContourLoss()
        self.voicing_loss = losses.VoicingLoss()

    def losses(self, batch, training):
        heads = self.model.heads(batch["magnitude"], training=training)
        target = self.model.normaliser(batch["features"])
        weight = self.sung_weights(batch)
        features = self.absolute_loss(target, heads["features"], sample_weight=weight)
        contour = self.contour_loss(
            batch["f0"], heads["f0_normalised"], sample_weight=batch["voiced"]
        )
        voicing = self.voicing_loss(batch["voiced"], heads["voicing"])
        return {
            "loss": features + contour + voicing,
            "features": features,
            "contour": contour,
            "voicing": voicing,
        }

    def found(self, batch):
        out = self.model(batch["magnitude"])
        features = ops.concatenate([out["envelope"], out["aperiodicity"]], axis=-1)
        f0 = {"continuous": np.asarray(out["f0"])}
        return Found(np.asarray(features), f0, np.asarray(out["voicing"]) > 0.5)


class UNetStage(Stage):
    """The mask baseline: L1 between masked mixture and the vocal as mixed, [7]."""

    name = "unet"
    spectrograms = ("magnitude", "voice_magnitude")
    defaults = {"batch_size": 16, "phrase_frames": 128, "steps": 6000}
    # A mask can only leave what the mixture has: no mastering, which acts on the sum.
    augment = dataclasses.replace(PRODUCED, saturated=0.0, band_limited=0.0)

    def create(self, config: ModelConfig, model_dir: Path) -> None:
        self.model = models.build("unet", config)
        if self.config.phrase_frames % self.model.alignment:
            raise ModelError(
                f"stage unet needs phrases of a multiple of {self.model.alignment} frames, not "
                f"{self.config.phrase_frames}: set --phrase_frames"
            )
        self.mask_loss = losses.MaskLoss()

    def losses(self, batch, training):
        masked = batch["magnitude"] * self.model(batch["magnitude"], training=training)
        loss = self.mask_loss(batch["voice_magnitude"], masked)
        level = ops.maximum(ops.mean(batch["voice_magnitude"]), 1e-6)
        return {"loss": loss, "relative": loss / level}

    def found(self, batch):
        return Found(mask=np.asarray(self.model(batch["magnitude"])))

    def pictures(self, batch, found):
        return self.mixture(batch) | {
            "target": magnitude_db(batch["voice_magnitude"]),
            "masked": magnitude_db(batch["magnitude"] * found.mask),
        }


# In the order of `--stage=all`.
STAGES: dict[str, type[Stage]] = {
    stage.name: stage
    for stage in (AutoVCStage, EncoderStage, SDNStage, F0Stage, SINStage, SSStage, UNetStage)
}


def train_config(stage: str, **overrides: Any) -> TrainConfig:
    """The stage's defaults with overrides; None leaves a default."""
    values = {"stage": stage, **STAGES[stage].defaults}
    values |= {name: value for name, value in overrides.items() if value is not None}
    return configuration.TrainConfig(**values)
