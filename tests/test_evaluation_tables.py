"""Statistics over songs, and the tables and pictures of them."""

import dataclasses
import math

import numpy as np
import pytest

from sep_tf.evaluation import pictures, plots, scores, statistics, tables


def score(**values) -> scores.Score:
    fields = {metric.field: 0.0 for metric in scores.METRICS}
    fields |= {"song_id": "s", "singer": "x", "condition": "", "system": "sin", "segment": "all"}
    fields |= {"seconds": 1.0, "lag_frames": 0, "voiced_frames": 10, "unvoiced_frames": 30}
    return scores.Score(**(fields | values))


def test_every_figure_is_defined_once():
    fields = {f.name for f in dataclasses.fields(scores.Score) if f.type is float} - {"seconds"}
    assert fields == set(scores.BY_FIELD) and len(scores.METRICS) == len(scores.BY_FIELD)
    for metric in scores.METRICS:
        assert metric.definition.endswith(".") and metric.source.strip(), metric.field
        assert not metric.source.endswith(".")


def test_summary_by_hand():
    many = [
        score(song_id="a", mcd_db=4.0, raw_pitch=0.5, voicing_false_alarm=0.1),
        score(song_id="b", mcd_db=8.0, raw_pitch=1.0, voicing_false_alarm=0.3, voiced_frames=30),
        score(
            song_id="c", mcd_db=math.nan, raw_pitch=math.nan, voicing_false_alarm=0.5,
            voiced_frames=0,
        ),
        score(song_id="a", mcd_db=99.0, segment="0-30"),
    ]  # fmt: skip
    summary = statistics.summarise(many)["sin"]
    assert summary["songs"] == 3
    figures = summary["mcd_db"]
    assert (figures["mean"], figures["std"], figures["songs"]) == (6.0, 2.0, 2)
    assert figures["median"] == 6.0
    # t(0.975, 1) = 12.7062; s = 2.828427; s / sqrt(2) = 2.
    assert figures["interval"] == pytest.approx([6 - 25.4124, 6 + 25.4124], abs=1e-3)
    assert summary["raw_pitch"]["mean"] == 0.75
    assert summary["voicing_false_alarm"]["mean"] == pytest.approx(0.3)
    text = tables.report({"": {"sin": summary}}, "the command", "raw", "sin")
    assert "| sin | 6.00 (2.00) | 0.00 (0.00) | 75.0 % |" in text
    assert "3 songs, 1 of them without a voiced frame" in text and "`the command`" in text


def test_significance_is_paired_by_song():
    songs = [f"s{n}" for n in range(8)]
    easy = np.arange(8.0)
    many = [score(song_id=s, mcd_db=5 + e) for s, e in zip(songs, easy, strict=True)]
    many += [
        score(song_id=s, system="other", mcd_db=5.5 + e + 0.01 * n)
        for n, (s, e) in enumerate(zip(reversed(songs), reversed(easy), strict=True))
    ]
    figures = statistics.summarise(many)["other"]["mcd_db"]
    assert figures["difference"] == pytest.approx(0.535)
    # All eight differences have one sign: 2 / 2^8, though the spread over songs hides them.
    assert figures["p"] == pytest.approx(2 / 256)
    assert "p" not in statistics.summarise(many)["sin"]["mcd_db"]
    few = [s for s in many if s.song_id in songs[:5]]
    assert statistics.summarise(few)["other"]["mcd_db"]["p"] is None
    same = [dataclasses.replace(s, mcd_db=1.0) for s in many]
    assert statistics.summarise(same)["other"]["mcd_db"]["p"] == 1.0


def test_tables_mark_what_differs_from_the_baseline():
    songs = [f"s{n}" for n in range(8)]
    many = [score(song_id=s, raw_pitch=0.5, silence_db=-40.0 + n) for n, s in enumerate(songs)]
    many += [
        score(song_id=s, system="other", raw_pitch=0.6 + 0.01 * n, silence_db=-40.0 + n + (-1) ** n)
        for n, s in enumerate(songs)
    ]
    summary = statistics.summarise(many)
    pitch = tables.table_of(summary, ("raw_pitch", "content_distance")).splitlines()
    assert pitch[0].startswith("| System | f0 ≤ 50 cents ↑ |")
    # t(0.975, 7) = 2.3646; s = 0.024495; half = 2.3646 * s / sqrt(8) = 0.02048.
    assert pitch[2].startswith("| sin | 50.0 ± 0.0 % |")
    assert pitch[3].startswith("| other | 63.5 ± 2.0 % * |")
    isolation = tables.table_of(summary, ("silence_db",)).splitlines()
    assert isolation[0] == "| System | level in silence (dB) ↓ |"
    assert "*" not in isolation[3]
    text = tables.report({"": summary}, "c", "raw", "sin")
    for title in ("Distortion", "Pitch and voicing", "Isolation"):
        assert f"### {title}\n" in text


