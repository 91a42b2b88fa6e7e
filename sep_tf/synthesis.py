"""Vocoder features, decoding with every clamp, and segmented synthesis by WORLD (section 4.1).

Features are what networks learn: 60 coded envelope values (natural log of power), 4 coded
aperiodicities (dB), f0 in Hz as a contour without gaps, and the voiced flag that restores the gaps.
`world` has the way there, and gives these names too.
"""

import collections
import dataclasses
import functools
import warnings
from collections.abc import Iterator
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np

from sep_tf import framing, vocoder_colour
from sep_tf.config import AudioConfig

with warnings.catch_warnings():
    # pyworld asks pkg_resources for its version, which warns every user that it is deprecated.
    warnings.simplefilter("ignore")
    import pyworld

AUDIO = AudioConfig()
# Synthesis takes every so manyth frequency of analysis, whose transforms have three periods of the
# lowest voice: shorter transforms are most of its work. The 16 ms after a pulse then have to hold
# its response and a period's noise: voices with longer periods take all frequencies.
SPECTRUM_STEP = 2
_LONGEST_PERIOD = 0.012
MAX_SEGMENT_SECONDS = 20.0

# Segments end after about so long where somebody pauses: what is decoded at once stays small.
_SEGMENT_SECONDS = 5.0
# Aperiodicity at 1 (0 dB) would make WORLD divide by zero in its periodic part.
_APERIODICITY_FLOOR = 0.001
# A segment begins so many frames before its join: long enough for pulses before them to fade.
_PRE_ROLL = 16
# And is rendered so many beyond it: WORLD drops the last pulse, at 50 Hz up to 4 frames away.
_POST_ROLL = 8
# WORLD's own pulse rate where unvoiced, Hz.
_UNVOICED_F0 = 500.0
# Rows and columns of a product computed at once.
_TILE = 64
# Stretches of so many frames that nobody hears get a lower one.
_SHORTEST_REST = 8
# Frames beside what can be heard that keep WORLD's own rate.
_REST_MARGIN = 2


@dataclasses.dataclass(frozen=True)
class VocoderFeatures:
    """A voice, every 5 ms.

    Attributes:
      envelope: float32 [T, 60], coded log power spectral envelope.
      aperiodicity: float32 [T, 4], coded aperiodicity in dB, at most 0.
      f0: float32 [T], Hz, a contour in every frame.
      voiced: bool [T].
    """

    envelope: np.ndarray
    aperiodicity: np.ndarray
    f0: np.ndarray
    voiced: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.envelope)
        if not len(self.aperiodicity) == len(self.f0) == len(self.voiced) == n:
            raise ValueError("vocoder features differ in their number of frames")

    def __len__(self) -> int:
        return len(self.envelope)

    def __getitem__(self, frames: slice | np.ndarray) -> "VocoderFeatures":
        return VocoderFeatures(*(getattr(self, f.name)[frames] for f in dataclasses.fields(self)))

    @property
    def stacked(self) -> np.ndarray:
        """Envelope and aperiodicity side by side, float32 [T, 64]: X of the paper."""
        return np.concatenate([self.envelope, self.aperiodicity], axis=1)

    @classmethod
    def concatenate(cls, parts: list["VocoderFeatures"]) -> "VocoderFeatures":
        """Joins features in time."""
        fields = [f.name for f in dataclasses.fields(cls)]
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))


def apply_gain(envelope: np.ndarray, gain: float | np.ndarray) -> np.ndarray:
    """The coded envelope [T, 60] of the same voice times `gain`, [T] or one: c0 + 2 ln g."""
    out = np.array(envelope, np.float32)
    out[:, 0] += 2.0 * np.log(gain)
    return out


