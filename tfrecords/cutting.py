"""Random phrases of a block of records, as batches: what is cut, before anything is decoded.

A record is a piece of a few seconds, a phrase a stretch of it. Only the bytes that a phrase needs
are decoded, and all phrases of a block at once: it is the number of operations that costs.
"""

import tensorflow as tf

from sep_tf.config import AudioConfig, AugmentConfig, RecordConfig
from tfrecords import equalise, playback

AUDIO = AudioConfig()
RECORD = RecordConfig()
UNITS = playback.UNITS
# What is drawn for every example, uniform in [0, 1).
DRAWS = (
    "voice_order", "backing_order", "voice_start", "backing_start", "speed", "backing_speed",
    "altered", "level", "snr", "chance", "room", "room_seconds", "room_level", "fade_in",
    "fade_out", "drive", "cutoff", "second_order", "second_start", "second_voice", "second_level",
    "tilt", "dull", "dull_from",
)  # fmt: skip
Tensors = dict[str, tf.Tensor]


def draw(seed: tf.Tensor, number: tf.Tensor, count: int) -> Tensors:
    """Everything random about the `count` examples of a block, a pure function of its arguments.

    Args:
      seed: int64 scalar.
      number: of the block, int64 scalar.
      count: examples of a block.

    Returns:
      float32 [count] of each of DRAWS, and `curves` [count, 2, equalise.POINTS], standard normal.
    """
    key = tf.stack([tf.cast(seed, tf.int64), tf.cast(number, tf.int64)])
    uniform = tf.random.stateless_uniform([len(DRAWS), count], key)
    curves = tf.random.stateless_normal(
        [count, 2, equalise.POINTS], tf.random.experimental.stateless_fold_in(key, 1)
    )
    return dict(zip(DRAWS, tf.unstack(uniform), strict=True)) | {"curves": curves}


def between(draws: tf.Tensor, limits: tuple[float, float]) -> tf.Tensor:
    """Uniform draws in [0, 1) stretched to the limits."""
    return limits[0] + draws * (limits[1] - limits[0])


def is_played_faster(config: AugmentConfig) -> bool:
    """Whether anything is played at another speed."""
    return config.speed != (1.0, 1.0) or config.backing_speed != (1.0, 1.0)


