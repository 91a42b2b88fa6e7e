"""`sep-tf train`: trains the networks in stages (section 4.2).

sep-tf train --stage=all --data_dir=records --model_dir=runs/lite
"""

import contextlib
import dataclasses
import os
import signal
import sys
from pathlib import Path

from absl import flags

from sep_tf import cli, runtimes
from sep_tf.config import (
    AUGMENTATIONS,
    FEATURE_LOSSES,
    PRESETS,
    SCHEDULES,
    VALIDATION_SPLITS,
    RecordConfig,
    model_config,
)
from sep_tf.errors import DataError, SepTfError

ORDER = ("autovc", "encoder", "sdn", "f0", "sin", "ss", "unet")
PROGRAM = cli.Program(
    "train",
    "--stage=STAGE --data_dir=FOLDER --model_dir=FOLDER [flags]",
    f"Trains one stage, or all in order ({', '.join(ORDER)}). Started again with the same flags "
    "it goes on where it stopped.",
    catch_sigterm=False,
)
FLAGS = PROGRAM.flags
flags.DEFINE_enum("stage", "all", [*ORDER, "all"], "What to train.", flag_values=FLAGS)
flags.DEFINE_string("data_dir", None, "Folder made by `sep-tf build`.", flag_values=FLAGS)
flags.DEFINE_string("model_dir", None, "Folder for checkpoints and weights.", flag_values=FLAGS)
flags.DEFINE_enum("preset", "lite", sorted(PRESETS), "Sizes of the networks.", flag_values=FLAGS)
flags.DEFINE_enum(
    "strategy",
    "auto",
    ["auto", "mirrored", "multi_worker", "none"],
    "Distribution: all GPUs if there are several (auto), all devices, the machines of TF_CONFIG, "
    "or one device.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "precision", None, ["float32", "mixed_bfloat16"], "Keras' dtype policy.", flag_values=FLAGS
)
flags.DEFINE_enum(
    "feature_loss",
    None,
    FEATURE_LOSSES,
    "Distance of vocoder features: plain is eq. 3, 7 and 8 to the letter, squared the same with "
    "weights on features and frames (autovc, sdn, sin), distortion its root in physical units "
    "(sdn, sin).",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "schedule", None, SCHEDULES, "How Adam's rate changes: warm-up and cosine down to a fiftieth "
    "over the steps, or not at all.", flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_enum(
    "augmentation", None, AUGMENTATIONS, "What is altered in training examples: wide, the stage's "
    "levels, speeds, colours and rooms; gains, the variable gains of section 4.2 and nothing else.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_enum(
    "validation_split",
    None,
    VALIDATION_SPLITS,
    "Split of the early stopping; by default new songs of known singers for autovc, encoder and "
    "sdn, new singers for the others.",
    flag_values=FLAGS,
)
# None: the stage's own default.
for _name, _help in (
    ("batch_size", "Phrases a step, over all replicas."),
    ("phrase_frames", "Frames a phrase, a multiple of 16."),
    ("steps", "Steps of the stage, unless early stopping ends it before."),
    ("validate_every", "Steps between validations and checkpoints."),
    ("validation_batches", "Batches a validation."),
    ("patience", "Validations without a better loss before the stage ends."),
):
    flags.DEFINE_integer(_name, None, _help, lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer(
    "seed", None,
    "Seed of the first weights, of dropout, and of the order and augmentation of the data.",
    lower_bound=1, upper_bound=2**32 - 1, flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_float("learning_rate", None, "Peak of Adam's rate.", lower_bound=0, flag_values=FLAGS)
flags.DEFINE_float(
    "clip_norm", None, "Largest norm of a step's gradients; 0 to leave them as they are.",
    lower_bound=0, flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_float(
    "content_weight",
    None,
    "Weight of a second content term in stage sdn, for which the teacher hears the output.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "tune_encoder",
    None,
    "Stage sin trains the mixture encoder, too; its batch statistics stay.",
    flag_values=FLAGS,
)
for _name, _help in (
    ("freq_mask", "Widest mask over frequencies of the mixture's spectrograms, Hz; 0 for none."),
    ("time_mask", "Longest mask over time of the mixture's spectrograms, seconds; 0 for none."),
    ("fade", "Longest fade of the music at both ends of a phrase, seconds; 0 for none."),
):
    flags.DEFINE_float(_name, 0.0, f"{_help} (tensorflow-io)", lower_bound=0, flag_values=FLAGS)
flags.DEFINE_bool(
    "debug", False, "Stop at a batch with a value that is not finite.", flag_values=FLAGS
)
flags.DEFINE_string(
    "init_from",
    None,
    "Weights to start from, fine-tuning: a bundled model (sin-lite), an exported .weights.h5 or "
    "the same stage's. In sdn and sin the frozen encoder is that of stage encoder in --model_dir, "
    "or, where there is none or with --tune_encoder, the one of these weights.",
    flag_values=FLAGS,
)
# What else would be without effect, and not be noticed; plain is for all stages.
_FEATURE_LOSS_STAGES = {"distortion": ("sdn", "sin"), "squared": ("autovc", "sdn", "sin")}
_OF_ONE_STAGE = {"content_weight": "sdn", "tune_encoder": "sin"}
# A new singer has no one-hot in these.
_KNOWN_SINGERS = ("autovc", "encoder", "sdn")
_OF_MIXTURES = ("freq_mask", "time_mask", "fade")
_OVERRIDES = (
    "batch_size", "phrase_frames", "steps", "validate_every", "validation_batches", "patience",
    "seed", "learning_rate", "preset", "precision", "feature_loss", "content_weight",
    "clip_norm", "schedule", "augmentation", "validation_split", "tune_encoder",
)  # fmt: skip


def main(args: list[str]) -> int:
    PROGRAM.require(args, "data_dir", "model_dir")
    chosen = ORDER if FLAGS.stage == "all" else (FLAGS.stage,)
    _check_flags(chosen)
    cli.quiet_tensorflow()
    with cli.quiet_native_log():
        import keras
        import tensorflow as tf

        from sep_tf.training import loop, stages
        from sep_tf.training import strategy as distribution
        from sep_tf.training.stop import StopRequest
        from tfrecords import dataset, masks

    # First: workers of several machines must find each other before anything is computed. What
    # they say of each other is not dropped, what one machine says of devices it lacks is.
    with contextlib.nullcontext() if os.environ.get("TF_CONFIG") else cli.quiet_native_log():
        strategy = distribution.make_strategy(FLAGS.strategy)
    # Now, not when the stages before have been trained for hours.
    if any(getattr(FLAGS, flag) for flag in _OF_MIXTURES):
        masks.require()
    for stage in chosen:
        settings = stages.train_config(stage, batch_size=FLAGS.batch_size)
        distribution.check_batch_size(strategy, settings.batch_size)
    first: dict[str, str] = {}
    for stage in chosen:
        split = FLAGS.validation_split or stages.STAGES[stage].validation_split
        first.setdefault(split, stage)
    for split, stage in first.items():
        _check_validation(stage, split)
    code = 0
    keras.utils.set_random_seed(FLAGS.seed or 1)
    say = print if distribution.is_chief(strategy) else lambda *_, **__: None
    try:
        # One for all stages: between two of them the signal must not be lost.
        with StopRequest() as stop:
            for stage in chosen:
                best = _train(stage, strategy, stop, say)
                say(f"{stage}: best validation loss {best:.5f}", flush=True)
    except loop.BadRecord as error:
        if dataset.NOT_FINITE in str(error):  # looked for by --debug
            raise DataError(
                f"{FLAGS.data_dir}: {error}; made by the alterations, unless `sep-tf inspect "
                f"--check {FLAGS.data_dir}` finds it"
            ) from error
        # Truncation is seen before the first step, damage inside a record only when it is read.
        raise DataError(
            f"{FLAGS.data_dir}: a record is damaged: {error}; `sep-tf inspect --check "
            f"{FLAGS.data_dir}` finds it"
        ) from error
    except tf.errors.UnavailableError as error:
        raise SepTfError(
            f"another worker is gone: {error.message.splitlines()[0]}; start all of them again "
            "with the same flags to go on"
        ) from error
    except loop.Interrupted:
        say(f"stopped and saved; go on with: sep-tf train {PROGRAM.given_flags()}", flush=True)
        # As after SIGTERM where another worker heard it: what comes after must not take the
        # stage for done.
        code = 130 if stop.number == signal.SIGINT else 143
    distribution.wait_for_all(strategy)
    return code


def _check_validation(stage: str, split: str) -> None:
    """Raises DataError where there is nothing to end the stage by."""
    from tfrecords import dataset, schema

    counts = schema.DatasetIndex.load(FLAGS.data_dir).counts
    if split == "validation_unseen" and not counts.get(split) and not FLAGS.validation_split:
        raise DataError(
            f"{FLAGS.data_dir} has no '{split}' records: stage {stage} ends by new singers, or "
            "with --validation_split=validation by new songs of known ones"
        )
    dataset.phrases(FLAGS.data_dir, dataset.PhraseOptions(split))


def _check_flags(chosen: tuple[str, ...]) -> None:
    """Raises UsageError where flags contradict each other."""
    # A U-Net halves its picture at every level, the others have a code every 16 frames.
    levels = len(model_config(FLAGS.preset).unet_channels) if "unet" in chosen else 0
    unit = max(16, 2**levels)
    if (FLAGS.phrase_frames or unit) % unit:
        raise cli.UsageError(f"--phrase_frames={FLAGS.phrase_frames} is no multiple of {unit}")
    longest = RecordConfig().chunk_frames
    if (FLAGS.phrase_frames or 0) > longest:
        raise cli.UsageError(
            f"--phrase_frames={FLAGS.phrase_frames}: records hold {longest} frames at most"
        )
    for flag, stage in _OF_ONE_STAGE.items():
        if getattr(FLAGS, flag) and FLAGS.stage not in (stage, "all"):
            raise cli.UsageError(f"--{flag} is for stage {stage}, not {FLAGS.stage}")
    if FLAGS.stage not in (*_FEATURE_LOSS_STAGES.get(FLAGS.feature_loss, ORDER), "all"):
        *others, last = _FEATURE_LOSS_STAGES[FLAGS.feature_loss]
        raise cli.UsageError(
            f"--feature_loss={FLAGS.feature_loss} is for stages {', '.join(others)} and {last}, "
            f"not {FLAGS.stage}"
        )
    for flag in _OF_MIXTURES:
        value = getattr(FLAGS, flag)
        if value and FLAGS.stage == "autovc":
            raise cli.UsageError(f"--{flag} alters mixtures, and stage autovc hears none")
        if value and FLAGS.augmentation == "gains":
            raise cli.UsageError(
                f"--{flag}={value} contradicts --augmentation=gains, which alters nothing else"
            )
    strangers = [name for name in chosen if name in _KNOWN_SINGERS]
    if FLAGS.validation_split == "validation_unseen" and strangers:
        raise cli.UsageError(
            f"--validation_split=validation_unseen is of singers that stage {strangers[0]} does "
            "not know"
        )
    if FLAGS.learning_rate == 0:
        raise cli.UsageError("--learning_rate=0 trains nothing")
    if FLAGS.init_from:
        if FLAGS.stage == "all":
            raise cli.UsageError("--init_from is for one stage: give --stage as well")
        runtimes.find(FLAGS.init_from, "keras")


def _train(name: str, strategy, stop, say) -> float:
    """Trains one stage on the data set of the flags; returns its best validation loss."""
    import keras
    import numpy as np

    from sep_tf.training import loop, stages
    from sep_tf.training import strategy as distribution
    from tfrecords import dataset, schema

    index = schema.DatasetIndex.load(FLAGS.data_dir)
    statistics = index.statistics
    info = stages.DataInfo(
        index.singers, np.array(statistics.mean), np.array(statistics.std), index.songs,
        index.identity,
    )  # fmt: skip
    overrides = {flag: getattr(FLAGS, flag) for flag in _OVERRIDES}
    overrides |= {flag: None for flag, only in _OF_ONE_STAGE.items() if name != only}
    config = stages.train_config(name, **overrides)
    sizes = model_config(config.preset)
    model_dir = Path(FLAGS.model_dir)
    keras.config.set_dtype_policy(config.precision)
    init_from = runtimes.find(FLAGS.init_from, "keras")[1] if FLAGS.init_from else None
    with strategy.scope():
        stage = stages.STAGES[name](sizes, info, model_dir, config, init_from)
    drawn = {flag: getattr(FLAGS, flag) for flag in _OF_MIXTURES}
    stage.augment = dataclasses.replace(stage.augment, **drawn)
    if name != "autovc" and (FLAGS.freq_mask or FLAGS.time_mask):
        say(
            f"{name}: masks are drawn by tensorflow-io; a run that is interrupted will not go on "
            "with exactly the same examples",
            flush=True,
        )

    def data(split: str, seed: int, first_batch: int = 0):
        training = split == "train"
        options = dataset.PhraseOptions(
            split, config.batch_size, config.phrase_frames, seed, stage.spectrograms,
            stage.augment if training else stage.validation_augment,
            distribution.shard(strategy),
            # Phrases of the validation can be listened to.
            waveforms=() if training else ("mixture", "voice"),
            debug=FLAGS.debug,
        )  # fmt: skip
        return dataset.phrases(FLAGS.data_dir, options, first_batch)

    return loop.Trainer(stage, config, sizes, data, model_dir, strategy, stop).run()


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
