"""Measures against values worked out by hand or by another route, and statistics over songs."""

import dataclasses
import math
import warnings
from concurrent import futures

import numpy as np
import pytest
from scipy import signal as scipy_signal

from sep_tf import metrics, world
from sep_tf.evaluation import measures, pictures, plots, scores, statistics, tables

RATE = 32_000


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return level * np.random.default_rng(seed).normal(size=round(seconds * RATE))


def analysis(n: int, **values) -> metrics.Analysis:
    given = {
        "f0": np.full(n, 200.0),
        "mel_cepstrum": np.zeros((n, 25)),
        "aperiodicity": np.zeros((n, 4)),
        "level_db": np.full(n, -20.0),
    } | values
    given.setdefault("voiced", given["f0"] > 0)
    given.setdefault("unfloored", given["mel_cepstrum"])
    return metrics.Analysis(**given)


# Distortion's other frames, and its independent implementation


def test_all_loud_and_voiced_frames_of_the_distortion():
    level = np.array([-10.0, -39.0, -41.0, -90.0])
    cepstrum = np.random.default_rng(0).normal(size=(4, 25))  # no lag can help
    f0 = np.array([200.0, 0.0, 200.0, 0.0])
    truth = analysis(4, f0=f0, level_db=level, mel_cepstrum=cepstrum)
    shifted = cepstrum.copy()
    shifted[:, 3] += [0.1, 0.2, 0.3, 0.4]
    result = metrics.distortion(truth, analysis(4, mel_cepstrum=shifted))
    unit = 10 / math.log(10) * math.sqrt(2)
    assert result.lag_frames == 0
    assert result.mean_db == pytest.approx(0.2 * unit)
    assert result.all_db == pytest.approx(0.25 * unit)
    assert result.loud_db == pytest.approx(0.15 * unit)


def test_distortion_agrees_with_sptk():
    """pysptk's sp2mc and the formula of Kubichek (1993), written out."""
    pysptk = pytest.importorskip("pysptk")
    rng = np.random.default_rng(5)
    power = np.exp(
        scipy_signal.lfilter([0.05], [1, -0.95], rng.normal(size=(2, 30, 1025)), axis=-1)
    )
    ours = [metrics.mel_cepstrum(p) for p in power]
    theirs = [pysptk.sp2mc(p, order=24, alpha=0.45) for p in power]
    np.testing.assert_allclose(ours, theirs, atol=1e-8)
    truth, found = (analysis(30, mel_cepstrum=c) for c in ours)
    at_zero = metrics.frame_distances(truth.mel_cepstrum, found.mel_cepstrum, 0)
    difference = theirs[0][:, 1:] - theirs[1][:, 1:]
    kubichek = 10 / np.log(10) * np.sqrt(2 * (difference**2).sum(axis=1))
    np.testing.assert_allclose(at_zero, kubichek, atol=1e-7)


def test_silence_is_left_out_of_harvest_and_changes_nothing():
    t = np.arange(RATE) / RATE
    tone = 0.2 * sum(np.sin(2 * np.pi * 220 * k * t) / k for k in range(1, 9))
    silence = np.zeros(4 * RATE)
    audio = np.concatenate([silence, tone, silence, tone, np.zeros(RATE)])
    found, whole = metrics.audible_f0(audio), world.estimate_f0(audio)
    assert len(found) == len(whole)
    assert np.mean((found > 0) == (whole > 0)) > 0.998
    both = (found > 0) & (whole > 0)
    assert np.abs(1200 * np.log2(found[both] / whole[both])).max() < 1.0


