"""From a mixture at 32 kHz to the vocoder features of its voice, chunk by chunk."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from sep_tf import (
    editing,
    f0_sources,
    framing,
    mixture_level,
    mixture_trust,
    pitch,
    runtimes,
    voicing,
    world,
)
from sep_tf.config import AudioConfig
from sep_tf.runtimes import chunks

AUDIO = AudioConfig()
# Changed whenever the voice of the same model would: voicing, correction, level, colour.
VERSION = "analysis-3"
# Frames around what harvest finds in which its contour is better than the network's (200 ms).
_KNOWN_FRAMES = 40
# Probability of voicing at which the mixture begins to be believed, and at which it is fully: of
# colour; of level, where a false alarm would rise to the music's.
_COLOURED = (0.0, 0.25)
_LEVELLED = (0.5, 0.95)
# A frame's probability, for that, is the mean of so many.
_BLEND_FRAMES = 5
# Log power of frames where nobody sings: below what 24 bits hold.
_SILENT_C0 = -34.0


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What is asked of a voice beyond the network's own answer.

    Attributes:
      f0: "model", "harvest" (on the mixture) or a contour.
      inputs: of the network beside spectrograms, as {"singer": 3}.
      transpose: semitones.
      formant: ratio.
    """

    f0: str | f0_sources.Contour = "model"
    inputs: dict[str, Any] = dataclasses.field(default_factory=dict)
    transpose: float = 0.0
    formant: float = 1.0


def features(
    runtime: runtimes.Runtime,
    blocks: Iterable[np.ndarray],
    wishes: Wishes,
    offset: float = 0.0,
    progress: Callable[[float], None] | None = None,
) -> Iterator[world.VocoderFeatures]:
    """The voice of a mixture.

    Args:
      runtime: of a vocoder system.
      blocks: float32 [n] at 32 kHz, of any lengths.
      wishes: see there.
      offset: seconds into the file at which the first block begins, for a contour's times.
      progress: called with seconds done.

    Yields:
      Features of consecutive frames, in all 1 + samples // 160.
    """
    info = runtime.info
    cut = framing.stream_chunks(
        blocks, info.chunk_frames, info.context, chunks.MARGIN, AUDIO.hop_length, info.alignment
    )
    # Other systems, and presets whose SIN has no voicing of its own, have F0's.
    own = info.system == "sin" and bool(info.model.get("sin_voicing_width"))
    if isinstance(wishes.f0, f0_sources.Contour):
        # It says itself where anybody sings.
        decider = voicing.Decider(0.5, relative=False)
    else:
        decider = voicing.Decider(info.voicing_threshold, relative=own)
    waiting = world.silence_features(0)
    for chunk, audio, out in chunks.run_all(runtime, cut, **wishes.inputs):
        mixture = audio[chunks.MARGIN : len(audio) - chunks.MARGIN]
        found, probability = _of_chunk(mixture, out, chunk, wishes, offset)
        keep, level_db = chunk.keep, world.frame_level_db(mixture)
        # By the envelope as SIN has it: the rule was fitted to that.
        sung = decider.push(probability[keep], found.envelope[keep], level_db[keep])
        if own and info.model.get("sin_refinement_width"):
            weight = _weight(out["voicing"], keep, _COLOURED)
            nearer = mixture_trust.corrected(found.envelope, mixture, found.f0, weight)
            found = dataclasses.replace(found, envelope=nearer)
        elif info.system == "sdn":
            # What is kept depends on no further frames, and all of a chunk's would take long.
            reach = mixture_level.REACH
            around = slice(max(keep.start - reach, 0), keep.stop + reach)
            audible = np.where(level_db > voicing.SILENCE_DB, out["voicing"], 0.0)
            weight = _weight(audible, around, _LEVELLED)
            # By the pitch that is heard and the network's own voicing, whatever is to be sung.
            gain_db = mixture_level.gain_db(found.envelope, mixture, out["f0"], weight)
            louder = world.apply_gain(found.envelope, 10.0 ** (gain_db / 20.0))
            found = dataclasses.replace(found, envelope=louder)
        waiting = world.VocoderFeatures.concatenate([waiting, found[keep]])
        yield _edited(waiting[: len(sung.voiced)], sung, wishes)
        waiting = waiting[len(sung.voiced) :]
        if progress:
            progress(chunk.stop / AUDIO.frames_per_second)
    yield _edited(waiting, decider.finish(), wishes)


def _of_chunk(
    mixture: np.ndarray,
    out: dict[str, np.ndarray],
    chunk: framing.Chunk,
    wishes: Wishes,
    offset: float,
) -> tuple[world.VocoderFeatures, np.ndarray]:
    """Of a chunk's frames: features, voicing still open, and its probability.

    From the chunk's audio without margins and what it gave.
    """
    probability, f0 = out["voicing"], out["f0"]
    if isinstance(wishes.f0, f0_sources.Contour):
        times = np.arange(chunk.first, chunk.last) / AUDIO.frames_per_second + offset
        f0, probability = wishes.f0.at(times)
    elif wishes.f0 == "harvest":
        found = world.estimate_f0(mixture)
        # Far from what harvest finds, the network's is all there is.
        known = framing.near(found > 0, _KNOWN_FRAMES)
        f0 = np.where(known, pitch.interpolate_unvoiced(found, found > 0), f0)
    features = world.VocoderFeatures(
        out["envelope"], out["aperiodicity"], np.asarray(f0, np.float32), np.zeros(len(f0), bool)
    )
    return features, probability


def _weight(probability: np.ndarray, part: slice, between: tuple[float, float]) -> np.ndarray:
    """How far frames are measured by the mixture, [T] in 0..1, 0 outside `part`; no jumps."""
    low, high = between
    sung = np.clip((np.nan_to_num(probability) - low) / (high - low), 0.0, 1.0)
    window = np.full(_BLEND_FRAMES, 1.0 / _BLEND_FRAMES)
    weight = np.zeros(len(sung))
    weight[part] = np.convolve(sung, window, "same")[part]
    return np.where(weight < 0.1, 0.0, weight)


def _edited(
    features: world.VocoderFeatures, sung: voicing.Sung, wishes: Wishes
) -> world.VocoderFeatures:
    """Features as they are sung: voiced, quieter or silent as decided, transposed."""
    singing = np.isfinite(sung.gain_db)
    silence = world.silence_features(len(features))
    silence.envelope[:, 0] = _SILENT_C0
    gain_db = np.where(singing, sung.gain_db, 0.0)
    envelope = world.apply_gain(features.envelope, 10.0 ** (gain_db / 20.0))
    found = world.VocoderFeatures(
        np.where(singing[:, None], envelope, silence.envelope),
        np.where(singing[:, None], features.aperiodicity, silence.aperiodicity),
        features.f0,
        sung.voiced,
    )
    return editing.scale_formants(editing.transpose(found, wishes.transpose), wishes.formant)
