"""Every constant of the project, in frozen dataclasses: one home for each.

Section numbers refer to Chandna et al., "Content based singing voice extraction
from a musical mixture" (ICASSP 2020).
"""

import dataclasses
from typing import Any, Self

from sep_tf.errors import SepTfError


class ConfigError(SepTfError):
    """A configuration that does not hold together; the message is one clear line."""


@dataclasses.dataclass(frozen=True)
class _Config:
    """Shared by the dataclasses below: JSON-ready dictionaries, unknown keys refused."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Builds the configuration; raises ConfigError on a key it does not know."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"{cls.__name__}: unknown key {', '.join(unknown)}")
        # JSON turns tuples into lists; frozen dataclasses need the tuples back to stay hashable.
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclasses.dataclass(frozen=True)
class AudioConfig(_Config):
    """Signals and vocoder features (section 4.1)."""

    sample_rate: int = 32_000
    hop_length: int = 160
    fft_length: int = 1024
    f0_fft_length: int = 4096
    world_fft_length: int = 2048
    f0_floor: float = 50.0
    f0_ceil: float = 1100.0
    envelope_size: int = 60
    aperiodicity_size: int = 4
    # Frames whose level is below this (dBFS) are silent and never voiced.
    gate_db: float = -60.0
    # Spectral envelopes (power) are floored here before they are coded.
    power_floor: float = 1e-9

    @property
    def feature_size(self) -> int:
        return self.envelope_size + self.aperiodicity_size

    @property
    def bins(self) -> int:
        return self.fft_length // 2 + 1

    @property
    def f0_bins(self) -> int:
        return self.f0_fft_length // 2 + 1

    @property
    def frames_per_second(self) -> float:
        return self.sample_rate / self.hop_length

    @property
    def frame_period_ms(self) -> float:
        return 1000.0 * self.hop_length / self.sample_rate


# How one f0 a frame is read from the heads of F0: models/f0_decoding.py.
F0_DECODINGS = ("average", "viterbi", "continuous")


@dataclasses.dataclass(frozen=True)
class ModelConfig(_Config):
    """Sizes of the networks of one preset (section 3; DESIGN of the `lite` preset).

    `*_dilations` has one entry a residual convolution of width `*_width`.
    """

    preset: str = "lite"
    # Which blocks encoder, decoder and F0 are made of: models/architectures.py.
    architecture: str = "dilated"
    kernel_size: int = 3
    # The content code: one vector every 16 frames, 64 wide (AutoVC, section 3).
    code_hop: int = 16
    code_size: int = 64
    # Frames a step of the encoders' convolutions; divides code_hop.
    encoder_stride: int = 2
    encoder_width: int = 192
    encoder_dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 1, 2)
    # Frames a step of the decoder's convolutions; divides code_hop.
    decoder_stride: int = 2
    decoder_width: int = 208
    decoder_dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 1, 2, 4, 8, 16)
    # Points of the mixture's envelope over the harmonics of F0's pitch that SIN sees; 0 for none.
    sin_harmonic_points: int = 60
    # Hidden units of SIN's own voicing, which knows how loud its voice is; 0 for that of F0.
    sin_voicing_width: int = 64
    # Channels of what compares SIN's envelope with the mixture at those points; 0 for none, as in
    # files that are older than it.
    sin_refinement_width: int = 0
    postnet_width: int = 128
    # F0: harmonics stacked in front of convolutions over pitch, then over time.
    f0_harmonics: tuple[float, ...] = (0.5, 1, 2, 3, 4, 5, 6, 7)
    # The same from 1024-point spectra, which follow fast gestures; none in the paper.
    f0_short_harmonics: tuple[float, ...] = (1, 2, 3, 4, 5, 6, 7)
    f0_pitch_channels: tuple[int, ...] = (12, 16, 16, 8)
    f0_width: int = 160
    f0_dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 1, 2, 4, 8, 16)
    # Of F0_DECODINGS; changes no weights.
    f0_decoding: str = "average"
    # SS: gated convolutions of width 2, one block a dilation.
    ss_width: int = 96
    ss_dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    # UNET: channels of its strided convolutions; the picture halves at each.
    unet_channels: tuple[int, ...] = (12, 24, 32, 48, 64, 96)
    unet_dropout: float = 0.5


# The paper and the papers it builds on: AutoVC [14], [23], [13] and U-Net [7].
_PAPER = ModelConfig(
    preset="paper",
    architecture="recurrent",
    kernel_size=5,
    encoder_width=512,
    decoder_width=512,
    sin_harmonic_points=0,
    sin_voicing_width=0,
    postnet_width=512,
    f0_short_harmonics=(),
    f0_width=32,
    ss_width=256,
    unet_channels=(16, 32, 64, 128, 256, 512),
)

PRESETS: dict[str, ModelConfig] = {
    "lite": ModelConfig(sin_refinement_width=16),
    "paper": _PAPER,
    # Random weights, for tests of everything around the network.
    "tiny": ModelConfig(
        preset="tiny",
        encoder_width=8,
        encoder_dilations=(1, 2),
        decoder_width=8,
        decoder_dilations=(1, 2),
        sin_harmonic_points=4,
        sin_voicing_width=4,
        sin_refinement_width=4,
        postnet_width=8,
        f0_harmonics=(1, 2),
        f0_short_harmonics=(1, 2),
        f0_pitch_channels=(4,),
        f0_width=8,
        f0_dilations=(1, 2),
        ss_width=8,
        ss_dilations=(1, 2),
        unet_channels=(4, 6, 8),
        # Steps that two replicas or two backends must agree on draw nothing at random.
        unet_dropout=0.0,
    ),
    # The same for the blocks of `paper`.
    "tiny-paper": dataclasses.replace(
        _PAPER,
        preset="tiny-paper",
        encoder_width=12,
        decoder_width=12,
        postnet_width=12,
        code_size=16,
        f0_width=4,
        ss_width=8,
        unet_channels=(4, 4, 6, 6, 8),
        unet_dropout=0.0,
    ),
}


def model_config(preset: str) -> ModelConfig:
    """Returns the preset's configuration; raises ConfigError on an unknown name."""
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset '{preset}', expected one of: {', '.join(PRESETS)}")
    return PRESETS[preset]


