"""Listening tests: answers that are kept, refused and counted."""

import dataclasses
import json
import sqlite3
import threading

import pytest
from listening import ABOUT, answer
from scipy import stats

from sep_tf.errors import DataError
from sep_tf.listening_test import design, results, store

pytest.importorskip("pyloudnorm")
PAIRS = [("sin", "unet"), ("sin", "ss"), ("sin", "sdn")]
DESIGN = design.make(["x", "y"], PAIRS, questions=2)
TOTAL = len(DESIGN.questions)
TRIALS = 6


@pytest.fixture
def kept(tmp_path):
    opened = store.Store(tmp_path / store.FILE, "test-1", DESIGN, False, TRIALS)
    yield opened
    opened.close()


def read(tmp_path):
    return store.read(tmp_path / store.FILE, "test-1")


# Keeping


def test_answers_are_kept_once_and_survive(kept, tmp_path):
    identity, sheet = kept.enrol()
    first, second = (p.question for p in DESIGN.sheets[sheet][:2])
    assert kept.keep({"participant": identity, "answers": [answer(first)]}) == [first]
    # Sent again, changed or not: what was kept stays.
    again = {"participant": identity, "answers": [answer(first, "b"), answer(second, "b")]}
    assert sorted(kept.keep(again)) == sorted([first, second])
    assert sorted(kept.keep(again)) == sorted([first, second])
    kept.keep({"participant": identity, "questionnaire": ABOUT, "finished": True})
    kept.keep({"participant": identity, "questionnaire": ABOUT | {"language": "other"}})
    kept.keep({"participant": identity, "headphones": {"right": 5, "trials": 6}})
    expected = store.Participant(
        identity, sheet, ABOUT, (5, 6), {first: ("a", 4.2), second: ("b", 4.2)}, True
    )
    assert read(tmp_path) == [expected]  # while the store is open
    kept.close()
    reopened = store.Store(tmp_path / store.FILE, "test-1", DESIGN, False, TRIALS)
    assert reopened.keep({"participant": identity}) == [first, second]
    assert reopened.count() == (1, 1)
    reopened.close()
    assert read(tmp_path) == [expected]


def test_sheets_are_handed_out_evenly(kept):
    sheets = [kept.enrol()[1] for _ in range(2 * len(DESIGN.sheets) - 1)]
    assert sorted(sheets) == sorted([*range(len(DESIGN.sheets))] * 2)[:-1]
    assert kept.enrol(7)[1] == 7  # begun without a server
    assert len({kept.enrol()[0] for _ in range(50)}) == 50


def test_concurrent_answers_are_all_kept(kept, tmp_path):
    people = [kept.enrol() for _ in range(8)]

    def send(identity, sheet):
        for presented in DESIGN.sheets[sheet]:
            kept.keep({"participant": identity, "answers": [answer(presented.question)]})

    threads = [threading.Thread(target=send, args=person) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(person.answers) for person in read(tmp_path)] == [TOTAL] * 8


