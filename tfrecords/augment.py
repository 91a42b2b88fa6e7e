"""Speed, levels, colours and rooms of training examples, a batch at a time, in TensorFlow.

What an example becomes depends on what was drawn for it alone (`cutting.draw`), not on the batch it
is in, so that a resumed run goes on exactly and workers share the batches of one.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from sep_tf import world
from sep_tf.config import AudioConfig, AugmentConfig, RecordConfig
from tfrecords import cutting, equalise, masks, mastering, playback, reverb
from tfrecords.cutting import Tensors, between

AUDIO = AudioConfig()
RECORD = RecordConfig()
_SILENCE = world.silence_features(1)
_LN_PER_DB = math.log(10.0) / 20.0


def _decibels(value: tf.Tensor) -> tf.Tensor:
    return tf.exp(value * _LN_PER_DB)


def mix(phrases: Tensors, frames: int, config: AugmentConfig, seed: Any = 0) -> Tensors:
    """Training examples from phrases of voices and music.

    Args:
      phrases: N of `cutting.cut`, and their `number`s, int64 [N].
      frames: length of the phrases.
      config: ranges of the random draws.
      seed: of what is drawn for single examples.

    Returns:
      `mixture` float32 [N, (frames - 1) * hop + 2 * margin] (the sum of `voice` and
      `accompaniment`, also returned, unless mastered), features [N, frames, 64] following the
      vocal's gain exactly (c0 + 2 ln g; not where the target is fixed) and, where it is audible,
      its colour and the mixture's band as the config says, f0 [N, frames] in Hz,
      voiced and audible float32 [N, frames], singer and song_index int32 [N].
    """
    draws, altered = phrases["draws"], phrases["altered"]
    gain, backing_gain, vocal_free = _gains(phrases, config)
    samples = (frames - 1) * AUDIO.hop_length + 2 * RECORD.margin
    sung, music = (
        _played(phrases[name], phrases[units], samples, config) * factor[:, None]
        for name, units, factor in (
            ("vocals", "units", tf.where(vocal_free, 0.0, gain)),
            ("backing", "backing_units", backing_gain),
        )
    )
    sung = _within_record(sung, phrases, frames, config)
    if config.backing_voices:
        music += _backing_voices(phrases, gain, vocal_free, samples, config)
    change = tf.zeros([tf.shape(gain)[0], AUDIO.envelope_size])
    if config.vocals_eq_db or config.vocals_tilt_db or config.vocals_dull:
        curves = _colours(phrases, config) * tf.cast(altered, tf.float32)[:, None]
        sung = _changed(altered, sung, equalise.apply, curves)
        change += tf.matmul(curves, equalise.feature_basis())
    if config.band_limited and config.limited_target:
        limited, cutoff_hz = _chosen(phrases, "cutoff", config.band_limited, config.cutoff_hz)
        change += tf.where(limited[:, None], mastering.limited_target(cutoff_hz), 0.0)
    audible = _audible(phrases, sung, gain, vocal_free, frames, config)
    if config.reverb:
        sung = _in_rooms(sung, phrases, seed, config)
    if config.backing_eq_db:
        curves = config.backing_eq_db * draws["curves"][:, 1]
        music = _changed(altered, music, equalise.apply, curves)
    if config.fade:
        music = masks.fade(music, *(config.fade * draws[k] for k in ("fade_in", "fade_out")))

    target_gain = tf.ones_like(gain) if config.fixed_target else gain
    # Silence is silence in any colour and band.
    change = tf.pad(change, [[0, 0], [0, AUDIO.aperiodicity_size]])
    changes = change[:, None] * tf.cast(audible, tf.float32)[..., None]
    features = _targets(phrases, frames, target_gain, changes, config)
    features = tf.where(vocal_free[:, None, None], tf.constant(_SILENCE.stacked), features)
    f0, inside = _at_frames(phrases, "f0", frames, config)
    f0 = tf.where(inside, f0 * _speed(phrases["units"])[:, None], float(_SILENCE.f0[0]))
    voiced, inside = _at_frames(phrases, "voiced", frames, config)
    voiced = inside & (voiced > 0)
    return {
        "mixture": _mastered(sung + music, phrases, config),
        "voice": sung,
        "accompaniment": music,
        "features": features,
        "f0": f0,
        "voiced": tf.cast(voiced & audible, tf.float32),
        "audible": tf.cast(audible, tf.float32),
        "singer": phrases["singer"],
        "song_index": phrases["song_index"],
    }


def _gains(phrases: Tensors, config: AugmentConfig) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gains of voice and music [N], and where no voice is wanted; music's is 0 where none is."""
    draws, vocals_db, backing_db = (phrases[k] for k in ("draws", "vocals_db", "backing_db"))
    level = between(draws["level"], config.vocals_db)
    snr = between(draws["snr"], config.snr_db)
    # A silent recording has no level to be brought to another.
    vocal_free = (draws["chance"] < config.vocal_free) | (vocals_db < AUDIO.gate_db)
    backing_free = draws["chance"] > 1.0 - config.backing_free
    backing_free |= backing_db < AUDIO.gate_db
    gain, backing_gain = _decibels(level - vocals_db), _decibels(level - snr - backing_db)
    if config.vocals_gain:
        gain = between(draws["level"], config.vocals_gain)
    if config.backing_gain:
        backing_gain = between(draws["snr"], config.backing_gain)
    return gain, tf.where(backing_free, 0.0, backing_gain), vocal_free


