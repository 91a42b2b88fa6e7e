"""The training loop: one step of ours for every strategy, checkpoints, resume, early stopping."""

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sep_tf.config import ModelConfig, TrainConfig
from sep_tf.errors import SepTfError, tensorflow_says
from sep_tf.runtimes.keras import save_weights
from sep_tf.training import heard, settings
from sep_tf.training import strategy as distribution
from sep_tf.training.checkpoints import Checkpoints
from sep_tf.training.log import RunLog
from sep_tf.training.stage import Stage, weights_path
from sep_tf.training.stop import StopRequest

# Called with (split, seed) and, in training, the number of the first batch, returns this worker's
# share of batches; the same arguments give the same batches.
DataSource = Callable[..., tf.data.Dataset]
_VALIDATION_SEED = 10_007
# Validation phrases that are shown and heard, and batches that are measured.
_SHOWN = 3
_MEASURED = 2
# Between validations a line says that the training is alive.
_SECONDS_A_LINE = 60.0


def make_optimizer(config: TrainConfig) -> keras.optimizers.Optimizer:
    """Adam, its rate rising, then falling to a fiftieth, or constant (section 4.2)."""
    if config.schedule == "constant":
        return keras.optimizers.Adam(config.learning_rate)
    warmup = max(1, min(200, config.steps // 10))
    # Keras counts the steps of the fall alone.
    schedule = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 20, max(1, config.steps - warmup), alpha=0.02,
        warmup_target=config.learning_rate, warmup_steps=warmup,
    )  # fmt: skip
    return keras.optimizers.Adam(schedule)


class Interrupted(Exception):
    """SIGTERM or Ctrl-C arrived; the state is saved."""


class BadRecord(Exception):
    """The data set gave a record that cannot be read; the text says why."""


class Trainer:
    """Runs one stage.

    Its files are in `folder`: checkpoints/ (newest two), best.weights.h5 (lowest validation
    loss), config.json, log.csv and tensorboard/. Of several workers the chief alone writes them;
    all read them, so that `model_dir` must be a folder that all of them see.
    """

    def __init__(
        self,
        stage: Stage,
        config: TrainConfig,
        model_config: ModelConfig,
        data: DataSource,
        model_dir: Path,
        strategy: tf.distribute.Strategy,
        stop: StopRequest | None = None,
    ) -> None:
        """Prepares the training; nothing is computed yet.

        Args:
          stage: what is learned.
          config: its settings.
          model_config: sizes of the networks.
          data: gives batches.
          model_dir: the stage's folder is in it.
          strategy: devices and workers.
          stop: signals as the program hears them; None to listen during `run` only.

        Raises:
          ModelError: the folder holds a training with other settings or singers.
          SepTfError: the replicas cannot share a batch equally.
        """
        distribution.check_batch_size(strategy, config.batch_size)
        self.stage, self.config, self.data, self.strategy = stage, config, data, strategy
        self.workers = distribution.shard(strategy)[1]
        self.is_chief = distribution.is_chief(strategy)
        self.folder = model_dir / config.stage
        self.best_path = weights_path(model_dir, config.stage)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_config(model_config)
        with strategy.scope():
            self.optimizer = make_optimizer(config)
            self.optimizer.build(stage.model.trainable_variables)
        # The same in every process without being mirrored: validation losses are.
        self.best = tf.Variable(math.inf, trainable=False, dtype=tf.float32)
        self.stale = tf.Variable(0, trainable=False, dtype=tf.int64)
        # Variables one by one: a checkpoint of the objects misses batch statistics of layers that
        # are kept in lists.
        checkpoint = tf.train.Checkpoint(
            model=[variable.value for variable in stage.model.variables],
            optimizer=[variable.value for variable in self.optimizer.variables],
            best=self.best,
            stale=self.stale,
        )
        self.checkpoints = Checkpoints(checkpoint, self.folder / "checkpoints")
        self.log = RunLog(self.folder, self.is_chief)
        self.stop = stop or StopRequest()

    def _check_config(self, model_config: ModelConfig) -> None:
        """Saves the resolved configuration; refuses to resume with another one."""
        info = self.stage.info
        mine = settings.Settings(
            self.config, model_config, self.stage.augment, info.singers, self.stage.began_with,
            info.identity, self.stage.heard,
        )  # fmt: skip
        path = self.folder / settings.NAME
        if path.is_file() and (self.folder / "checkpoints").is_dir():
            mine.check_resumes(settings.load(self.folder), path)
        elif self.is_chief:
            mine.save(self.folder)

    @property
    def step(self) -> int:
        return int(self.optimizer.iterations.numpy())

    def run(self) -> float:
        """Trains until the steps or the patience end; returns the best validation loss.

        Raises:
          Interrupted: SIGTERM or Ctrl-C; everything is saved.
          BadRecord: the data set is damaged.
          ModelError: no checkpoint can be restored.
          SepTfError: the loss became NaN; the last good checkpoint is kept.
        """
        self.log.line(self.stage.summary)
        self._restore()
        self.log.rewind(self.step)
        if self.step < self.config.steps:
            # Made now: a data set without validation is found before the first step.
            _ = self.validation_data
        # One stream for all segments: each would begin anew, and never see what comes late.
        batches = None
        with self.stop:
            while self.step < self.config.steps and int(self.stale) < self.config.patience:
                if self.workers == 1 and self.stop.requested:
                    # Before the first step of a stage, or since the last checkpoint was written.
                    raise Interrupted
                if batches is None:
                    batches = self._distribute(self.data("train", self.config.seed, self.step))
                self._train_segment(batches)
        # The next stage reads what the chief has just written.
        distribution.wait_for_all(self.strategy)
        return float(self.best)

    @functools.cached_property
    def validation_data(self) -> tf.data.Dataset:
        """Always the same batches, made once: to trace a pipeline takes seconds."""
        return self.data(self.stage.validation_split, _VALIDATION_SEED)

    def _restore(self) -> None:
        """Goes on from the newest checkpoint that is whole."""
        stage = self.config.stage
        if self.checkpoints.restore(
            lambda path: self.log.line(f"{stage}: checkpoint {path} is damaged, passed over")
        ):
            # Its statistics are those that this run began with.
            self.stage.weigh()
            self.log.line(f"{stage}: resumed at step {self.step}")

    def _train_segment(self, batches: Iterator) -> None:
        """Steps up to the next validation, then validation and a checkpoint."""
        every = self.config.validate_every
        end = min((self.step // every + 1) * every, self.config.steps)
        sums: dict[str, float] = {}
        started, first, stopping = time.monotonic(), self.step, False
        said = started
        for batch in itertools.islice(batches, end - self.step):
            found = self.train_step(batch, tf.constant(float(self.stop.requested)))
            values = {name: float(value) for name, value in found.items()}
            self._check_finite(values, batch)
            stopping = self._stopping(values)
            for name in values.keys() - {"gradient_norm", "stop"}:
                sums[name] = sums.get(name, 0.0) + values[name]
            if stopping and self.step < end:
                self._save()
                raise Interrupted
            if time.monotonic() - said > _SECONDS_A_LINE:
                said = time.monotonic()
                self.log.line(self._progress(sums["loss"], first, said - started))
        elapsed = time.monotonic() - started
        count = self.step - first
        train = {name: sums[name] / count for name in found if name in sums}
        self._report(train, self.validate(), elapsed / count)
        self._save()
        if stopping or (self.workers == 1 and self.stop.requested):
            raise Interrupted

    def _progress(self, total: float, first: int, elapsed: float) -> str:
        """A line on a segment that is under way; `total` is the sum of its losses so far."""
        count = self.step - first
        return (
            f"{self.config.stage} step {self.step}/{self.config.steps}  train_loss "
            f"{total / count:.5f}  {self._pace(elapsed / count)}"
        )

    def _pace(self, seconds: float) -> str:
        left = (self.config.steps - self.step) * seconds / 60
        return f"{seconds:.3f} s/step, {left:.0f} min left"

    def _stopping(self, values: dict[str, float]) -> bool:
        """Whether a signal reached any worker: all must leave at the same step."""
        return self.stop.requested if self.workers == 1 else values["stop"] > 0

    def _save(self) -> None:
        if self.is_chief:
            self.checkpoints.save(self.step)

    def _check_finite(
        self, values: dict[str, float], batch: dict[str, Any], name: str = "loss"
    ) -> None:
        """Raises SepTfError that names the songs of the batch whose loss or gradient is NaN."""
        if math.isfinite(values["loss"]):
            # The norm too: a gradient that is NaN spoils the weights although the loss was finite.
            if math.isfinite(values.get("gradient_norm", 0.0)):
                return
            name = "gradient"
        parts = self.strategy.experimental_local_results(batch["song_index"])
        numbers = np.unique(np.concatenate([np.atleast_1d(part) for part in parts]))
        songs = ", ".join(self.stage.info.song(number) for number in numbers)
        raise SepTfError(
            f"{self.config.stage}: the {name} is not finite at step {self.step}, on phrases of "
            f"{songs}; {self._last_good()}"
        )

    def _last_good(self) -> str:
        kept = self.checkpoints.paths
        if not kept:
            return "no checkpoint was written before"
        return f"the last good checkpoint is {kept[-1]}"

    def validate(self) -> dict[str, float]:
        """Mean losses over fixed validation batches, and figures of the first of them.

        The first phrases become pictures and audio. Of several workers the chief measures and
        shows its own share.

        Raises:
          SepTfError: a loss is NaN.
        """
        batches = self.validation_data
        sums: dict[str, float] = {}
        own: list[dict[str, Any]] = []
        for batch in self._distribute(batches.take(self.config.validation_batches)):
            if self.is_chief and len(own) < _MEASURED:
                own.append(self._local(batch))
            found = {name: float(value) for name, value in self._validation_step(batch).items()}
            self._check_finite(found, batch, "validation loss")
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value
        values = {name: value / self.config.validation_batches for name, value in sums.items()}
        return values | (self._measure(own) if own else {})

    def _local(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What the first replica of this process has of a batch."""
        return {
            name: self.strategy.experimental_local_results(value)[0]
            for name, value in batch.items()
        }

    def _measure(self, batches: list[dict[str, Any]]) -> dict[str, float]:
        """Figures of batches of this process; shows and plays the first phrases."""
        found = [self.stage.found(batch) for batch in batches]
        first = {name: value[:_SHOWN] for name, value in batches[0].items()}
        shown = found[0] and found[0].first(_SHOWN)
        self.log.pictures(self.step, self.stage.pictures(first, shown))
        if shown is None:
            return {}
        self.log.sounds(self.step, heard.sounds(first, shown))
        values: dict[str, list[float]] = {}
        for batch, said in zip(batches, found, strict=True):
            for name, value in heard.measures(batch, said).items():
                values.setdefault(name, []).append(value)
        return {name: float(np.mean(several)) for name, several in values.items()}

    def _report(self, train: dict[str, float], valid: dict[str, float], seconds: float) -> None:
        improved = valid["loss"] < float(self.best)
        if improved:
            self.best.assign(valid["loss"])
            self.stale.assign(0)
            self._save_best()
        else:
            self.stale.assign_add(1)
        row = {"step": self.step, "seconds_per_step": round(seconds, 4)}
        row |= {f"train_{k}": round(v, 5) for k, v in train.items()}
        row |= {f"valid_{k}": round(v, 5) for k, v in valid.items()}
        row["learning_rate"] = float(self.optimizer.learning_rate.numpy())
        row["examples_per_second"] = round(self.config.batch_size / seconds, 2)
        self.log.row(row)
        shown = "  ".join(f"{k} {v}" for k, v in row.items() if k.startswith("valid"))
        self.log.line(
            f"{self.config.stage} step {self.step}/{self.config.steps}  train_loss "
            f"{row['train_loss']}  {shown}  {self._pace(seconds)}" + ("  *" if improved else "")
        )

    def _save_best(self) -> None:
        if self.is_chief:
            save_weights(self.stage.model, None, self.best_path)

    def _distribute(self, batches: tf.data.Dataset) -> Iterator:
        batches = distribution.distribute(self.strategy, batches, self.config.batch_size)
        while True:
            # Here alone, so that a fault of the network is not taken for one of the data.
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
                raise BadRecord(tensorflow_says(error.message)) from error
            yield batch

    @tf.function(autograph=False)
    def train_step(self, batch, stop):
        """Learns from a batch; returns its losses, `gradient_norm`, and `stop` of all workers."""

        def replica(part, stop):
            with tf.GradientTape() as tape:
                values = self.stage.losses(part, training=True)
            variables = self.stage.model.trainable_variables
            gradients, norm = self._clipped(tape.gradient(values["loss"], variables))
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            return values | {"gradient_norm": norm, "stop": tf.identity(stop)}

        return self._sum(self.strategy.run(replica, args=(batch, stop)))

    def _clipped(self, gradients: list[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
        """A replica's gradients after clipping by the norm of all replicas' sum, and that norm.

        Keras' own clipping comes before the sum: with N replicas it would be another training.
        """
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        if replicas > 1:
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        norm = tf.linalg.global_norm(gradients)
        if self.config.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.config.clip_norm, norm)
        # The optimizer sums over replicas.
        return [gradient / replicas for gradient in gradients], norm

    @tf.function(autograph=False)
    def _validation_step(self, batch):
        return self._sum(self.strategy.run(self.stage.losses, args=(batch, False)))

    def _sum(self, values: dict[str, Any]) -> dict[str, Any]:
        """Losses come divided by the number of replicas: their sum is the global value."""

        def reduce(name: str, value: Any) -> Any:
            mean = name in self.stage.averages or name == "gradient_norm"
            how = tf.distribute.ReduceOp.MEAN if mean else tf.distribute.ReduceOp.SUM
            return self.strategy.reduce(how, value, axis=None)

        return {name: reduce(name, value) for name, value in values.items()}
