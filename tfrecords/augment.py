"""Random phrase, speed, levels, colours and room of one training example, in TensorFlow.

Stateless: what an example becomes depends on its seed alone, so that a resumed run goes on exactly.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from sep_tf import world
from sep_tf.config import AudioConfig, AugmentConfig, RecordConfig
from tfrecords import equalise, playback, reverb

AUDIO = AudioConfig()
RECORD = RecordConfig()
_SILENCE = world.silence_features(1)


def uniform(seed: tf.Tensor, key: int, low: float, high: float) -> tf.Tensor:
    """One float in [low, high), a pure function of (seed, key)."""
    key_seed = tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int64), key)
    return tf.random.stateless_uniform([], key_seed, low, high)


def normal(seed: tf.Tensor, key: int, size: int) -> tf.Tensor:
    """Standard normal values [size], a pure function of (seed, key)."""
    key_seed = tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int64), key)
    return tf.random.stateless_normal([size], key_seed)


def _speed(seed: tf.Tensor, key: int, limits: tuple[float, float], altered: Any) -> tf.Tensor:
    """Random speed in units of 1/64, int32; the recorded one where nothing is altered."""
    if limits == (1.0, 1.0):
        return tf.constant(playback.UNITS)
    units = tf.cast(tf.round(uniform(seed, key, *limits) * playback.UNITS), tf.int32)
    return tf.where(altered, units, playback.UNITS)


def _decibels(value: tf.Tensor) -> tf.Tensor:
    return tf.pow(10.0, value / 20.0)


@dataclasses.dataclass(frozen=True)
class Phrase:
    """Samples and frames of a phrase inside a record piece, `units` / 64 times as fast."""

    start: tf.Tensor
    units: tf.Tensor
    frames: int

    @property
    def speed(self) -> tf.Tensor:
        return tf.cast(self.units, tf.float32) / playback.UNITS

    def audio(self, pcm: tf.Tensor) -> tf.Tensor:
        """PCM16 bytes of a piece with margins -> float32 [(frames - 1) * hop + 2 * margin]."""
        length = (self.frames - 1) * AUDIO.hop_length + 2 * RECORD.margin
        # Whole units of output samples come from whole units of input samples.
        blocks = -(-length // playback.UNITS)
        first = self.start * AUDIO.hop_length + (
            RECORD.margin // playback.UNITS * (playback.UNITS - self.units)
        )
        piece = _samples(pcm, first, blocks * self.units)
        out = blocks * playback.UNITS
        played = tf.cond(
            tf.equal(self.units, playback.UNITS),
            lambda: piece[:out],
            lambda: playback.resample(piece, out),
        )
        return tf.ensure_shape(played[:length], [length])

    def rows(
        self,
        values: tf.Tensor,
        fill: np.ndarray,
        change: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
    ) -> tf.Tensor:
        """values [T, ...] at the phrase's frames, changed; `fill` beyond the piece."""
        position = tf.cast(self.start, tf.float32) + tf.range(self.frames, dtype=tf.float32) * (
            self.speed
        )
        index = tf.cast(tf.round(position), tf.int32)
        inside = index < tf.shape(values)[0]
        rows = change(tf.gather(values, tf.where(inside, index, 0)))
        shape = [self.frames] + [1] * (values.shape.rank - 1)
        return tf.where(tf.reshape(inside, shape), rows, tf.constant(fill, values.dtype))


