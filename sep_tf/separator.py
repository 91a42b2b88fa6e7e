"""Separator: the public API. A mixture goes in, the singer's dry voice comes out."""

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sep_tf import (
    analysis,
    audio_io,
    audio_write,
    editing,
    f0_sources,
    masking,
    outputs,
    overwriting,
    processors,
    runtimes,
    subtraction,
    world,
)
from sep_tf.config import AudioConfig, ExtractConfig
from sep_tf.errors import AudioError, ModelError, SepTfError
from sep_tf.overwriting import StrPath
from sep_tf.signals import Counter, Progress, against, check_rate, checked, to_mono

AUDIO = AudioConfig()
DEFAULTS = ExtractConfig()
F0_SOURCES = f0_sources.NAMED


@dataclasses.dataclass(frozen=True)
class Result:
    """What happened to one file; times in seconds."""

    input: str
    output: str
    # What ran the networks: "litert", "keras", ...
    runtime: str
    sample_rate: int
    n_samples: int
    seconds: float
    elapsed: float
    real_time_factor: float
    # Largest absolute sample before, and what it was multiplied by.
    peak: float
    gain: float
    # Share of frames that are sung; None where no vocoder is at work.
    voiced_share: float | None
    # Of the accompaniment; None without one.
    accompaniment_peak: float | None = None
    accompaniment_gain: float | None = None