def test_the_distortion_table_has_interval_and_significance():
    songs = [f"s{n:02}" for n in range(12)]
    many = [score(song_id=s, mcd_db=5.0 + 2 * (n % 2)) for n, s in enumerate(songs)]
    worse = [1.0 + 0.01 * n for n in range(12)]
    many += [
        score(song_id=s.song_id, system="all songs", mcd_db=s.mcd_db + more)
        for s, more in zip(many, worse, strict=True)
    ]
    many += [
        score(song_id=s, system="eight", mcd_db=8.0 + 0.1 * n, mcd_all_db=3.5)
        for n, s in enumerate(songs[:8])
    ]
    summary = statistics.summarise(many)
    head, _, *rows = tables.distortion_table(summary, "sin").splitlines()
    assert head.startswith(
        "| System | MCD mean (dB) | std | 95 % interval | p against sin | MCD, all"
    )
    # t(0.975, 11) = 2.2010; s = 1.044466; half = 0.6636. One sign: 2 / 2^12 and 2 / 2^8.
    assert rows[0].startswith("| sin | 6.00 | 1.00 | 5.34 to 6.66 | – | 0.00 |")
    assert rows[1].startswith("| all songs | 7.05 | 1.0") and "| < 0.001 | 0.00 |" in rows[1]
    # t(0.975, 7) = 2.3646; s = 0.244949; half = 0.2048.
    assert rows[2].startswith("| eight | 8.35 | 0.23 | 8.15 to 8.55 | 0.008 | 3.50 |")
    alone = statistics.summarise([score(mcd_db=5.0)])
    row = tables.distortion_table(alone, "sin").splitlines()[2]
    assert row.startswith("| sin | 5.00 | 0.00 | – | – |")


def test_best_median_and_worst_songs_are_drawn():
    distortions = {"d": 4.0, "a": 1.0, "j": 10.0, "f": 6.0, "silent": math.nan, "b": 2.0}
    distortions |= {"h": 8.0, "c": 3.0, "i": 9.0, "e": 5.0, "g": 7.0}
    many = [score(song_id=s, mcd_db=value) for s, value in distortions.items()]
    many += [score(song_id="f", segment="0-30"), score(song_id="j", system="other")]
    assert pictures.choose(many, "sin", 3) == {
        **dict.fromkeys("abc", "best"), **dict.fromkeys("def", "median"),
        **dict.fromkeys("hij", "worst"),
    }  # fmt: skip
    few = [s for s in many if s.song_id in "ab"]
    assert pictures.choose(few, "sin", 3) == {"a": "best", "b": "best"}
    assert pictures.choose(many, "nobody", 3) == {}


def test_pictures_take_names_with_dollars_and_unvoiced_songs(tmp_path):
    voice = 0.1 * np.random.default_rng(0).normal(size=9600)
    contours = {"reference": np.zeros(61), "a$\\b$c": np.zeros(61)}
    plots.song(tmp_path / "x.png", "a$\\frac$", {"a$\\b$c": voice}, contours)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    many = [score(system="a$\\b$c", song_id=str(n), mcd_db=float(n)) for n in range(3)]
    plots.box_plots(tmp_path, [dataclasses.replace(s, raw_pitch=math.nan) for s in many])
    assert (tmp_path / "mcd_db.png").is_file() and not (tmp_path / "raw_pitch.png").exists()


def test_a_system_without_any_figure_has_dashes():
    nothing = {metric.field: math.nan for metric in scores.METRICS}
    summary = statistics.summarise([score(**nothing)])
    assert summary["sin"]["mcd_db"]["mean"] is None
    assert "| sin | – | – | – |" in tables.report({"": summary}, "c", "raw", "sin")
    line = scores.results_csv([score(**nothing)]).splitlines()[1]
    assert line == "s,x,,sin,all,1,10,30,0" + "," * len(scores.METRICS)
    assert (
        scores.Score.from_dict(score(**nothing).to_dict()).to_dict() == score(**nothing).to_dict()
    )


@pytest.mark.parametrize(("value", "text"), [(-0.001, "0.00"), (-0.126, "-0.13"), (None, "–")])
def test_nothing_is_less_than_zero_by_rounding(value, text):
    assert tables.value_text(scores.METRICS[0], value) == text
