"""The program `evaluate`: tables, files, pages, errors of one line."""

import csv
import dataclasses
import itertools
import json
import re
import shlex

import numpy as np
import pytest
import soundfile
from evaluations import RATE, ROOT, error_of, make_songs, rows_in, run, sung

from sep_tf import world
from sep_tf.evaluation import scoring, systems, tables
from sep_tf.evaluation import songs as songs_module

for _package in ("matplotlib", "mir_eval", "pystoi", "scipy"):
    pytest.importorskip(_package)


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    return make_songs(tmp_path_factory.mktemp("some songs ü"))


class Fake:
    """A separator that hears 220 Hz in everything; counts the songs it was given."""

    system = "sin"
    calls = 0

    @classmethod
    def from_pretrained(cls, model, runtime="auto"):
        assert (model, runtime) == ("sin-lite", "auto")
        return cls()

    def load(self):
        pass

    def analyse(self, audio, sample_rate):
        assert sample_rate == RATE
        Fake.calls += 1
        features = world.analyse(audio, "dio")
        n = len(features)
        return dataclasses.replace(
            features, f0=np.full(n, 220.0, np.float32), voiced=np.ones(n, bool)
        )


@pytest.fixture(scope="module")
def evaluated(songs, tmp_path_factory):
    """A whole evaluation of two songs, a fake model and another tool's folder."""
    out = tmp_path_factory.mktemp("evaluation") / "new" / "folder"
    tool = tmp_path_factory.mktemp("tool")
    soundfile.write(tool / "one.wav", sung(220.0), RATE, "FLOAT")
    (tool / "two").mkdir()
    # As many tools write: 44.1 kHz, stereo, a few samples too long.
    other = np.stack([sung(330.0)] * 2, axis=1)
    soundfile.write(tool / "two" / "vocals.wav", np.pad(other, ((0, 64), (0, 0))), RATE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sep_tf.separator.Separator", Fake)
        argv = [
            f"--manifest={songs / 'test.csv'}",
            "--systems=mixture,sin,world",
            f"--estimates_dir=tool={tool}",
            f"--output_dir={out}",
        ]
        assert run(*argv) == 0
        calls = Fake.calls
        table = (out / "table.md").read_text(encoding="utf-8")
        results = (out / "results.csv").read_bytes()
        (out / "plots" / "own.png").touch()
        (out / "plots" / "song-old.png").touch()
        # The second time nothing is left to do.
        assert run(*argv) == 0
        assert Fake.calls == calls == 2
        assert (out / "results.csv").read_bytes() == results
    return out, table


def test_what_is_written(evaluated):
    out, table = evaluated
    names = ["analyses", "audio", "index.html", "plots", "results.csv", "scores", "summary.json"]
    assert sorted(path.name for path in out.iterdir()) == [*names, "table.md"]
    plots = [path.name for path in (out / "plots").iterdir()]
    assert "own.png" in plots and "song-old.png" not in plots and "mcd_db.png" in plots
    assert "--systems=mixture,sin,world" in table and "| sin |" in table
    rows = rows_in(out)
    systems_there = ("mixture", "sin", "world", "tool")
    assert list(rows) == [(s, k, "all") for s in ("one", "two") for k in systems_there]
    # The contour is right in the first song, its voicing everywhere; in the second it is wrong.
    assert float(rows["one", "sin", "all"]["raw_pitch"]) > 0.95
    assert float(rows["two", "sin", "all"]["raw_pitch"]) == 0.0
    assert float(rows["two", "sin", "all"]["voicing_recall"]) == 1.0
    assert float(rows["one", "world", "all"]["raw_pitch"]) == 1.0
    distortion = {key[:2]: float(row["mcd_db"]) for key, row in rows.items()}
    assert distortion["one", "tool"] < 0.05  # the voice itself, at another level
    assert distortion["one", "tool"] < distortion["one", "world"] < distortion["one", "mixture"]
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["systems"]) == list(systems_there)
    mean = np.mean([distortion[s, "world"] for s in ("one", "two")])
    assert summary["systems"]["world"]["mcd_db"]["mean"] == pytest.approx(mean, rel=1e-5)
    # Against WORLD's re-synthesis WORLD has no error, against the raw voice the same as before.
    assert float(rows["one", "world", "all"]["mcd_world_db"]) == 0.0
    assert rows["one", "world", "all"]["mcd_raw_db"] == rows["one", "world", "all"]["mcd_db"]


