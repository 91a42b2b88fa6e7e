"""What fixed validation phrases sound like, and how far they are from the truth."""

import dataclasses
from typing import Any

import numpy as np

from sep_tf import masking, metrics, pitch, world
from sep_tf.config import AudioConfig

AUDIO = AudioConfig()
# A WORLD analysis takes a tenth of a second: so many masked phrases are measured.
_ANALYSED = 8


@dataclasses.dataclass(frozen=True)
class Found:
    """What a network says of a batch of phrases; None for what it does not say.

    Attributes:
      features: [n, T, 64] in physical units.
      f0: by decoding, each [n, T] in Hz; the first one is sung.
      voiced: bool [n, T].
      mask: [n, T, 513].
    """

    features: np.ndarray | None = None
    f0: dict[str, np.ndarray] | None = None
    voiced: np.ndarray | None = None
    mask: np.ndarray | None = None

    def first(self, count: int) -> "Found":
        """What it says of the first `count` phrases."""

        def cut(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: cut(part) for name, part in value.items()}
            return None if value is None else value[:count]

        return Found(**{name: cut(value) for name, value in vars(self).items()})


def measures(batch: dict[str, Any], found: Found) -> dict[str, float]:
    """Figures of a batch: `mcd_db` and, for each decoding, `f0_NAME` (share within 50 cents).

    The distortion is that of the coded envelopes, floored as they are, before synthesis: WORLD's
    own share, and everything that a new analysis would add, is left to `sep-tf evaluate`. Of a
    mask it is that of the masked audio. Without a voiced frame there are no figures.
    """
    voiced = np.asarray(batch["voiced"]) > 0.5
    if not voiced.any():
        return {}
    values = {}
    if found.features is not None:
        pair = (
            np.asarray(features)[voiced][:, : AUDIO.envelope_size]
            for features in (batch["features"], found.features)
        )
        values["mcd_db"] = float(metrics.envelope_distances(*pair, AUDIO.power_floor).mean())
    if found.mask is not None and "voice" in batch:
        count = min(_ANALYSED, len(found.mask))
        songs = [_masked_distortion(batch, found.mask, i) for i in range(count)]
        # A phrase without a voiced frame has none.
        songs = [value for value in songs if np.isfinite(value)]
        values["mcd_db"] = float(np.mean(songs)) if songs else np.nan
    for name, f0 in (found.f0 or {}).items():
        truth = np.asarray(batch["f0"])[voiced]
        cents = pitch.hz_to_cents(np.maximum(np.asarray(f0)[voiced], 1.0)) - pitch.hz_to_cents(
            truth
        )
        values[f"f0_{name}"] = float(np.mean(np.abs(cents) < metrics.TOLERANCE_CENTS))
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _masked_distortion(batch: dict[str, Any], mask: np.ndarray, i: int) -> float:
    voice = np.asarray(batch["voice"])[i]
    heard = masking.apply_mask(np.asarray(batch["mixture"])[i], np.asarray(mask)[i])
    return metrics.mel_cepstral_distortion(voice, heard).mean_db


def sounds(batch: dict[str, Any], found: Found) -> dict[str, np.ndarray]:
    """Audio by name, each [n, samples] at 32 kHz: mixture, target and what was found.

    Both voices are sung by WORLD (a mask's are waveforms); what the network does not say is taken
    from the truth, so that nothing but the network is heard. Without waveforms in the batch, none.
    """
    if "mixture" not in batch:
        return {}
    mixture = np.asarray(batch["mixture"])
    if found.mask is not None:
        pairs = zip(mixture, np.asarray(found.mask), strict=True)
        masked = np.stack([masking.apply_mask(sound, mask) for sound, mask in pairs])
        return {"mixture": mixture, "target": np.asarray(batch["voice"]), "found": masked}
    truth = [np.asarray(batch[name]) for name in ("features", "f0", "voiced")]
    truth[2] = truth[2] > 0.5
    f0 = next(iter(found.f0.values())) if found.f0 else None
    own = [
        np.asarray(true if value is None else value)
        for true, value in zip(truth, (found.features, f0, found.voiced), strict=True)
    ]
    samples = mixture.shape[1]
    return {"mixture": mixture, "target": _sung(truth, samples), "found": _sung(own, samples)}


def _sung(values: list[np.ndarray], samples: int) -> np.ndarray:
    """WORLD's voices of features [n, T, 64], f0 and voiced [n, T], float32 [n, samples]."""
    size = AUDIO.envelope_size
    voices = [
        world.synthesise(
            world.VocoderFeatures(features[:, :size], features[:, size:], f0, voiced), samples
        )
        for features, f0, voiced in zip(*values, strict=True)
    ]
    return np.clip(np.stack(voices), -1.0, 1.0)
