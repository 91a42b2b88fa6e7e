"""Which songs of an evaluation are drawn, and with what."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sep_tf import audio_io, world
from sep_tf.evaluation import plots
from sep_tf.evaluation.files import SHARED
from sep_tf.evaluation.scores import Score, whole
from sep_tf.evaluation.scoring import Evaluation
from sep_tf.evaluation.songs import SAMPLE_RATE, Item


def choose(scores: Sequence[Score], system: str, count: int) -> dict[str, str]:
    """{song_id: "best", "median" or "worst"} by a system's distortion, `count` of each.

    Where the distortion has no value (a song without a voiced frame) a song is not chosen.
    """
    mine = [s for s in whole(scores) if s.system == system and math.isfinite(s.mcd_db)]
    ranked = [score.song_id for score in sorted(mine, key=lambda score: score.mcd_db)]
    middle = max((len(ranked) - count) // 2, 0)
    chosen = dict.fromkeys(ranked[middle : middle + count], "median")
    return chosen | dict.fromkeys(ranked[-count:], "worst") | dict.fromkeys(ranked[:count], "best")


def draw_songs(
    evaluation: Evaluation,
    items: Sequence[Item],
    names: Sequence[str],
    scores: Sequence[Score],
    ranked_by: str,
    count: int,
) -> dict[str, str]:
    """Draws best, median and worst songs from the kept audio.

    Returns:
      {song_id: picture}, relative to the output folder.
    """
    chosen = choose(scores, ranked_by, count)
    pictures = {}
    for item in items:
        identity = item.row.song_id
        if identity not in chosen:
            continue
        shown = dict.fromkeys([*SHARED, *names])
        signals = {
            name: audio_io.read(evaluation.files.audio(item, name), SAMPLE_RATE)[0]
            for name in shown
        }
        contours = {"reference": evaluation.files.reference_f0(item)}
        contours |= {name: evaluation.files.voice_f0(item, name) for name in names}
        found = next(s for s in whole(scores) if (s.song_id, s.system) == (identity, ranked_by))
        title = f"{identity}: {chosen[identity]} of {ranked_by}, MCD {found.mcd_db:.2f} dB"
        file = Path("plots") / f"song-{item.file_name}.png"
        plots.song(evaluation.files.folder / file, title, *_shown(signals, contours))
        pictures[identity] = file.as_posix()
    return pictures


def _shown(
    signals: dict[str, np.ndarray], contours: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The part of signals and contours that is drawn: where the reference is loudest."""
    hop = world.AUDIO.hop_length
    length = round(plots.SHOWN_SECONDS * SAMPLE_RATE)
    start, stop = plots.loudest_part(signals["reference"], length)
    parts = {name: audio[start:stop] for name, audio in signals.items()}
    return parts, {name: f0[start // hop : stop // hop + 1] for name, f0 in contours.items()}
