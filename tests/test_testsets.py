"""Sets of voices in unison, in rooms, to be converted: what is in them, what was asked for."""

import csv

import numpy as np
import pytest
import soundfile

from sep_tf import metrics, world
from sep_tf.evaluation import songs
from tests import harness
from tfrecords import mixtures, testsets
from tfrecords.songs import active_level_db

RATE = 32_000


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """Three singers with two songs each of 2.2 s, one that is too short, and music."""
    folder = tmp_path_factory.mktemp("voices")
    lines = ["song_id,singer,vocals,backing,split"]
    for n, singer in enumerate(("ann", "ben", "cid")):
        for m in range(2):
            name = f"{singer}{m}"
            audio = harness.sung(2.2, 150.0 + 60 * n + 10 * m, seed=10 * n + m)
            soundfile.write(folder / f"{name}.wav", audio, RATE, "FLOAT")
            lines.append(f"{name},{singer},{name}.wav,,test")
    soundfile.write(folder / "short.wav", harness.sung(0.5, 200.0), RATE)
    soundfile.write(folder / "band.wav", harness.band(4.0, 1), RATE)
    lines += ["short,ann,short.wav,,test", "other,dan,ann0.wav,,train", "band,,,band.wav,test"]
    (folder / "all.csv").write_text("\n".join(lines) + "\n")
    return folder / "all.csv"


def make(voices, folder, kind: str, *more: str):
    argv = [f"--kind={kind}", f"--manifest={voices}", f"--output_dir={folder}", *more]
    assert testsets.run(argv) == 0
    return songs.select(str(folder / "manifest.csv"), "test", None)


def test_one_voice_and_three(voices, tmp_path):
    items = make(voices, tmp_path / "set", "unison", "--count=2")
    assert [i.condition for i in items] == ["one voice", "unison"] * 2
    assert len({i.row.singer for i in items}) == 2
    alone, together = songs.load_song(items[0].row), songs.load_song(items[1].row)
    np.testing.assert_array_equal(alone[0], alone[1])
    np.testing.assert_array_equal(together[1], alone[1])
    others, voice = together[0] - together[1], alone[1]
    # Two more, each as loud: 3 dB in all, for what is not the same signal.
    ratio = 10 * np.log10(np.mean(others**2) / np.mean(voice**2))
    assert ratio == pytest.approx(3.0, abs=1.5)
    # The same melody, a little late and out of tune, in another timbre.
    reference, found = metrics.analyse_voice(voice), metrics.analyse_voice(others)
    both = (reference.f0 > 0) & (found.f0 > 0)
    cents = 1200 * np.log2(found.f0[both] / reference.f0[both])
    assert both.mean() > 0.7 and np.median(np.abs(cents)) < 40 and np.std(cents) > 1
    assert metrics.distortion(reference, found).mean_db > 3.0


def test_other_tracts_move_formants_and_not_pitch():
    voice = harness.sung(1.6, 200.0)
    features = world.analyse(voice)
    rng = np.random.default_rng(0)
    sung = testsets.other_singer(features, 1.15, 0.02, rng)
    assert len(sung) == len(voice) and not np.any(sung[: round(0.02 * RATE)])

    def formant(audio):
        power = np.abs(np.fft.rfft(audio)) ** 2
        hz = np.fft.rfftfreq(len(audio), 1 / RATE)
        inside = hz < 2500
        return float(np.sum(hz[inside] * power[inside]) / np.sum(power[inside]))

    assert formant(sung) / formant(voice) == pytest.approx(1.15, abs=0.06)


def test_dry_and_in_a_room(voices, tmp_path):
    items = make(voices, tmp_path / "set", "wet", "--count=3", "--reverb_seconds=0.8")
    assert [i.condition for i in items] == ["dry", "wet"] * 3
    dry, wet = songs.load_song(items[0].row), songs.load_song(items[1].row)
    np.testing.assert_array_equal(dry[1], wet[1])
    tail = wet[0] - wet[1]
    onset = np.flatnonzero(np.abs(dry[1]) > 1e-3)[0]
    assert np.abs(tail[: onset + round(0.009 * RATE)]).max() < 1e-3  # comes after the voice
    ratio = 10 * np.log10(np.mean(tail**2) / np.mean(dry[1] ** 2))
    assert ratio == pytest.approx(-6.0, abs=2.0)