@dataclasses.dataclass(frozen=True)
class RecordConfig(_Config):
    """What a TFRecord example holds."""

    # Bumped whenever the meaning of a stored field changes.
    schema_version: int = 1
    # Longest piece of a song in one example, in frames (4 s).
    chunk_frames: int = 800
    # Samples beyond the piece on both sides: half of the longest analysis window.
    margin: int = 2048


@dataclasses.dataclass(frozen=True)
class AugmentConfig(_Config):
    """Random levels of the mixtures made in training.

    The paper (section 4.2) draws linear gains; corpora recorded at different levels need
    them relative to each recording's own level, so levels are drawn in dB. PAPER_GAINS has the
    paper's way.
    """

    vocals_db: tuple[float, float] = (-34.0, -12.0)
    # Vocals over backing: from loud rock, that buries its singers, to a voice with a guitar.
    snr_db: tuple[float, float] = (-12.0, 9.0)
    backing_free: float = 0.04
    vocal_free: float = 0.1
    # Share of examples that what follows alters; the others stay as they are recorded.
    altered: float = 1.0
    # Playback speed of the vocals: other melodies, tempi and tracts; the targets follow.
    speed: tuple[float, float] = (1.0, 1.0)
    # The same for the music: other tempi and keys; no target depends on it.
    backing_speed: tuple[float, float] = (1.0, 1.0)
    # Standard deviation of a smooth random equalisation at its control points; 0 for none.
    vocals_eq_db: float = 0.0
    backing_eq_db: float = 0.0
    # What else colours the altered vocals, and their targets: a tilt of at most so many dB, up or
    # down, from the lowest frequency to the highest; in a share of them falling treble.
    vocals_tilt_db: float = 0.0
    vocals_dull: float = 0.0
    dull_db: tuple[float, float] = (10.0, 50.0)
    # Share of the altered examples with a second voice in the music, and its level over the first:
    # the louder one leads.
    backing_voices: float = 0.0
    backing_voices_db: tuple[float, float] = (-24.0, -8.0)
    # Share of the altered examples whose voice is in a room; the target stays dry.
    reverb: float = 0.0
    reverb_seconds: tuple[float, float] = (0.3, 2.0)
    # Energy of the tail relative to the direct sound.
    reverb_db: tuple[float, float] = (-18.0, -3.0)
    # Share of the altered mixtures that are driven into soft saturation, as mastering does, by so
    # many dB; and of those that lack treble, as lossy codecs leave them.
    saturated: float = 0.0
    drive_db: tuple[float, float] = (-6.0, 12.0)
    band_limited: float = 0.0
    cutoff_hz: tuple[float, float] = (6000.0, 16_000.0)
    # Whether the target lacks the treble that its mixture lacks; else it is to be guessed.
    limited_target: bool = False
    # Linear gains of voices, which records bring to one level, and of music as it was recorded,
    # instead of levels in dB.
    vocals_gain: tuple[float, float] | None = None
    backing_gain: tuple[float, float] | None = None
    # Whether the target is the voice as recorded; else it follows the gain.
    fixed_target: bool = False
    # Whether magnitudes of voice and backing are added; else waveforms are.
    add_magnitudes: bool = False
    # Widest masks on the mixture's spectrograms, in Hz and in seconds, and the longest fades of the
    # music, in seconds; 0 for none.
    freq_mask: float = 0.0
    time_mask: float = 0.0
    fade: float = 0.0