def silence_features(n_frames: int, config: AudioConfig = AUDIO) -> VocoderFeatures:
    """Features of digital silence: the power floor, fully aperiodic, unvoiced."""
    floor = np.full((1, config.world_fft_length // 2 + 1), config.power_floor)
    coded = pyworld.code_spectral_envelope(floor, config.sample_rate, config.envelope_size)
    return VocoderFeatures(
        np.repeat(coded.astype(np.float32), n_frames, axis=0),
        np.zeros((n_frames, config.aperiodicity_size), np.float32),
        np.full(n_frames, 220.0, np.float32),
        np.zeros(n_frames, bool),
    )


def decode(
    features: VocoderFeatures, config: AudioConfig = AUDIO, step: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """WORLD's parameters, every clamp applied: whatever a network says, synthesis is finite.

    Args:
      features: of a voice.
      config: signal constants.
      step: every so manyth frequency of analysis, a power of two: [T, 1 + 1024 / step].

    Returns:
      f0 float64 [T] (0 or 50..1100 Hz), power envelope [T, bins], aperiodicity [T, bins] in 0..1.
    """
    f0 = _sung_f0(features, config)
    coded = np.nan_to_num(np.asarray(features.envelope, np.float64), posinf=0.0, neginf=-100.0)
    # c0 is the mean log power: far beyond full scale and far below the floor, what exp() survives.
    coded[:, 0] = np.clip(coded[:, 0], -100.0, 20.0)
    envelope_basis, offset, aperiodicity_basis = _bases(config, step)
    with np.errstate(over="ignore"):
        envelope = product(coded, envelope_basis)
        np.exp(envelope, out=envelope)
    # In place: these are the largest arrays of an extraction.
    np.clip(envelope, config.power_floor * 1e-6, 1e6, out=envelope)
    aperiodicity = np.ones_like(envelope)
    sung = f0 > 0
    bands = np.asarray(features.aperiodicity, np.float64)[sung]
    bands = np.clip(np.nan_to_num(bands), -60.0, 0.0)
    share = np.einsum("tb,bk->tk", bands, aperiodicity_basis)
    share += offset
    np.exp(share, out=share)
    # A frame without a periodic part, as WORLD takes it.
    share[bands.mean(axis=1) > -0.5] = 1.0
    aperiodicity[sung] = np.clip(share, _APERIODICITY_FLOOR, 1.0, out=share)
    return f0, envelope, aperiodicity


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b, on the caller's thread: of larger pieces BLAS makes threads that spin beside ours."""
    out = np.empty((len(a), b.shape[1]))
    for i in range(0, len(a), _TILE):
        for k in range(0, b.shape[1], _TILE):
            np.matmul(a[i : i + _TILE], b[:, k : k + _TILE], out=out[i : i + _TILE, k : k + _TILE])
    return out


def log_power_at(hz: np.ndarray, config: AudioConfig = AUDIO) -> np.ndarray:
    """[60, K]: coded envelopes [T, 60] @ it are their natural log power at K frequencies in Hz."""
    bins = np.linspace(0.0, 0.5 * config.sample_rate, config.world_fft_length // 2 + 1)
    return np.stack([np.interp(hz, bins, row) for row in _bases(config, 1)[0]])


@functools.lru_cache
def _bases(config: AudioConfig, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """WORLD's decoding as matrices: what it decodes is linear, but for the logarithm.

    Of every `step`-th frequency: at another length its codec would shift the spectra.

    Returns:
      [60, bins], log power of the coded envelope; [bins] and [4, bins], log aperiodicity of bands
      in dB.
    """
    size = (config.sample_rate, config.world_fft_length)
    envelope = pyworld.decode_spectral_envelope(np.eye(config.envelope_size), *size)
    # Far from 0 dB, near which WORLD takes a frame as wholly aperiodic.
    bands = np.full((1 + config.aperiodicity_size, config.aperiodicity_size), -40.0)
    bands[1:] -= 10.0 * np.eye(config.aperiodicity_size)
    decoded = np.log(pyworld.decode_aperiodicity(bands, *size))
    basis = (decoded[:1] - decoded[1:]) / 10.0
    whole = np.log(envelope), decoded[0] + 40.0 * basis.sum(axis=0), basis
    envelope_basis, offset, aperiodicity_basis = (
        np.ascontiguousarray(part[..., ::step]) for part in whole
    )
    return envelope_basis, offset, aperiodicity_basis


def _sung_f0(features: VocoderFeatures, config: AudioConfig) -> np.ndarray:
    """float64 [T], 50..1100 Hz, or 0 where unvoiced."""
    f0 = np.nan_to_num(np.asarray(features.f0, np.float64))
    voiced = np.asarray(features.voiced, bool) & (f0 > 0)
    return np.where(voiced, np.clip(f0, config.f0_floor, config.f0_ceil), 0.0)


def synthesise(
    features: VocoderFeatures, n_samples: int, config: AudioConfig = AUDIO
) -> np.ndarray:
    """The voice of the features, float32 [n_samples].

    Raises:
      ValueError: the features do not have 1 + n_samples // hop frames.
    """
    if len(features) != framing.frame_count(n_samples, config.hop_length):
        raise ValueError(
            f"{len(features)} frames of features do not make {n_samples} samples: expected "
            f"{framing.frame_count(n_samples, config.hop_length)}"
        )
    synthesiser = Synthesiser(config)
    parts = [*synthesiser.push(features), *synthesiser.finish()]
    return np.concatenate(parts)[:n_samples]


class Synthesiser:
    """Streaming synthesis in short segments, on several cores, in memory that does not grow.

    A segment ends in the last unvoiced frame of its first 5 s, else in the first one after them.
    Segments overlap, and are cross-faded within that frame. Where 20 s pass without one,
    the next segment starts on a pulse of this one, its phase zero where this one's has wrapped:
    both have the same pulses in the overlap, so that the cross-fade does not show.
    """

    def __init__(self, config: AudioConfig = AUDIO, threads: int = 0) -> None:
        """Nothing is synthesised yet.

        Args:
          config: signal constants.
          threads: segments rendered at a time, beside the caller; 0 for the caller's own thread.
            The voice is the same. `close`, or the end of a `with` block, ends them.
        """
        self._config = config
        self._threads = threads
        self._pool = futures.ThreadPoolExecutor(threads) if threads else None
        self._rendering: collections.deque[tuple[_Segment, Any]] = collections.deque()
        self._pending: list[VocoderFeatures] = []
        self._frames = 0
        # Frames of what is pending that lie before its join with the segment before.
        self._pre_roll = 0
        self._fading = np.zeros(0, np.float32)
        self._limit = int(MAX_SEGMENT_SECONDS * config.frames_per_second)
        self._short = min(self._limit, int(_SEGMENT_SECONDS * config.frames_per_second))

    def __enter__(self) -> "Synthesiser":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forgets what has not been asked for and ends the threads."""
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def push(self, features: VocoderFeatures) -> Iterator[np.ndarray]:
        """Takes the next frames; yields float32 audio, in all 160 samples a frame, when ready."""
        self._pending.append(features)
        self._frames += len(features)
        while self._frames > self._short:
            waiting = VocoderFeatures.concatenate(self._pending)
            self._pending = [waiting]
            if (cut := self._choose_join(waiting[: self._limit])) is None:
                break
            start, join = cut
            yield from self._submit(waiting[: join + 1 + _POST_ROLL], join)
            self._pending, self._frames = [waiting[start:]], len(waiting) - start
            self._pre_roll = join - start

    def finish(self) -> Iterator[np.ndarray]:
        """Yields the audio of what is left; nothing may be pushed after it."""
        if self._frames:
            waiting = VocoderFeatures.concatenate(self._pending)
            self._pending, self._frames = [], 0
            yield from self._submit(waiting, None)
        while self._rendering:
            yield self._next()

    def _choose_join(self, features: VocoderFeatures) -> tuple[int, int] | None:
        """The next segment's first frame, and the frame in whose middle the two are joined.

        None where more frames have to come first. However frames come, the same is chosen.
        """
        last = len(features) - _POST_ROLL - 1
        f0 = _sung_f0(features, self._config)[:last]
        short = min(self._short - _POST_ROLL - 1, last)
        unvoiced = np.flatnonzero(f0[self._short // 2 :] == 0) + self._short // 2
        if unvoiced.size:
            early = unvoiced[unvoiced < short]
            join = int(early[-1] if early.size else unvoiced[0])
            return join - _PRE_ROLL, join
        if len(features) < self._limit:
            return None
        starts = np.arange(self._limit // 2, last - _PRE_ROLL)
        phase = _phase(f0, self._config)[starts * self._config.hop_length]
        start = int(starts[np.argmin(np.abs(phase - np.round(phase)))])
        return start, start + _PRE_ROLL

    def _submit(self, features: VocoderFeatures, join: int | None) -> Iterator[np.ndarray]:
        """Has a segment rendered; yields those before it as far as it takes to keep memory flat."""
        sung = bool(_sung_f0(features[self._pre_roll : self._pre_roll + 1], self._config)[0] > 0)
        segment = _Segment(self._pre_roll, join, len(features), sung)
        if self._pool is None:
            self._rendering.append((segment, _render(features, join is None, self._config)))
            yield self._next()
            return
        task = self._pool.submit(_render, features, join is None, self._config)
        self._rendering.append((segment, task))
        while len(self._rendering) > self._threads:
            yield self._next()

    def _next(self) -> np.ndarray:
        """Audio of the oldest segment up to its join, faded into the one before."""
        segment, audio = self._rendering.popleft()
        if isinstance(audio, futures.Future):
            audio = audio.result()
        hop = self._config.hop_length
        before = segment.pre_roll * hop - hop // 2 if segment.pre_roll else 0
        audio = audio[before:]
        if before:
            ramp = ((np.arange(hop) + 0.5) / hop).astype(np.float32)
            # Pulses of both are the same: amplitudes add. Noises are not: powers do.
            weights = (ramp, 1 - ramp) if segment.sung else (ramp**0.5, (1 - ramp) ** 0.5)
            audio[:hop] = weights[0] * audio[:hop] + weights[1] * self._fading
        if segment.join is None:
            return audio[: segment.frames * hop - before]
        end = segment.join * hop - hop // 2 - before
        self._fading = audio[end : end + hop].copy()
        return audio[:end]


class _Segment(NamedTuple):
    """Frames before its first join, the frame of its last one, frames in all, sung at the first."""

    pre_roll: int
    join: int | None
    frames: int
    sung: bool


def _render(features: VocoderFeatures, to_the_end: bool, config: AudioConfig) -> np.ndarray:
    """All of a segment's audio, float32."""
    f0 = _sung_f0(features, config)
    step = 1 if (f0[f0 > 0] < 1.0 / _LONGEST_PERIOD).any() else SPECTRUM_STEP
    f0, envelope, aperiodicity = decode(features, config, step)
    # At the power floor throughout there is nothing to hear; WORLD would add faint noise.
    if envelope.max() <= 2.0 * config.power_floor and not f0.any():
        return np.zeros(len(features) * config.hop_length, np.float32)
    audible = envelope.max(axis=1) > 2.0 * config.power_floor
    colour = vocoder_colour.gain(envelope.shape[1], config)
    np.multiply(envelope, colour, out=envelope, where=(f0 > 0)[:, np.newaxis])
    f0 = _resting(f0, audible, config)
    held = _POST_ROLL if to_the_end else 0
    audio = pyworld.synthesize(
        np.pad(f0, (0, held), "edge"),
        np.pad(envelope, ((0, held), (0, 0)), "edge") if held else envelope,
        np.pad(aperiodicity, ((0, held), (0, 0)), "edge") if held else aperiodicity,
        config.sample_rate,
        config.frame_period_ms,
    )
    return np.nan_to_num(audio).astype(np.float32)


def _resting(f0: np.ndarray, audible: np.ndarray, config: AudioConfig) -> np.ndarray:
    """f0 [T] with a low pulse rate where nobody hears it: WORLD's work is that of its pulses.

    The rate is such that the phase after a rest is the one that WORLD's own rate would have led to:
    what is heard stays the same, sample for sample but for rounding.

    Args:
      f0: [T] Hz, 0 where unvoiced.
      audible: bool [T].
      config: signal constants.
    """
    rest = ~framing.near(audible | (f0 > 0), _REST_MARGIN)
    rest[:_REST_MARGIN] = rest[-_REST_MARGIN:] = False
    edges = np.flatnonzero(np.diff(rest.astype(np.int8))) + 1
    rests = [(a, b) for a, b in edges.reshape(-1, 2) if b - a >= _SHORTEST_REST]
    if not rests:
        return f0
    # Cycles that a rest takes: at WORLD's own rate, and by what they grow with each Hz of another.
    own, once, twice = (
        _phase(np.where(rest, hz, f0), config)
        for hz in (0.0, config.f0_floor, 2.0 * config.f0_floor)
    )
    slow = f0.copy()
    for first, last in rests:
        span = slice((first - 1) * config.hop_length, last * config.hop_length + 1)
        wanted, low, high = (np.ptp(phase[span]) for phase in (own, once, twice))
        # Whole cycles less, to the lowest rate that is no less than the floor's.
        target = wanted - np.floor(wanted - low)
        slow[first:last] = config.f0_floor * (1.0 + (target - low) / (high - low))
    return slow


def _phase(f0: np.ndarray, config: AudioConfig) -> np.ndarray:
    """Cycles WORLD's synthesis has gone through before each sample of f0 [T], 0 = unvoiced."""
    # In seconds as WORLD has it, whose rounding decides at the middle between two frames.
    position = np.arange(len(f0) * config.hop_length) / config.sample_rate
    frames = np.arange(len(f0)) * (config.frame_period_ms / 1000.0)
    voiced = np.interp(position, frames, (f0 > 0).astype(np.float64)) > 0.5
    rate = np.where(voiced, np.interp(position, frames, f0), _UNVOICED_F0)
    return np.concatenate([[0.0], np.cumsum(rate / config.sample_rate)])
