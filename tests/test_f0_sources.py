"""f0 from CSV files: what trackers write, what goes wrong, and the voice that is sung on it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sep_tf import analysis, editing, f0_sources, outputs, world
from sep_tf.errors import SepTfError
from tests import harness
from tests.test_separator import fake  # noqa: F401
from tests.test_world import note

CREPE = "time,frequency,confidence\n0.00,220.0,0.9\n0.01,440.0,0.9\n0.02,230.0,0.2\n0.03,0,0.9\n"


def read(tmp_path, text: str) -> f0_sources.Contour:
    path = tmp_path / "f0.csv"
    path.write_text(text, encoding="utf-8")
    return f0_sources.read(path)


@pytest.mark.parametrize(
    "text",
    [
        CREPE,
        CREPE.replace("time,frequency,confidence\n", ""),
        CREPE.replace(",", ";"),
        CREPE.replace(",", "\t"),
        "\ufeff" + CREPE.replace("time,frequency", '"Time","F0"').replace("\n", "\r\n"),
        "# a comment\n\n" + CREPE,
        "confidence,f0_hz,t\n0.9,220,0\n0.9,440,0.01\n0.1,230,0.02\n0.9,-0.0,0.03\n",
    ],
)
def test_what_trackers_write(tmp_path, text):
    contour = read(tmp_path, text)
    f0, voiced = contour.at(np.array([-1.0, 0.0, 0.005, 0.01, 0.02, 0.03, 9.0]))
    # Halfway in cents; what is not sure, zero or beyond the rows is not sung.
    np.testing.assert_allclose(f0[1:4], [220.0, 220.0 * 2**0.5, 440.0])
    np.testing.assert_array_equal(voiced, [False, True, True, True, False, False, False])
    assert (f0 > 0).all()


@pytest.mark.parametrize("step, digits", [(0.05, 9), (0.0464, 3), (0.05, 3)])
def test_rows_near_each_other_have_no_pause_between(tmp_path, step, digits):
    """Whatever their times are rounded to."""
    times = np.arange(0.3, 20.0, step)
    text = "".join(f"{time:.{digits}f} 200\n" for time in times)
    _, voiced = read(tmp_path, text).at(np.arange(0, 21, 0.005))
    assert voiced[60:3980].all() and not voiced[:54].any() and not voiced[4015:].any()


def test_rows_far_apart_have_a_pause_between(tmp_path):
    _, voiced = read(tmp_path, "0 200\n0.01 200\n1 300\n").at(np.arange(0, 1.02, 0.005))
    # 25 ms beyond a row, no more.
    assert voiced[:7].all() and voiced[196:204].all() and not voiced[9:194].any()


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "holds no rows"),
        ("time,frequency\n", "holds no rows"),
        ("time,loudness\n0,1\n", "no columns time and frequency"),
        ("0,200\n0.01,many\n", "line 2: 'many' is no f0"),
        ("0,200\nnan,210\n", "line 2: 'nan' is no time"),
        ("0,200\n0.01\n", "line 2: '' is no f0"),
        ("0,200\n0.01,200\n\n0.01,210\n", "line 4: times do not increase"),
    ],
)
def test_what_makes_no_sense_is_named(tmp_path, text, words):
    with pytest.raises(SepTfError, match=words):
        read(tmp_path, text)


@settings(max_examples=200, deadline=None)
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_file_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes(content)
    try:
        f0, _ = f0_sources.read(path).at(np.arange(5) / 200)
    except SepTfError as error:
        assert str(path) in str(error)
    else:
        assert np.isfinite(f0).all()


@pytest.mark.parametrize("offset, error", [(0.0, 1e-5), (1.5, 1e-5), (1.2345, 1e-5), (1 / 3, 3e-4)])
def test_what_is_written_is_read(tmp_path, offset, error):
    rng = np.random.default_rng(0)
    f0, voiced = rng.uniform(60, 1000, 300).astype(np.float32), rng.random(300) < 0.7
    outputs.write_f0(tmp_path / "f0.csv", f0, voiced, offset)
    found, sung = f0_sources.read(tmp_path / "f0.csv").at(offset + np.arange(300) / 200)
    np.testing.assert_array_equal(sung, voiced)
    np.testing.assert_allclose(found[voiced], f0[voiced], rtol=error)


def test_the_voice_is_sung_on_the_file(fake, tmp_path):  # noqa: F811
    """Times are the file's, whatever is skipped of it; where the file rests, nobody sings."""
    audio = harness.sung(2.0, 220.0)
    rows = [f"{t / 100},{300 + t},{1 if t < 150 else 0}" for t in range(200)]
    (tmp_path / "f0.csv").write_text("\n".join(rows))
    made = fake(f0=tmp_path / "f0.csv")
    features = made.analyse(audio, 32_000)
    np.testing.assert_allclose(features.f0[20:280:20], 300.0 + np.arange(10, 140, 10), rtol=1e-4)
    assert not features.voiced[310:].any()
    # Consonants beside what the file sings, then silence, though the model hears a voice.
    assert (features.envelope[200:330, 0] > -30).all()
    assert (features.envelope[345:, 0] < -30).all()
    later = list(analysis.features(made.runtime, [audio[16_000:]], made._wishes, offset=0.5))
    later = world.VocoderFeatures.concatenate(later)
    np.testing.assert_allclose(later.f0[:150], features.f0[100:250], rtol=1e-5)


# Transposition and formants


def test_transposition_moves_f0_alone():
    features = note(0.5)
    up = editing.transpose(features, 12.0)
    np.testing.assert_allclose(up.f0, 2 * features.f0, rtol=1e-6)
    np.testing.assert_array_equal(up.stacked, features.stacked)
    assert editing.transpose(features, 24.0).f0.max() <= 1100.0
    # Not transposed it ends there, too: what is written is what is sung.
    high = dataclasses.replace(features, f0=np.full_like(features.f0, 1250.0))
    assert (editing.transpose(high, 0.0).f0 == 1100.0).all()
    np.testing.assert_array_equal(editing.transpose(features, 0.0).f0, features.f0)


@pytest.mark.parametrize("ratio", [0.8, 1.25])
def test_formants_move_by_the_ratio(ratio):
    """The peak of the envelope (700 Hz) is elsewhere; f0 is not, in what is synthesised."""
    features = note(1.0)
    moved = editing.scale_formants(features, ratio)
    peaks = []
    for each in (features, moved):
        _, power, _ = world.decode(each)
        peaks.append(power[50].argmax() * 32_000 / 2048)
    assert peaks[1] / peaks[0] == pytest.approx(ratio, rel=0.05)
    np.testing.assert_array_equal(moved.f0, features.f0)
    back = editing.scale_formants(moved, 1 / ratio)
    assert np.abs(back.envelope - features.envelope)[:, :20].max() < 0.5


@pytest.mark.parametrize("semitones, formant", [(25, 1), (np.nan, 1), (0, 0.4), (0, np.nan)])
def test_what_no_voice_can_be(semitones, formant):
    with pytest.raises(SepTfError, match="must be"):
        editing.check(semitones, formant)