def _samples(pcm: tf.Tensor, first: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """PCM16 bytes -> float32 [count] from sample `first` on, zeros outside.

    Only the bytes that are wanted are decoded: a piece is six times as long as a phrase.
    """
    size = tf.strings.length(pcm) // 2
    low, high = (tf.clip_by_value(at, 0, size) for at in (first, first + count))
    inner = tf.io.decode_raw(tf.strings.substr(pcm, 2 * low, 2 * (high - low)), tf.int16)
    before = tf.clip_by_value(-first, 0, count)
    after = count - before - (high - low)
    return tf.pad(tf.cast(inner, tf.float32) / 32767.0, [[before, after]])


def cut_phrase(
    record: dict[str, tf.Tensor], frames: int, seed: tf.Tensor, key: int, units: tf.Tensor
) -> Phrase:
    """A random phrase of a piece; shorter pieces are followed by silence."""
    needed = -(-frames * units // playback.UNITS)
    room = tf.maximum(tf.cast(record["frames"], tf.int32) - needed, 0)
    start = tf.cast(uniform(seed, key, 0.0, 1.0) * (tf.cast(room, tf.float32) + 1.0), tf.int32)
    return Phrase(tf.minimum(start, room), units, frames)


def mix(
    voice: dict[str, tf.Tensor],
    backing: dict[str, tf.Tensor],
    seed: tf.Tensor,
    frames: int,
    config: AugmentConfig,
) -> dict[str, Any]:
    """One training example from a voice record and a backing record.

    Args:
      voice: parsed record with vocals; its own backing is used where it has one.
      backing: parsed record to pair it with.
      seed: int64 [2].
      frames: length of the phrase.
      config: ranges of the random draws.

    Returns:
      mixture float32 [(frames - 1) * hop + 2 * margin] (the sum of `voice` and `accompaniment`,
      also returned), features [frames, 64] following the vocal's gain exactly (c0 + 2 ln g; not
      where the target is fixed),
      f0 [frames] in Hz, voiced and audible float32 [frames], singer and song_index int32.
    """
    altered = uniform(seed, 13, 0.0, 1.0) < config.altered
    phrase = cut_phrase(voice, frames, seed, 1, _speed(seed, 0, config.speed, altered))
    has_own = tf.strings.length(voice["backing"]) > 0
    own = {
        name: tf.where(has_own, voice[name], backing[name]) for name in ("backing", "backing_db")
    }
    other_units = _speed(seed, 6, config.backing_speed, altered)
    other = cut_phrase(backing, frames, seed, 2, other_units)
    other = Phrase(
        tf.where(has_own, phrase.start, other.start),
        tf.where(has_own, phrase.units, other.units),
        frames,
    )
    level = uniform(seed, 3, *config.vocals_db)
    snr = uniform(seed, 4, *config.snr_db)
    chance = uniform(seed, 5, 0.0, 1.0)
    # A silent recording has no level to be brought to another.
    vocal_free = (chance < config.vocal_free) | (voice["vocals_db"] < AUDIO.gate_db)
    backing_free = (chance > 1.0 - config.backing_free) | (own["backing_db"] < AUDIO.gate_db)
    gain = _decibels(level - voice["vocals_db"])
    backing_gain = _decibels(level - snr - own["backing_db"])
    if config.vocals_gain:
        gain = uniform(seed, 3, *config.vocals_gain)
    if config.backing_gain:
        backing_gain = uniform(seed, 4, *config.backing_gain)
    sung = phrase.audio(voice["vocals"]) * tf.where(vocal_free, 0.0, gain)
    music = other.audio(own["backing"]) * tf.where(backing_free, 0.0, backing_gain)
    change = tf.zeros([AUDIO.feature_size])
    if config.vocals_eq_db:
        curve = config.vocals_eq_db * normal(seed, 7, equalise.POINTS)
        sung, change = tf.cond(altered, lambda: _recoloured(sung, curve), lambda: (sung, change))
    audible = frame_power(sung, frames) > 10.0 ** (AUDIO.gate_db / 10.0)
    if config.reverb:
        sung = tf.cond(altered, lambda: _in_a_room(sung, seed, config), lambda: sung)
    if config.backing_eq_db:
        curve = config.backing_eq_db * normal(seed, 8, equalise.POINTS)
        music = tf.cond(altered, lambda: equalise.apply(music, curve), lambda: music)

    features = _targets(voice, phrase, tf.ones([]) if config.fixed_target else gain, change)
    features = tf.where(vocal_free, tf.constant(_SILENCE.stacked), features)
    f0 = phrase.rows(tf.io.decode_raw(voice["f0"], tf.float32), _SILENCE.f0[0]) * phrase.speed
    voiced = phrase.rows(tf.io.decode_raw(voice["voiced"], tf.uint8), np.uint8(0)) > 0
    return {
        "mixture": sung + music,
        "voice": sung,
        "accompaniment": music,
        "features": features,
        "f0": f0,
        "voiced": tf.cast(voiced & audible, tf.float32),
        "audible": tf.cast(audible, tf.float32),
        "singer": tf.cast(voice["singer"], tf.int32),
        "song_index": tf.cast(voice["song_index"], tf.int32),
    }


def _recoloured(sung: tf.Tensor, curve: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Equalised voice, and what is to be added to its features [64]."""
    coded = tf.linalg.matvec(equalise.feature_basis(), curve, transpose_a=True)
    return equalise.apply(sung, curve), tf.pad(coded, [[0, AUDIO.aperiodicity_size]])


def _in_a_room(dry: tf.Tensor, seed: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """The voice with reverberation, or without, by chance."""

    def wet() -> tf.Tensor:
        seconds = uniform(seed, 10, *config.reverb_seconds)
        level_db = uniform(seed, 11, *config.reverb_db)
        return reverb.apply(dry, normal(seed, 12, reverb.LENGTH), seconds, level_db)

    return tf.cond(uniform(seed, 9, 0.0, 1.0) < config.reverb, wet, lambda: dry)


def _targets(
    voice: dict[str, tf.Tensor], phrase: Phrase, gain: tf.Tensor, change: tf.Tensor
) -> tf.Tensor:
    """Features [frames, 64] of a phrase after a gain and an equalisation that adds `change`."""
    features = tf.reshape(tf.io.decode_raw(voice["features"], tf.float32), [-1, AUDIO.feature_size])
    matrix, offset = playback.feature_maps(phrase.units)
    # Of the phrase's frames alone: a piece has six times as many.
    features = phrase.rows(features, _SILENCE.stacked, lambda rows: rows @ matrix + offset + change)
    silent_c0 = float(_SILENCE.envelope[0, 0])
    c0 = tf.maximum(features[:, :1] + 2.0 * tf.math.log(gain), silent_c0)
    return tf.concat([c0, features[:, 1:]], axis=1)


def frame_power(audio: tf.Tensor, frames: int) -> tf.Tensor:
    """Mean square of the 1024 samples around each frame of audio with margins, [frames]."""
    skip = RECORD.margin - AUDIO.fft_length // 2
    # Windows overlap sixfold: squares are added up once, in blocks that windows and hops divide.
    block = math.gcd(AUDIO.fft_length, AUDIO.hop_length)
    length = AUDIO.fft_length + (frames - 1) * AUDIO.hop_length
    squares = tf.reshape(audio[skip : skip + length] ** 2, [-1, block])
    windows = tf.signal.frame(
        tf.reduce_sum(squares, axis=-1), AUDIO.fft_length // block, AUDIO.hop_length // block
    )
    return tf.reduce_sum(windows, axis=-1) / AUDIO.fft_length
