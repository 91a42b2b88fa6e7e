"""Means of weights are means of weights, and only of one network."""

import collections
import pathlib

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from sep_tf.errors import ModelError  # noqa: E402
from sep_tf.training import averaging  # noqa: E402

ROOT = pathlib.Path(__file__).parent.parent


def network(width=3):
    inputs = keras.Input((4,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(width)(inputs))
    return keras.Model(inputs, keras.layers.Dropout(0.5, seed=1)(x))


def save(path, seed, **sizes):
    """A network of random weights, written; its weights."""
    model, rng = network(**sizes), np.random.default_rng(seed)
    model.set_weights([rng.normal(size=w.shape).astype("float32") for w in model.get_weights()])
    model.save_weights(path)
    return model.get_weights()


def test_a_network_reads_the_mean_of_all_its_weights(tmp_path, capfd):
    paths = [tmp_path / f"{seed}.weights.h5" for seed in range(3)]
    saved = [save(path, seed) for seed, path in enumerate(paths)]
    output = tmp_path / "mean.weights.h5"
    assert averaging.run([*map(str, paths), f"--output={output}"]) == 0
    assert capfd.readouterr().out == f"{output}: the mean of 3\n"
    model = network()
    model.load_weights(output)
    for found, several in zip(model.get_weights(), zip(*saved, strict=True), strict=True):
        np.testing.assert_allclose(found, np.mean(several, 0), rtol=1e-6)
    assert set(tmp_path.iterdir()) == {*paths, output}


def test_weights_of_another_network_are_refused_and_nothing_is_written(tmp_path):
    one, other = tmp_path / "one.weights.h5", tmp_path / "other.weights.h5"
    save(one, 0)
    save(other, 1, width=5)
    with pytest.raises(ModelError, match="other.weights.h5 is of another network than .*one"):
        averaging.average([one, other], tmp_path / "mean.weights.h5")
    assert set(tmp_path.iterdir()) == {one, other}


def test_damage_anywhere_is_one_error(tmp_path):
    """h5py has exceptions of several kinds for it."""
    path = ROOT / "sep_tf" / "presets" / "autovc-lite.weights.h5"
    content = path.read_bytes()
    kinds = collections.Counter()
    for place in np.random.default_rng(5).integers(0, min(len(content), 60_000), 60):
        damaged = tmp_path / "damaged.weights.h5"
        damaged.write_bytes(content[:place] + bytes([255] * 64) + content[place + 64 :])
        try:
            averaging.read(damaged)
            kinds["read"] += 1
        except ModelError:
            kinds["refused"] += 1
    assert kinds["refused"] > 3


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["a.weights.h5"], "give two weights"),
        (["a.weights.h5", "b.weights.h5"], "--output=FILE.weights.h5 is needed"),
        (["a.weights.h5", "b.weights.h5", "--output=c.weights.h5"], "no weights, or damaged"),
    ],
)
def test_what_cannot_be_averaged_is_one_line(args, line, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.weights.h5").write_bytes(b"no weights")
    assert averaging.run(args) == 1
    out, err = capfd.readouterr()
    assert out == "" and line in err and err.count("\n") == 1
