"""ModelInfo: what every model file says of itself."""

import dataclasses
import difflib
from pathlib import Path
from typing import Any

import numpy as np

from sep_tf.errors import ModelError
from sep_tf.runtimes.signatures import SIGNATURES, Signature


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Stored inside every model file.

    Attributes:
      system: "sin", "sdn", "ss", "unet" or "autovc".
      model: ModelConfig as a dictionary.
      context: frames around a chunk that its features depend on.
      chunk_frames: frames of a chunk without its context; fixed in a .tflite.
      voicing_threshold: probability above which a frame is sung, see `sep_tf.voicing`.
      singers: names, by the numbers that sdn and autovc know them by.
      alignment: frames that chunk, context and every chunk's start are a multiple of.
      recurrent: whether frames also depend, weakly, on those beyond the context.
      steps: by the name of a spectrogram of which the network reads every so manyth frame alone;
        the others may be anything.
    """

    system: str
    model: dict[str, Any]
    context: int
    chunk_frames: int
    voicing_threshold: float = 0.5
    singers: tuple[str, ...] = ()
    alignment: int = 16
    recurrent: bool = False
    steps: dict[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: dict[str, Any], path: Path | str) -> "ModelInfo":
        """Raises ModelError that names the file when a field is missing, unknown or absurd."""
        try:
            info = cls(**values | {"singers": tuple(values.get("singers", ()))})
            info.check()
        except (TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{path} was made by another version of sep_tf: {error}") from error
        return info

    def check(self) -> None:
        """Raises ValueError when fields make no sense."""
        if self.system not in SIGNATURES:
            raise ValueError(f"unknown system '{self.system}'")
        sizes = (self.alignment, self.context, self.chunk_frames)
        if not all(isinstance(size, int) and size > 0 for size in sizes) or any(
            size % self.alignment or size % 16 for size in sizes
        ):
            raise ValueError(f"alignment, context and chunk of {sizes} frames")
        if not isinstance(self.model, dict) or not 0 < float(self.voicing_threshold) < 1:
            raise ValueError("its model or its threshold make no sense")
        transforms = self.signature.transforms
        if not isinstance(self.steps, dict) or any(
            name not in transforms or not isinstance(step, int) or step < 1 or self.alignment % step
            for name, step in self.steps.items()
        ):
            raise ValueError(f"steps of {self.steps} frames")
        names = self.singers
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise ValueError("its singers are no list of different names")
        if bool(names) != self.signature.singers:
            raise ValueError(f"{len(names)} singers for system {self.system}")

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return vars(self) | {"singers": list(self.singers)}

    @property
    def signature(self) -> Signature:
        """Names and shapes of the network's inputs and outputs."""
        return SIGNATURES[self.system]

    @property
    def frames(self) -> int:
        """Frames of a chunk with its context."""
        return self.chunk_frames + 2 * self.context

    def singer(self, name: str, model: Path | str = "the model") -> int:
        """The number of a singer; raises ModelError that lists those `model` knows."""
        if name in self.singers:
            return self.singers.index(name)
        if not self.singers:
            raise ModelError(f"{model}: system {self.system} knows no singers, got singer '{name}'")
        close = difflib.get_close_matches(name, self.singers, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ModelError(
            f"{model}: unknown singer '{name}'{hint}, expected one of: {', '.join(self.singers)}"
        )

    def batch(self, inputs: dict[str, Any], frames: int | None) -> dict[str, np.ndarray]:
        """Inputs of one chunk as a batch of one, in the signature's types.

        Args:
          inputs: as the system's signature names them.
          frames: of a chunk; None for any number.

        Raises:
          ModelError: an input is missing, unknown or of another shape; a singer is unknown.
        """
        ports = self.signature.inputs
        if set(inputs) != set(ports):
            raise ModelError(f"system {self.system} reads {sorted(ports)}, not {sorted(inputs)}")
        out = {
            name: np.asarray(inputs[name], port.dtype)[np.newaxis] for name, port in ports.items()
        }
        if frames is None:
            frames = next(value.shape[1] for value in out.values() if value.ndim > 1)
        for name, port in ports.items():
            if out[name].shape[1:] != port.shape(frames):
                raise ModelError(
                    f"input {name} is {out[name].shape[1:]}, expected {port.shape(frames)}"
                )
            if port.width is None and not -1 <= int(out[name][0]) < len(self.singers):
                raise ModelError(f"{name} {int(out[name][0])} of {len(self.singers)} singers")
        return out
