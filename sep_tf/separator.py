"""Separator: the public API. A mixture goes in, the singer's dry voice comes out."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from sep_tf import audio_io, audio_write, framing, pitch, runtimes, world
from sep_tf.config import AudioConfig, ExtractConfig
from sep_tf.errors import AudioError, SepTfError
from sep_tf.runtimes import chunks

AUDIO = AudioConfig()
DEFAULTS = ExtractConfig()
F0_SOURCES = ("model", "harvest")
# Mixture frames below this level (dBFS) hold nothing that could be sung.
_SILENCE_DB = -80.0

# Frames that a consonant or breath may lie from the nearest voiced frame (200 ms); farther away
# nobody sings, whatever the envelope says. Less than the context of a chunk.
_CONSONANT_FRAMES = 40
# More channels than any recording has: the axes are the wrong way round.
_MAX_CHANNELS = 256
# Log power of frames where the mixture is silent: below what 24 bits hold.
_SILENT_C0 = -34.0

Progress = Callable[[float, float], None]


@dataclasses.dataclass(frozen=True)
class Result:
    """What happened to one file; times in seconds."""

    input: str
    output: str
    # "litert" or "keras": what ran the networks.
    runtime: str
    sample_rate: int
    n_samples: int
    seconds: float
    elapsed: float
    # Largest absolute sample before, and what it was multiplied by.
    peak: float
    gain: float
    voiced_share: float


class Separator:
    """Extracts the singing voice of mixtures by re-synthesis. Reusable and thread-safe."""

    def __init__(
        self,
        model: str = DEFAULTS.model,
        runtime: str = DEFAULTS.runtime,
        f0: str = DEFAULTS.f0,
    ) -> None:
        """Names the model; it is loaded at first use.

        Args:
          model: a bundled name such as "sin-lite", or the path of a .tflite or .weights.h5 file.
          runtime: "auto", "litert" or "keras".
          f0: "model", or "harvest" to take WORLD's estimate on the mixture.

        Raises:
          SepTfError: unknown model, runtime or f0 source, or a runtime that is not installed.
        """
        if f0 not in F0_SOURCES:
            raise SepTfError(f"unknown f0 source '{f0}', expected one of: {', '.join(F0_SOURCES)}")
        runtimes.find(model, runtime)
        self._model, self._runtime_name, self._f0 = model, runtime, f0
        self._runtime: runtimes.Runtime | None = None
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls, name: str = DEFAULTS.model, runtime: str = DEFAULTS.runtime, f0: str = DEFAULTS.f0
    ) -> "Separator":
        """The constructor under the name that users of pretrained models look for."""
        return cls(name, runtime, f0)

    def load(self) -> None:
        """Loads the model now instead of at first use; raises ModelError when it does not fit."""
        _ = self.runtime

    @property
    def runtime(self) -> runtimes.Runtime:
        """The loaded model."""
        with self._lock:
            if self._runtime is None:
                self._runtime = runtimes.load(self._model, self._runtime_name)
            return self._runtime

    @property
    def system(self) -> str:
        """The system of the loaded model: "sin", ..."""
        return self.runtime.info.system

    def analyse(
        self, audio: np.ndarray, sample_rate: int, progress: Progress | None = None
    ) -> world.VocoderFeatures:
        """Vocoder features of the voice in a mixture.

        Args:
          audio: float [samples] or [samples, channels]; channels are averaged. Not changed.
          sample_rate: Hz.
          progress: called with (seconds done, seconds in all).

        Returns:
          VocoderFeatures every 5 ms of the signal at 32 kHz.

        Raises:
          AudioError: no samples, more than two dimensions, NaN or infinite samples.
        """
        mono, rate = to_mono(audio), check_rate(sample_rate)
        resampler = audio_io.Resampler(rate, AUDIO.sample_rate)
        samples = np.concatenate([resampler.push(mono), resampler.finish()])
        scaled = _against(progress, len(mono) / rate)
        return world.VocoderFeatures.concatenate(list(self._features([samples], scaled)))

    def separate(
        self, audio: np.ndarray, sample_rate: int, progress: Progress | None = None
    ) -> np.ndarray:
        """The dry voice of a mixture.

        Args, raises: as `analyse`.

        Returns:
          float32 [samples], as many as `audio` has, at the same rate. May exceed +-1.
        """
        mono, rate = to_mono(audio), check_rate(sample_rate)
        voice = self._voice([mono], rate, rate, [], _against(progress, len(mono) / rate))
        return np.concatenate(list(voice))

    def stream(self, blocks: Iterable[np.ndarray], sample_rate: int) -> Iterator[np.ndarray]:
        """The dry voice of sound that is still arriving.

        The voice comes 10 to 35 s late: chunks of 14 s with their context (the bundled model's),
        and segments of 10 to 20 s that WORLD joins where nobody sings.

        Args:
          blocks: float arrays [samples] or [samples, channels] of any lengths. Not
            changed.
          sample_rate: Hz.

        Yields:
          float32 [samples] at the same rate, in all as many samples as came in.

        Raises:
          AudioError: as `analyse`, when the block in question arrives.
        """
        rate = check_rate(sample_rate)
        full = (to_mono(block) for block in blocks if np.size(block))
        return self._voice(full, rate, rate, [], None)

    def separate_file(
        self,
        src: str | Path,
        dst: str | Path,
        *,
        output_rate: int | None = None,
        clip: str = DEFAULTS.clip,
        offset: float = 0.0,
        duration: float | None = None,
        features_out: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Result:
        """Extracts the voice of a file into a file, block by block in flat memory.

        Args:
          src: any format that libsndfile reads.
          dst: its extension names the format; appears only when complete.
          output_rate: Hz; the input's rate by default.
          clip: "rescale", "clamp" or "none", for a voice beyond full scale.
          offset: seconds to skip.
          duration: seconds to read; all by default.
          features_out: .npz for the vocoder features.
          progress: called with (seconds done, seconds in all).

        Raises:
          SepTfError: whatever is wrong with a file, in one line.
        """
        started = time.monotonic()
        info = audio_io.probe(src)
        if Path(dst).exists() and Path(dst).samefile(src):
            raise SepTfError(f"{dst}: the output would replace the input")
        rate = check_rate(info.sample_rate if output_rate is None else output_rate)
        blocks = audio_io.read_blocks(src, offset=offset, duration=duration)
        total = max(info.duration - offset, 0.0)
        if duration is not None:
            total = min(total, duration)
        kept: list[world.VocoderFeatures] = []
        voiced = _Share()
        scaled = _against(progress, total)
        with audio_write.VoiceWriter(dst, rate, clip) as writer:
            voice = self._voice(
                (to_mono(block) for block in blocks), info.sample_rate, rate, kept, scaled,
                keep=features_out is not None, voiced=voiced,
            )  # fmt: skip
            for block in voice:
                writer.write(block)
            if not writer.frames:
                raise AudioError(f"{src}: no samples to extract a voice from")
            # Before the voice appears: one is not there without the other.
            if features_out is not None:
                save_features(features_out, world.VocoderFeatures.concatenate(kept))
        return Result(
            input=str(src),
            output=str(dst),
            runtime=self.runtime.name,
            sample_rate=rate,
            n_samples=writer.frames,
            seconds=writer.frames / rate,
            elapsed=time.monotonic() - started,
            peak=writer.peak,
            gain=writer.gain,
            voiced_share=voiced.value,
        )

    def _voice(
        self,
        blocks: Iterable[np.ndarray],
        in_rate: int,
        out_rate: int,
        kept: list[world.VocoderFeatures],
        progress: Callable[[float], None] | None,
        keep: bool = False,
        voiced: "_Share | None" = None,
    ) -> Iterator[np.ndarray]:
        """Mono blocks at in_rate -> voice blocks at out_rate, in all as long as the input."""
        counter = _Counter(blocks)
        down = audio_io.Resampler(in_rate, AUDIO.sample_rate)

        def resampled() -> Iterator[np.ndarray]:
            for block in counter:
                yield down.push(block)
            yield down.finish()

        up = audio_io.Resampler(AUDIO.sample_rate, out_rate)
        synthesiser = world.Synthesiser(AUDIO)
        # The last frame reaches beyond the end: hold samples back until the length is known.
        sent = 0
        for features in self._features(resampled(), progress):
            if voiced is not None:
                voiced.add(features.voiced)
            if keep:
                kept.append(features)
            for block in synthesiser.push(features):
                out = up.push(block)
                sent += len(out)
                yield out
        tail = [up.push(block) for block in synthesiser.finish()]
        tail.append(up.finish())
        left = audio_io.resampled_length(counter.samples, in_rate, out_rate) - sent
        last = np.concatenate(tail)[:left]
        yield np.pad(last, (0, left - len(last)))

    def _features(
        self, blocks: Iterable[np.ndarray], progress: Callable[[float], None] | None
    ) -> Iterator[world.VocoderFeatures]:
        """Mono blocks at 32 kHz -> features, chunk by chunk."""
        info = self.runtime.info
        cut = framing.stream_chunks(
            blocks, info.chunk_frames, info.context, chunks.MARGIN, AUDIO.hop_length, info.alignment
        )
        for chunk, audio, out in chunks.run_all(self.runtime, cut):
            yield self._chunk_features(audio, chunk, out)
            if progress:
                progress(chunk.stop / AUDIO.frames_per_second)

    def _chunk_features(
        self, audio: np.ndarray, chunk: framing.Chunk, out: dict[str, np.ndarray]
    ) -> world.VocoderFeatures:
        """Features of the frames a chunk keeps, from its audio with margins and what it gave."""
        voiced = out["voicing"] > self.runtime.info.voicing_threshold
        singing = near(voiced, _CONSONANT_FRAMES)[chunk.keep]
        out, voiced = {name: value[chunk.keep] for name, value in out.items()}, voiced[chunk.keep]
        inner = audio[chunks.MARGIN : len(audio) - chunks.MARGIN]
        level = world.frame_level_db(inner)[chunk.keep]
        f0 = out["f0"]
        if self._f0 == "harvest":
            found = world.estimate_f0(inner)[chunk.keep]
            f0 = pitch.interpolate_unvoiced(found, found > 0).astype(np.float32)
        silence = world.silence_features(len(f0))
        silence.envelope[:, 0] = _SILENT_C0
        heard = (level > _SILENCE_DB) & singing
        return world.VocoderFeatures(
            np.where(heard[:, None], out["envelope"], silence.envelope),
            np.where(heard[:, None], out["aperiodicity"], silence.aperiodicity),
            f0,
            voiced & heard,
        )


def to_mono(audio: np.ndarray) -> np.ndarray:
    """float [samples] or [samples, channels] -> float32 [samples], a mean; raises AudioError."""
    audio = np.asarray(audio)
    if audio.ndim not in (1, 2) or audio.dtype.kind != "f":
        raise AudioError(
            f"audio must be float, [samples] or [samples, channels], not {audio.dtype} "
            f"{list(audio.shape)}"
        )
    if audio.size == 0:
        raise AudioError("audio has no samples")
    if audio.ndim == 2 and audio.shape[1] > _MAX_CHANNELS:
        raise AudioError(f"audio must be [samples, channels], not {list(audio.shape)}")
    mono = audio.mean(axis=1, dtype=np.float32) if audio.ndim == 2 else audio.astype(np.float32)
    if not np.isfinite(mono).all():
        raise AudioError("audio has NaN or infinite samples")
    return mono


def near(flags: np.ndarray, reach: int) -> np.ndarray:
    """bool [T]: whether a true value of flags [T] is within `reach` frames."""
    count = np.concatenate([[0], np.cumsum(flags)])
    position = np.arange(len(flags))
    last = np.minimum(position + reach + 1, len(flags))
    return count[last] > count[np.maximum(position - reach, 0)]


def check_rate(sample_rate: float) -> int:
    """A sample rate in Hz as an integer; raises AudioError when it is none."""
    if sample_rate != int(sample_rate) or not 1000 <= sample_rate <= 1_000_000:
        raise AudioError(f"a sample rate of {sample_rate} Hz makes no sense")
    return int(sample_rate)


def save_features(path: str | Path, features: world.VocoderFeatures) -> None:
    """Writes features as .npz (envelope, aperiodicity, f0, voiced), complete or not at all."""
    with audio_write.replacing(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **vars(features))


def _against(progress: Progress | None, total: float) -> Callable[[float], None] | None:
    """Progress in seconds done, against a length known before the audio is read."""
    if progress is None:
        return None
    return lambda done: progress(min(done, total), total)


class _Counter:
    """Passes blocks on and counts their samples."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks, self.samples = blocks, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self.samples += len(block)
            yield block


class _Share:
    """Share of true values over arrays that come one by one."""

    def __init__(self) -> None:
        self._true = self._all = 0

    def add(self, flags: np.ndarray) -> None:
        self._true += int(flags.sum())
        self._all += len(flags)

    @property
    def value(self) -> float:
        return self._true / max(self._all, 1)
