"""How fast training examples come: the tf.data pipeline, a numpy generator, STFTs in HDF5.

    python -m benchmarks.pipeline --data_dir=data/records

An example is a phrase of 128 frames with its mixture's spectrogram and its features; gains are
drawn, nothing else. The three ways:

- tf.data: `tfrecords.dataset.phrases`, waveforms from records, STFT in the graph.
- numpy: the same from waveforms held in memory, in one Python thread.
- HDF5: the scheme of the paper's authors. STFTs of whole songs are computed beforehand; a batch
  opens files at random, reads voice, music and features, and cuts six phrases of each file.
"""

import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import h5py
import numpy as np
from absl import flags

from benchmarks.timing import Timing
from sep_tf import cli, processors, spectrogram
from sep_tf.config import AudioConfig, AugmentConfig, RecordConfig
from tfrecords import check, dataset, schema

PROGRAM = cli.Program("benchmarks.pipeline", "--data_dir=FOLDER [flags]", "Times three pipelines.")
FLAGS = PROGRAM.flags
flags.DEFINE_string("data_dir", None, "Folder of records.", flag_values=FLAGS)
flags.DEFINE_integer("batches", 100, "Batches of 30 to measure.", 1, flag_values=FLAGS)
flags.DEFINE_integer(
    "songs", 60, "Songs of each kind held for numpy and HDF5.", 2, flag_values=FLAGS
)

AUDIO, RECORD = AudioConfig(), RecordConfig()
FRAMES, BATCH, PER_FILE = 128, 30, 6
SAMPLES = (FRAMES - 1) * AUDIO.hop_length + AUDIO.fft_length
Songs = list[dict[str, np.ndarray]]


def read_songs(folder: pathlib.Path, family: str, name: str, limit: int) -> Songs:
    """Whole songs of a family: `audio` float32 at 32 kHz and `features` [T, 64] (voices)."""
    parts: dict[int, list[check.Record]] = {}
    for path in sorted(folder.glob(f"{family}-*-of-*.tfrecord")):
        for record in check.records(path):
            parts.setdefault(record.values["song_index"], []).append(record)
        if len(parts) > limit:
            break
    songs = []
    for records in list(parts.values())[:limit]:
        audio = []
        for record in records:
            length = record.values["frames"] * AUDIO.hop_length
            audio.append(record.array(name)[RECORD.margin :][:length])
        song = {"audio": np.concatenate(audio)}
        if name == "vocals":
            song["features"] = np.concatenate([r.array("features") for r in records])
        if len(song["audio"]) > SAMPLES + AUDIO.hop_length:
            songs.append(song)
    return songs