class Separator:
    """Extracts the singing voice of mixtures by re-synthesis. Reusable and thread-safe."""

    def __init__(
        self,
        model: StrPath = DEFAULTS.model,
        runtime: str = DEFAULTS.runtime,
        f0: str | Path = DEFAULTS.f0,
        *,
        server: str | None = None,
        singer: str | None = None,
        transpose: float = DEFAULTS.transpose,
        formant: float = DEFAULTS.formant,
    ) -> None:
        """Names the model; it is loaded at first use.

        Args:
          model: a bundled name such as "sin-lite", or the path of a model file.
          runtime: "auto" or one of those that are installed, as "litert".
          f0: "model", "harvest" for WORLD's estimate on the mixture, or the path of a CSV file of
            time and Hz, see `f0_sources.read`.
          server: HOST:PORT or http://HOST:PORT of TensorFlow Serving, where the model then is.
          singer: whose voice it is, for models that know singers (system sdn).
          transpose: semitones up, formants kept.
          formant: what formant frequencies are multiplied by.

        Raises:
          SepTfError: unknown model, runtime or f0 source, a runtime that is not installed, a
            value that makes no sense.
        """
        editing.check(transpose, formant)
        source: str | f0_sources.Contour = str(f0)
        # Files beside the song that an output must not replace.
        self._read: list[str | Path] = []
        if source not in F0_SOURCES:
            if not str(f0).lower().endswith(".csv"):
                known = ", ".join((*F0_SOURCES, "FILE.csv"))
                raise SepTfError(f"unknown f0 source '{f0}', expected one of: {known}")
            source = f0_sources.read(f0)
            self._read = [f0]
        model = os.fspath(model)
        runtimes.find(model, runtime, server)
        self._model, self._runtime_name, self._singer = model, runtime, singer
        self._server = server
        self._wishes = analysis.Wishes(source, transpose=transpose, formant=formant)
        self._runtime: runtimes.Runtime | None = None
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls, name: StrPath = DEFAULTS.model, runtime: str = DEFAULTS.runtime, **wishes: Any
    ) -> "Separator":
        """The constructor under the name that users of pretrained models look for."""
        return cls(name, runtime, **wishes)

    def use(self, runtime: runtimes.Runtime) -> None:
        """Takes a model that another Separator has loaded; raises ModelError if it cannot do."""
        with self._lock:
            self._check_wishes(runtime.info)
            self._runtime = runtime

    def load(self) -> None:
        """Loads the model now instead of at first use; raises ModelError when it does not fit."""
        _ = self.runtime

    @property
    def runtime(self) -> runtimes.Runtime:
        """The loaded model."""
        with self._lock:
            if self._runtime is None:
                runtime = runtimes.load(self._model, self._runtime_name, self._server)
                self._check_wishes(runtime.info)
                self._runtime = runtime
            return self._runtime

    @property
    def system(self) -> str:
        """The system of the loaded model: "sin", ..."""
        return self.runtime.info.system

    def _check_wishes(self, info: runtimes.ModelInfo) -> None:
        """Raises ModelError for what this model cannot do; looks up the singer's number."""
        wishes, inputs = self._wishes, {}
        if info.system == "autovc":
            raise ModelError(f"{self._model} converts solo voices, see `sep-tf convert`")
        if info.system == "unet" and wishes != analysis.Wishes():
            raise ModelError(
                f"{self._model}: system unet masks the mixture, and has no f0 or formants to change"
            )
        if info.singers and self._singer is None:
            raise ModelError(f"{self._model} needs a singer, one of: {', '.join(info.singers)}")
        if self._singer is not None:
            inputs["singer"] = info.singer(self._singer, self._model)
        self._wishes = dataclasses.replace(wishes, inputs=inputs)

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
          AudioError: no samples, more than two dimensions, samples that are NaN, infinite or beyond
            1e6.
          ModelError: a system that masks has no such features.
        """
        mono, rate = to_mono(audio), check_rate(sample_rate)
        if self.system == "unet":
            raise ModelError(f"{self._model}: system unet has no vocoder features")
        resampler = audio_io.Resampler(rate, AUDIO.sample_rate)
        samples = np.concatenate([resampler.push(mono), resampler.finish()])
        scaled = against(progress, len(mono) / rate)
        found = analysis.features(self.runtime, [samples], self._wishes, progress=scaled)
        return world.VocoderFeatures.concatenate(list(found))

    def separate(
        self, audio: np.ndarray, sample_rate: int, progress: Progress | None = None
    ) -> np.ndarray:
        """The dry voice of a mixture.

        Args, raises: as `analyse`.

        Returns:
          float32 [samples], as many as `audio` has, at the same rate; of system unet in the shape
          of `audio`. May exceed +-1.
        """
        audio, rate = checked(audio), check_rate(sample_rate)
        scaled = against(progress, len(audio) / rate)
        return np.concatenate(list(self._voice([audio], rate, rate, progress=scaled)))

    def stream(self, blocks: Iterable[np.ndarray], sample_rate: int) -> Iterator[np.ndarray]:
        """The dry voice of sound that is still arriving.

        The voice comes after a chunk of 5.1 s, its context of 1.3 s (the bundled model's), 1.2 s
        in which it is decided what is sung, and a segment, which ends in a pause after about 5 s,
        or after 20 s without one. It is up to 12.6 s late where pauses are 2.5 s apart, for longer
        phrases 10.1 s more than they last, and 27.6 s at most, in a note that is held. System unet
        has no segments; a server has four chunks at work, which adds their length.

        Args:
          blocks: float arrays [samples] or [samples, channels] of any lengths. Not
            changed.
          sample_rate: Hz.

        Yields:
          float32 [samples] at the same rate, in all as many samples as came in; of system unet in
          the shape of the blocks.

        Raises:
          AudioError: as `analyse`, when the block in question arrives.
        """
        rate = check_rate(sample_rate)
        full = (checked(block) for block in blocks if np.size(block))
        return self._voice(full, rate, rate, live=True)

    def separate_file(
        self,
        src: str | Path,
        dst: str | Path,
        *,
        output_rate: int | None = None,
        clip: str = DEFAULTS.clip,
        encoding: str | None = None,
        offset: float = 0.0,
        duration: float | None = None,
        accompaniment: str | Path | None = None,
        features_out: str | Path | None = None,
        f0_out: str | Path | None = None,
        midi_out: str | Path | None = None,
        plot: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Result:
        """Extracts the voice of a file into a file, block by block in flat memory.

        Args:
          src: any format that libsndfile reads.
          dst: its extension names the format; appears only when complete.
          output_rate: Hz; the input's rate by default.
          clip: "rescale", "clamp" or "none", for a voice beyond full scale.
          encoding: "pcm16", "pcm24" or "float"; the format's own by default.
          offset: seconds to skip.
          duration: seconds to read; all by default.
          accompaniment: file for the mixture without the voice, see `_check_side`.
          features_out: .npz for the vocoder features.
          f0_out: .csv for time, f0 and voicing.
          midi_out: .mid for the notes that are sung.
          plot: picture of mixture, voice and f0.
          progress: called with (seconds done, seconds in all).

        Raises:
          SepTfError: whatever is wrong with a file, in one line.
        """
        started = time.monotonic()
        info = audio_io.probe(src)
        side = outputs.SideFiles(features_out, f0_out, midi_out, plot)
        others = (accompaniment, *dataclasses.astuple(side))
        written = [dst, *(path for path in others if path is not None)]
        overwriting.forbid(written, [src, *self._read], "the output")
        self._check_side(side, accompaniment)
        rate = check_rate(info.sample_rate if output_rate is None else output_rate)
        total = info.seconds_read(offset, duration)
        channels = info.channels if self.system == "unet" else 1
        kind: dict[str, Any] = {"clip": clip, "encoding": encoding, "channels": channels}
        with contextlib.ExitStack() as stack:
            # All appear when all are finished; entered first, the voice is the last.
            writer = stack.enter_context(audio_write.VoiceWriter(dst, rate, **kind))
            band = None
            if accompaniment is not None:
                wide = kind | {"channels": info.channels}
                band = stack.enter_context(audio_write.VoiceWriter(accompaniment, rate, **wide))
            kept = stack.enter_context(outputs.Collector(side, src, offset, duration))
            blocks = audio_io.read_blocks(src, offset=offset, duration=duration)
            for block in self._voice(
                blocks, info.sample_rate, rate, kept, offset, against(progress, total), band
            ):
                writer.write(block)
                kept.add_voice(block, rate)
            if not writer.frames:
                raise AudioError(f"{src}: no samples to extract a voice from")
            writer.finish()
            if band is not None:
                band.finish()
            kept.finish()
        elapsed = time.monotonic() - started
        seconds = writer.frames / rate
        return Result(
            input=str(src),
            output=str(dst),
            runtime=self.runtime.name,
            sample_rate=rate,
            n_samples=writer.frames,
            seconds=seconds,
            elapsed=elapsed,
            real_time_factor=elapsed / seconds,
            peak=writer.peak,
            gain=writer.gain,
            voiced_share=None if self.system == "unet" else kept.voiced_share,
            accompaniment_peak=band.peak if band else None,
            accompaniment_gain=band.gain if band else None,
        )

    def _check_side(self, side: outputs.SideFiles, accompaniment: str | Path | None) -> None:
        """Raises ModelError for files that the system cannot give.

        An accompaniment is the mixture minus the voice (unet), or what a mask from the voice's own
        spectrum leaves of it (sin, ss), as long as that voice is the one in the mixture.
        """
        if accompaniment is not None and self.system == "sdn":
            raise ModelError(
                f"{self._model}: system sdn sings as somebody else, which does not tell what to "
                "leave: use --system=unet or sin for an accompaniment"
            )
        if accompaniment is not None and (self._wishes.transpose, self._wishes.formant) != (0, 1):
            raise ModelError("an accompaniment needs the voice as it is: no transpose, no formant")
        if self.system == "unet" and side.of_vocoder:
            raise ModelError(f"{self._model}: system unet has no vocoder features, f0 or notes")

    def _voice(
        self,
        blocks: Iterable[np.ndarray],
        in_rate: int,
        out_rate: int,
        kept: "outputs.Collector | None" = None,
        offset: float = 0.0,
        progress: Callable[[float], None] | None = None,
        accompaniment: audio_write.VoiceWriter | None = None,
        live: bool = False,
    ) -> Iterator[np.ndarray]:
        """Blocks at in_rate -> voice blocks at out_rate, in all as long as the input."""
        if self.system == "unet":
            return masking.voice(self.runtime, blocks, in_rate, out_rate, progress, accompaniment)
        # Segments that are rendered beside the networks come later.
        threads = 0 if live else min(processors.usable(), 4)
        return self._sung(blocks, in_rate, out_rate, threads, kept, offset, progress, accompaniment)

    def _sung(
        self,
        blocks: Iterable[np.ndarray],
        in_rate: int,
        out_rate: int,
        threads: int,
        kept: "outputs.Collector | None",
        offset: float,
        progress: Callable[[float], None] | None,
        accompaniment: audio_write.VoiceWriter | None,
    ) -> Iterator[np.ndarray]:
        band = None
        if accompaniment is not None:
            band = subtraction.Accompaniment(accompaniment, in_rate, out_rate)
            blocks = band.kept(blocks)
        counter = Counter(blocks)
        mono = (to_mono(block) for block in counter)
        up = audio_io.Resampler(AUDIO.sample_rate, out_rate)
        # The last frame reaches beyond the end: hold samples back until the length is known.
        sent = 0
        with world.Synthesiser(AUDIO, threads) as synthesiser:
            for features in analysis.features(
                self.runtime, audio_io.resampled(mono, in_rate, AUDIO.sample_rate),
                self._wishes, offset, progress,
            ):  # fmt: skip
                if kept is not None:
                    kept.add(features)
                for block in synthesiser.push(features):
                    if band:
                        band.add(block)
                    out = up.push(block)
                    sent += len(out)
                    yield out
            last_sung = list(synthesiser.finish())
        if band:
            for block in last_sung:
                band.add(block)
            band.finish()
        tail = [*(up.push(block) for block in last_sung), up.finish()]
        left = audio_io.resampled_length(counter.samples, in_rate, out_rate) - sent
        last = np.concatenate(tail)[:left]
        yield np.pad(last, (0, left - len(last)))
