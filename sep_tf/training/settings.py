"""config.json beside a stage's checkpoints: everything that decides what its weights are."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from sep_tf import overwriting
from sep_tf.config import AugmentConfig, ModelConfig, TrainConfig
from sep_tf.errors import ModelError

NAME = "config.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """The resolved settings of a stage.

    Attributes:
      train: steps, batches, losses.
      model: sizes of the networks.
      augment: what is altered in training examples; None in files that did not keep it.
      singers: names in the order of the one-hot; None in files of versions that did not keep them.
      init_from: digest of the weights it began with, "" for none; None in files of versions that
        did not keep it.
      records: identity of the data set, likewise.
      earlier: digests of the weights of the stages it hears, by name, but for what it decodes.
    """

    train: TrainConfig
    model: ModelConfig
    augment: AugmentConfig | None = None
    singers: tuple[str, ...] | None = None
    init_from: str | None = None
    records: str | None = None
    earlier: dict[str, str] = dataclasses.field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Writes the file, complete or not at all."""
        values = dataclasses.asdict(self)
        with overwriting.replacing(folder / NAME) as partial:
            Path(partial).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    def check_resumes(self, other: "Settings | None", path: Path) -> None:
        """Raises ModelError unless a training with the settings of `path` may go on with these."""
        if (
            other is None
            or (other.train, other.model) != (self.train, self.model)
            or other.augment not in (None, self.augment)
        ):
            raise ModelError(
                f"{path} was made with other settings{_differences(self, other)}; resume with the "
                "same flags or choose another --model_dir"
            )
        if other.singers not in (None, self.singers):
            raise ModelError(
                f"{path} was made with other singers "
                f"({other_singers(other.singers or (), self.singers or ())}); choose another "
                "--model_dir"
            )
        if self.init_from and other.init_from not in (None, self.init_from):
            raise ModelError(
                f"{path} began with other weights: give those to --init_from, or choose another "
                "--model_dir"
            )
        if self.records and other.records not in (None, self.records):
            raise ModelError(
                f"{path} was made with other records, of which the steps before were: choose "
                "another --model_dir, and --init_from to begin with its weights"
            )
        for name, digest in self.earlier.items():
            if other.earlier.get(name, digest) != digest:
                raise ModelError(
                    f"{path} was made with other weights of stage {name}: put those back, or "
                    "choose another --model_dir"
                )


def load(folder: Path) -> Settings | None:
    """The settings of a stage's folder; None where there are none that can be read.

    Settings that came after the file was written have their defaults.
    """
    try:
        text = (folder / NAME).read_text(encoding="utf-8")
        values, end = json.JSONDecoder().raw_decode(text)
        if "train" not in values:
            # Earlier versions wrote two documents one after the other.
            values = {"train": values, "model": json.loads(text[end:])}
        augment, singers = values.get("augment"), values.get("singers")
        return Settings(
            TrainConfig.from_dict(values["train"]),
            ModelConfig.from_dict(values["model"]),
            None if augment is None else AugmentConfig.from_dict(augment),
            None if singers is None else tuple(singers),
            values.get("init_from"),
            values.get("records"),
            dict(values.get("earlier", {})),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def describe(settings: Settings | None) -> str:
    """For example "stage sdn, preset lite, 34 singers"; empty where nothing is known."""
    if settings is None:
        return ""
    return f"stage {settings.train.stage}, preset {settings.model.preset}, {_singers(settings)}"


def other_singers(made: tuple[str, ...], here: tuple[str, ...]) -> str:
    """How the singers of weights differ from those of a data set, which are others."""
    if len(made) != len(here):
        return f"{len(made)}, this data set trains {len(here)}"
    if strange := [name for name in made if name not in here]:
        return f"{strange[0]} is not among the {len(here)} of this data set"
    return f"the same {len(here)} in another order"


def _singers(settings: Settings) -> str:
    if settings.singers is None:
        return "unknown singers"
    return f"{len(settings.singers)} singers"


def _differences(new: Settings, old: Settings | None) -> str:
    """The first few settings that differ: " (steps 10, now 20)"."""
    if old is None:
        return ""
    pairs: list[tuple[str, Any, Any]] = [
        (field.name, getattr(before, field.name), getattr(after, field.name))
        for part, after in vars(new).items()
        if dataclasses.is_dataclass(before := getattr(old, part))
        for field in dataclasses.fields(before)
    ]
    # Each once: the preset is in both.
    changed = dict.fromkeys(f"{name} {a}, now {b}" for name, a, b in pairs if a != b)
    return f" ({'; '.join(list(changed)[:3])})"
