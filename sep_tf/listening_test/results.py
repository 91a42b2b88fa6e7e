"""What the answers say: who counts, preference shares with intervals, identical pairs."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from sep_tf.listening_test.design import IDENTICAL, PAIR, Design
from sep_tf.listening_test.store import CHOICES, Participant

CONFIDENCE = 0.95
# One side in so many answers, of at least so many, is no listening.
_ONE_SIDE_SHARE, _ONE_SIDE_FEWEST = 0.95, 10
# Nobody hears two clips and decides in less, s: half of the answers quicker is no listening.
_QUICKEST_SECONDS = 1.0
# Identical pairs, where "no difference" can be said, of which more than this share got a
# preference.
_IDENTICAL_SHARE = 0.67


@dataclasses.dataclass(frozen=True)
class Preference:
    """One pair of systems by one criterion.

    Attributes:
      criterion: name.
      first: a system.
      second: a system.
      for_first: answers for the first.
      for_second: answers for the second.
      ties: answers "no difference", left out of the share.
      share: for_first / (for_first + for_second); None without answers.
      interval: 95 % of the share (Clopper and Pearson); answers taken as independent.
      p: two-sided binomial test against one half.
    """

    criterion: str
    first: str
    second: str
    for_first: int
    for_second: int
    ties: int
    share: float | None
    interval: tuple[float, float] | None
    p: float | None


@dataclasses.dataclass(frozen=True)
class Results:
    """All that the report shows.

    Attributes:
      preferences: by criterion and pair, in the order of the test.
      identical: (times A was picked, times B, times neither) in hidden identical pairs, by all who
        finished: those who are left out for hearing a difference say most about sides.
      identical_p: two-sided binomial test of A against B; None without answers.
      counted: participants who count.
      excluded: [(participant, why)], in the order of arrival.
      unreliable_headphones: counted participants who failed, or did not take, the headphone check.
    """

    preferences: tuple[Preference, ...]
    identical: tuple[int, int, int]
    identical_p: float | None
    counted: tuple[Participant, ...]
    excluded: tuple[tuple[Participant, str], ...]
    unreliable_headphones: int | None


def evaluate(
    people: Sequence[Participant],
    design: Design,
    ties: bool,
    require_headphones: bool = False,
    keep_unfinished: bool = False,
    headphone_check: bool = True,
) -> Results:
    """Counts the answers of everybody who listened.

    Args:
      people: participants.
      design: of the test.
      ties: whether "no difference" could be chosen.
      require_headphones: leave out who failed the headphone check.
      keep_unfinished: count the answers of people who did not reach the end.
      headphone_check: whether the test has one.
    """
    counted, excluded = [], []
    for person in people:
        why = reason(person, design, ties, require_headphones, keep_unfinished)
        if why:
            excluded.append((person, why))
        else:
            counted.append(person)
    unreliable = None
    if headphone_check:
        unreliable = sum(not passed_headphones(person) for person in counted)
    same = [q.identity for q in design.questions if q.kind == IDENTICAL]
    picked = [
        person.answers[question][0]
        for person in people
        if keep_unfinished or len(person.answers) == len(design.questions)
        for question in same
        if question in person.answers
    ]
    a, b, none = (picked.count(choice) for choice in CHOICES)
    return Results(
        tuple(_preferences(counted, design)), (a, b, none), _binomial(a, b)[-1], tuple(counted),
        tuple(excluded), unreliable,
    )  # fmt: skip


def reason(
    person: Participant,
    design: Design,
    ties: bool,
    require_headphones: bool,
    keep_unfinished: bool,
) -> str:
    """Why a participant does not count; "" if they do."""
    kinds = {q.identity: q.kind for q in design.questions}
    answers = person.answers
    total = len(design.sheets[person.sheet])
    if not answers:
        return "no answers"
    if not keep_unfinished and len(answers) < total:
        return f"unfinished: {len(answers)} of {total} answers"
    sides = [choice for choice, _ in answers.values() if choice != "none"]
    if len(sides) >= _ONE_SIDE_FEWEST:
        most = max(sides.count("a"), sides.count("b"))
        if most >= _ONE_SIDE_SHARE * len(sides):
            side = "A" if sides.count("a") == most else "B"
            return f"picked {side} in {most} of {len(sides)} answers"
    if statistics.median(seconds for _, seconds in answers.values()) < _QUICKEST_SECONDS:
        return f"half of the answers took less than {_QUICKEST_SECONDS:g} s"
    same = [choice for q, (choice, _) in answers.items() if kinds[q] == IDENTICAL]
    heard = sum(choice != "none" for choice in same)
    if ties and len(same) > 1 and heard > _IDENTICAL_SHARE * len(same):
        return f"heard a difference in {heard} of {len(same)} identical pairs"
    if require_headphones and not passed_headphones(person):
        return "failed the headphone check, or did not take it"
    return ""


def passed_headphones(person: Participant) -> bool:
    """Five of six trials right, or that share of another number."""
    if person.headphones is None:
        return False
    right, trials = person.headphones
    return 6 * right >= 5 * trials and trials > 0


def _preferences(people: Sequence[Participant], design: Design) -> list[Preference]:
    counts: dict[tuple[str, str, str], list[int]] = {}
    questions = {q.identity: q for q in design.questions}
    for q in design.questions:
        if q.kind == PAIR:
            counts.setdefault((q.criterion, q.first, q.second), [0, 0, 0])
    for person in people:
        swapped = {p.question: p.swapped for p in design.sheets[person.sheet]}
        for identity, (choice, _) in person.answers.items():
            q = questions[identity]
            if q.kind != PAIR:
                continue
            place = 2 if choice == "none" else int((choice == "b") != swapped[identity])
            counts[q.criterion, q.first, q.second][place] += 1
    return [_preference(*key, *values) for key, values in counts.items()]


def _preference(
    criterion: str, first: str, second: str, for_first: int, for_second: int, ties: int
) -> Preference:
    share, interval, p = _binomial(for_first, for_second)
    return Preference(criterion, first, second, for_first, for_second, ties, share, interval, p)


def _binomial(
    first: int, second: int
) -> tuple[float | None, tuple[float, float] | None, float | None]:
    """(share of the first, its interval, p against one half); None without answers."""
    if not first + second:
        return None, None, None
    from scipy import stats

    test = stats.binomtest(first, first + second)
    low, high = test.proportion_ci(CONFIDENCE, "exact")
    return first / (first + second), (float(low), float(high)), float(test.pvalue)


def to_dict(results: Results) -> dict[str, Any]:
    """For report.json."""
    a, b, none = results.identical
    return {
        "participants": len(results.counted),
        "excluded": [
            {"participant": person.identity, "why": why} for person, why in results.excluded
        ],
        "failed_headphone_check": results.unreliable_headphones,
        "identical_pairs": {"a": a, "b": b, "no_difference": none, "p": results.identical_p},
        "preferences": [dataclasses.asdict(preference) for preference in results.preferences],
        "about_participants": about(results.counted),
    }


def about(people: Sequence[Participant]) -> dict[str, dict[str, int]]:
    """{field of the questionnaire: {answer: people}}, the most frequent first."""
    counts: dict[str, dict[str, int]] = {}
    # Languages are typed: those that differ in capitals are one, as it was written first.
    written: dict[str, str] = {}
    for person in people:
        for field, value in person.questionnaire.items():
            text = value
            if field == "language":
                text = written.setdefault(value.casefold(), value[:1].upper() + value[1:])
            field_counts = counts.setdefault(field, {})
            field_counts[text] = field_counts.get(text, 0) + 1
    return {
        field: dict(sorted(values.items(), key=lambda item: (-item[1], item[0])))
        for field, values in counts.items()
    }
