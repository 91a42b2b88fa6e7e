"""index.html: the tables, plots and songs of an evaluation, to browse and to listen to.

One file beside its pictures and clips; works from a disk, without a server.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sep_tf.evaluation.plots import COLOURS
from sep_tf.evaluation.scores import METRICS, WHOLE, Metric, Score
from sep_tf.evaluation.songs import Item
from sep_tf.evaluation.systems import BOUNDS
from sep_tf.evaluation.tables import SIGNIFICANT

TEMPLATE = Path(__file__).with_name("page.html")
_METRIC_FIELDS = [metric.field for metric in METRICS]


def data(
    scores: Sequence[Score],
    items: Sequence[Item],
    about: dict[str, Any],
    plots: Sequence[tuple[Metric, str]],
    pictures: dict[str, str],
    audio: dict[str, dict[str, str]],
) -> dict[str, Any]:
    """What the page shows, as JSON.

    Args:
      scores: of all songs and systems, segments too.
      items: the songs in order.
      about: title, command, version, reference, baseline, notes, and `summaries` by condition.
      plots: metrics and their pictures, relative to the page.
      pictures: {song_id: picture}, of some songs.
      audio: {song_id: {name: file}}, relative to the page.
    """
    systems = list(dict.fromkeys(score.system for score in scores))
    songs = []
    for item in items:
        identity = item.row.song_id
        mine = [score for score in scores if score.song_id == identity]
        segments: dict[str, list[dict[str, Any]]] = {}
        for score in mine:
            if score.segment != WHOLE:
                segments.setdefault(score.system, []).append(_figures(score))
        songs.append(
            {
                "id": identity,
                "singer": item.row.singer,
                "condition": item.condition,
                "seconds": mine[0].seconds,
                "scores": {s.system: _figures(s) for s in mine if s.segment == WHOLE},
                "segments": segments,
                "audio": {name: quote(file) for name, file in audio.get(identity, {}).items()},
                "picture": quote(pictures[identity]) if identity in pictures else None,
            }
        )
    return about | {
        "metrics": [dataclasses.asdict(metric) for metric in METRICS],
        "systems": systems,
        "bounds": list(BOUNDS),
        "significant": SIGNIFICANT,
        "colours": dict(zip(systems, COLOURS * len(systems), strict=False)),
        "plots": [[metric.field, quote(f"plots/{file}")] for metric, file in plots],
        "songs": songs,
    }


def _figures(score: Score) -> dict[str, Any]:
    """Metrics of a score, rounded: a page of hundreds of songs is read over a network."""
    values = score.to_dict()
    kept = {f: None if values[f] is None else round(values[f], 4) for f in _METRIC_FIELDS}
    return kept | {"segment": score.segment}


def html(values: dict[str, Any]) -> str:
    """The page's text; whatever songs are called, nothing of their names becomes markup."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return TEMPLATE.read_text(encoding="utf-8").replace("@DATA@", text)