def numpy_batches(voices: Songs, music: Songs) -> Iterator[np.ndarray]:
    """Mixtures of waveforms in memory, one Python thread."""
    rng = np.random.default_rng(0)
    while True:
        mixtures, features = [], []
        for _ in range(BATCH):
            voice, band = voices[rng.integers(len(voices))], music[rng.integers(len(music))]
            start = rng.integers((len(voice["audio"]) - SAMPLES) // AUDIO.hop_length)
            at = start * AUDIO.hop_length
            other = rng.integers(len(band["audio"]) - SAMPLES)
            gains = 10 ** (rng.uniform(-1.2, 0.0, 2))
            mixtures.append(
                gains[0] * voice["audio"][at : at + SAMPLES]
                + gains[1] * band["audio"][other : other + SAMPLES]
            )
            cut = voice["features"][start : start + FRAMES].copy()
            cut[:, 0] += 2 * np.log(gains[0])
            features.append(cut)
        windows = np.lib.stride_tricks.sliding_window_view(
            np.stack(mixtures).astype(np.float32), AUDIO.fft_length, axis=1
        )[:, :: AUDIO.hop_length]
        yield np.stack([spectrogram.framed_magnitude(w) for w in windows]), np.stack(features)


def write_hdf5(folder: pathlib.Path, songs: Songs, kind: str) -> list[pathlib.Path]:
    """One file a song, as the authors keep them."""
    paths = []
    for number, song in enumerate(songs):
        path = folder / f"{kind}{number}.hdf5"
        with h5py.File(path, "w") as file:
            file[f"{kind}_stft"] = spectrogram.magnitude(song["audio"])
            if "features" in song:
                file["feats"] = song["features"]
        paths.append(path)
    return paths


def hdf5_batches(voices: list[pathlib.Path], music: list[pathlib.Path]) -> Iterator[np.ndarray]:
    """The authors' scheme: whole songs read, six phrases of each, magnitudes added."""
    rng = np.random.default_rng(0)
    while True:
        mixtures, features = [], []
        for _ in range(BATCH // PER_FILE):
            with h5py.File(voices[rng.integers(len(voices))], "r") as file:
                voice, feats = file["voice_stft"][()], file["feats"][()]
            with h5py.File(music[rng.integers(len(music))], "r") as file:
                band = file["music_stft"][()]
            for _ in range(PER_FILE):
                start = rng.integers(max(min(len(voice), len(feats)) - FRAMES, 1))
                other = rng.integers(len(band) - FRAMES)
                gains = 10 ** (rng.uniform(-1.2, 0.0, 2))
                mixtures.append(
                    gains[0] * voice[start : start + FRAMES]
                    + gains[1] * band[other : other + FRAMES]
                )
                cut = feats[start : start + FRAMES].copy()
                cut[:, 0] += 2 * np.log(gains[0])
                features.append(cut)
        yield np.stack(mixtures), np.stack(features)


def measure(name: str, make: Callable[[], Iterator], batches: int) -> Timing:
    """Prints examples a second after a warm-up; returns what they took."""
    stream = make()
    for _ in range(5):
        next(stream)
    with Timing() as timing:
        for _ in range(batches):
            next(stream)
    examples = batches * BATCH
    print(
        f"{name:<10}{examples / timing.wall:10.0f} examples/s"
        f"{examples / timing.cpu:10.0f} examples/s of processor time",
        flush=True,
    )
    return timing


def main(args: list[str]) -> int:
    """Measures the three."""
    PROGRAM.require(args, "data_dir")
    folder = pathlib.Path(FLAGS.data_dir)
    schema.DatasetIndex.load(folder)
    plain = AugmentConfig(vocal_free=0.0, backing_free=0.0, altered=0.0)
    options = dataset.PhraseOptions(batch_size=BATCH, phrase_frames=FRAMES, augment=plain)
    print(f"{processors.usable()} cores, load {os.getloadavg()[0]:.1f}")
    ours = measure("tf.data", lambda: iter(dataset.phrases(folder, options)), FLAGS.batches)
    voices = read_songs(folder, "train", "vocals", FLAGS.songs)
    music = read_songs(folder, "train_backing", "backing", FLAGS.songs)
    seconds = [len(s["audio"]) / AUDIO.sample_rate for s in voices]
    played = [len(s["audio"]) / AUDIO.sample_rate for s in music]
    print(
        f"numpy and HDF5: {len(voices)} voices of {np.mean(seconds):.0f} s on average, "
        f"{len(music)} tracks of music of {np.mean(played):.0f} s"
    )
    measure("numpy", lambda: numpy_batches(voices, music), FLAGS.batches)
    with tempfile.TemporaryDirectory() as scratch:
        files = [
            write_hdf5(pathlib.Path(scratch), songs, kind)
            for songs, kind in ((voices, "voice"), (music, "music"))
        ]
        theirs = measure("HDF5", lambda: hdf5_batches(*files), FLAGS.batches)
    print(
        f"tf.data is {theirs.wall / ours.wall:.1f} times as fast as HDF5, "
        f"{theirs.cpu / ours.cpu:.1f} times by processor time"
    )
    return 0


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