@pytest.mark.parametrize("snr_db", [3.0, -9.0])
def test_raw_and_produced_with_the_same_music(voices, tmp_path, snr_db):
    items = make(voices, tmp_path / "set", "produced", "--count=2", f"--snr_db={snr_db}")
    assert [i.condition for i in items] == ["raw", "produced"] * 2
    raw, produced = songs.load_song(items[0].row), songs.load_song(items[1].row)
    np.testing.assert_array_equal(raw[1], produced[1])
    voice, music, change = raw[1], raw[0] - raw[1], produced[0] - raw[0]
    ratio = 10 * np.log10(np.mean(voice**2) / np.mean(music**2))
    assert ratio == pytest.approx(snr_db, abs=1.5)
    # Effects of some size, and still the same performance.
    assert 0.01 < np.mean(change**2) / np.mean(voice**2) < 4.0
    wet = voice + change
    reference, found = metrics.analyse_voice(voice), metrics.analyse_voice(wet)
    both = (reference.f0 > 0) & (found.f0 > 0)
    cents = 1200 * np.log2(found.f0[both] / reference.f0[both])
    assert np.mean(np.abs(cents) < 50) > 0.9
    assert items[2].row.singer != items[0].row.singer


def test_songs_with_rests(voices, tmp_path):
    items = make(voices, tmp_path / "set", "rests", "--count=2", "--snr_db=-6")
    assert [item.condition for item in items] == ["rests"] * 2
    assert items[0].row.singer != items[1].row.singer
    for item in items:
        mixture, voice = songs.load_song(item.row)
        assert len(voice) == 60 * RATE
        silent = world.frame_level_db(voice) < -60.0
        edges = np.flatnonzero(np.diff(np.concatenate([[0], silent.astype(int), [0]])))
        rests = np.diff(edges.reshape(-1, 2), axis=1).ravel() / 200
        assert 0.3 < silent.mean() < 0.97 and len(rests) > 3
        assert rests.max() < 15.5 and (rests > 2.0).any() and rests[0] > 0.25
        music = mixture - voice
        assert active_level_db(voice) - active_level_db(music) == pytest.approx(-6.0, abs=0.5)
        assert (world.frame_level_db(music) > -60.0).mean() > 0.95


def test_songs_with_rests_of_one_long_voice_in_any_order(tmp_path):
    soundfile.write(tmp_path / "long.wav", np.tile(harness.sung(5.0, 200.0), 16), RATE)
    soundfile.write(tmp_path / "other.wav", harness.sung(3.0, 220.0), RATE)
    soundfile.write(tmp_path / "band.wav", harness.band(4.0, 1), RATE)
    rows = ["long,ann,long.wav,,test", "other,ann,other.wav,,test", "band,,,band.wav,test"]
    made = []
    for name, order in (("a", rows), ("b", rows[::-1])):
        text = "\n".join(["song_id,singer,vocals,backing,split", *order]) + "\n"
        (tmp_path / f"{name}.csv").write_text(text)
        (item,) = make(tmp_path / f"{name}.csv", tmp_path / name, "rests", "--count=1")
        made.append(songs.load_song(item.row))
    np.testing.assert_array_equal(made[0], made[1])
    assert (world.frame_level_db(made[0][1]) < -60.0).mean() > 0.05


