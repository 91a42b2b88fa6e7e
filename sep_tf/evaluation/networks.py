"""Parts of trained networks that exported files leave out, for measures: needs TensorFlow."""

import threading
from pathlib import Path
from typing import Any

import numpy as np

from sep_tf import framing, pitch, spectrogram
from sep_tf.config import AudioConfig
from sep_tf.errors import ModelError
from sep_tf.runtimes.signatures import SIGNATURES

AUDIO = AudioConfig()
# Transform lengths of the spectrograms that SIN's networks read.
_TRANSFORMS = SIGNATURES["sin"].transforms
# Frames a call (20 s), and the context on both sides that is thrown away.
_CHUNK, _CONTEXT = 4000, 160
_ALIGNMENT = 16


def load(path: Path) -> Any:
    """The Keras model in a .weights.h5 file of SIN: `sin` and `f0` are its networks.

    Raises:
      ModelError: the file holds another system, or weights that do not fit.
    """
    from sep_tf.runtimes import keras as keras_runtime

    system = keras_runtime.read_info(path).system
    if system != "sin":
        raise ModelError(f"{path}: a model of the system sin is needed, not of {system}")
    return keras_runtime.KerasRuntime(path).model


class _Framewise:
    """Runs a network over a signal in chunks with context. Calls are serialised."""

    # Names of the spectrograms that the network reads.
    spectrograms: tuple[str, ...] = ("magnitude",)
    # Frames a row of the output.
    stride = 1

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def _rows(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        raise NotImplementedError

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Rows for audio [samples] at 32 kHz: one every `stride` frames, the last one cut off."""
        n_frames = framing.frame_count(len(audio), AUDIO.hop_length)
        size = min(_CHUNK, -(-n_frames // _ALIGNMENT) * _ALIGNMENT)
        length = -(-n_frames // size) * size
        around = ((_CONTEXT, length - n_frames + _CONTEXT), (0, 0))
        padded = {
            name: np.pad(spectrogram.magnitude(audio, _TRANSFORMS[name], AUDIO.hop_length), around)
            for name in self.spectrograms
        }
        parts = []
        for start in range(0, length, size):
            piece = slice(start, start + size + 2 * _CONTEXT)
            inputs = {name: whole[np.newaxis, piece] for name, whole in padded.items()}
            with self._lock:
                rows = self._rows(inputs)
            parts.append(rows[_CONTEXT // self.stride : (_CONTEXT + size) // self.stride])
        return np.concatenate(parts)[: -(-n_frames // self.stride)]


class ContentEncoder(_Framewise):
    """E_spec of the paper (eq. 6): the content code of whatever is heard, [T / 16, 64]."""

    def __init__(self, path: Path) -> None:
        """Loads the mixture encoder of a SIN model's .weights.h5; raises ModelError."""
        super().__init__()
        self._encoder = load(path).sin.encoder
        self.stride = self._encoder.config.code_hop

    def _rows(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(self._encoder(inputs["magnitude"], training=False))[0]


class ContinuousHead(_Framewise):
    """The F0 network's continuous head (section 3): a contour in Hz, [T]."""

    def __init__(self, path: Path) -> None:
        """Loads the F0 network of a SIN model's .weights.h5; raises ModelError."""
        super().__init__()
        self._network = load(path).f0
        self.spectrograms = self._network.spectrograms

    def _rows(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        heads = self._network(inputs, training=False)
        return pitch.denormalise(np.asarray(heads["f0_normalised"])[0])