def test_the_command_makes_the_table_again(evaluated):
    out, table = evaluated
    (command,) = re.findall(r"`(sep-tf evaluate .*?)`", table)
    before = (out / "results.csv").read_bytes()
    (out / "results.csv").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sep_tf.separator.Separator", Fake)
        assert run(*shlex.split(command)[2:]) == 0
    assert (out / "results.csv").read_bytes() == before


def test_the_paper_listeners_reference(evaluated, songs, tmp_path, capsys, no_plots):
    argv = [songs / "test.csv", "--systems=mixture,world", "--reference=world"]
    assert run(*argv, "--baseline=mixture", f"--output_dir={tmp_path}") == 0
    rows, raw = rows_in(tmp_path), rows_in(evaluated[0])
    for song in ("one", "two"):
        for system in ("mixture", "world"):
            row, before = rows[song, system, "all"], raw[song, system, "all"]
            assert row["mcd_db"] == row["mcd_world_db"] == before["mcd_world_db"]
            assert row["mcd_raw_db"] == before["mcd_raw_db"] == before["mcd_db"] != row["mcd_db"]
            assert row["raw_pitch"] == before["raw_pitch"]  # f0 is the raw vocal's
        world_row = rows[song, "world", "all"]
        for field in ("mcd_db", "mcd_unfloored_db", "mcd_all_db", "mcd_loud_db", "lsd_db"):
            assert float(world_row[field]) == 0.0
        reference, heard = (tmp_path / "audio" / n / f"{song}.flac" for n in ("reference", "world"))
        assert reference.read_bytes() == heard.read_bytes()
        kept = evaluated[0] / "audio" / "reference" / f"{song}.flac"
        assert reference.read_bytes() != kept.read_bytes()
    table, before = (tmp_path / "table.md").read_text(encoding="utf-8"), evaluated[1]
    assert "| world | 0.00 (0.00) | 0.00 (0.00) | 100.0 % |" in table
    assert "Reference: the raw vocal re-synthesised by WORLD. p: " in table
    assert "--reference=world" in table and "Reference: the raw vocal. p: " in before