def test_a_backing_voice_is_another_singers_and_12_db_lower(voices, tmp_path, capsys):
    items = make(voices, tmp_path / "set", "backing", "--count=2", "--snr_db=-6")
    assert [i.condition for i in items] == ["one voice", "backing voice"] * 2
    alone, together = songs.load_song(items[0].row), songs.load_song(items[1].row)
    np.testing.assert_array_equal(alone[1], together[1])
    music = alone[0] - alone[1]
    assert active_level_db(alone[1]) - active_level_db(music) == pytest.approx(-6.0, abs=0.5)
    second, voice = together[0] - alone[0], alone[1]
    assert active_level_db(voice) - active_level_db(second) == pytest.approx(12.0, abs=0.2)
    other, own = metrics.analyse_voice(second).f0, metrics.analyse_voice(voice).f0
    assert abs(1200 * np.log2(np.median(other[other > 0]) / np.median(own[own > 0]))) > 100
    argv = [f"--manifest={voices}", f"--output_dir={tmp_path / 'one'}", "--kind=backing"]
    assert testsets.run([*argv, "--count=1"]) == 1
    assert "of one alone" in capsys.readouterr().err


def test_mixtures_have_the_levels_asked_for_in_turn(voices, tmp_path, capsys):
    path = tmp_path / "mixtures.csv"
    argv = [f"--manifest={voices}", "--split=test", f"--output={path}", "--count=4"]
    assert mixtures.run([*argv, "--snr_db=-12,6"]) == 0
    for number, item in enumerate(songs.select(str(path), "test", None)):
        mixture, voice = songs.load_song(item.row)
        found = active_level_db(voice) - active_level_db(mixture - voice)
        assert found == pytest.approx((-12.0, 6.0)[number % 2], abs=1.0)
    capsys.readouterr()
    for wrong in ("--snr_db=loud", "--snr_db=nan", "--snr_db=", "--snr_db=120"):
        assert mixtures.run([*argv, wrong]) == 1
        err = capsys.readouterr().err
        assert "--snr_db" in err and err.count("\n") == 1


def test_a_room_falls_by_60_db_in_its_time():
    click = np.zeros(2 * RATE, np.float32)
    click[0] = 1.0
    tail = testsets.room(click, np.random.default_rng(0), 1.0)
    level = [
        10 * np.log10(np.mean(tail[round(at * RATE) : round((at + 0.1) * RATE)] ** 2))
        for at in (0.1, 0.6)
    ]
    assert level[0] - level[1] == pytest.approx(30.0, abs=1.0)
    assert np.sum(tail**2) == pytest.approx(10 ** (-0.6), rel=1e-3)


def test_targets_are_other_singers_who_can_be_heard(voices, tmp_path):
    items = make(voices, tmp_path / "set", "convert", "--count=4")
    assert len(items) == 4
    assert all(i.target_singer and i.target_singer != i.row.singer for i in items)
    assert {i.target_singer for i in items} <= {"ann", "ben", "cid"}
    path = str(tmp_path / "set" / "manifest.csv")
    timbres = songs.target_timbres(items[:1], path, "test")
    assert set(timbres) == {items[0].target_singer}
    items = make(voices, tmp_path / "one", "convert", "--count=2", "--targets=dan")
    assert {i.target_singer for i in items} == {"dan"}


def test_a_set_is_repeatable_and_errors_are_one_line(voices, tmp_path, capsys):
    for name in ("a", "b"):
        make(voices, tmp_path / name, "wet", "--count=1")
    with (tmp_path / "a" / "manifest.csv").open(newline="") as file:
        first = list(csv.DictReader(file))[1]
    for name in (first["vocals"], first["backing"], "manifest.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    capsys.readouterr()
    argv = [f"--manifest={voices}", f"--output_dir={tmp_path / 'a'}"]
    wrong = {
        "no --kind given": argv,
        "exists already": [*argv, "--kind=wet"],
        "has no voices": [*argv, "--kind=wet", "--split=validation"],
        "nan is no finite number": [
            argv[0],
            f"--output_dir={tmp_path / 'c'}",
            "--kind=backing",
            "--snr_db=nan",
        ],
        "no voices of eve": [
            argv[0],
            f"--output_dir={tmp_path / 'c'}",
            "--kind=convert",
            "--targets=eve",
        ],
    }
    for message, arguments in wrong.items():
        assert testsets.run(arguments) == 1
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