Q = DESIGN.sheets[0][0].question
REFUSED = {
    "an unknown participant": {"participant": "somebody"},
    "no participant": {"answers": []},
    "a participant of half a character": {"participant": "\ud800"},
    "an unknown field": {"admin": True},
    "answers that are no list": {"answers": {"q": "a"}},
    "a question that does not exist": {"answers": [answer("q999")]},
    "a question that is no text": {"answers": [answer(["q001"])]},
    "an unknown choice": {"answers": [answer(Q, "c")]},
    "a choice that is no text": {"answers": [answer(Q, ["a"])]},
    "a tie that was not offered": {"answers": [answer(Q, "none")]},
    "negative seconds": {"answers": [answer(Q, seconds=-1.0)]},
    "seconds beyond any float": {"answers": [answer(Q, seconds=10**400)]},
    "seconds that are NaN": {"answers": [answer(Q, seconds=float("nan"))]},
    "infinite seconds": {"answers": [answer(Q, seconds=float("inf"))]},
    "seconds that are no number": {"answers": [answer(Q, seconds="1")]},
    "a boolean of seconds": {"answers": [answer(Q, seconds=True)]},
    "plays missing": {"answers": [answer(Q) | {"plays": {}}]},
    "half a play": {"answers": [answer(Q) | {"plays": {"a": 0.5, "b": 1, "reference": 1}}]},
    "an answer with more": {"answers": [answer(Q) | {"score": 1}]},
    "the same question twice": {"answers": [answer(Q), answer(Q)]},
    "too many answers": {"answers": [answer(Q)] * (TOTAL + 1)},
    "finished by a text": {"finished": "yes"},
    "a questionnaire without a field": {"questionnaire": {"language": "x"}},
    "an answer that is not offered": {"questionnaire": ABOUT | {"training": "lots"}},
    "a long text": {"questionnaire": ABOUT | {"language": "x" * 61}},
    "an empty text": {"questionnaire": ABOUT | {"language": ""}},
    **{
        f"a text with U+{ord(odd):04X}": {"questionnaire": ABOUT | {"language": f"a{odd}b"}}
        for odd in "\u2028\u2029\u202e\u2066\ue000"
    },
    "a text of nothing to see": {"questionnaire": ABOUT | {"language": "\u200b\u00a0"}},
    "a text of control characters": {"questionnaire": ABOUT | {"language": "a\nb"}},
    "more right than trials": {"headphones": {"right": 7, "trials": 6}},
    "headphones of text": {"headphones": {"right": "6", "trials": 6}},
    "fewer trials than were to be heard": {"headphones": {"right": 1, "trials": 1}},
    "more trials than were to be heard": {"headphones": {"right": 7, "trials": 7}},
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_page_would_send_is_refused(kept, tmp_path, what):
    identity, _ = kept.enrol()
    good = {"participant": identity, "answers": [answer(DESIGN.sheets[0][1].question)]}
    message = {"participant": identity} | REFUSED[what]
    if what == "no participant":
        del message["participant"]
    elif "answers" in message and isinstance(message["answers"], list):
        message["answers"] = [*good["answers"], *message["answers"]]  # nothing of it is kept
    with pytest.raises(store.Refused):
        kept.keep(message)
    (person,) = read(tmp_path)
    assert (person.answers, person.questionnaire, person.finished) == ({}, {}, False)
    assert person.headphones is None
    assert len(kept.keep(good)) == 1


@pytest.mark.parametrize(
    "language", ["English\u00a0(UK)", "සිංහල ශ්\u200dරී", "עברית\u200f", "Deutsch\u200b", "日本語"]
)
def test_languages_as_keyboards_write_them(kept, tmp_path, language):
    """With spaces that do not break, joiners, and marks of direction."""
    identity, _ = kept.enrol()
    kept.keep({"participant": identity, "questionnaire": ABOUT | {"language": language}})
    assert read(tmp_path)[0].questionnaire["language"] == language


@pytest.mark.parametrize("sheet", [-1, len(DESIGN.sheets), 1.0, "1", True])
def test_sheets_that_do_not_exist_are_refused(kept, sheet):
    with pytest.raises(store.Refused):
        kept.enrol(sheet)


def test_files_that_are_no_answers(tmp_path):
    text = tmp_path / "text"
    text.write_text("no database, though long enough to be looked at" * 50)
    for act in (
        lambda: store.read(text, "t"),
        lambda: store.Store(text, "t", DESIGN, False, TRIALS),
    ):
        with pytest.raises(DataError, match="text"):
            act()
    with pytest.raises(DataError, match="no answers yet"):
        store.read(tmp_path / "nothing", "t")
    with sqlite3.connect(tmp_path / "empty"):
        pass
    with pytest.raises(DataError, match="no answers of a listening test|no such table"):
        (tmp_path / "empty").touch()
        store.read(tmp_path / "empty", "t")
    store.Store(tmp_path / "one", "test-1", DESIGN, False, TRIALS).close()
    with pytest.raises(DataError, match="another test"):
        store.Store(tmp_path / "one", "test-2", DESIGN, False, TRIALS)
    with pytest.raises(DataError, match="another test"):
        store.read(tmp_path / "one", "test-2")
    # The attempt has left nothing: its own test goes on.
    store.Store(tmp_path / "one", "test-1", DESIGN, False, TRIALS).close()
    assert store.read(tmp_path / "one", "test-1") == []


def test_downloads_are_held_to_the_same_rules(tmp_path):
    sheet = 3
    asked = [p.question for p in DESIGN.sheets[sheet]]
    message = {"test": "test-1", "sheet": sheet, "participant": None, "finished": True}
    message |= {"answers": [answer(q) for q in asked], "questionnaire": ABOUT}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(message))
    (person,) = store.read_downloads([str(path)], "test-1", DESIGN, False, TRIALS)
    assert (person.sheet, len(person.answers)) == (3, TOTAL)
    # Nobody else's file is taken for it, whatever it is called; a copy of it is.
    for name, seconds in (("other/mine.json", 7.0), ("copy.json", None)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        answers = message["answers"]
        if seconds:
            answers = [a | {"seconds": seconds} for a in answers]
        (tmp_path / name).write_text(json.dumps(message | {"answers": answers}))
        (another,) = store.read_downloads([str(tmp_path / name)], "test-1", DESIGN, False, TRIALS)
        assert len(store.merge([], [person, another])) == (2 if seconds else 1)
    wrongs = [{"test": "test-2"}, {"sheet": 99}, {"answers": [answer("q999")]}, {"more": 1}]
    wrongs += [{"answers": [answer(asked[0], seconds=10**400)]}]
    wrongs += [{"participant": odd} for odd in ("\ud800", "a\nb", "x" * 61, "")]
    for text in (*(json.dumps(message | wrong) for wrong in wrongs), "[" * 60_000):
        path.write_text(text)
        with pytest.raises(DataError, match=r"mine\.json: no answers of this test"):
            store.read_downloads([str(path)], "test-1", DESIGN, False, TRIALS)
    # The same person from both sides counts once, with the fuller answers.
    part = dataclasses.replace(person, answers={asked[0]: ("b", 1.0)})
    assert store.merge([part], [person]) == [person]
    assert store.merge([person], [part]) == [person]


# Counting


def participant(sheet: int, rule, seconds: float = 4.0, **more) -> store.Participant:
    """Answers by a rule: question -> "first", "second" or "none"."""
    by_identity = {q.identity: q for q in DESIGN.questions}
    answers = {}
    for p in DESIGN.sheets[sheet]:
        said = rule(by_identity[p.question])
        choice = "none" if said == "none" else "b" if (said == "second") != p.swapped else "a"
        answers[p.question] = (choice, seconds)
    given = {"questionnaire": ABOUT, "headphones": (6, 6), "finished": True} | more
    return store.Participant(f"p{sheet}", sheet, given["questionnaire"], given["headphones"],
                             given.get("answers", answers), given["finished"])  # fmt: skip


def test_preferences_by_hand():
    people = [
        participant(0, lambda q: "first"),
        participant(1, lambda q: "second" if q.second == "ss" else "first"),
        participant(2, lambda q: "none" if q.criterion == "quality" else "first"),
    ]
    found = results.evaluate(people, DESIGN, ties=False)
    assert len(found.counted) == 3 and not found.excluded
    counts = {(p.criterion, p.second): p for p in found.preferences}
    assert len(counts) == 9
    ss = counts["isolation", "ss"]
    assert (ss.for_first, ss.for_second, ss.ties) == (4, 2, 0)
    assert ss.share == pytest.approx(4 / 6)
    # Clopper and Pearson by quantiles of the beta distribution.
    exact = (stats.beta.ppf(0.025, 4, 3), stats.beta.ppf(0.975, 5, 2))
    assert ss.interval == pytest.approx(exact)
    # 4 or more of 6, or 2 or fewer: 2 * (15 + 6 + 1) / 64.
    assert ss.p == pytest.approx(44 / 64)
    quality = counts["quality", "unet"]
    assert (quality.for_first, quality.for_second, quality.ties) == (4, 0, 2)
    assert quality.share == 1.0
    a, b, none = found.identical
    assert a + b + none == 9


def test_identical_pairs_are_counted_of_all_who_finished():
    """Who hears a difference where there is none is left out, and yet says how sides matter."""
    same = {q.identity for q in DESIGN.questions if q.kind == "identical"}

    def person(number, choice, **more):
        good = participant(number, lambda q: "first")
        answers = good.answers | dict.fromkeys(same, (choice, 4.0))
        return dataclasses.replace(good, identity=f"p{number}", answers=answers, **more)

    unsure, biased = person(0, "none"), [person(n, "a") for n in (1, 2)]
    part = dataclasses.replace(person(3, "a"), answers=dict.fromkeys(same, ("a", 4.0)))
    found = results.evaluate([unsure, *biased, part], DESIGN, ties=True)
    assert found.counted == (unsure,) and len(found.excluded) == 3
    assert found.identical == (6, 0, 3)
    assert found.identical_p == pytest.approx(2 / 2**6)
    kept = results.evaluate([part], DESIGN, ties=True, keep_unfinished=True)
    assert kept.identical == (3, 0, 0)
    assert results.evaluate([unsure], DESIGN, ties=True).identical_p is None


def test_languages_are_told_as_they_were_written():
    people = []
    for number, language in enumerate(["English (UK)", "english (uk)", "american English"]):
        person = participant(number, lambda q: "first")
        people.append(dataclasses.replace(person, questionnaire=ABOUT | {"language": language}))
    told = results.about(people)["language"]
    assert told == {"English (UK)": 2, "American English": 1}


def test_without_answers_there_is_no_share():
    found = results.evaluate([], DESIGN, ties=False)
    assert all((p.share, p.interval, p.p) == (None, None, None) for p in found.preferences)


def test_who_is_left_out_and_why():
    def sides(choice):
        return {p.question: (choice, 4.0) for p in DESIGN.sheets[0]}

    good = participant(0, lambda q: "first")
    half = dict(list(good.answers.items())[:5])
    cases = {
        "": good,
        "no answers": dataclasses.replace(good, answers={}),
        f"unfinished: 5 of {TOTAL} answers": dataclasses.replace(good, answers=half),
        f"picked B in {TOTAL} of {TOTAL} answers": dataclasses.replace(good, answers=sides("b")),
        "half of the answers took less than 1 s": participant(0, lambda q: "first", 0.5),
    }
    for why, person in cases.items():
        assert results.reason(person, DESIGN, False, False, False) == why
    unsure = participant(0, lambda q: "none" if q.kind == "identical" else "first")
    assert results.reason(unsure, DESIGN, True, False, False) == ""
    assert "identical pairs" in results.reason(good, DESIGN, True, False, False)
    part = cases[f"unfinished: 5 of {TOTAL} answers"]
    assert results.reason(part, DESIGN, False, False, keep_unfinished=True) == ""
    deaf = dataclasses.replace(good, headphones=(4, 6))
    assert results.reason(deaf, DESIGN, False, False, False) == ""
    assert "headphone" in results.reason(deaf, DESIGN, False, True, False)
    found = results.evaluate([good, deaf, part], DESIGN, False)
    assert found.unreliable_headphones == 1
    without = results.evaluate([good, deaf], DESIGN, False, headphone_check=False)
    assert without.unreliable_headphones is None and len(without.counted) == 2
    assert [(p, why) for p, why in found.excluded] == [(part, f"unfinished: 5 of {TOTAL} answers")]
