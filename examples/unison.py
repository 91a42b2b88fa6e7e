"""Three voices in unison become one: a worked example of --f0.

    python examples/unison.py [VOICE...] --output_dir=unison

Of each dry voice (by default the bundled one) it makes three: the singer, and two more who sing
the same a little late, a little out of tune and with other vocal tracts. A unison has no one f0:
`extract` is given the leader's as a CSV file, and sings one voice on it.

Of a folder of your own dry voices, each file gives a unison of three different singers:

    python examples/unison.py voices/*.wav --output_dir=unison

Files are not mixed with each other: recordings made apart are not in time. Singers that the model
knows are: `sep-tf convert voice.wav --singer=NAME` sings in time with voice.wav; mix the two in an
audio editor.

A recording of your own unison has no known leader. There, take the CSV from a tracker such as
CREPE, run on a close microphone or on the sum, or write --f0_out, correct it, and give it back:

    sep-tf extract choir.wav --output=one.wav --f0_out=choir.csv
    sep-tf extract choir.wav --output=one.wav --f0=choir.csv
"""

import sys
from pathlib import Path

import numpy as np
from absl import flags

from sep_tf import cli

SUNG = Path(__file__).parent / "sakura" / "vocals.flac"
PROGRAM = cli.Program(
    "examples.unison",
    "[VOICE...] [flags]",
    "Makes three voices in unison of each voice, and one of the three again.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("output_dir", "unison", "Folder for what is made.", flag_values=FLAGS)
flags.DEFINE_string("model", "sin-lite", "Bundled name or model file.", flag_values=FLAGS)

# Frames in which a period is looked for, and how near to the leader f0 counts as the leader's.
_WINDOW = 1280
_CENTS = 20.0
_HEARD = ("leader", "unison", "--f0=model", "--f0=harvest", "--f0=csv")


def periodicity(audio: np.ndarray, f0: np.ndarray, hop: int, rate: int) -> float:
    """How alike neighbouring periods are, 0 to 1: voices that drift apart are not.

    Args:
      audio: [samples].
      f0: of the leader, Hz every `hop` samples, 0 where nobody sings.
      hop: samples.
      rate: Hz.

    Returns:
      Median over voiced frames of the normalised autocorrelation, best near five periods of f0.
    """
    found = []
    for t in np.flatnonzero(f0):
        period = 5 * rate / f0[t]
        lags = np.arange(round(0.99 * period), round(1.01 * period) + 1)
        start = t * hop - _WINDOW // 2
        if start < 0 or start + _WINDOW + lags[-1] > len(audio):
            continue
        here = audio[start : start + _WINDOW]
        there = [audio[start + lag : start + lag + _WINDOW] for lag in lags]
        energy = np.sum(here**2)
        alike = [here @ other / np.sqrt(energy * np.sum(other**2) + 1e-12) for other in there]
        found.append(max(alike))
    return float(np.median(found)) if found else float("nan")


def example(path: Path, folder: Path, model: str) -> dict[str, tuple[float, float, float]]:
    """Makes the files of one voice; what was measured, by what was heard.

    Returns:
      Of the leader, the unison and the voices extracted with each f0: share of the leader's voiced
      frames whose f0 is within 20 cents of the leader's, periodicity, mel-cepstral distortion, dB.
    """
    from sep_tf import audio_io, metrics, outputs
    from sep_tf.config import AudioConfig
    from sep_tf.separator import Separator
    from tfrecords import testsets

    rate, hop = AudioConfig().sample_rate, AudioConfig().hop_length
    lead, _ = audio_io.read(path, rate)
    others = testsets.unison(lead, np.random.default_rng(1))
    three = lead + others
    three = (0.7 * three / max(np.abs(three).max(), 1e-9)).astype(np.float32)
    reference = metrics.analyse_voice(lead)
    files = {name: folder / f"{path.stem}.{name.replace('--f0=', '')}.wav" for name in _HEARD}
    contour = folder / f"{path.stem}.leader.f0.csv"
    outputs.write_f0(contour, reference.f0, reference.f0 > 0)
    for name, audio in (("leader", lead), ("unison", three)):
        with audio_io.Writer(files[name], rate) as writer:
            writer.write(audio)
    measured = {}
    for name, file in files.items():
        if name.startswith("--f0="):
            source = name.removeprefix("--f0=")
            separator = Separator(model, f0=contour if source == "csv" else source)
            separator.separate_file(files["unison"], file)
        audio, _ = audio_io.read(file, rate)
        found = metrics.analyse_voice(audio)
        both = (reference.f0 > 0) & (found.f0 > 0)
        cents = np.full(len(both), np.inf)
        cents[both] = 1200 * np.abs(np.log2(found.f0[both] / reference.f0[both]))
        measured[name] = (
            float(np.mean(cents[reference.f0 > 0] < _CENTS)),
            periodicity(audio.astype(np.float64), reference.f0, hop, rate),
            metrics.distortion(reference, found).mean_db,
        )
    return measured


def main(args: list[str]) -> int:
    """Makes all, prints the means."""
    folder = Path(FLAGS.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with cli.quiet_native_log():
        rows = [example(Path(path), folder, FLAGS.model) for path in args or [SUNG]]
    print(f"{len(rows)} unisons of three, in {folder}")
    print(f"{'heard':<14}{'f0 of the leader':>18}{'periodicity':>14}{'distortion dB':>16}")
    for name in _HEARD:
        share, period, distance = np.mean([row[name] for row in rows], axis=0)
        print(f"{name:<14}{100 * share:>16.0f} %{period:>14.3f}{distance:>16.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(PROGRAM.run(main))
