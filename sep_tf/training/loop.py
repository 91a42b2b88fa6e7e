"""The training loop: one step of ours for every strategy, checkpoints, resume, early stopping."""

import csv
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from sep_tf import config as configuration
from sep_tf.config import ModelConfig, TrainConfig
from sep_tf.errors import ModelError, SepTfError
from sep_tf.training.stages import Stage, weights_path

# Called with (split, seed), returns batches; the same arguments give the same batches.
DataSource = Callable[[str, int], tf.data.Dataset]
_VALIDATION_SEED = 10_007


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The distribution strategy of a name.

    "auto" takes all GPUs if there are several, "mirrored" all devices, "none" the default one.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


class Interrupted(Exception):
    """SIGTERM arrived; the state is saved."""


class Trainer:
    """Runs one stage.

    Its files are in `folder`: checkpoints/ (newest two), best.weights.h5 (lowest validation
    loss), config.json, log.csv and tensorboard/.
    """

    def __init__(
        self,
        stage: Stage,
        config: TrainConfig,
        model_config: ModelConfig,
        data: DataSource,
        model_dir: Path,
        strategy: tf.distribute.Strategy,
    ) -> None:
        self.stage, self.config, self.data, self.strategy = stage, config, data, strategy
        self.folder = model_dir / config.stage
        self.best_path = weights_path(model_dir, config.stage)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_config(model_config)
        schedule = keras.optimizers.schedules.CosineDecay(
            config.learning_rate / 20, config.steps, alpha=0.02,
            warmup_target=config.learning_rate, warmup_steps=max(1, min(200, config.steps // 10)),
        )  # fmt: skip
        with strategy.scope():
            self.optimizer = keras.optimizers.Adam(schedule, global_clipnorm=config.clip_norm)
            self.optimizer.build(stage.model.trainable_variables)
            self.best = tf.Variable(math.inf, trainable=False, dtype=tf.float32)
            self.stale = tf.Variable(0, trainable=False, dtype=tf.int64)
        # Variables one by one: a checkpoint of the objects misses batch statistics of layers that
        # are kept in lists.
        self.checkpoint = tf.train.Checkpoint(
            model=[variable.value for variable in stage.model.variables],
            optimizer=[variable.value for variable in self.optimizer.variables],
            best=self.best,
            stale=self.stale,
        )
        self.manager = tf.train.CheckpointManager(
            self.checkpoint, str(self.folder / "checkpoints"), max_to_keep=2
        )
        self.summary = tf.summary.create_file_writer(str(self.folder / "tensorboard"))
        self._stop = False

    def _check_config(self, model_config: ModelConfig) -> None:
        """Saves the resolved configuration; refuses to resume with another one."""
        path = self.folder / "config.json"
        text = configuration.dumps(self.config) + configuration.dumps(model_config)
        if path.is_file() and (self.folder / "checkpoints").is_dir():
            if path.read_text(encoding="utf-8") != text:
                raise ModelError(
                    f"{path} was made with other settings; resume with the same flags or choose "
                    "another --model_dir"
                )
        path.write_text(text, encoding="utf-8")

    @property
    def step(self) -> int:
        return int(self.optimizer.iterations.numpy())

    def run(self) -> float:
        """Trains until the steps or the patience end; returns the best validation loss.

        Raises:
          Interrupted: SIGTERM; everything is saved.
          SepTfError: the loss became NaN; the last good checkpoint is kept.
        """
        if self.manager.latest_checkpoint:
            self.checkpoint.restore(
                self.manager.latest_checkpoint
            ).assert_existing_objects_matched()
            print(f"{self.config.stage}: resumed at step {self.step}", flush=True)
        if self.step < self.config.steps:
            # Asked for once now: a data set without validation is found before the first step.
            self.data(self.stage.validation_split, _VALIDATION_SEED)
        previous = signal.signal(signal.SIGTERM, self._request_stop)
        try:
            while self.step < self.config.steps and int(self.stale) < self.config.patience:
                self._train_segment()
        finally:
            signal.signal(signal.SIGTERM, previous)
        return float(self.best)

    def _request_stop(self, *_: Any) -> None:
        self._stop = True

    def _train_segment(self) -> None:
        """Steps up to the next validation, then validation and a checkpoint."""
        every = self.config.validate_every
        segment, done = divmod(self.step, every)
        end = min((segment + 1) * every, self.config.steps)
        # A segment has a seed of its own: resuming skips at most one segment's batches.
        batches = self.data("train", self.config.seed * 100_003 + segment).skip(done)
        sums: dict[str, float] = {}
        started, first = time.monotonic(), self.step
        for batch in self._distribute(batches.take(end - self.step)):
            values = {k: float(v) for k, v in self._train_step(batch).items()}
            if not math.isfinite(values["loss"]):
                raise SepTfError(
                    f"{self.config.stage}: the loss is not finite at step {self.step}; the last "
                    f"good checkpoint is {self.manager.latest_checkpoint}"
                )
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value
            if self._stop and self.step < end:
                self.manager.save(self.step)
                raise Interrupted
        elapsed = time.monotonic() - started
        count = self.step - first
        train = {name: value / count for name, value in sums.items()}
        self._report(train, self.validate(), elapsed / count)
        self.manager.save(self.step)
        if self._stop:
            raise Interrupted

    def validate(self) -> dict[str, float]:
        """Mean losses over fixed validation batches."""
        batches = self.data(self.stage.validation_split, _VALIDATION_SEED)
        sums: dict[str, float] = {}
        for batch in self._distribute(batches.take(self.config.validation_batches)):
            for name, value in self._validation_step(batch).items():
                sums[name] = sums.get(name, 0.0) + float(value)
        return {name: value / self.config.validation_batches for name, value in sums.items()}

    def _report(self, train: dict[str, float], valid: dict[str, float], seconds: float) -> None:
        improved = valid["loss"] < float(self.best)
        if improved:
            self.best.assign(valid["loss"])
            self.stale.assign(0)
            partial = self.best_path.with_name("partial.weights.h5")
            self.stage.model.save_weights(partial)
            partial.replace(self.best_path)
        else:
            self.stale.assign_add(1)
        row = {"step": self.step, "seconds_per_step": round(seconds, 4)}
        row |= {f"train_{k}": round(v, 5) for k, v in train.items()}
        row |= {f"valid_{k}": round(v, 5) for k, v in valid.items()}
        with self.summary.as_default(step=self.step):
            for name, value in row.items():
                tf.summary.scalar(name, value)
        self.summary.flush()
        path = self.folder / "log.csv"
        is_new = not path.is_file()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row)
            if is_new:
                writer.writeheader()
            writer.writerow(row)
        left = (self.config.steps - self.step) * seconds / 60
        shown = "  ".join(f"{k} {v}" for k, v in row.items() if k.startswith("valid"))
        print(
            f"{self.config.stage} step {self.step}/{self.config.steps}  train_loss "
            f"{row['train_loss']}  {shown}  {seconds:.3f} s/step, {left:.0f} min left"
            + ("  *" if improved else ""),
            flush=True,
        )

    def _distribute(self, batches: tf.data.Dataset) -> Iterator:
        return iter(self.strategy.experimental_distribute_dataset(batches))

    @tf.function
    def _train_step(self, batch):
        def replica(part):
            with tf.GradientTape() as tape:
                values = self.stage.losses(part, training=True)
            variables = self.stage.model.trainable_variables
            gradients = tape.gradient(values["loss"], variables)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            return values

        return self._sum(self.strategy.run(replica, args=(batch,)))

    @tf.function
    def _validation_step(self, batch):
        return self._sum(self.strategy.run(self.stage.losses, args=(batch, False)))

    def _sum(self, values: dict[str, Any]) -> dict[str, Any]:
        """Losses come divided by the number of replicas: their sum is the global value."""

        def reduce(name: str, value: Any) -> Any:
            mean = name in self.stage.averages
            how = tf.distribute.ReduceOp.MEAN if mean else tf.distribute.ReduceOp.SUM
            return self.strategy.reduce(how, value, axis=None)

        return {name: reduce(name, value) for name, value in values.items()}
