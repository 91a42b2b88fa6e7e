"""Scores songs: every measure of every system, in parallel, and resumable song by song."""

import dataclasses
import functools
import hashlib
import itertools
import math
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

import numpy as np

from sep_tf import analysis, audio_io, metrics, overwriting, pitch, world
from sep_tf.errors import SepTfError
from sep_tf.evaluation import measures
from sep_tf.evaluation.files import DAMAGED, Files
from sep_tf.evaluation.scores import WHOLE, Score
from sep_tf.evaluation.songs import SAMPLE_RATE, Item, Song
from sep_tf.evaluation.systems import Estimate, System
from sep_tf.jobs import Stopped
from sep_tf.metrics import Analysis

# Changed whenever a figure would change for the same audio.
VERSION = "evaluation-7"
_CACHED = tuple(field.name for field in dataclasses.fields(Analysis))


@dataclasses.dataclass(frozen=True)
class Options:
    """What scores hang on beside songs and systems.

    Attributes:
      reference: "raw" or "world": what spectra, timbre and intelligibility are compared with.
      segment_seconds: longer songs are also scored in pieces of this length; 0 for never.
      content: maps [samples] to content codes; None leaves that figure out.
      content_identity: names the model of `content`.
      timbres: {singer: timbre [24]} of those who may be a target.
    """

    reference: str = "raw"
    segment_seconds: float = 0.0
    content: Callable[[np.ndarray], np.ndarray] | None = None
    content_identity: str = ""
    timbres: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


class Evaluation:
    """Scores songs into an output folder, of whose `files` a second run takes what still fits."""

    def __init__(self, folder: Path, options: Options, keep_audio: bool = True) -> None:
        """Names the folder, which need not exist."""
        self.files, self.options, self.keep_audio = Files(folder), options, keep_audio

    def score_all(
        self, items: Sequence[Item], systems: Sequence[System], jobs: int = 1
    ) -> list[Score]:
        """Every system on every song, in their order. WORLD releases the GIL: threads suffice.

        Shows a bar on a terminal, elsewhere a line a song, on stderr.

        Raises:
          SepTfError: the first song that failed. Songs not yet begun are dropped, others end with
            the voice they are at; what is done is kept for the next run.
        """
        from tqdm import tqdm

        pool, stop = futures.ThreadPoolExecutor(jobs), threading.Event()

        def done() -> None:
            bar.update()
            if stop.is_set():
                raise Stopped

        with tqdm(
            desc="measuring", unit="voice", total=len(items) * len(systems), disable=None
        ) as bar:
            try:
                # The longest first: no thread is to begin it when the others are done.
                order = sorted(range(len(items)), key=lambda n: -_seconds(items[n]))
                waiting = {pool.submit(self.score_song, items[n], systems, done): n for n in order}
                scores: dict[int, list[Score]] = {}
                for future in futures.as_completed(waiting):
                    n = waiting[future]
                    scores[n] = future.result()
                    if not sys.stderr.isatty():
                        song = items[n].row.song_id
                        print(f"measured {song} ({len(scores)} of {len(items)})", file=sys.stderr)
                return [score for n in range(len(items)) for score in scores[n]]
            except BaseException:
                # Threads cannot be interrupted: they look at this after each voice.
                stop.set()
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def score_song(
        self, item: Item, systems: Sequence[System], done: Callable[[], object] = lambda: None
    ) -> list[Score]:
        """Every system on one song; `done` is called after each."""
        judge = functools.cache(lambda: _Judge(Song(item), self))
        self.files.forget_shared_clips(item, self.clips_key(item))
        scores = []
        for system in systems:
            key = self._key(item, system)
            found = self.files.scores(item, system.name, key)
            if found is None or not self._has_audio(item, system.name):
                self.files.forget_scores(item, system.name)
                found = judge().score(system)
                self.files.keep_scores(item, system.name, key, found)
            scores += found
            done()
        return scores

    def _has_audio(self, item: Item, name: str) -> bool:
        """Whether everything is there that an index.html with audio needs, if one is wanted."""
        if not self.keep_audio:
            return True
        raw = self.files.analysis(item, "raw")
        return raw.is_file() and self.files.can_be_heard(item, name)

    def clips_key(self, item: Item) -> str:
        """Of everything that the clips of mixture and reference depend on."""
        return _digest(VERSION, analysis.VERSION, song_key(item), self.options.reference)

    def _key(self, item: Item, system: System) -> str:
        """Of everything that a score depends on."""
        options = self.options
        target = options.timbres.get(_target(item, system))
        return _digest(
            VERSION, analysis.VERSION, song_key(item), system.name, system.identity(item),
            options.reference,
            f"{options.segment_seconds!r}, rest joined", options.content_identity, item.condition,
            item.target_singer, "" if target is None else target.tobytes().hex(),
        )  # fmt: skip


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _target(item: Item, system: System) -> str:
    """Whose timbre the voice is to have: "" for nobody's in particular."""
    return system.singer or item.target_singer