def _backing_voices(
    phrases: Tensors, gain: tf.Tensor, vocal_free: tf.Tensor, samples: int, config: AugmentConfig
) -> tf.Tensor:
    """Quieter voices of other phrases in some of the altered examples, float32 [N, samples].

    Never where no voice leads: a voice alone is to be sung.
    """
    draws, second_db = phrases["draws"], phrases["second_db"]
    wanted = phrases["altered"] & ~vocal_free & (draws["second_voice"] < config.backing_voices)
    wanted &= second_db > AUDIO.gate_db
    below = between(draws["second_level"], config.backing_voices_db)
    louder = gain * _decibels(below + phrases["vocals_db"] - second_db)
    audio = _played(phrases["second"], phrases["units"], samples, config)
    return audio * tf.where(wanted, louder, 0.0)[:, None]


def _colours(phrases: Tensors, config: AugmentConfig) -> tf.Tensor:
    """Gain of the vocals in dB at the control points of the equalisation, [N, POINTS]."""
    draws = phrases["draws"]
    curves = config.vocals_eq_db * draws["curves"][:, 0]
    if config.vocals_tilt_db:
        curves += equalise.tilts(config.vocals_tilt_db * (2.0 * draws["tilt"] - 1.0))
    if config.vocals_dull:
        dull, depth_db = _chosen(phrases, "dull", config.vocals_dull, config.dull_db)
        curves += equalise.falls(tf.where(dull, depth_db, 0.0), draws["dull_from"])
    return curves


def _changed(mask: tf.Tensor, values: tf.Tensor, change: Callable, *others: tf.Tensor) -> tf.Tensor:
    """values [N, ...] with change(values, *others) in the rows of the mask [N], computed there."""
    rows = tf.where(mask)
    chosen = (tf.gather_nd(tensor, rows) for tensor in (values, *others))
    return tf.tensor_scatter_nd_update(values, rows, change(*chosen))