def test_the_tables_of_a_song_with_its_own_backing(songs, tmp_path, capsys, no_plots):
    pause = np.zeros(RATE // 2, np.float32)
    soundfile.write(songs / "pause.wav", np.concatenate([sung(220.0), pause]), RATE, "FLOAT")
    manifest = songs / "own.csv"
    manifest.write_text("song,vocals,backing,singer,seconds\nown,pause.wav,noise.wav,x,1.3\n")
    argv = [manifest, "--systems=mixture,world", "--noaudio", f"--output_dir={tmp_path}"]
    assert run(*argv) == 0
    table = capsys.readouterr().out
    assert table == (tmp_path / "table.md").read_text(encoding="utf-8")
    heads = [block.split("\n", 3)[:3] for block in table.split("\n### ")[1:]]
    found = {title: head for title, _, head in heads}
    assert found["Pitch and voicing"] == (
        "| System | f0 ≤ 50 cents ↑ | same, own voicing ↑ | same, any octave ↑ | octave errors ↓ "
        "| voicing recall ↑ | false alarm ↓ | overall accuracy ↑ | f0 of the voice ↑ "
        "| f0 roughness (cents) |"
    )
    assert found["Isolation"] == "| System | level in silence (dB) ↓ | backing correlation ↓ |"
    rows = rows_in(tmp_path)
    levels = [float(rows["own", system, "all"]["silence_db"]) for system in ("world", "mixture")]
    assert levels[0] < -40 < levels[1]


def table_of(document: str) -> list[str]:
    """The main table of a document: the lines from the heading on that evaluate writes."""
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    start = lines.index(tables.main_table({}).splitlines()[0])
    return list(itertools.takewhile(lambda line: line.startswith("|"), lines[start:]))


def test_the_figures_of_readme_and_model_card_are_one():
    readme = table_of("README.md")
    assert readme == table_of("MODEL_CARD.md")
    assert [row.split(" |")[0] for row in readme[2:]] == [
        f"| {system}" for system in ("sin", "sdn", "ss", "unet", "mixture", "world")
    ]


def test_f0_of_the_voices_is_kept_for_the_pictures(evaluated):
    out, _ = evaluated
    for system, pitch in (("tool", 330.0), ("world", 330.0), ("sin", 220.0)):
        f0 = np.load(out / "scores" / "two" / f"{system}.f0.npy")
        assert len(f0) == 161
        assert 1200 * abs(np.log2(np.median(f0[f0 > 0]) / pitch)) < 10


def test_isolation_and_intelligibility_put_systems_in_order(evaluated):
    rows = rows_in(evaluated[0])

    def figure(system, name):
        return float(rows["one", system, "all"][name])

    assert figure("mixture", "backing_correlation") > 0.3
    assert rows["one", "tool", "all"]["backing_correlation"] == ""  # nothing but the voice
    assert figure("tool", "estoi") > 0.95 > figure("mixture", "estoi")
    assert figure("tool", "timbre_db") < 0.1 < figure("mixture", "timbre_db")
    # The tool's voice is twice as loud as the one in the mixture.
    assert figure("tool", "lsd_db") == pytest.approx(20 * np.log10(2), abs=0.5)
    assert figure("tool", "level_db") == pytest.approx(20 * np.log10(2), abs=0.1)


def test_the_voices_are_kept_in_time_and_with_one_gain(evaluated, songs):
    out, _ = evaluated
    mixture, rate = soundfile.read(out / "audio" / "mixture" / "two.flac")
    reference, _ = soundfile.read(out / "audio" / "reference" / "two.flac")
    truth, _ = soundfile.read(songs / "b.wav")
    assert rate == RATE and len(mixture) == len(reference) == len(truth)
    gain = float(truth @ reference / (truth @ truth))
    np.testing.assert_allclose(reference, gain * truth, atol=1e-4)
    noise, _ = soundfile.read(songs / "noise.wav")
    expected = gain / 2.0 * (2.0 * truth + 0.1 * noise[RATE // 4 :][: len(truth)])
    np.testing.assert_allclose(mixture, expected, atol=1e-4)
    assert {path.parent.name for path in out.glob("audio/*/one.flac")} == {
        *("mixture", "reference", "sin", "world", "tool")
    }


def test_the_page_holds_everything_and_is_its_own(evaluated):
    out, _ = evaluated
    text = (out / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|@DATA@", text)
    values = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1))
    assert [song["id"] for song in values["songs"]] == ["one", "two"]
    files = [f for song in values["songs"] for f in [song["picture"], *song["audio"].values()]]
    files += [file for _, file in values["plots"]]
    assert len(files) == 2 * (1 + 5) + len(values["plots"]) > 25
    for file in files:
        assert (out / file).is_file()


def test_songs_of_any_name_stay_data(songs, tmp_path, capsys, no_plots):
    name = "</script><b>&\u2028 Ünder/../x"
    manifest = songs / "names.csv"
    manifest.write_text(f"id,singer,vocals,backing\n{name},x,a.wav,noise.wav\n", "utf-8")
    assert run(manifest, "--systems=mixture", f"--output_dir={tmp_path}") == 0
    capsys.readouterr()
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert text.count("</script>") == 2 and "<b>&" not in text
    clips = list((tmp_path / "audio" / "mixture").iterdir())
    assert len(clips) == 1 and clips[0].resolve().parent == (tmp_path / "audio/mixture").resolve()


def test_a_run_that_failed_goes_on(songs, tmp_path, capsys, monkeypatch, no_plots):
    monkeypatch.setattr("sep_tf.separator.Separator", Fake)
    before = Fake.calls
    voice = songs / "later.wav"
    voice.write_text("no audio")
    manifest = songs / "later.csv"
    manifest.write_text(
        "id,singer,vocals,backing\none,x,a.wav,noise.wav\nlate,x,later.wav,noise.wav\n"
    )
    argv = [manifest, "--systems=sin", "--jobs=1", "--noaudio", f"--output_dir={tmp_path}"]
    assert run(*argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    # What is done is said, then the one line of the error.
    done, error = err.splitlines()
    assert done == "measured one (1 of 2)"
    assert error.startswith("sep-tf evaluate: error: row late: ")
    assert Fake.calls == before + 1
    assert not (tmp_path / "results.csv").exists()
    soundfile.write(voice, sung(250.0), RATE, "FLOAT")
    assert run(*argv) == 0
    assert Fake.calls == before + 2
    # A song that changed is measured again, and so is everything by another reference.
    soundfile.write(voice, sung(260.0), RATE, "FLOAT")
    assert run(*argv) == 0
    assert Fake.calls == before + 3
    assert run(*argv, "--reference=world") == 0
    assert Fake.calls == before + 5
    assert not (tmp_path / "audio").exists()
    (tmp_path / "scores" / "one" / "sin.json").write_text("half a fi")
    stored = tmp_path / "analyses" / "one.raw.npz"
    stored.write_bytes(stored.read_bytes()[:1000])
    assert run(*argv, "--reference=world") == 0
    assert Fake.calls == before + 6


def test_progress_counts_voices_and_names_songs(songs, tmp_path, capsys, no_plots):
    items = songs_module.select(str(songs / "test.csv"), "test", None)
    built = systems.build({"mixture": "mixture", "world": "world"}, "auto")
    evaluation = scoring.Evaluation(tmp_path, scoring.Options(), keep_audio=False)
    for _ in range(2):  # what an earlier run has scored counts as well
        done = []
        evaluation.score_song(items[0], built, lambda done=done: done.append(None))
        assert len(done) == 2
    evaluation.score_all(items, built, jobs=1)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["measured one (1 of 2)", "measured two (2 of 2)"]


@pytest.mark.slow
def test_jobs_change_no_figure(songs, tmp_path, no_plots):
    manifest = songs / "jobs.csv"
    rows = [f"s{n},x,{'ab'[n % 2]}.wav,noise.wav,0.{n}" for n in range(3)]
    manifest.write_text("\n".join(["id,singer,vocals,backing,backing_start", *rows]) + "\n")
    results = []
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        argv = [manifest, "--systems=mixture,world", "--noaudio", "--segment_seconds=0.3"]
        assert run(*argv, f"--jobs={jobs}", f"--output_dir={out}") == 0
        results.append((out / "results.csv").read_text())
    assert results[0] == results[1] and results[0].count("\n") == 1 + 3 * 2 * 4
    pieces = {row["segment"] for row in csv.DictReader(results[0].splitlines())}
    assert pieces == {"all", "0-0.3", "0.3-0.6", "0.6-0.805"}


def test_conditions_targets_and_segments(songs, tmp_path, capsys, no_plots):
    soundfile.write(songs / "long.wav", np.tile(sung(220.0), 4), RATE, "FLOAT")
    manifest = songs / "conditions.csv"
    manifest.write_text(
        "song_id,singer,vocals,backing,split,condition,target_singer\n"
        "solo,x,long.wav,,test,dry,y\n"
        "band,x,a.wav,noise.wav,test,wet,\n"
        "enrol,y,b.wav,,train,,\n"
    )
    argv = [manifest, "--systems=mixture", f"--output_dir={tmp_path}", "--segment_seconds=1"]
    assert run(*argv, "--baseline=mixture", "--noaudio") == 0
    out = capsys.readouterr().out
    assert out.index("## dry") < out.index("## wet")
    rows = rows_in(tmp_path)
    assert list(rows) == [
        *(("solo", "mixture", s) for s in ("all", "0-1", "1-2", "2-3")),
        ("band", "mixture", "all"),
    ]
    # The last frame, at the end of the third second, is in the last piece.
    frames = [int(rows["solo", "mixture", s]["voiced_frames"]) for s in ("0-1", "1-2", "2-3")]
    assert sum(frames) == int(rows["solo", "mixture", "all"]["voiced_frames"])
    # A solo voice taken as it is: the singer's own timbre, no way towards the other singer's.
    solo = rows["solo", "mixture", "all"]
    assert float(solo["mcd_db"]) == float(solo["timbre_moved"]) == 0.0
    assert float(solo["target_timbre_db"]) > 0.3
    assert solo["backing_correlation"] == rows["band", "mixture", "all"]["timbre_moved"] == ""
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["conditions"]["dry"]["mixture"]["songs"] == 1


def test_limit_jobs_and_a_positional_manifest(songs, tmp_path, capsys, no_plots):
    argv = [songs / "test.csv", "--systems=mixture", "--limit=1", "--jobs=3", "--noaudio"]
    assert run(*argv, f"--output_dir={tmp_path}") == 0
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert len(lines) == 2 and lines[1].startswith("one,x,,mixture,all,0.8,")
    assert "--limit=1" in capsys.readouterr().out


def test_errors_are_one_line(songs, tmp_path, capsys):
    out, test = f"--output_dir={tmp_path / 'out'}", f"--manifest={songs / 'test.csv'}"
    assert "no --manifest given" in error_of(capsys, out)
    assert "no --output_dir given" in error_of(capsys, test)
    missing = error_of(capsys, f"--manifest={tmp_path / 'none.csv'}", out)
    assert "none.csv does not exist" in missing
    unknown = error_of(capsys, test, out, "--systems=mixture,wolrd")
    assert "unknown system 'wolrd', expected NAME=MODEL or some of: mixture, world" in unknown
    assert "no system given" in error_of(capsys, test, out, "--systems=")
    assert "two systems are called 'sin'" in error_of(
        capsys, test, out, "--systems=sin,sin=x.tflite"
    )
    assert "x.tflite does not exist" in error_of(capsys, test, out, "--systems=mine=x.tflite")
    for name in ("reference", "mixture", "../mine"):
        refused = error_of(capsys, test, out, f"--systems={name}=sin-lite")
        assert f"a system cannot be called '{name}'" in refused
    assert "--runtime=serving" in error_of(capsys, test, out, "--runtime=serving")
    project = f"--manifest={songs / 'project.csv'}"
    empty = error_of(capsys, project, out, "--split=validation_unseen")
    assert "no row of split 'validation_unseen', only of: test, train, validation" in empty
    assert "limit" in error_of(capsys, test, out, "--limit=0")
    target = songs / "target.csv"
    target.write_text("id,singer,vocals,backing,target_singer\none,x,a.wav,noise.wav,who\n")
    assert "no vocals of target singer who" in error_of(capsys, target, out)
    nobody = error_of(capsys, test, out, "--systems=mixture,world", "--baseline=sin")
    assert "--baseline=sin is none of: mixture, world" in nobody
    assert not (tmp_path / "out").exists()


def test_missing_audio_is_named_before_any_work(songs, tmp_path, capsys):
    broken = songs / "broken.csv"
    broken.write_text("id,singer,vocals,backing\none,x,a.wav,noise.wav\nlost,x,c.wav,noise.wav\n")
    err = error_of(capsys, broken, f"--output_dir={tmp_path / 'out'}", "--systems=mixture")
    assert "row lost: no file" in err and "c.wav" in err
    assert not (tmp_path / "out").exists()
