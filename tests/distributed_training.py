"""Trains a tiny stage with SGD under a strategy and writes where it ended.

python -m tests.distributed_training STRATEGY STAGE FOLDER OUTPUT.npz [STOPPED [between]]

`mirrored` runs two replicas on two logical CPUs; `multi_worker` is one worker of TF_CONFIG. The
worker STOPPED gets a SIGTERM after its first step, or when the stage is done and the next begins.
"""

import os
import pathlib
import signal
import sys

import keras
import numpy as np
import tensorflow as tf

from sep_tf.training import loop
from sep_tf.training import strategy as distribution
from sep_tf.training.stop import StopRequest
from tests import backend_steps, harness

BATCH_SIZE, STEPS = 4, 3


def batches(worker: int, workers: int):
    """Data source whose batches the workers share."""
    share = BATCH_SIZE // workers

    def data(split: str, seed: int, first_batch: int = 0):
        first = 1000 * len(split) + seed % 97
        made = [harness.batch(first + i, size=BATCH_SIZE) for i in range(4)]
        part = slice(worker * share, (worker + 1) * share)
        stacked = {name: np.stack([b[name][part] for b in made]) for name in made[0]}
        return tf.data.Dataset.from_tensor_slices(stacked).repeat().skip(first_batch)

    return data


def stop_after_a_step(trainer) -> None:
    inner = trainer.train_step

    def step(*arguments):
        values = inner(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        return values

    trainer.train_step = step


def main(
    name: str, stage: str, folder: str, output: str, stopped: str = "-1", when: str = ""
) -> None:
    if name == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    strategy = distribution.make_strategy(name)
    keras.utils.set_random_seed(3)
    if stage == "sin":
        backend_steps.save_earlier(pathlib.Path(folder), "tiny")
    # Adam divides gradients by their own size: rounding in tiny ones would decide.
    loop.make_optimizer = lambda config: keras.optimizers.SGD(config.learning_rate)
    is_stopped = int(stopped) == distribution.shard(strategy)[0]
    with StopRequest() as stop:

        def make_trainer(stage: str):
            return harness.make_trainer(
                stage, pathlib.Path(folder), batches(*distribution.shard(strategy)), strategy,
                batch_size=BATCH_SIZE, steps=STEPS, validate_every=STEPS, learning_rate=0.1,
                stop=stop,
            )  # fmt: skip

        trainer = make_trainer(stage)
        if is_stopped and not when:
            stop_after_a_step(trainer)
        try:
            best = trainer.run()
            if when:
                if is_stopped:
                    os.kill(os.getpid(), signal.SIGTERM)
                trainer = make_trainer("ss")
                trainer.run()
        except loop.Interrupted:
            print(f"{trainer.config.stage} stopped at step {trainer.step}", flush=True)
            best = 0.0
    replicas = strategy.num_replicas_in_sync
    np.savez(output, np.array([best, replicas]), *harness.weights(trainer.stage.model))
    distribution.wait_for_all(strategy)


if __name__ == "__main__":
    main(*sys.argv[1:])