def _played(pcm: tf.Tensor, units: tf.Tensor, samples: int, config: AugmentConfig) -> tf.Tensor:
    """PCM16 [N, longest] of a record -> float32 [N, samples] at the speeds."""
    audio = tf.cast(pcm, tf.float32) / 32767.0
    if not cutting.is_played_faster(config):
        return audio
    blocks = playback.blocks(samples)

    def resampled(one: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        played = playback.resample(one[0][: blocks * one[1]], blocks * cutting.UNITS)
        return tf.ensure_shape(played[:samples], [samples])

    rows = tf.where(units != cutting.UNITS)
    chosen = (tf.gather_nd(audio, rows), tf.gather_nd(units, rows))
    signature = tf.TensorSpec([samples], tf.float32)
    played = tf.map_fn(resampled, chosen, fn_output_signature=signature)
    return tf.tensor_scatter_nd_update(audio[:, :samples], rows, played)


def _in_rooms(dry: tf.Tensor, phrases: Tensors, seed: Any, config: AugmentConfig) -> tf.Tensor:
    """Voices [N, samples], some of the altered ones with reverberation."""
    draws = phrases["draws"]
    seconds = between(draws["room_seconds"], config.reverb_seconds)
    level_db = between(draws["room_level"], config.reverb_db)

    def noise(number: tf.Tensor) -> tf.Tensor:
        key = tf.stack([tf.cast(seed, tf.int64), number])
        return tf.random.stateless_normal([reverb.LENGTH], key)

    def wet(audio: tf.Tensor, numbers: tf.Tensor, *settings: tf.Tensor) -> tf.Tensor:
        signature = tf.TensorSpec([reverb.LENGTH], tf.float32)
        noises = tf.map_fn(noise, numbers, fn_output_signature=signature)
        return reverb.apply(audio, noises, *settings)

    mask = phrases["altered"] & (draws["room"] < config.reverb)
    return _changed(mask, dry, wet, phrases["number"], seconds, level_db)


def _mastered(mixture: tf.Tensor, phrases: Tensors, config: AugmentConfig) -> tf.Tensor:
    """Mixtures [N, samples], some of the altered ones saturated, without treble, or both."""
    for share, name, change, limits in (
        (config.saturated, "drive", mastering.saturate, config.drive_db),
        (config.band_limited, "cutoff", mastering.limit_band, config.cutoff_hz),
    ):
        if share:
            chosen, values = _chosen(phrases, name, share, limits)
            mixture = _changed(chosen, mixture, change, values)
    return mixture


def _chosen(
    phrases: Tensors, name: str, share: float, limits: tuple[float, float]
) -> tuple[tf.Tensor, tf.Tensor]:
    """A share of the altered examples, bool [N], and a value between the limits for each, [N]."""
    # One draw decides whether and how much.
    draws = phrases["draws"][name]
    return phrases["altered"] & (draws < share), between(draws / share, limits)


def _speed(units: tf.Tensor) -> tf.Tensor:
    return tf.cast(units, tf.float32) / cutting.UNITS


def _within_record(
    sung: tf.Tensor, phrases: Tensors, frames: int, config: AugmentConfig
) -> tf.Tensor:
    """Voices [N, samples]; where records end within the phrase, without their margin's sound.

    It is sung in a frame that has no target.
    """
    left = tf.cast(phrases["left"], tf.float32)
    if cutting.is_played_faster(config):
        left /= _speed(phrases["units"])
    # It fades away within a hop of the last frame's middle.
    last = tf.where(left < frames, RECORD.margin + AUDIO.hop_length * (left - 1.0), np.inf)
    after = tf.range(tf.shape(sung)[1], dtype=tf.float32) - last[:, None]
    return sung * tf.clip_by_value(1.0 - after / AUDIO.hop_length, 0.0, 1.0)


def _at_frames(
    phrases: Tensors, name: str, frames: int, config: AugmentConfig
) -> tuple[tf.Tensor, tf.Tensor]:
    """A field [N, rows, ...] at the phrases' frames [N, frames, ...], and which the record has."""
    values, index = phrases[name], tf.range(frames)[None]
    if cutting.is_played_faster(config):
        # Frames of the record, as the phrase's speed runs through them.
        start = tf.cast(phrases["start"], tf.float32)[:, None]
        position = start + tf.range(frames, dtype=tf.float32) * _speed(phrases["units"])[:, None]
        index = tf.cast(tf.round(position), tf.int32) - phrases["start"][:, None]
        values = tf.gather(values, index, batch_dims=1)
    return values, index < phrases["left"][:, None]


def _audible(
    phrases: Tensors,
    sung: tf.Tensor,
    gain: tf.Tensor,
    vocal_free: tf.Tensor,
    frames: int,
    config: AugmentConfig,
) -> tf.Tensor:
    """Frames [N, frames] in which the dry voice is above the gate.

    Where the record keeps the levels of a dry voice, its own sounds longer.
    """
    heard = frame_power(sung, frames) > 10.0 ** (AUDIO.gate_db / 10.0)
    levels, inside = _at_frames(phrases, "levels", frames, config)
    louder_db = tf.math.log(gain)[:, None] / _LN_PER_DB
    dry = inside & (levels + louder_db > AUDIO.gate_db) & ~vocal_free[:, None]
    return tf.where(phrases["has_levels"][:, None], dry, heard & inside)


def _targets(
    phrases: Tensors, frames: int, gain: tf.Tensor, changes: tf.Tensor, config: AugmentConfig
) -> tf.Tensor:
    """Features [N, frames, 64] after speeds, gains, and filters that add `changes`, as features."""
    features, inside = _at_frames(phrases, "features", frames, config)
    if cutting.is_played_faster(config):
        features = _changed(
            phrases["units"] != cutting.UNITS, features, playback.faster, phrases["units"]
        )
    louder = 2.0 * tf.math.log(gain)[:, None]
    changes += tf.pad(louder, [[0, 0], [0, AUDIO.feature_size - 1]])[:, None]
    silence = tf.constant(_SILENCE.stacked)
    # c0 alone has a floor.
    floor = np.full(AUDIO.feature_size, -np.inf, np.float32)
    floor[0] = _SILENCE.envelope[0, 0]
    return tf.where(inside[..., None], tf.maximum(features + changes, floor), silence)


def frame_power(audio: tf.Tensor, frames: int) -> tf.Tensor:
    """Mean square of the 1024 samples around each frame of audio with margins, [N, frames]."""
    skip = RECORD.margin - AUDIO.fft_length // 2
    # Windows overlap sixfold: squares are added up once, in blocks that windows and hops divide.
    block = math.gcd(AUDIO.fft_length, AUDIO.hop_length)
    length = AUDIO.fft_length + (frames - 1) * AUDIO.hop_length
    squares = tf.square(audio[:, skip : skip + length])
    sums = tf.reduce_sum(tf.reshape(squares, [-1, length // block, block]), axis=-1)
    windows = tf.signal.frame(sums, AUDIO.fft_length // block, AUDIO.hop_length // block)
    return tf.reduce_sum(windows, axis=-1) / AUDIO.fft_length
