"""The network every export holds: trained stages assembled into one Extractor."""

import json
from pathlib import Path

import numpy as np

from sep_tf import config as configuration
from sep_tf import models, spectrogram
from sep_tf.config import AudioConfig, ExtractConfig, ModelConfig
from sep_tf.errors import ModelError
from sep_tf.runtimes import ModelInfo
from sep_tf.runtimes.keras import CONFIG_ATTRIBUTE
from sep_tf.training.stages import restore, weights_path


def assemble(model_dir: Path, preset: str) -> tuple[models.Extractor, ModelInfo]:
    """The Extractor with the best weights of stages sin and f0 in `model_dir`.

    Raises:
      ModelError: a stage has no weights, or they are another preset's.
    """
    config = configuration.model_config(preset)
    model = models.build("extractor", config)
    for stage, part in (("sin", model.sin), ("f0", model.f0)):
        path = weights_path(model_dir, stage)
        if not path.is_file():
            raise ModelError(f"{path} does not exist: run `sep-tf train --stage={stage}` first")
        restore(part, path)
    return model, model_info(model, config)


def model_info(model: models.Extractor, config: ModelConfig) -> ModelInfo:
    """What runtimes need to know of a model."""
    return ModelInfo(
        system="sin",
        model=json.loads(json.dumps(config.to_dict())),
        context=model.context,
        chunk_frames=ExtractConfig().chunk_frames,
        voicing_threshold=ExtractConfig().voicing_threshold,
    )


def save_weights(model: models.Extractor, info: ModelInfo, path: Path) -> None:
    """Writes a .weights.h5 that carries its configuration; complete or not at all."""
    import h5py

    partial = path.with_name("partial-" + path.name)
    model.save_weights(partial)
    with h5py.File(partial, "a") as file:
        file.attrs[CONFIG_ATTRIBUTE] = json.dumps(vars(info))
    partial.replace(path)


def spectrograms(sound: np.ndarray, info: ModelInfo) -> dict[str, np.ndarray]:
    """Inputs of one chunk from the beginning of a sound [samples] at 32 kHz, zeros after it."""
    frames = info.chunk_frames + 2 * info.context
    audio = AudioConfig()
    needed = (frames - 1) * audio.hop_length
    cut = np.pad(sound[:needed], (0, max(0, needed - len(sound))))
    return {
        name: spectrogram.magnitude(cut, length, audio.hop_length)
        for name, length in spectrogram.names(audio).items()
    }