def _seconds(item: Item) -> float:
    try:
        return audio_io.probe(item.row.vocals).duration
    except SepTfError:  # raised again, with the row, when its turn comes
        return 0.0


def song_key(item: Item) -> str:
    """Digest of a row and of the state of its files."""
    row = item.row
    parts = [row.song_id, row.singer, row.backing_start, row.vocals_gain, row.backing_gain]
    for path in (row.vocals, row.backing):
        if path is not None:
            status = path.stat()
            parts += [path.resolve(), status.st_size, status.st_mtime_ns]
    return _digest(repr([str(part) for part in parts]))


class _Judge:
    """The reference of one song, analysed once for all systems."""

    def __init__(self, song: Song, evaluation: Evaluation) -> None:
        self.song, self.evaluation, self.options = song, evaluation, evaluation.options
        self.raw = self._analysis("raw", song.analyse)
        song.f0 = self.raw.f0
        # Its own f0 and voicing are an estimate of the raw vocal's, which are the truth.
        self.resynthesised = self._analysis(
            "world", lambda: metrics.analyse_voice(song.resynthesis)
        )
        self.world = dataclasses.replace(self.resynthesised, f0=self.raw.f0, voiced=self.raw.voiced)
        is_raw = self.options.reference == "raw"
        self.truth = self.raw if is_raw else self.world
        self.reference_audio = song.voice if is_raw else song.resynthesis
        self.content = self.code(self.reference_audio) if self.options.content else None
        if evaluation.keep_audio:
            self._save("mixture", song.mixture)
            self._save("reference", self.reference_audio)
            evaluation.files.keep_shared_clips(song.item, evaluation.clips_key(song.item))

    def _analysis(self, kind: str, analyse: Callable[[], Analysis]) -> Analysis:
        """An analysis of the reference, kept in the output folder for later runs."""
        # The world reference is synthesised with all that a voice gets.
        versions = VERSION if kind == "raw" else f"{VERSION} {analysis.VERSION}"
        key = _digest(f"{versions} {song_key(self.song.item)}")
        path = self.evaluation.files.analysis(self.song.item, kind)
        try:
            with np.load(path) as stored:
                if str(stored["key"]) == key:
                    return Analysis(*(stored[name] for name in _CACHED))
        except DAMAGED:
            pass  # made anew: nothing is lost
        found = analyse()
        path.parent.mkdir(parents=True, exist_ok=True)
        with overwriting.replacing(path) as partial, open(partial, "wb") as file:
            np.savez(file, key=key, **{name: getattr(found, name) for name in _CACHED})
        return found

    def _save(self, name: str, audio: np.ndarray) -> None:
        """Writes a clip; without audio, takes one away that would stand beside new scores."""
        path = self.evaluation.files.audio(self.song.item, name)
        if not self.evaluation.keep_audio:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with audio_io.Writer(path, SAMPLE_RATE, 1, "PCM_16") as writer:
            writer.write(np.clip(self.song.clip_gain * audio, -1.0, 1.0).astype(np.float32))

    def _keep_f0(self, name: str, f0: np.ndarray) -> None:
        path = self.evaluation.files.f0(self.song.item, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with overwriting.replacing(path) as partial, open(partial, "wb") as file:
            np.save(file, f0.astype(np.float32))

    def code(self, voice: np.ndarray) -> np.ndarray:
        """Content code of a voice over the song's own backing: what the encoder was trained on."""
        return self.options.content(voice + (self.song.mixture - self.song.voice))

    def score(self, system: System) -> list[Score]:
        """The whole song first, then its segments if it is longer than one."""
        estimate = system.estimate(self.song)
        if system.name != "mixture":
            self._save(system.name, estimate.audio)
        if estimate.audio is vars(self.song).get("resynthesis"):
            heard = self.resynthesised
        else:
            heard = metrics.analyse_voice(estimate.audio)
        self._keep_f0(system.name, heard.f0)
        compared = _Comparison(self, system, estimate, heard)
        n_frames = len(self.raw)
        scores = [compared.score(WHOLE, slice(0, n_frames))]
        step = round(self.options.segment_seconds * world.AUDIO.frames_per_second)
        if step and n_frames > 1.5 * step:
            # What is left at the end goes with the piece before it, unless it is half a piece.
            starts = range(0, n_frames - step // 2, step)
            # Labels are whole seconds, but of pieces that do not begin there.
            digits = 0 if float(self.options.segment_seconds).is_integer() else 3
            for start, stop in itertools.pairwise([*starts, n_frames]):
                ends = [f / world.AUDIO.frames_per_second for f in (start, stop)]
                label = "-".join(f"{round(end, digits):.10g}" for end in ends)
                scores.append(compared.score(label, slice(start, stop)))
        return scores


class _Comparison:
    """One system's voice against the reference: per frame first, then means of any frames."""

    def __init__(self, judge: _Judge, system: System, estimate: Estimate, heard: Analysis) -> None:
        self.judge, self.system, self.estimate, self.heard = judge, system, estimate, heard
        truth = judge.truth
        self.lag = metrics.best_lag(truth, heard)
        # With the lag of each: a search takes longer than all else here.
        self.references = {
            field: (analysis, self.lag if analysis is truth else metrics.best_lag(analysis, heard))
            for field, analysis in (("mcd_raw_db", judge.raw), ("mcd_world_db", judge.world))
        }
        self.lsd = measures.log_spectral_distance(
            judge.reference_audio, estimate.audio, truth.voiced, self.lag
        )
        self.aperiodicity = measures.aperiodicity_error(truth, heard, self.lag)
        self.shifted = measures.shift(estimate.audio, self.lag, len(judge.reference_audio))
        self.level_db = metrics.rows_at(
            heard.level_db, np.arange(len(truth)) + self.lag, outside=-200.0
        )
        self.contour, self.voiced = estimate.f0, estimate.voiced
        if self.contour is None:
            self.contour = pitch.interpolate_unvoiced(heard.f0, heard.voiced)
            self.voiced = heard.voiced

    def score(self, segment: str, frames: slice) -> Score:
        """Every figure over the frames."""
        song, truth = self.judge.song, self.judge.truth
        row, hop = song.item.row, world.AUDIO.hop_length
        voiced = truth.voiced[frames]
        samples = slice(frames.start * hop, min(frames.stop * hop, len(song.voice)))
        contour, own = self.contour[frames], self.voiced[frames]
        levels = truth.level_db[frames], self.level_db[frames]
        heard_f0, heard_voiced = self.heard.f0[frames], self.heard.voiced[frames]
        heard_pitch = metrics.pitch_scores(truth.f0[frames], heard_f0, heard_voiced).voiced_pitch
        found = metrics.distortion(truth, self.heard, lag=self.lag, frames=frames)
        values = self._timbre(frames) | {
            field: metrics.distortion(analysis, self.heard, lag=lag, frames=frames).mean_db
            for field, (analysis, lag) in self.references.items()
        }
        if segment == WHOLE and self.judge.content is not None:
            code = self.judge.code(self.shifted)
            values["content_distance"] = measures.code_distance(self.judge.content, code)
        return Score(
            song_id=row.song_id,
            singer=row.singer,
            condition=song.item.condition,
            system=self.system.name,
            segment=segment,
            seconds=round((samples.stop - samples.start) / SAMPLE_RATE, 3),
            voiced_frames=found.n_frames,
            unvoiced_frames=len(voiced) - found.n_frames,
            lag_frames=self.lag,
            mcd_db=found.mean_db,
            mcd_unfloored_db=found.unfloored_db,
            mcd_all_db=found.all_db,
            mcd_loud_db=found.loud_db,
            lsd_db=_mean(self.lsd[frames], voiced),
            aperiodicity_db=_mean(self.aperiodicity[frames], ~np.isnan(self.aperiodicity[frames])),
            estoi=measures.estoi(self.judge.reference_audio[samples], self.shifted[samples]),
            level_db=measures.level_difference(*levels, voiced),
            silence_db=measures.silence_level(*levels, voiced),
            backing_correlation=self._leak(frames),
            heard_pitch=heard_pitch,
            f0_roughness=measures.f0_roughness(contour, voiced & own),
            **values,
            **dataclasses.asdict(metrics.pitch_scores(truth.f0[frames], contour, own)),
        )

    def _leak(self, frames: slice) -> float:
        song, truth = self.judge.song, self.judge.truth
        if song.item.row.backing is None:
            return math.nan
        return measures.backing_correlation(
            song.backing_db[frames], self.level_db[frames], truth.level_db[frames]
        )

    def _timbre(self, frames: slice) -> dict[str, float]:
        source, found = (
            measures.timbre(_part(analysis, frames)) for analysis in (self.judge.truth, self.heard)
        )
        values = {"timbre_db": measures.timbre_distance(source, found)}
        singer = _target(self.judge.song.item, self.system)
        target = self.judge.options.timbres.get(singer)
        if target is not None:
            values["target_timbre_db"] = measures.timbre_distance(found, target)
            values["timbre_moved"] = measures.timbre_moved(source, target, found)
        return values


def _part(analysis: Analysis, frames: slice) -> Analysis:
    return Analysis(*(getattr(analysis, name)[frames] for name in _CACHED))


def _mean(values: np.ndarray, mask: np.ndarray) -> float:
    return float(np.mean(values[mask])) if mask.any() else math.nan
