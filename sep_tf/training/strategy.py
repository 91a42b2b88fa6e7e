"""Distribution strategies, and what each process of a training does of the common work."""

import json
import os
from collections.abc import Iterator

import tensorflow as tf

from sep_tf.errors import SepTfError


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The distribution strategy of a name.

    "auto" takes the machines of TF_CONFIG if it names several, else all GPUs if there are several;
    "mirrored" all devices, "none" the default one, "multi_worker" the machines of TF_CONFIG (before
    anything else is computed).

    Raises:
      SepTfError: TF_CONFIG is missing or describes no cluster; or it does describe one, and the
        strategy is for one machine.
    """
    cluster = os.environ.get("TF_CONFIG", "")
    workers = check_tf_config(cluster) if cluster or name == "multi_worker" else 1
    if workers > 1 and name in ("mirrored", "none"):
        raise SepTfError(
            f"--strategy={name} is for one machine, but TF_CONFIG names {workers} workers, which "
            "would all write to the same folder"
        )
    if name == "multi_worker" or (name == "auto" and workers > 1):
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def check_tf_config(text: str) -> int:
    """How many workers a cluster has.

    Raises:
      SepTfError: `text` describes no cluster of workers and this one's place in it.
    """
    if not text:
        raise SepTfError(
            "--strategy=multi_worker needs the environment variable TF_CONFIG, for example "
            '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
            '"task": {"type": "worker", "index": 0}}'
        )
    try:
        config = json.loads(text)
        workers, task = config["cluster"]["worker"], config["task"]
        kind, index = task["type"], int(task["index"])
        if not isinstance(workers, list) or not all(isinstance(name, str) for name in workers):
            raise TypeError(workers)
    except (ValueError, KeyError, TypeError) as error:
        raise SepTfError(f"TF_CONFIG is no cluster of workers and a task: {text}") from error
    if set(config["cluster"]) != {"worker"} or kind != "worker":
        raise SepTfError(f"TF_CONFIG may name tasks of type worker only: {text}")
    if not 0 <= index < len(workers):
        raise SepTfError(f"TF_CONFIG has {len(workers)} workers, and none of index {index}")
    return len(workers)


def shard(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """This process among how many: (worker, workers)."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().as_dict():
        return 0, 1
    return resolver.task_id, resolver.cluster_spec().num_tasks("worker")


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes checkpoints, weights and curves."""
    return shard(strategy)[0] == 0


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns when every worker is here: one that leaves early takes the others down."""
    if shard(strategy)[1] > 1:
        present = tf.function(lambda: strategy.run(lambda: tf.identity(1.0)))()
        strategy.reduce(tf.distribute.ReduceOp.SUM, present, axis=None)


def check_batch_size(strategy: tf.distribute.Strategy, batch_size: int) -> None:
    """Raises SepTfError unless the replicas can share a batch equally."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise SepTfError(
            f"{replicas} replicas cannot share a batch of {batch_size} equally: set --batch_size "
            f"to a multiple of {replicas}"
        )


def distribute(
    strategy: tf.distribute.Strategy, batches: tf.data.Dataset, batch_size: int
) -> Iterator:
    """Batches for `strategy.run`.

    Args:
      strategy: where they go.
      batches: this worker's share of every batch.
      batch_size: examples of a batch over all replicas of all workers.
    """
    # The thread that tunes a data set can miss that its iterator ends, and then holds it for up to
    # a minute: TensorFlow wakes it before the end is marked. Nothing here is left to tuning.
    options = tf.data.Options()
    options.autotune.enabled = False
    batches = batches.with_options(options)
    replicas = strategy.num_replicas_in_sync
    if replicas // shard(strategy)[1] > 1:
        batches = batches.rebatch(batch_size // replicas, drop_remainder=True)
    return iter(strategy.distribute_datasets_from_function(lambda _: batches))
