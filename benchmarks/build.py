"""What a build costs beyond WORLD's own analysis, and what a second process brings.

    python benchmarks/build.py --songs=24 --seconds=20

The songs are synthetic; the analysis takes as long as that of any voice. The overhead compares the
processor time of the whole build by one process, imports left out, with that of `world.analyse`
alone. The speed-up compares the wall times of builds by one process and by two, and says something
only on two idle cores.
"""

import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import soundfile
from absl import app, flags
from timing import Timing

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from sep_tf import audio_io, world
from tfrecords import build, manifest, pipeline, songs

FLAGS = flags.FLAGS
flags.DEFINE_integer("songs", 24, "Songs.", lower_bound=2)
flags.DEFINE_float("seconds", 20.0, "Mean length of a song.", lower_bound=1.0)
flags.DEFINE_bool("scaling", True, "Also compare one process with two.")

RATE = 32_000


def voice(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A gliding tone of 20 harmonics with breath, float32."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = rng.uniform(120, 300) * 2 ** (np.sin(2 * np.pi * 0.3 * time) / 6)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 21))
    return (0.05 * tone + 1e-3 * rng.normal(size=len(time))).astype(np.float32)


def make_corpus(folder: pathlib.Path) -> list[manifest.Row]:
    """Songs of several lengths, written as FLAC."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(FLAGS.songs):
        path = folder / f"{number}.flac"
        soundfile.write(path, voice(FLAGS.seconds * rng.uniform(0.5, 1.5), rng), RATE)
        rows.append(manifest.Row(f"song{number}", f"singer{number % 4}", path, None, "train"))
    return rows


def main(_: list[str]) -> None:
    """Prints both figures."""
    assert pipeline  # loaded before the clock starts
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        rows = make_corpus(folder)
        loaded = [audio_io.read(row.vocals, RATE)[0] for row in rows]
        loaded = [audio * songs.level_gain(audio) for audio in loaded]
        with Timing() as analysis:
            for audio in loaded:
                world.analyse(audio)
        with Timing() as one:
            build.build(rows, folder / "one", 4, None, 1)
        print(f"analysis alone {analysis.cpu:.1f} s, build {one.cpu:.1f} s of processor time")
        print(f"cost beyond the analysis: {one.cpu / analysis.cpu - 1.0:.1%}")
        if FLAGS.scaling:
            with Timing() as two:
                build.build(rows, folder / "two", 4, None, 2)
            same = all(
                (folder / "two" / path.name).read_bytes() == path.read_bytes()
                for path in (folder / "one").iterdir()
            )
            print(f"wall time: one process {one.wall:.1f} s, two {two.wall:.1f} s")
            print(f"two are {one.wall / two.wall:.2f} times as fast, same bytes: {same}")


if __name__ == "__main__":
    app.run(main)