def longest(frames: int, config: AugmentConfig) -> tuple[int, int]:
    """Samples and frames of a record that a phrase needs at the highest speed."""
    samples = (frames - 1) * AUDIO.hop_length + 2 * RECORD.margin
    if not is_played_faster(config):
        return samples, frames
    highest = round(max(*config.speed, *config.backing_speed, 1.0) * UNITS)
    return playback.blocks(samples) * highest, -(-frames * highest // UNITS) + 1


def cut(
    voices: Tensors,
    backings: Tensors,
    draws: Tensors,
    frames: int,
    config: AugmentConfig,
    kept: tf.Tensor | None = None,
) -> Tensors:
    """Pairs phrases of voices with phrases of music at random and cuts both.

    Args:
      voices: parsed records with vocals, fields [G].
      backings: parsed records of music, fields [G]; a voice's own music goes before them.
      draws: of `draw`, for G * K examples: K phrases are cut of each record.
      frames: length of a phrase at the recorded speed.
      config: ranges of the draws.
      kept: numbers of the examples wanted, of 0..G*K-1; None for all.

    Returns:
      The N examples kept, in order: `vocals` and `backing` int16 [N, samples], `features`
      float32 [N, rows, 64], `f0`, `levels` float32 and `voiced` uint8 [N, rows], as stored;
      `start`, `left` (rows of the record from there on), `units` and `backing_units` (speeds in
      1/64) int32 [N]; the levels and numbers of the records, and the draws; where backing voices
      are asked for, `second` int16 [N, samples] of another voice at the first one's speed, and its
      level. What lies beyond a record is zero; `levels` are zero where the record has none, see
      `has_levels`.
    """
    count = int(draws["level"].shape[0])
    kept = tf.range(count) if kept is None else kept
    altered = draws["altered"] < config.altered
    sung = _Slots(voices, draws["voice_order"], draws["voice_start"], kept)
    played = _Slots(backings, draws["backing_order"], draws["backing_start"], kept)
    units = _units(draws["speed"], config.speed, altered)
    own = tf.strings.length(voices["backing"]) > 0
    other_units = _units(draws["backing_speed"], config.backing_speed, altered)
    sung.place(frames, units)
    played.place(frames, other_units)
    has_own = sung.records_of(own)
    samples, rows = longest(frames, config)
    faster = is_played_faster(config)
    found = {
        "vocals": _decoded(sung.audio("vocals", samples, faster), tf.int16, samples),
        "backing": _decoded(
            tf.where(
                has_own,
                sung.audio("backing", samples, faster),
                played.audio("backing", samples, faster),
            ),
            tf.int16,
            samples,
        ),
        "start": sung.start,
        "left": sung.records_of(sung.frames) - sung.start,
        "units": sung.units,
        "backing_units": tf.where(has_own, sung.units, played.units),
        "vocals_db": sung.records_of(voices["vocals_db"]),
        "backing_db": tf.where(
            has_own,
            sung.records_of(voices["backing_db"]),
            played.records_of(backings["backing_db"]),
        ),
        "has_levels": sung.records_of(tf.strings.length(voices["levels"]) > 0),
    }
    if config.backing_voices:
        second = _Slots(voices, draws["second_order"], draws["second_start"], kept)
        second.place(frames, units)
        audio = second.audio("vocals", samples, faster)
        found["second"] = _decoded(audio, tf.int16, samples)
        found["second_db"] = second.records_of(voices["vocals_db"])
    for name in ("singer", "song_index"):
        found[name] = tf.cast(sung.records_of(voices[name]), tf.int32)
    for name, kind, size in (
        ("features", tf.float32, AUDIO.feature_size),
        ("f0", tf.float32, 1),
        ("levels", tf.float32, 1),
        ("voiced", tf.uint8, 1),
    ):
        values = _decoded(sung.rows(name, kind.size * size, rows), kind, rows * size)
        found[name] = tf.reshape(values, [-1, rows, size]) if size > 1 else values
    chosen = {name: tf.gather(draws[name], kept) for name in draws}
    return found | {"altered": tf.gather(altered, kept), "draws": chosen}


def _units(draws: tf.Tensor, limits: tuple[float, float], altered: tf.Tensor) -> tf.Tensor:
    """Speeds in units of 1/64, int32; the recorded one where nothing is altered."""
    units = tf.cast(tf.round(between(draws, limits) * UNITS), tf.int32)
    return tf.where(altered, units, UNITS)


def _decoded(parts: tf.Tensor, kind: tf.DType, size: int) -> tf.Tensor:
    """Bytes [N] -> values [N, size], zeros behind what is there."""
    values = tf.io.decode_raw(parts, kind, fixed_length=size * kind.size)
    return tf.ensure_shape(values, [None, size])


class _Slots:
    """K phrases of each of G records, dealt to G * K examples in a random order."""

    def __init__(
        self, records: Tensors, order: tf.Tensor, starts: tf.Tensor, kept: tf.Tensor
    ) -> None:
        self.records, self._starts, self._kept = records, starts, kept
        # Example i gets slot[i]; slot s goes to example _example[s].
        self._slot = tf.argsort(order)
        self._example = tf.math.invert_permutation(self._slot)
        self.frames = tf.cast(records["frames"], tf.int32)
        self._records = tf.shape(self.frames)[0]

    def _by_record(self, values: tf.Tensor) -> tf.Tensor:
        """Values of the examples [G * K] -> of the slots [G, K]."""
        return tf.reshape(tf.gather(values, self._example), [self._records, -1])

    def _by_example(self, values: tf.Tensor) -> tf.Tensor:
        """Values of the slots [G, K] -> of the examples kept [N]."""
        return tf.gather(tf.reshape(values, [-1]), tf.gather(self._slot, self._kept))

    def records_of(self, values: tf.Tensor) -> tf.Tensor:
        """Values of the records [G] -> of the examples kept [N]."""
        per_record = tf.size(self._slot) // self._records
        return tf.gather(values, tf.gather(self._slot, self._kept) // per_record)

    def place(self, frames: int, units: tf.Tensor) -> None:
        """Draws where the phrases start; a record shorter than a phrase is taken from its start."""
        self._units = self._by_record(units)
        needed = -(-frames * self._units // UNITS)
        room = tf.maximum(self.frames[:, None] - needed, 0)
        drawn = self._by_record(self._starts) * (tf.cast(room, tf.float32) + 1.0)
        self._start = tf.minimum(tf.cast(drawn, tf.int32), room)
        self.start, self.units = self._by_example(self._start), self._by_example(self._units)

    def audio(self, name: str, samples: int, faster: bool) -> tf.Tensor:
        """PCM16 bytes of the examples kept: at most `samples` samples with the margins."""
        data = self.records[name]
        first = self._start * AUDIO.hop_length
        if faster:
            # Whole units of output samples come from whole units of input samples.
            first += RECORD.margin // UNITS * (UNITS - self._units)
        size = tf.strings.length(data)[:, None] // 2
        low, high = (tf.clip_by_value(at, 0, size) for at in (first, first + samples))
        parts = self._by_example(tf.strings.substr(data[:, None], 2 * low, 2 * (high - low)))
        if not faster:
            return parts
        # Faster phrases begin before the piece.
        before = self._by_example(tf.clip_by_value(-first, 0, RECORD.margin))
        zeros = tf.constant([bytes(2 * RECORD.margin)])
        silence = tf.strings.substr(zeros, tf.zeros_like(before), 2 * before)
        return tf.strings.join([silence, parts])

    def rows(self, name: str, size: int, rows: int) -> tf.Tensor:
        """Bytes of the phrases' rows, `size` bytes each, of the examples kept."""
        data = self.records[name]
        end = tf.strings.length(data)[:, None]
        low = tf.minimum(self._start * size, end)
        length = tf.fill(tf.shape(low), rows * size)
        return self._by_example(tf.strings.substr(data[:, None], low, length))
