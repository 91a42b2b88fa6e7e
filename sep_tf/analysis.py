"""From a mixture at 32 kHz to the vocoder features of its voice, chunk by chunk."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from sep_tf import editing, f0_sources, framing, pitch, runtimes, voicing, world
from sep_tf.config import AudioConfig
from sep_tf.runtimes import chunks

AUDIO = AudioConfig()
# Frames around what harvest finds in which its contour is better than the network's (200 ms).
_KNOWN_FRAMES = 40
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
    if isinstance(wishes.f0, f0_sources.Contour):
        # It says itself where anybody sings.
        decider = voicing.Decider(0.5, relative=False)
    else:
        # Other systems, and presets whose SIN has no voicing of its own, have F0's.
        own = info.system == "sin" and bool(info.model.get("sin_voicing_width"))
        decider = voicing.Decider(info.voicing_threshold, relative=own)
    waiting = world.silence_features(0)
    for chunk, audio, out in chunks.run_all(runtime, cut, **wishes.inputs):
        found, probability, mixture_db = _of_chunk(audio, out, chunk, wishes, offset)
        waiting = world.VocoderFeatures.concatenate([waiting, found])
        sung = decider.push(probability, found.envelope, mixture_db)
        yield _edited(waiting[: len(sung.voiced)], sung, wishes)
        waiting = waiting[len(sung.voiced) :]
        if progress:
            progress(chunk.stop / AUDIO.frames_per_second)
    yield _edited(waiting, decider.finish(), wishes)


def _of_chunk(
    audio: np.ndarray,
    out: dict[str, np.ndarray],
    chunk: framing.Chunk,
    wishes: Wishes,
    offset: float,
) -> tuple[world.VocoderFeatures, np.ndarray, np.ndarray]:
    """Of the frames a chunk keeps: features, voicing still open, its probability, mixture's dBFS.

    From the chunk's audio with margins and what it gave.
    """
    inner = audio[chunks.MARGIN : len(audio) - chunks.MARGIN]
    probability, f0 = out["voicing"], out["f0"]
    if isinstance(wishes.f0, f0_sources.Contour):
        times = np.arange(chunk.first, chunk.last) / AUDIO.frames_per_second + offset
        f0, probability = wishes.f0.at(times)
    elif wishes.f0 == "harvest":
        found = world.estimate_f0(inner)
        # Far from what harvest finds, the network's is all there is.
        known = framing.near(found > 0, _KNOWN_FRAMES)
        f0 = np.where(known, pitch.interpolate_unvoiced(found, found > 0), f0)
    features = world.VocoderFeatures(
        out["envelope"], out["aperiodicity"], np.asarray(f0, np.float32), np.zeros(len(f0), bool)
    )
    keep = chunk.keep
    return features[keep], probability[keep], world.frame_level_db(inner)[keep]


def _edited(
    features: world.VocoderFeatures, sung: voicing.Sung, wishes: Wishes
) -> world.VocoderFeatures:
    """Features as they are sung: voiced, quieter or silent as decided, transposed."""
    singing = np.isfinite(sung.gain_db)
    silence = world.silence_features(len(features))
    silence.envelope[:, 0] = _SILENT_C0
    envelope = features.envelope.copy()
    envelope[singing, 0] += sung.gain_db[singing] * (math.log(10.0) / 10.0)
    found = world.VocoderFeatures(
        np.where(singing[:, None], envelope, silence.envelope),
        np.where(singing[:, None], features.aperiodicity, silence.aperiodicity),
        features.f0,
        sung.voiced,
    )
    return editing.scale_formants(editing.transpose(found, wishes.transpose), wishes.formant)
