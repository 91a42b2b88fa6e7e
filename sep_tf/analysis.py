"""From a mixture at 32 kHz to the vocoder features of its voice, chunk by chunk."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from sep_tf import editing, f0_sources, framing, pitch, runtimes, world
from sep_tf.config import AudioConfig
from sep_tf.runtimes import chunks

AUDIO = AudioConfig()
# Mixture frames below this level (dBFS) hold nothing that could be sung.
_SILENCE_DB = -80.0
# Frames that a consonant or breath may lie from the nearest frame that may be voiced (200 ms);
# farther away nobody sings, whatever the envelope says. Less than the context of a chunk.
_CONSONANT_FRAMES = 40
# Voicing probability of such a frame. Far below the threshold of voicing: under loud music much of
# what is sung is in doubt, and SIN's envelope is quiet by itself (docs/experiments.md).
_PERHAPS_VOICED = 0.1
# Log power of frames where the mixture is silent: below what 24 bits hold.
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
    for chunk, audio, out in chunks.run_all(runtime, cut, **wishes.inputs):
        found = _of_chunk(info, audio, out, chunk, wishes, offset)
        yield editing.scale_formants(editing.transpose(found, wishes.transpose), wishes.formant)
        if progress:
            progress(chunk.stop / AUDIO.frames_per_second)


def _of_chunk(
    info: runtimes.ModelInfo,
    audio: np.ndarray,
    out: dict[str, np.ndarray],
    chunk: framing.Chunk,
    wishes: Wishes,
    offset: float,
) -> world.VocoderFeatures:
    """Features of the frames a chunk keeps, from its audio with margins and what it gave."""
    inner = audio[chunks.MARGIN : len(audio) - chunks.MARGIN]
    voiced = out["voicing"] > info.voicing_threshold
    perhaps = voiced | (out["voicing"] > _PERHAPS_VOICED)
    f0 = out["f0"]
    if isinstance(wishes.f0, f0_sources.Contour):
        times = np.arange(chunk.first, chunk.last) / AUDIO.frames_per_second + offset
        f0, voiced = wishes.f0.at(times)
        perhaps = voiced
    elif wishes.f0 == "harvest":
        found = world.estimate_f0(inner)
        # Far from what harvest finds, the network's is all there is.
        known = framing.near(found > 0, _CONSONANT_FRAMES)
        f0 = np.where(known, pitch.interpolate_unvoiced(found, found > 0), f0)
    heard = world.frame_level_db(inner) > _SILENCE_DB
    singing = (heard & framing.near(perhaps, _CONSONANT_FRAMES))[chunk.keep]
    silence = world.silence_features(len(singing))
    silence.envelope[:, 0] = _SILENT_C0
    return world.VocoderFeatures(
        np.where(singing[:, None], out["envelope"][chunk.keep], silence.envelope),
        np.where(singing[:, None], out["aperiodicity"][chunk.keep], silence.aperiodicity),
        np.asarray(f0, np.float32)[chunk.keep],
        voiced[chunk.keep] & singing,
    )
