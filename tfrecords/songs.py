"""From a row of the manifest to the examples of its song: audio, analysis, pieces of 4 s."""

import contextlib
import dataclasses
import hashlib
import io
import os
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sep_tf import audio_io, framing, world
from sep_tf.config import AudioConfig, RecordConfig
from sep_tf.errors import DataError, SepTfError
from tfrecords import manifest, schema

AUDIO = AudioConfig()
RECORD = RecordConfig()
# Names what the cache depends on beside the samples; changed whenever the analysis changes.
ANALYSIS_VERSION = "world-1"
_FIELDS = tuple(field.name for field in dataclasses.fields(world.VocoderFeatures))


@dataclasses.dataclass
class Song:
    """A song ready to be cut: audio at 32 kHz and the analysis of its voice."""

    row: manifest.Row
    vocals: np.ndarray | None
    backing: np.ndarray | None
    features: world.VocoderFeatures | None
    # Level of the dry voice a frame (dBFS), where `vocals` has effects: schema.SPEC_OPTIONAL.
    levels: np.ndarray | None = None

    @property
    def n_samples(self) -> int:
        return len(self.vocals if self.vocals is not None else self.backing)


def active_level_db(audio: np.ndarray) -> float:
    """RMS in dBFS over the frames within 30 dB of the loudest: the level while it sounds."""
    levels = world.frame_level_db(audio)
    power = 10.0 ** (levels[levels > max(levels.max() - 30.0, AUDIO.gate_db)] / 10.0)
    return float(10.0 * np.log10(power.mean())) if power.size else -120.0


def load_song(row: manifest.Row, cache_dir: Path | str | None) -> Song:
    """Reads a row's audio and analyses its voice.

    Raises:
      DataError: audio cannot be read; names the song.
      SepTfError: the analysis is not finite.
    """
    try:
        vocals, backing = (
            None if path is None else read(manifest.location(path))
            for path in (row.vocals, row.backing)
        )
    except (ValueError, OSError) as error:
        raise DataError(f"song '{row.song_id}': {error}") from error
    if row.vocals and row.backing:
        vocals, backing = _fixed_mixture(row, vocals, backing)
    if backing is not None:
        # Only its own level counts in mixtures; lossy files decode to beyond full scale.
        backing = backing * np.float32(min(1.0, _unclipped(backing)))
    if vocals is not None and backing is not None:
        backing = np.pad(backing, (0, len(vocals) - len(backing)))
    if vocals is None:
        return Song(row, None, backing, None)
    gain = level_gain(vocals)
    vocals = vocals * gain
    return Song(row, vocals, backing, analyse_cached(vocals, cache_dir))


