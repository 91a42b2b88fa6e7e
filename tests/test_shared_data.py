"""The bundled model on real recordings, validation rows alone; skipped where they are not.

The recordings are a folder with vocals.csv and backing.csv: SEP_TF_DATA, or shared/data beside the
repository.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from sep_tf.evaluation import scoring, systems
from sep_tf.evaluation.songs import Item
from tfrecords import manifest, mixtures
from tfrecords.corpora import lists

BESIDE = Path(__file__).parents[2] / "shared" / "data"
DATA = Path(os.environ.get("SEP_TF_DATA", BESIDE))

pytestmark = pytest.mark.skipif(
    not (DATA / "vocals.csv").is_file(),
    reason=f"no recordings: {DATA} does not exist, nor does SEP_TF_DATA name a folder",
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("manifest") / "all.csv"
    assert lists.run([f"--root={DATA}", f"--output={path}"]) == 0
    return manifest.read_manifest(path)


def test_unseen_singers_are_in_no_training_row(rows):
    singers = {split: set() for split in ("train", "validation", "validation_unseen", "test")}
    for row in rows:
        assert (row.vocals or row.backing).is_file(), row.song_id
        if row.vocals is not None:
            singers[row.split].add(row.singer)
    assert singers["validation"] <= singers["train"]
    assert not singers["train"] & (singers["validation_unseen"] | singers["test"])


@pytest.mark.slow
def test_the_voice_of_unseen_singers(rows, tmp_path):
    """Nearer to the true voice than the song is, in tune, and WORLD alone nearer still."""
    songs = mixtures.draw(rows, "validation_unseen", count=8, seed=1, snr_db=[-3.0, 6.0])
    names = ["mixture", "sin", "world"]
    built = systems.build(systems.parse(names), "auto")
    evaluation = scoring.Evaluation(tmp_path, scoring.Options(), keep_audio=False)
    measured = evaluation.score_all([Item(row) for row in songs], built, jobs=2)
    mean = {
        (name, field): np.mean([getattr(s, field) for s in measured if s.system == name])
        for name in names
        for field in ("mcd_db", "raw_pitch")
    }
    assert mean["world", "mcd_db"] < 3.0
    assert mean["sin", "mcd_db"] < 0.9 * mean["mixture", "mcd_db"]
    assert mean["sin", "raw_pitch"] > 0.65 > 1.3 * mean["mixture", "raw_pitch"]
