"""`sep-tf evaluate`: measures systems on the mixtures of a manifest, as a table.

Each song's mixture goes through each system; the voice that comes out is analysed and compared
with the true vocal (metrics.py). Writes results.csv (one row a song and system), summary.json and
table.md, whose text is also printed.
"""

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from sep_tf import cli, scores
from sep_tf.config import ExtractConfig
from sep_tf.errors import DataError, SepTfError

if TYPE_CHECKING:
    import numpy as np

    from sep_tf.metrics import Analysis
    from tfrecords.manifest import Row

SAMPLE_RATE = 32_000
SYSTEMS = {
    "mixture": "the mixture itself, f0 by harvest on it",
    "sin": "the voice of the SIN networks",
    "world": "the true vocal analysed, coded, decoded and synthesised: the upper bound",
}

PROGRAM = cli.Program(
    "evaluate",
    "[MANIFEST] [flags]",
    "Measures systems on the mixtures of a manifest: mel-cepstral distortion and f0 figures of "
    "each voice against the true vocal. Prints a table; writes it, results.csv and summary.json.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("manifest", None, "CSV file with the songs.", flag_values=FLAGS)
flags.DEFINE_list(
    "systems", ["mixture", "sin", "world"], f"Any of {', '.join(SYSTEMS)}.", flag_values=FLAGS
)
flags.DEFINE_string("output_dir", None, "Folder for the three files.", flag_values=FLAGS)
flags.DEFINE_string(
    "model", ExtractConfig.model, "Model of the system sin: name or file.", flag_values=FLAGS
)
flags.DEFINE_string(
    "runtime", ExtractConfig.runtime, "What runs the model: auto, litert, keras.", flag_values=FLAGS
)
flags.DEFINE_string(
    "split", "test", "Split to measure, if the manifest has that column.", flag_values=FLAGS
)
flags.DEFINE_integer("limit", None, "First songs only.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("jobs", 2, "Songs measured at once.", lower_bound=1, flag_values=FLAGS)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a system says about a mixture.

    Attributes:
      audio: float [samples], the voice as written.
      f0: float [T] Hz, a contour in every frame; None if the system has none of its own, then it
        is what harvest finds in `audio`.
      voiced: bool [T], or None with f0.
    """

    audio: "np.ndarray"
    f0: "np.ndarray | None" = None
    voiced: "np.ndarray | None" = None


# (mixture [samples], true vocal [samples]) -> Estimate
System = Callable[["np.ndarray", "np.ndarray"], Estimate]


def load_song(row: "Row") -> "tuple[np.ndarray, np.ndarray]":
    """The mixture of a row and its true vocal, float32 [samples] each, at 32 kHz.

    The backing is cut to the vocal's length, or followed by silence where it ends earlier.

    Raises:
      SepTfError: vocals or backing cannot be read; the message names the row.
    """
    import numpy as np

    from sep_tf import audio_io

    try:
        vocals, _ = audio_io.read(row.vocals, SAMPLE_RATE)
        backing, _ = audio_io.read(
            row.backing, SAMPLE_RATE, offset=row.backing_start, duration=len(vocals) / SAMPLE_RATE
        )
    except SepTfError as error:
        raise DataError(f"row {row.song_id}: {error}") from error
    reference = vocals * np.float32(row.vocals_gain)
    mixture = reference.copy()
    n = min(len(mixture), len(backing))
    mixture[:n] += backing[:n] * np.float32(row.backing_gain)
    return mixture, reference


def make_systems(names: Iterable[str], model: str, runtime: str) -> dict[str, System]:
    """The systems by name, models loaded once.

    Raises:
      SepTfError: unknown name, or a model or runtime that is not there.
    """
    names = list(names)
    check_systems(names)
    from sep_tf import world

    def mixture_itself(mixture: "np.ndarray", reference: "np.ndarray") -> Estimate:
        del reference
        return Estimate(mixture)

    def upper_bound(mixture: "np.ndarray", reference: "np.ndarray") -> Estimate:
        del mixture
        features = world.analyse(reference)
        return Estimate(world.synthesise(features, len(reference)), features.f0, features.voiced)

    built: dict[str, System] = {"mixture": mixture_itself, "world": upper_bound}
    if "sin" in names:
        built["sin"] = _separator_system(model, runtime)
    return {name: built[name] for name in names}


def check_systems(names: Sequence[str]) -> None:
    """Raises UsageError unless all names are known, and at least one is given."""
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown or not names:
        what = f"unknown system '{unknown[0]}'" if unknown else "no system given"
        raise cli.UsageError(f"{what}, expected some of: {', '.join(SYSTEMS)}")


def _separator_system(model: str, runtime: str) -> System:
    from sep_tf import world
    from sep_tf.separator import Separator

    separator = Separator.from_pretrained(model, runtime=runtime)
    cli.quiet_tensorflow()
    with cli.quiet_native_log():
        separator.load()  # weights that do not fit are to be said before the work, not after

    def separate(mixture: "np.ndarray", reference: "np.ndarray") -> Estimate:
        del reference
        features = separator.analyse(mixture, SAMPLE_RATE)
        return Estimate(world.synthesise(features, len(mixture)), features.f0, features.voiced)

    return separate


def score_song(row: "Row", systems: dict[str, System]) -> list[scores.Score]:
    """Every system on one song of the manifest."""
    from sep_tf import metrics

    mixture, reference = load_song(row)
    truth = metrics.analyse_voice(reference)
    return [
        _score(row, name, system(mixture, reference), truth, len(reference))
        for name, system in systems.items()
    ]


def _score(
    row: "Row", name: str, estimate: Estimate, truth: "Analysis", n_samples: int
) -> scores.Score:
    from sep_tf import metrics, pitch

    heard = metrics.analyse_voice(estimate.audio)
    distortion = metrics.distortion(truth, heard)
    if estimate.f0 is None:
        contour, voiced = pitch.interpolate_unvoiced(heard.f0, heard.voiced), heard.voiced
    else:
        contour, voiced = estimate.f0, estimate.voiced
    return scores.Score(
        song_id=row.song_id,
        singer=row.singer,
        system=name,
        seconds=round(n_samples / SAMPLE_RATE, 3),
        voiced_frames=distortion.n_frames,
        unvoiced_frames=len(truth) - distortion.n_frames,
        mcd_db=distortion.mean_db,
        mcd_unfloored_db=distortion.unfloored_db,
        lag_frames=distortion.lag_frames,
        heard_pitch=metrics.pitch_scores(truth.f0, heard.f0, heard.voiced).voiced_pitch,
        **dataclasses.asdict(metrics.pitch_scores(truth.f0, contour, voiced)),
    )


def score_all(
    rows: Sequence["Row"], systems: dict[str, System], jobs: int = 1
) -> list[scores.Score]:
    """Every system on every row, in their order. WORLD releases the GIL, so threads suffice.

    Raises:
      SepTfError: the first song that failed; songs not yet begun are dropped.
    """
    from tqdm import tqdm

    pool = futures.ThreadPoolExecutor(jobs)
    try:
        waiting = [pool.submit(score_song, row, systems) for row in rows]
        done = futures.as_completed(waiting)
        for future in tqdm(done, "songs", len(rows), disable=None):
            future.result()
        return [score for future in waiting for score in future.result()]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def select_rows(manifest: str, split: str, limit: int | None) -> list["Row"]:
    """The rows to measure, their files checked for existence.

    Raises:
      DataError: no row is left; a row lacks a vocal or a backing, or their files.
    """
    from tfrecords.manifest import read_manifest

    rows = read_manifest(manifest, default_split=split)
    chosen = [row for row in rows if row.split == split][:limit]
    if not chosen:
        there = ", ".join(sorted({row.split for row in rows}))
        raise DataError(f"manifest {manifest} has no row of split '{split}', only of: {there}")
    for row in chosen:
        for name in ("vocals", "backing"):
            path = getattr(row, name)
            if path is None:
                raise DataError(f"manifest {manifest}: row {row.song_id} has no {name}")
            if not path.is_file():
                raise DataError(f"manifest {manifest}: row {row.song_id}: no file {path}")
    return chosen


def _write(path: Path, text: str) -> None:
    from sep_tf import audio_io

    with audio_io.replacing(path) as partial:
        Path(partial).write_text(text, encoding="utf-8")


def _command() -> str:
    """The command with the flags that decide the figures, so that a table can be made again."""
    parts = ["sep-tf", "evaluate", f"--manifest={FLAGS.manifest}"]
    parts.append(f"--systems={','.join(FLAGS.systems)}")
    for name in ("model", "runtime", "split", "limit"):
        if FLAGS[name].value != FLAGS[name].default:
            parts.append(f"--{name}={FLAGS[name].value}")
    return shlex.join(parts)


def main(args: list[str]) -> int:
    """Checks flags and files, measures, prints and writes."""
    if len(args) > 1 or (args and FLAGS.manifest):
        raise cli.UsageError(f"one manifest is measured at a time, got also '{args[-1]}'")
    if args:
        FLAGS.manifest = args[0]
    for name in ("manifest", "output_dir"):
        if not getattr(FLAGS, name):
            raise cli.UsageError(f"no --{name} given")
    names = list(dict.fromkeys(FLAGS.systems))
    check_systems(names)
    rows = select_rows(FLAGS.manifest, FLAGS.split, FLAGS.limit)
    output_dir = Path(FLAGS.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    import mir_eval.melody  # noqa: F401  Missing, it is to be said before the work, not after.

    systems = make_systems(names, FLAGS.model, FLAGS.runtime)
    measured = score_all(rows, systems, FLAGS.jobs)
    summary = scores.summarise(measured)
    text = scores.table(summary, _command())
    about = {"command": _command(), "version": cli.version_line(), "systems": summary}
    _write(output_dir / "results.csv", scores.results_csv(measured))
    _write(output_dir / "summary.json", json.dumps(about, indent=2, allow_nan=False) + "\n")
    _write(output_dir / "table.md", text)
    print(text, end="")
    return 0


def run(argv: list[str] | None = None) -> int:
    """Runs the program with argv (without its name); returns the exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