def test_f0_in_pieces_is_that_of_the_whole(monkeypatch):
    t = np.arange(2.6 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(220 * 2 ** (3 / 12 * np.sin(2 * np.pi * 0.3 * t))) / RATE
    voice = 0.2 * sum(np.sin(k * phase) / k for k in range(1, 9))
    voice += 1e-3 * np.random.default_rng(0).normal(size=len(voice))
    whole = world.estimate_f0(voice)
    monkeypatch.setattr(metrics, "_F0_PIECE", 270)  # both pieces lack some of the voice
    pieces = metrics.audible_f0(voice)
    assert len(pieces) == len(whole)
    both = (pieces > 0) & (whole > 0)
    assert both.mean() > 0.99
    assert np.abs(1200 * np.log2(pieces[both] / whole[both])).max() < 1.0


def test_a_reference_is_analysed_once_for_measures_and_features():
    t = np.arange(0.6 * RATE) / RATE
    voice = 0.2 * sum(np.sin(2 * np.pi * 220 * k * t) / k for k in range(1, 9))
    voice[: RATE // 5] = 0.0
    voice += noise(0.6, 3, 1e-3)
    analysis, features = metrics.analyse_reference(voice)
    alone, own = metrics.analyse_voice(voice), world.analyse(voice)
    assert analysis.voiced.any() and not analysis.voiced.all()
    for pair in ((analysis, alone), (features, own)):
        for field in dataclasses.fields(pair[0]):
            np.testing.assert_array_equal(*(getattr(x, field.name) for x in pair))


# Spectra


def test_a_gain_is_its_decibels_in_the_log_spectral_distance():
    voice = noise(0.5)
    voiced = np.ones(1 + len(voice) // 160, bool)
    distance = measures.log_spectral_distance(voice, 2.0 * voice, voiced)
    np.testing.assert_allclose(distance, 20 * math.log10(2), atol=1e-4)
    assert not measures.log_spectral_distance(voice, voice, voiced).any()


def test_log_spectral_distance_of_blocks_lags_and_known_spectra(monkeypatch):
    voice, voiced = noise(0.5), np.ones(101, bool)
    late = np.concatenate([np.zeros(3 * 160), voice])
    assert measures.log_spectral_distance(voice, late, voiced, lag=3).max() < 1e-6
    early = voice[5 * 160 :]
    assert measures.log_spectral_distance(voice, early, voiced, lag=-5)[15:].max() < 1e-6
    filtered = scipy_signal.lfilter([1.0, 0.9], [1.0], voice)
    whole = measures.log_spectral_distance(voice, filtered, voiced)
    _, response = scipy_signal.freqz([1.0, 0.9], worN=np.linspace(0, np.pi, 513))
    # The filter's own response, were spectra of short windows exactly multiplied by it.
    exact = math.sqrt(np.mean((20 * np.log10(np.abs(response))) ** 2))
    assert whole[10:-10].mean() == pytest.approx(exact, rel=0.05)
    monkeypatch.setattr(measures, "_BLOCK_FRAMES", 17)
    np.testing.assert_array_equal(measures.log_spectral_distance(voice, filtered, voiced), whole)


def test_silence_is_floored_70_db_below_the_voice():
    voice = noise(0.5)
    voiced = np.ones(101, bool)
    distance = measures.log_spectral_distance(voice, np.zeros_like(voice), voiced)
    # Bins of white noise: 70 dB above the floor, spread by the Rayleigh distribution (5.6 dB).
    assert distance[5:-5].mean() == pytest.approx(math.hypot(70 - 2.5, 5.6), abs=0.7)


@pytest.mark.parametrize("lag", [-4, 0, 7])
def test_shift_moves_by_whole_frames(lag):
    audio = np.arange(1.0, 3201.0)
    shifted = measures.shift(audio, lag, 3300)
    index = np.arange(3300) + 160 * lag
    inside = (index >= 0) & (index < 3200)
    np.testing.assert_array_equal(shifted, np.where(inside, index + 1.0, 0.0))


def test_aperiodicity_error_by_hand():
    truth = analysis(4, f0=np.array([200.0, 200.0, 0.0, 200.0]))
    bands = np.tile([-1.0, -2.0, -3.0, -6.0], (4, 1))
    found = analysis(4, f0=np.array([200.0, 0.0, 200.0, 200.0]), aperiodicity=bands)
    error = measures.aperiodicity_error(truth, found)
    np.testing.assert_array_equal(error, [3.0, np.nan, np.nan, 3.0])


# Timbre and content


def test_timbre_is_the_mean_of_voiced_frames_and_moves_by_hand():
    cepstrum = np.zeros((3, 25))
    cepstrum[:, 1] = [0.1, 0.3, 9.0]
    cepstrum[:, 0] = 5.0
    found = measures.timbre(analysis(3, f0=np.array([100.0, 100.0, 0.0]), mel_cepstrum=cepstrum))
    np.testing.assert_allclose(found, [0.2, *[0.0] * 23])
    a, b = np.zeros(24), np.zeros(24)
    b[4] = 0.4
    assert measures.timbre_distance(a, b) == pytest.approx(0.4 * math.sqrt(2) * 10 / math.log(10))
    assert measures.timbre_moved(a, b, a) == 0.0
    assert measures.timbre_moved(a, b, b) == 1.0
    assert measures.timbre_moved(a, b, 0.25 * b) == pytest.approx(0.25)
    assert math.isnan(measures.timbre_moved(a, a, a))
    assert np.isnan(measures.timbre(analysis(2, f0=np.zeros(2)))).all()


def test_code_distance_is_relative_to_the_spread():
    codes = np.random.default_rng(0).normal(size=(200, 64))
    assert measures.code_distance(codes, codes) == 0.0
    assert measures.code_distance(codes, np.tile(codes.mean(0), (200, 1))) == pytest.approx(1.0)
    # Not changed by the unit of the code.
    other = codes[::-1]
    assert measures.code_distance(7 * codes, 7 * other) == pytest.approx(
        measures.code_distance(codes, other)
    )
    assert math.isnan(measures.code_distance(np.ones((5, 64)), np.ones((5, 64))))


# Isolation and intelligibility


def test_level_in_silence_by_hand():
    truth = np.array([-20.0, -20.0, -70.0, -90.0, -50.0])
    voiced = np.array([True, True, False, False, False])
    estimate = np.array([-10.0, -10.0, -30.0, -30.0, 0.0])
    assert measures.silence_level(truth, estimate, voiced) == pytest.approx(-20.0)
    estimate[2:4] = -200.0
    assert measures.silence_level(truth, estimate, voiced) == -100.0
    assert math.isnan(measures.silence_level(truth[:2], estimate[:2], voiced[:2]))
    assert math.isnan(measures.silence_level(truth, estimate, np.zeros(5, bool)))
    # A voice that is silent throughout has no level to be compared with: 0 dB would be the worst.
    assert math.isnan(measures.silence_level(truth, np.full(5, -200.0), voiced))


def test_level_difference_is_of_mean_powers_where_the_true_voice_sings():
    truth = np.array([-20.0, -20.0, -90.0])
    voiced = np.array([True, True, False])
    estimate = np.array([-20.0, -40.0, 0.0])
    expected = 10 * math.log10((1e-2 + 1e-4) / 2e-2)
    assert measures.level_difference(truth, estimate, voiced) == pytest.approx(expected)
    assert measures.level_difference(truth, np.full(3, -200.0), voiced) == -100.0
    assert math.isnan(measures.level_difference(truth, estimate, np.zeros(3, bool)))


def test_backing_correlation_takes_the_voice_out():
    rng = np.random.default_rng(0)
    voice, own, leak = (rng.uniform(-30, 0, 5000) for _ in range(3))
    backing = voice + own - 30.0  # plays louder where the singer sings
    assert np.corrcoef(backing, voice)[0, 1] > 0.6
    assert abs(measures.backing_correlation(backing, voice + leak - 30.0, voice)) < 0.05
    assert measures.backing_correlation(backing, own - 5.0, voice) == pytest.approx(1.0, abs=0.02)
    half = measures.backing_correlation(backing, own + leak - 10.0, voice)
    assert half == pytest.approx(math.sqrt(0.5), abs=0.03)
    assert math.isnan(measures.backing_correlation(backing, voice, voice))
    assert math.isnan(measures.backing_correlation(np.full(9, -10.0), np.arange(9.0), np.zeros(9)))


def test_estoi_is_pystoi_and_knows_silence():
    pytest.importorskip("pystoi")
    t = np.arange(2 * RATE) / RATE
    voice = noise(2.0) * (1 + np.sin(2 * np.pi * 4 * t))
    assert measures.estoi(voice, voice) == pytest.approx(1.0, abs=1e-6)
    worse = [measures.estoi(voice, voice + noise(2.0, 1, level)) for level in (0.05, 0.2, 1.0)]
    assert 0.95 > worse[0] > worse[1] > worse[2]
    assert math.isnan(measures.estoi(np.zeros(RATE), voice[:RATE]))
    assert math.isnan(measures.estoi(voice[:1000], voice[:1000]))
    click = np.zeros(RATE)
    click[:200] = 0.5
    before = warnings.filters[:]
    with futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(measures.estoi, [click, voice] * 8, [click, voice] * 8))
    assert np.isnan(found[::2]).all() and min(found[1::2]) > 0.99
    assert not [f for f in warnings.filters if f not in before and f[0] == "error"]


def test_f0_roughness_by_hand():
    cents = np.array([0.0, 10.0, 20.0, 30.0, 30.0, 0.0])
    contour = 220.0 * 2 ** (cents / 1200)
    # Second differences 0, 0, -10, -30.
    assert measures.f0_roughness(contour, np.ones(6, bool)) == pytest.approx(10.0)
    voiced = np.array([1, 1, 1, 0, 1, 1], bool)
    assert measures.f0_roughness(contour, voiced) == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(measures.f0_roughness(contour, np.zeros(6, bool)))
    contour[0] = 0.0
    assert math.isnan(measures.f0_roughness(contour[:3], np.ones(3, bool)))


# Statistics and tables


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
    voice = noise(0.3)
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