# Section 4.2: variable gains on the spectrograms of vocals and backing, added up; the ranges and
# the target that stays are the authors'.
PAPER_GAINS = AugmentConfig(
    backing_free=0.0,
    vocal_free=0.0,
    vocals_gain=(0.5, 1.0),
    backing_gain=(0.0, 1.0),
    fixed_target=True,
    add_magnitudes=True,
)


# Productions around a voice as its singer has it. Half of the examples stay as recorded: what is
# common to real voices is to be learned as well.
KNOWN_SINGERS = AugmentConfig(
    altered=0.5,
    backing_speed=(0.8, 1.25),
    backing_eq_db=4.0,
    backing_voices=0.2,
    reverb=0.5,
    saturated=0.4,
    band_limited=0.3,
)

# The same with other melodies, tracts and microphones: unseen singers are the point.
PRODUCED = dataclasses.replace(
    KNOWN_SINGERS,
    speed=(0.8, 1.25),
    vocals_eq_db=4.0,
    vocals_tilt_db=20.0,
    vocals_dull=0.15,
    # Quiet and loud songs.
    vocals_db=(-42.0, -10.0),
    limited_target=True,
)

# Distances of vocoder features that stages can minimise.
FEATURE_LOSSES = ("distortion", "squared", "plain")
SCHEDULES = ("cosine", "constant")
AUGMENTATIONS = ("wide", "gains")
VALIDATION_SPLITS = ("validation", "validation_unseen")


@dataclasses.dataclass(frozen=True)
class TrainConfig(_Config):
    """One training stage (section 4.2)."""

    stage: str = "sin"
    preset: str = "lite"
    batch_size: int = 30
    phrase_frames: int = 128
    steps: int = 6000
    learning_rate: float = 1e-3
    # How Adam's rate changes: "cosine" rises, then falls to a fiftieth over the steps.
    schedule: str = "cosine"
    # Largest norm of a step's gradients; 0 leaves them as they are.
    clip_norm: float = 1.0
    validate_every: int = 500
    validation_batches: int = 20
    # Early stopping: validations without a better loss.
    patience: int = 6
    seed: int = 1
    # Keras' dtype policy: "mixed_bfloat16" is about twice as fast where the processor has it.
    precision: str = "float32"
    # "plain" is eq. 3, 7 and 8 to the letter, "squared" the same with weights on features and
    # frames; "distortion" its root in physical units, for sdn and sin.
    feature_loss: str = "distortion"
    # "wide" is what the stage asks for, "gains" the variable gains of section 4.2 alone.
    augmentation: str = "wide"
    # Split of the early stopping; empty for the stage's own.
    validation_split: str = ""
    # Weight of the second content term in stage sdn; 0 leaves it out, as the paper does.
    content_weight: float = 0.0
    # Whether stage sin goes on training the mixture encoder, which the paper leaves as distilled.
    tune_encoder: bool = False


@dataclasses.dataclass(frozen=True)
class RuntimeEntry:
    """What can run a model.

    Attributes:
      ending: of its files' names; empty for the folder of a SavedModel, and for a server.
      package: that it needs.
      home: "module:Class"; the module also has `read_info(path) -> ModelInfo`.
    """

    ending: str
    package: str
    home: str


# `auto` takes the first of these that is installed and has a file.
RUNTIMES = {
    "litert": RuntimeEntry(".tflite", "ai_edge_litert", "sep_tf.runtimes.litert:LiteRTRuntime"),
    "keras": RuntimeEntry(".weights.h5", "keras", "sep_tf.runtimes.keras:KerasRuntime"),
    "saved_model": RuntimeEntry("", "tensorflow", "sep_tf.runtimes.saved_model:SavedModelRuntime"),
    "serving": RuntimeEntry("", "", "sep_tf.runtimes.serving:ServingRuntime"),
}


@dataclasses.dataclass(frozen=True)
class ExtractConfig(_Config):
    """Defaults shared by the command line and the Python API."""

    system: str = "sin"
    runtime: str = "auto"
    model: str = "sin-lite"
    f0: str = "model"
    # Semitones, and a ratio.
    transpose: float = 0.0
    formant: float = 1.0
    clip: str = "rescale"
    # Frames run through the network at once, without their context (5.1 s).
    chunk_frames: int = 1024
    # Voicing probability above which a frame is sung, see `sep_tf.voicing`.
    voicing_threshold: float = 0.5
