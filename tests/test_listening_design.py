"""Listening tests: balance of questions and sheets, loudness, the folder, other formats."""

import collections
import itertools
import json
import re

import listening
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sep_tf import cli
from sep_tf.errors import DataError
from sep_tf.listening_test import builder, clips, design

pytest.importorskip("pyloudnorm")
RATE = 32_000


# Design


def test_the_papers_test():
    """Section 4.3: three criteria, 15 questions each, 5 for each pair."""
    pairs = [("sin", "unet"), ("sin", "ss"), ("sin", "sdn")]
    made = design.make([f"song{n}" for n in range(20)], pairs, identical=0)
    counts = collections.Counter((q.criterion, q.first, q.second) for q in made.questions)
    assert len(made.questions) == 45 and len(counts) == 9 and set(counts.values()) == {5}
    for criterion in design.CRITERIA:
        songs = [q.song for q in made.questions if q.criterion == criterion]
        assert len(set(songs)) == 15
    orders = {tuple(dict.fromkeys(criteria_of(made, sheet))) for sheet in made.sheets}
    assert orders == set(itertools.permutations(design.CRITERIA))


def criteria_of(made, sheet):
    asked = {q.identity: q.criterion for q in made.questions}
    return [asked[presented.question] for presented in sheet]


@settings(max_examples=40, deadline=None)
@given(
    songs=st.integers(1, 9),
    n_pairs=st.integers(1, 4),
    n_criteria=st.integers(1, 3),
    questions=st.integers(1, 6),
    identical=st.integers(0, 3),
    seed=st.integers(0, 2**32),
)
def test_sheets_are_balanced(songs, n_pairs, n_criteria, questions, identical, seed):
    pairs = [("a", f"b{n}") for n in range(n_pairs)]
    criteria = tuple(design.CRITERIA)[:n_criteria]
    names = [f"s{n}" for n in range(songs)]
    made = design.make(names, pairs, criteria, questions, identical, seed)
    assert made == design.make(names, pairs, criteria, questions, identical, seed)
    assert design.Design.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    by_identity = {q.identity: q for q in made.questions}
    assert len(by_identity) == n_criteria * (n_pairs * questions + identical)
    for sheet in made.sheets:
        # Everything once, a criterion at a time, and no block begins with an identical pair.
        assert {p.question for p in sheet} == set(by_identity) and len(sheet) == len(by_identity)
        blocks = [
            list(g)
            for _, g in itertools.groupby(sheet, lambda p: by_identity[p.question].criterion)
        ]
        assert len(blocks) == n_criteria
        assert all(by_identity[block[0].question].kind == design.PAIR for block in blocks)
        # Sides: half of each pair's questions, within one, and of all.
        swapped = collections.Counter()
        for p in sheet:
            q = by_identity[p.question]
            swapped[q.criterion, q.first, q.second] += 1 if p.swapped else -1
        assert all(abs(balance) <= 1 for balance in swapped.values())
        assert abs(sum(swapped.values())) <= 1
    for one, other in zip(made.sheets[::2], made.sheets[1::2], strict=True):
        sides = {p.question: p.swapped for p in one}
        assert all(p.swapped != sides[p.question] for p in other)
    # Songs are used evenly within a criterion.
    for criterion in criteria:
        used = collections.Counter(q.song for q in made.questions if q.criterion == criterion)
        total = n_pairs * questions + identical
        assert max(used.values()) <= -(-total // songs)


# Sound


def tone(hz: float, level: float, seconds: float = 1.0) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def test_loudness_is_that_of_bs_1770():
    """A sine of 997 Hz at full scale reads -3.01 LUFS in one channel (ITU-R BS.1770-4)."""
    assert clips.loudness(tone(997.0, 1.0, 3.0)) == pytest.approx(-3.01, abs=0.05)


def test_clips_become_equally_loud():
    rng = np.random.default_rng(0)
    given_clips = {
        ("a", "x"): tone(300, 0.01),
        ("b", "x"): tone(2000, 0.9),
        ("c", "y"): 0.1 * rng.normal(size=RATE),
    }
    matched = clips.match(given_clips)
    found = [clips.loudness(audio) for audio in matched.values()]
    assert found == pytest.approx([clips.LOUDNESS_LUFS] * 3, abs=0.25)
    assert matched["a", "x"][0] == pytest.approx(0.0, abs=1e-4)  # faded in
    # A click is a peak that does not fit: all clips are lower, and still equal.
    spiky = np.where(np.arange(RATE) % 8000 == 4000, 1.0, 0.0)
    matched = clips.match(given_clips | {("d", "y"): spiky})
    found = [clips.loudness(audio) for audio in matched.values()]
    assert max(np.abs(audio).max() for audio in matched.values()) == pytest.approx(clips.PEAK_LIMIT)
    assert max(found) - min(found) < 0.5 and max(found) < clips.LOUDNESS_LUFS - 1


def test_clips_that_cannot_be_judged_are_named():
    with pytest.raises(DataError, match=r"sin of x: 0\.25 s are too short"):
        clips.match({("sin", "x"): tone(300, 0.1, 0.25)})
    with pytest.raises(DataError, match="ss of y: silent"):
        clips.match({("sin", "x"): tone(300, 0.1), ("ss", "y"): np.zeros(RATE)})


def test_the_excerpt_is_where_the_singer_sings():
    voice = np.concatenate([tone(200, 0.9, 0.2), np.zeros(3 * RATE), tone(200, 0.1, 2.0)])
    start, stop = clips.excerpt(voice, 2.0)
    assert stop - start == 2 * RATE
    assert abs(start - round(3.2 * RATE)) <= 512
    assert clips.excerpt(voice, 60.0) == (0, len(voice))


def test_headphone_trials():
    for seed, quietest in itertools.product(range(6), range(3)):
        audio = clips.headphone_trial(quietest, seed)
        tones = [audio[round(start * RATE) : round((start + 1) * RATE)] for start in (0, 1.5, 3.0)]
        level = [20 * np.log10(np.sqrt(np.mean(part[:, 0] ** 2))) for part in tones]
        assert level[quietest] == pytest.approx(max(level) - 6.02, abs=0.01)
        # Over loudspeakers the sum is heard: the one in antiphase is gone, and is another one.
        summed = [np.abs(part.sum(axis=1)).max() for part in tones]
        assert sorted(summed)[0] < 1e-6 < sorted(summed)[1] and np.argmin(summed) != quietest


# The folder


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    return listening.make_evaluation(tmp_path_factory.mktemp("evaluation"))


def build(evaluation, folder, *more: str) -> int:
    return cli.main(["listen", "build", str(evaluation), f"--output_dir={folder}", *more])


def error_of(capsys, *argv: str) -> str:
    assert cli.main(["listen", *map(str, argv)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def built(evaluation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "a test"
    assert build(evaluation, folder, "--title=A <b>test</b> & more") == 0
    return folder


def site_test(folder):
    text = (folder / "site" / "test.js").read_text(encoding="utf-8")
    assert "</" not in text and "<b>" not in text
    return json.loads(re.search(r"const TEST = (.*);\n", text).group(1))


def test_participants_cannot_see_which_clip_is_whose(built):
    test = site_test(built)
    assert len(test["questions"]) == 48 and len(test["headphones"]) == 6
    text = (built / "site" / "test.js").read_text(encoding="utf-8")
    for name in ("unet", "sdn", '"ss"', '"sin"', *listening.SONGS):
        assert name not in text
    files = [f for q in test["questions"].values() for f in (*q["clips"], q["reference"])]
    for q in test["questions"].values():
        assert len({q["reference"], *q["clips"]}) == 3
    assert all(re.fullmatch(r"clips/[0-9a-f]{12}\.flac", f) for f in files)
    there = {f"clips/{path.name}" for path in (built / "site" / "clips").iterdir()}
    assert there == set(files) | {trial["clip"] for trial in test["headphones"]}
    assert not re.search(r"https?://", (built / "site" / "index.html").read_text())


def test_the_key_says_which_clip_is_whose(built, evaluation):
    test, key = site_test(built), builder.read_key(built)
    assert key["id"] == test["id"] and len(key["design"].questions) == 48
    for q in key["design"].questions:
        asked = test["questions"][q.identity]
        mixture = design.CRITERIA[q.criterion].reference == "mixture"
        signals = (q.first, q.second, "mixture" if mixture else "world")
        for file, signal in zip((*asked["clips"], asked["reference"]), signals, strict=True):
            found, rate = soundfile.read(built / "site" / file)
            truth, _ = soundfile.read(evaluation / "audio" / signal / f"{q.song}.flac")
            inner = slice(500, -500)  # within the fades
            gain = found[inner] @ truth[inner] / (truth[inner] @ truth[inner])
            np.testing.assert_allclose(found[inner], gain * truth[inner], atol=2e-3)
            assert rate == RATE
    identical = [q for q in key["design"].questions if q.kind == design.IDENTICAL]
    assert len(identical) == 3
    for q in identical:
        one, other = (
            soundfile.read(built / "site" / f)[0] for f in test["questions"][q.identity]["clips"]
        )
        np.testing.assert_array_equal(one, other)


def test_a_build_is_repeatable_and_replaces_nothing(built, evaluation, tmp_path, capsys):
    other = tmp_path / "other"
    assert build(evaluation, other, "--title=A <b>test</b> & more") == 0
    names = sorted(p.relative_to(built).as_posix() for p in built.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(other).as_posix() for p in other.rglob("*") if p.is_file())
    for name in names:
        assert (built / name).read_bytes() == (other / name).read_bytes(), name
    capsys.readouterr()
    err = error_of(capsys, "build", evaluation, f"--output_dir={other}")
    assert "exists and is not empty" in err


def test_errors_are_one_line_and_leave_nothing(evaluation, tmp_path, capsys):
    out = f"--output_dir={tmp_path / 'out'}"
    assert "no --output_dir given" in error_of(capsys, "build", evaluation)
    assert "no EVALUATION_DIR given" in error_of(capsys, "build", out)
    assert "no evaluation with audio" in error_of(capsys, "build", tmp_path, out)
    unknown = error_of(capsys, "build", evaluation, out, "--pairs=sin-demucs")
    assert "no audio of system 'demucs', only of: mixture, sdn, sin, ss, unet, world" in unknown
    assert "'sin' is no pair" in error_of(capsys, "build", evaluation, out, "--pairs=sin")
    assert "'a-a' is no pair" in error_of(capsys, "build", evaluation, out, "--pairs=a-a")
    twice = error_of(capsys, "build", evaluation, out, "--pairs=sin-ss,ss-sin")
    assert "a pair is given twice" in twice
    assert "loudness is none of" in error_of(
        capsys, "build", evaluation, out, "--criteria=loudness"
    )
    assert "no listening test" in error_of(capsys, "serve", tmp_path)
    assert "no listening test" in error_of(capsys, "report", tmp_path)
    assert cli.main(["listen", "play"]) == 1
    assert "unknown 'play', expected one of: build, serve, report" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_silent_system_is_named(tmp_path, capsys):
    folder = listening.make_evaluation(tmp_path / "evaluation")
    for song in listening.SONGS:
        soundfile.write(folder / "audio" / "ss" / f"{song}.flac", np.zeros(RATE), RATE)
    err = error_of(capsys, "build", folder, f"--output_dir={tmp_path / 'out'}", "--pairs=sin-ss")
    assert "ss of alpha: silent where the singer sings" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation"]


def test_help_of_the_three_verbs(capsys):
    for verb in ("build", "serve", "report"):
        assert cli.main(["listen", verb, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"usage: sep-tf listen {verb} ")
    assert cli.main(["listen", "--help"]) == 0
    assert "build" in capsys.readouterr().out


# Other programs


def test_webmushra(evaluation, tmp_path, capsys):
    """It keeps the stimuli's order, and answers with their keys."""
    yaml = pytest.importorskip("yaml")
    folder = tmp_path / "mushra"
    assert build(evaluation, folder, "--format=webmushra", "--questions=2") == 0
    capsys.readouterr()
    key = builder.read_key(folder)
    assert "was built for webmushra, whose own results" in error_of(capsys, "report", folder)
    (path,) = (folder / "configs").glob("*.yaml")
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config["testId"] == key["id"] and config["remoteService"] == "service/write.php"
    first, volume, *blocks, last = config["pages"]
    assert (first["type"], volume["type"], last["type"]) == ("generic", "volume", "finish")
    assert (folder / volume["stimulus"]).is_file()
    assert len(blocks) == 3
    questions = {q.identity: q for q in key["design"].questions}
    sides = collections.defaultdict(list)
    for block in blocks:
        assert block[0] == "random" and len(block) == 1 + 3 * 2 + 1
        for page in block[1:]:
            assert page["type"] == "preference_test" and page["considerOrder"] is False
            assert "numPerTrial" not in page
            q = questions.pop(page["id"])
            sides[q.criterion, q.first, q.second].append(list(page["stimuli"]))
            for place, signal in (("first", q.first), ("second", q.second)):
                found, _ = soundfile.read(folder / page["stimuli"][place])
                truth, _ = soundfile.read(evaluation / "audio" / signal / f"{q.song}.flac")
                assert np.corrcoef(found, truth)[0, 1] > 0.99
            reference = re.search(r'src="(.*?)"', page["content"]).group(1)
            assert (folder / reference).is_file()
            for name in ("sin", "unet", "ss", "sdn"):
                assert not re.search(rf"\b{name}\b", json.dumps(page))
    assert not questions
    for (_, first, second), orders in sides.items():
        assert {*map(tuple, orders)} <= {("first", "second"), ("second", "first")}
        if first != second:
            assert sorted(orders) == [["first", "second"], ["second", "first"]]


def test_beaqlejs(evaluation, tmp_path):
    folder = tmp_path / "beaqle"
    assert build(evaluation, folder, "--format=beaqlejs", "--identical=0", "--pairs=sin-ss") == 0
    key = builder.read_key(folder)
    files = sorted((folder / "config").iterdir())
    assert [path.name for path in files] == ["intelligibility.js", "isolation.js", "quality.js"]
    asked = set()
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("var TestConfig = ") and text.endswith("};\n")
        config = json.loads(text.removeprefix("var TestConfig = ").rstrip(";\n"))
        # Without it A is always the first system.
        assert config["RandomizeFileOrder"] is True
        for testset in config["Testsets"]:
            assert list(testset["Files"]) == ["A", "B"]
            assert all((folder / file).is_file() for file in testset["Files"].values())
            asked.add(testset["TestID"])
    assert asked == {q.identity for q in key["design"].questions} and len(asked) == 15
