"""A song of ten minutes through a server, with the bundled weights."""

import pathlib

import numpy as np
import pytest

from export import module, saved_model
from export.serving import service as servers
from sep_tf import audio_io
from sep_tf.separator import Separator
from tests import harness
from tests.test_serving import same


@pytest.mark.slow
def test_ten_minutes_with_four_requests_in_flight(tmp_path):
    """The bundled model over gRPC, each piece of the song at another level."""
    model, info = module.from_weights("sin-lite")
    (tmp_path / "sin-lite").mkdir()
    saved_model.write(model, info, tmp_path / "sin-lite" / "1")
    demo = pathlib.Path(__file__).parent.parent / "examples" / "sakura" / "mix.flac"
    piece = audio_io.read(demo, harness.RATE)[0]
    levels = np.random.default_rng(0).uniform(0.2, 1.0, 25).astype(np.float32)
    song = np.concatenate([level * piece for level in levels])[: 600 * harness.RATE]
    with servers.Server(tmp_path) as server:
        predict, under_way, most = server.prediction.answer, [], []

        def counted(request, context):
            under_way.append(1)
            most.append(len(under_way))
            try:
                return predict(request, context)
            finally:
                under_way.pop()

        server.prediction.answer = counted
        remote = Separator("sin-lite", "serving", server=f"127.0.0.1:{server.port}")
        found = remote.analyse(song, harness.RATE)
    assert max(most) == 4
    # The server transforms by TensorFlow, Keras gets NumPy's spectra.
    same(found, Separator("sin-lite", "keras").analyse(song, harness.RATE))