def _fixed_mixture(
    row: manifest.Row, vocals: np.ndarray, backing: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Voice and music as a row mixes them: the music from where it begins to the voice's end."""
    start = round(row.backing_start * AUDIO.sample_rate)
    if start and start >= len(backing):
        raise DataError(
            f"song '{row.song_id}': {row.backing} ends before backing_start, {row.backing_start} s"
        )
    backing = backing[start : start + len(vocals)]
    return vocals * np.float32(row.vocals_gain), backing * np.float32(row.backing_gain)


def read(path: str) -> np.ndarray:
    """Audio at 32 kHz, float32 [samples], from this machine or any file system of TensorFlow."""
    with _local(path) as file:
        return audio_io.read(file, AUDIO.sample_rate)[0]


@contextlib.contextmanager
def _local(path: str) -> Iterator[str]:
    """The path itself, or that of a temporary copy of a remote file."""
    if not manifest.is_remote(path):
        yield path
        return
    import tensorflow as tf

    with tempfile.NamedTemporaryFile(suffix=os.path.splitext(path)[1]) as copy:
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                shutil.copyfileobj(file, copy)
        except tf.errors.OpError as error:
            raise DataError(f"{path}: {error.message}") from error
        copy.flush()
        yield copy.name


def level_gain(vocals: np.ndarray) -> np.float32:
    """Gain to REFERENCE_DB without clipping: the level gate then means the same in every corpus.

    1 for a recording that is silent but for its noise, which would become a voice.
    """
    return gain_to(schema.REFERENCE_DB, vocals)


def gain_to(wanted_db: float, audio: np.ndarray) -> np.float32:
    """Gain to an active level, as far as PCM16 holds it; 1 at most for what is silent."""
    level_db = active_level_db(audio)
    gain = 10.0 ** ((wanted_db - level_db) / 20.0) if level_db > AUDIO.gate_db else 1.0
    return np.float32(min(gain, _unclipped(audio)))


def _unclipped(audio: np.ndarray) -> float:
    """The largest gain that PCM16 holds."""
    peak = float(np.abs(audio).max(initial=0.0))
    return 0.99 / peak if peak else 1.0


def analyse_cached(audio: np.ndarray, cache_dir: Path | str | None) -> world.VocoderFeatures:
    """`world.analyse`, remembered under a hash of the samples; as `finite`."""
    if cache_dir is None:
        return finite(world.analyse(audio))
    digest = hashlib.sha256(ANALYSIS_VERSION.encode() + np.ascontiguousarray(audio).tobytes())
    path = f"{cache_dir}/{digest.hexdigest()[:32]}.npz"
    features = _remembered(path)
    if features is None:
        features = finite(world.analyse(audio))
        _remember(path, features)
    return features


def finite(features: world.VocoderFeatures) -> world.VocoderFeatures:
    """The features; raises SepTfError where one is not finite: no record may hold it."""
    if not (np.isfinite(features.stacked).all() and np.isfinite(features.f0).all()):
        raise SepTfError("its analysis is not finite")
    return features


def _remembered(path: str) -> world.VocoderFeatures | None:
    """An analysis from the cache; None where there is none that can be read."""
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file, np.load(io.BytesIO(file.read())) as stored:
            return finite(world.VocoderFeatures(*(stored[name] for name in _FIELDS)))
    except tf.errors.NotFoundError:
        return None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # damaged: analysed again, and replaced


def _remember(path: str, features: world.VocoderFeatures) -> None:
    import tensorflow as tf

    content = io.BytesIO()
    np.savez(content, **{name: getattr(features, name) for name in _FIELDS})
    tf.io.gfile.makedirs(os.path.dirname(path))
    write_whole(path, content.getvalue())


def write_whole(path: str, content: bytes) -> None:
    """Writes a file that appears under its name only when complete, on any file system."""
    import tensorflow as tf

    partial = f"{path}.{os.getpid()}-{threading.get_ident()}.partial"
    with tf.io.gfile.GFile(partial, "wb") as file:
        file.write(content)
    tf.io.gfile.rename(partial, path, overwrite=True)


def cut(song: Song, song_index: int, singer: int) -> Iterator[dict[str, object]]:
    """The examples of a song: equal pieces of at most RECORD.chunk_frames frames."""
    n_frames = framing.frame_count(song.n_samples, AUDIO.hop_length)
    pieces = -(-n_frames // RECORD.chunk_frames)
    bounds = [round(i * n_frames / pieces) for i in range(pieces + 1)]
    levels = {
        name: -120.0 if audio is None else active_level_db(audio)
        for name, audio in (("vocals", song.vocals), ("backing", song.backing))
    }
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        example = {
            "song_index": song_index,
            "singer": singer,
            "frames": stop - start,
            "vocals_db": levels["vocals"],
            "backing_db": levels["backing"],
            "vocals": _piece(song.vocals, start, stop),
            "backing": _piece(song.backing, start, stop),
            "features": b"",
            "f0": b"",
            "voiced": b"",
        }
        if song.features is not None:
            part = song.features[start:stop]
            example["features"] = part.stacked.astype("<f4").tobytes()
            example["f0"] = part.f0.astype("<f4").tobytes()
            example["voiced"] = part.voiced.astype(np.uint8).tobytes()
        if song.levels is not None:
            example["levels"] = song.levels[start:stop].astype("<f4").tobytes()
        yield example


def _piece(audio: np.ndarray | None, start: int, stop: int) -> bytes:
    """Samples of frames start..stop with the margin on both sides, zeros beyond the song."""
    if audio is None:
        return b""
    first = start * AUDIO.hop_length - RECORD.margin
    last = (stop - 1) * AUDIO.hop_length + RECORD.margin
    inner = audio[max(first, 0) : max(min(last, len(audio)), 0)]
    before = max(-first, 0)
    return schema.to_pcm16(np.pad(inner, (before, last - first - before - len(inner))))


def serialise(example: dict[str, object]) -> bytes:
    """A tf.train.Example; the same bytes for the same values."""
    import tensorflow as tf

    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    features = {name: feature(value) for name, value in sorted(example.items())}
    message = tf.train.Example(features=tf.train.Features(feature=features))
    return message.SerializeToString(deterministic=True)
