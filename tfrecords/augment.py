"""Random phrase, random speed and random levels of one training example, in TensorFlow.

Stateless: what an example becomes depends on its seed alone, so that a resumed run goes on exactly.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from sep_tf import world
from sep_tf.config import AudioConfig, AugmentConfig, RecordConfig
from tfrecords import equalise

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


def _speed(seed: tf.Tensor, key: int, limits: tuple[float, float]) -> tf.Tensor:
    return uniform(seed, key, *limits) if limits != (1.0, 1.0) else tf.constant(1.0)


def _decibels(value: tf.Tensor) -> tf.Tensor:
    return tf.pow(10.0, value / 20.0)


@dataclasses.dataclass(frozen=True)
class Phrase:
    """Samples and frames of a phrase inside a record piece, at `speed` times the original."""

    start: tf.Tensor
    speed: tf.Tensor
    frames: int

    def audio(self, pcm: tf.Tensor) -> tf.Tensor:
        """PCM16 bytes of a piece with margins -> float32 [(frames - 1) * hop + 2 * margin]."""
        samples = tf.cast(tf.io.decode_raw(pcm, tf.int16), tf.float32) / 32767.0
        length = (self.frames - 1) * AUDIO.hop_length + 2 * RECORD.margin
        offset = tf.range(length, dtype=tf.float32) - RECORD.margin
        first = tf.cast(self.start * AUDIO.hop_length + RECORD.margin, tf.float32)
        position = first + offset * self.speed
        whole = tf.floor(position)
        fraction = position - whole
        index = tf.cast(whole, tf.int32)

        def at(i: tf.Tensor) -> tf.Tensor:
            inside = (i >= 0) & (i < tf.size(samples))
            return tf.where(inside, tf.gather(samples, tf.where(inside, i, 0)), 0.0)

        # Linear interpolation; exact at speed 1, where the fraction is 0.
        return at(index) * (1.0 - fraction) + at(index + 1) * fraction

    def rows(self, values: tf.Tensor, fill: np.ndarray) -> tf.Tensor:
        """values [T, ...] at the phrase's frames, `fill` beyond the piece."""
        position = tf.cast(self.start, tf.float32) + tf.range(self.frames, dtype=tf.float32) * (
            self.speed
        )
        index = tf.cast(tf.round(position), tf.int32)
        inside = index < tf.shape(values)[0]
        rows = tf.gather(values, tf.where(inside, index, 0))
        shape = [self.frames] + [1] * (values.shape.rank - 1)
        return tf.where(tf.reshape(inside, shape), rows, tf.constant(fill, values.dtype))


def cut_phrase(
    record: dict[str, tf.Tensor], frames: int, seed: tf.Tensor, key: int, speed: tf.Tensor
) -> Phrase:
    """A random phrase of a piece; shorter pieces are followed by silence."""
    needed = tf.cast(tf.math.ceil(frames * speed), tf.int32)
    room = tf.maximum(tf.cast(record["frames"], tf.int32) - needed, 0)
    start = tf.cast(uniform(seed, key, 0.0, 1.0) * (tf.cast(room, tf.float32) + 1.0), tf.int32)
    return Phrase(tf.minimum(start, room), speed, frames)


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
      also returned), features [frames, 64] following the vocal's gain exactly (c0 + 2 ln g),
      f0 [frames] in Hz, voiced and audible float32 [frames], singer and song_index int32.
    """
    speed = _speed(seed, 0, config.speed)
    phrase = cut_phrase(voice, frames, seed, 1, speed)
    has_own = tf.strings.length(voice["backing"]) > 0
    own = {
        name: tf.where(has_own, voice[name], backing[name]) for name in ("backing", "backing_db")
    }
    other = cut_phrase(backing, frames, seed, 2, _speed(seed, 6, config.backing_speed))
    other = Phrase(
        tf.where(has_own, phrase.start, other.start), tf.where(has_own, speed, other.speed), frames
    )
    level = uniform(seed, 3, *config.vocals_db)
    snr = uniform(seed, 4, *config.snr_db)
    chance = uniform(seed, 5, 0.0, 1.0)
    # A silent recording has no level to be brought to another.
    vocal_free = (chance < config.vocal_free) | (voice["vocals_db"] < AUDIO.gate_db)
    backing_free = (chance > 1.0 - config.backing_free) | (own["backing_db"] < AUDIO.gate_db)
    gain = _decibels(level - voice["vocals_db"])
    backing_gain = _decibels(level - snr - own["backing_db"])
    sung = phrase.audio(voice["vocals"]) * tf.where(vocal_free, 0.0, gain)
    music = other.audio(own["backing"]) * tf.where(backing_free, 0.0, backing_gain)
    change = tf.zeros([AUDIO.feature_size])
    if config.vocals_eq_db:
        curve = config.vocals_eq_db * normal(seed, 7, equalise.POINTS)
        sung = equalise.apply(sung, curve)
        coded = tf.linalg.matvec(equalise.feature_basis(), curve, transpose_a=True)
        change = tf.pad(coded, [[0, AUDIO.aperiodicity_size]])
    if config.backing_eq_db:
        music = equalise.apply(music, config.backing_eq_db * normal(seed, 8, equalise.POINTS))

    features = _targets(voice, phrase, gain, change)
    features = tf.where(vocal_free, tf.constant(_SILENCE.stacked), features)
    f0 = phrase.rows(tf.io.decode_raw(voice["f0"], tf.float32), _SILENCE.f0[0]) * speed
    voiced = phrase.rows(tf.io.decode_raw(voice["voiced"], tf.uint8), np.uint8(0)) > 0
    audible = frame_power(sung, frames) > 10.0 ** (AUDIO.gate_db / 10.0)
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


def _targets(
    voice: dict[str, tf.Tensor], phrase: Phrase, gain: tf.Tensor, change: tf.Tensor
) -> tf.Tensor:
    """Features [frames, 64] of a phrase after a gain and an equalisation that adds `change`."""
    features = tf.reshape(tf.io.decode_raw(voice["features"], tf.float32), [-1, AUDIO.feature_size])
    features = phrase.rows(features + change, _SILENCE.stacked)
    silent_c0 = float(_SILENCE.envelope[0, 0])
    c0 = tf.maximum(features[:, :1] + 2.0 * tf.math.log(gain), silent_c0)
    return tf.concat([c0, features[:, 1:]], axis=1)


def frame_power(audio: tf.Tensor, frames: int) -> tf.Tensor:
    """Mean square of the 1024 samples around each frame of audio with margins, [frames]."""
    skip = RECORD.margin - AUDIO.fft_length // 2
    windows = tf.signal.frame(audio[skip:], AUDIO.fft_length, AUDIO.hop_length)[:frames]
    return tf.reduce_mean(windows**2, axis=-1)
