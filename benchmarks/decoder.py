"""Our recurrent decoder against a TensorFlow 1 graph of the authors' one, at the same sizes.

python -m benchmarks.decoder --batch_size=30 --phrase_frames=128

The graph is written as such graphs were: recurrent layers unrolled frame by frame, placeholders, a
session. Both train the decoder of `paper` (AutoVC's, as SDN has it) from the same weights with Adam
on the mean square; each runs in a process of its own.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags

from benchmarks import commands
from sep_tf import cli
from sep_tf.config import PRESETS, AudioConfig, ModelConfig

PROGRAM = cli.Program(
    "benchmarks.decoder",
    "[flags]",
    "Prints seconds to the end of the first step, seconds a step, examples a second and peak "
    "memory of the paper's decoder, ours and as a TensorFlow 1 graph.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_integer("batch_size", 30, "Phrases a step.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("phrase_frames", 128, "Frames a phrase.", lower_bound=16, flag_values=FLAGS)
flags.DEFINE_integer("steps", 5, "Steps that are timed.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("singers", 45, "Singers of the one-hot.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_enum("preset", "paper", sorted(PRESETS), "Sizes.", flag_values=FLAGS)
flags.DEFINE_enum(
    "here", "", ["", "ours", "tf1"], "Measure this one in this process, print JSON.",
    flag_values=FLAGS,
)  # fmt: skip


def batch(config: ModelConfig, size: int, frames: int, singers: int) -> tuple[np.ndarray, ...]:
    """Codes [B, T / 16, 64], one-hots [B, T, singers] and targets [B, T, 64] of noise."""
    rng = np.random.default_rng(0)
    code = rng.normal(size=(size, frames // config.code_hop, config.code_size))
    singer = np.eye(singers)[np.arange(size) % singers][:, None].repeat(frames, axis=1)
    target = rng.normal(size=(size, frames, AudioConfig().feature_size))
    return tuple(value.astype(np.float32) for value in (code, singer, target))


def make_decoder(config: ModelConfig, frames: int, singers: int):
    """Our decoder with its variables."""
    from sep_tf.models.recurrent_decoder import RecurrentDecoder

    decoder = RecurrentDecoder(config)
    decoder.build((None, frames // config.code_hop, config.code_size), (None, frames, singers))
    return decoder


# The TensorFlow 1 graph


class Graph:
    """The decoder as a graph of TensorFlow 1; weights begin as those of our decoder.

    Attributes:
      inputs: placeholders of `batch`.
      outputs: features before and after the post-net.
      loss: mean squares of both.
      variables: as they were made.
    """

    def __init__(
        self, decoder: Any, values: dict[str, np.ndarray], shapes: list[tuple[int, ...]]
    ) -> None:
        """Adds the decoder to the current graph.

        Args:
          decoder: ours, for its layers and sizes.
          values: its weights by path; within the graph they could not be read.
          shapes: of code, one-hots and targets.
        """
        import tensorflow as tf

        self._tf, self.variables, self._updates = tf.compat.v1, [], []
        self._values = values
        self.inputs = [self._tf.placeholder(tf.float32, shape) for shape in shapes]
        code, singer, target = self.inputs
        x = tf.concat([tf.repeat(code, decoder.config.code_hop, axis=1), singer], axis=-1)
        x = self._lstm(x, decoder.first.cell)
        x = self._convolutions(x, decoder.convolutions, tf.nn.relu)
        x = self._lstm(self._lstm(x, decoder.second.cell), decoder.third.cell)
        before = x @ self._variable(decoder.head.kernel) + self._variable(decoder.head.bias)
        after = self._convolutions(before, decoder.post, tf.tanh)
        after = before + self._convolution(after, decoder.post_out)
        self.outputs = (before, after)
        self.loss = sum(tf.reduce_mean(tf.square(out - target)) for out in self.outputs)

    def train_op(self) -> Any:
        """One step of Adam, with the updates of the batch statistics."""
        optimizer = self._tf.train.AdamOptimizer(1e-3)
        with self._tf.control_dependencies(self._updates):
            return optimizer.minimize(self.loss, var_list=self.variables)

    def _variable(self, ours: Any) -> Any:
        made = self._tf.Variable(self._initial(ours))
        self.variables.append(made)
        return made

    def _initial(self, ours: Any) -> np.ndarray:
        return ours if isinstance(ours, np.ndarray) else self._values[ours.path]

    def _lstm(self, x: Any, cell: Any) -> Any:
        """static_rnn of an LSTM: one cell a frame in the graph."""
        tf = self._tf
        # BasicLSTMCell has one matrix for input and state.
        both = [self._initial(k) for k in (cell.kernel, cell.recurrent_kernel)]
        kernel, bias = self._variable(np.concatenate(both)), self._variable(cell.bias)
        size = int(x.shape[0])
        state = memory = tf.zeros([size, cell.units])
        outputs = []
        for frame in tf.unstack(x, axis=1):
            gates = tf.nn.bias_add(tf.concat([frame, state], axis=1) @ kernel, bias)
            i, f, c, o = tf.split(gates, 4, axis=1)
            memory = tf.sigmoid(f) * memory + tf.sigmoid(i) * tf.tanh(c)
            state = tf.sigmoid(o) * tf.tanh(memory)
            outputs.append(state)
        return tf.stack(outputs, axis=1)

    def _convolution(self, x: Any, layer: Any) -> Any:
        kernel, bias = self._variable(layer.kernel), self._variable(layer.bias)
        return self._tf.nn.conv1d(x, kernel, stride=1, padding="SAME") + bias

    def _convolutions(self, x: Any, stack: Any, activation: Callable) -> Any:
        """Convolution, batch normalisation and activation, once for each layer of the stack."""
        tf = self._tf
        for layer, norm in zip(stack.convolutions, stack.norms, strict=True):
            x = self._convolution(x, layer)
            mean, variance = tf.nn.moments(x, [0, 1])
            for kept, new in ((norm.moving_mean, mean), (norm.moving_variance, variance)):
                moving = tf.Variable(self._initial(kept), trainable=False)
                self._updates.append(moving.assign_sub((moving - new) * (1.0 - norm.momentum)))
            gamma, beta = self._variable(norm.gamma), self._variable(norm.beta)
            x = activation(tf.nn.batch_normalization(x, mean, variance, beta, gamma, norm.epsilon))
        return x


def tf1_session(decoder: Any, values: tuple[np.ndarray, ...]) -> tuple[Graph, Any, Any, dict]:
    """The graph, its training operation, a session and what is fed to it."""
    import tensorflow as tf

    v1 = tf.compat.v1
    weights = {variable.path: np.array(variable) for variable in decoder.variables}
    graph = tf.Graph()
    with graph.as_default():
        made = Graph(decoder, weights, [value.shape for value in values])
        step = made.train_op()
        session = v1.Session(graph=graph)
        session.run(v1.global_variables_initializer())
    return made, step, session, dict(zip(made.inputs, values, strict=True))


# Measuring


def ours_step(decoder: Any, values: tuple[np.ndarray, ...]) -> Callable[[], Any]:
    """A training step of our decoder, compiled as the training loop compiles it."""
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(decoder.trainable_variables)
    code, singer, target = (tf.constant(value) for value in values)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            outputs = decoder(code, singer, training=True)
            loss = sum(tf.reduce_mean(tf.square(out - target)) for out in outputs)
        gradients = tape.gradient(loss, decoder.trainable_variables)
        optimizer.apply_gradients(zip(gradients, decoder.trainable_variables, strict=True))
        return loss

    return lambda: float(step())


def measure(which: str, config: ModelConfig, settings: dict[str, int]) -> dict[str, float]:
    """Figures of "ours" or "tf1" in this process, and the losses of the steps."""
    import keras

    keras.utils.set_random_seed(0)
    size, frames, singers = (settings[n] for n in ("batch_size", "phrase_frames", "singers"))
    values = batch(config, size, frames, singers)
    decoder = make_decoder(config, frames, singers)
    started = time.perf_counter()
    if which == "ours":
        step = ours_step(decoder, values)
    else:
        graph, operation, session, feed = tf1_session(decoder, values)

        def step() -> float:
            return float(session.run([graph.loss, operation], feed)[0])

    losses = [step()]
    first = time.perf_counter() - started
    started = time.perf_counter()
    losses += [step() for _ in range(settings["steps"])]
    seconds = (time.perf_counter() - started) / settings["steps"]
    if which == "tf1":
        session.close()
    return {
        "first_step_seconds": round(first, 1),
        "seconds_per_step": round(seconds, 3),
        "examples_per_second": round(size / seconds, 1),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "losses": losses,
    }


def main(args: list[str]) -> int:
    PROGRAM.require(args)
    if FLAGS.phrase_frames % PRESETS[FLAGS.preset].code_hop:
        raise cli.UsageError(f"--phrase_frames={FLAGS.phrase_frames} is no multiple of 16")
    if PRESETS[FLAGS.preset].architecture != "recurrent":
        raise cli.UsageError(f"preset {FLAGS.preset} has no recurrent decoder")
    cli.quiet_tensorflow()
    settings = {n: getattr(FLAGS, n) for n in ("batch_size", "phrase_frames", "steps", "singers")}
    if FLAGS.here:
        print(json.dumps(measure(FLAGS.here, PRESETS[FLAGS.preset], settings)))
        return 0
    columns = ("first_step_seconds", "seconds_per_step", "examples_per_second", "memory_mb")
    print("| decoder |", " | ".join(columns), "|")
    print("|---|" + "---|" * len(columns))
    common = [f"--{name}={value}" for name, value in settings.items()]
    for which in ("ours", "tf1"):
        argv = [f"--preset={FLAGS.preset}", f"--here={which}", *common]
        found = commands.figures(which, "-m", "benchmarks.decoder", *argv)
        print(f"| {which} |", " | ".join(str(found[column]) for column in columns), "|", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(PROGRAM.run(main))
