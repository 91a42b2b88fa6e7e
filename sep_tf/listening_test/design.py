"""Who hears what: questions of an AB test, and sheets that balance order and sides.

As in the paper (section 4.3): for every criterion and every pair of systems, some questions; each
asks to pick one of two clips of one song. A sheet is what one participant goes through.
"""

import dataclasses
import itertools
import random
from collections.abc import Sequence
from typing import Any

PAIR, IDENTICAL = "pair", "identical"
# Six orders of three criteria, both ways of sides, twice: a multiple of both.
SHEETS = 24


@dataclasses.dataclass(frozen=True)
class Criterion:
    """What is asked.

    Attributes:
      name: in results.
      question: to the participant.
      explanation: shown before the first question.
      reference: "voice" or "mixture": what can be heard beside the two clips.
    """

    name: str
    question: str
    explanation: str
    reference: str


CRITERIA = {
    criterion.name: criterion
    for criterion in (
        Criterion(
            "intelligibility",
            "In which clip is it easier to understand what is sung?",
            "Listen to the words and syllables: how clearly do you hear what is being sung? Try to "
            "disregard everything else. The reference is the singer alone.",
            "voice",
        ),
        Criterion(
            "isolation",
            "In which clip is the voice better separated from the music?",
            "Listen for instruments left over behind the voice. Try to disregard how the voice "
            "itself sounds. The reference is the whole song, voice and music.",
            "mixture",
        ),
        Criterion(
            "quality",
            "Which clip has the better sound quality?",
            "Listen to the sound of the voice: naturalness, distortion, noise. The reference is "
            "the singer alone.",
            "voice",
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Question:
    """One choice between two clips of a song.

    Attributes:
      identity: in files and answers; says nothing of what it is.
      criterion: name.
      first: a system.
      second: a system, the same one for an identical pair.
      song: whose clips.
    """

    identity: str
    criterion: str
    first: str
    second: str
    song: str

    @property
    def kind(self) -> str:
        return IDENTICAL if self.first == self.second else PAIR


@dataclasses.dataclass(frozen=True)
class Presented:
    """A question on a sheet: clip A is the first system's, or, swapped, the second's."""

    question: str
    swapped: bool


@dataclasses.dataclass(frozen=True)
class Design:
    """All questions, and the sheets: orders of them."""

    questions: tuple[Question, ...]
    sheets: tuple[tuple[Presented, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Design":
        questions = tuple(Question(**q) for q in values["questions"])
        sheets = tuple(tuple(Presented(**p) for p in sheet) for sheet in values["sheets"])
        return cls(questions, sheets)


def make(
    songs: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    criteria: Sequence[str] = tuple(CRITERIA),
    questions: int = 5,
    identical: int = 1,
    seed: int = 1,
    sheets: int = SHEETS,
) -> Design:
    """Draws the questions and the sheets.

    Songs are spread: within a criterion none is used twice before all have been used. Sheets come
    in twos whose sides are opposite, so that every clip is as often A as it is B. Within a sheet
    half of the questions of a pair are swapped, but for an odd one, and half of all. Blocks of a
    criterion come in every order.

    Args:
      songs: to draw from.
      pairs: of systems.
      criteria: names.
      questions: for each pair and criterion.
      identical: hidden pairs of the same clip, for each criterion.
      seed: of every draw.
      sheets: even.
    """
    rng = random.Random(seed)
    kinds = [pair for pair in pairs for _ in range(questions)]
    drawn: list[tuple[str, str, str, str]] = []
    for criterion in criteria:
        # The same clip twice: systems in turn.
        same = [(pairs[n % len(pairs)][0],) * 2 for n in range(identical)]
        wanted = kinds + same
        spread = _spread(songs, len(wanted), rng)
        drawn += [(criterion, *pair, song) for pair, song in zip(wanted, spread, strict=True)]
    numbers = list(range(1, len(drawn) + 1))
    rng.shuffle(numbers)
    made = tuple(Question(f"q{n:03d}", *values) for n, values in zip(numbers, drawn, strict=True))
    orders = list(itertools.permutations(criteria))
    presented = []
    for number in range(sheets):
        if number % 2 == 0:
            sides = _sides(made, rng)
        else:
            sides = {identity: not swapped for identity, swapped in sides.items()}
        order = orders[(number // 2) % len(orders)]
        presented.append(_sheet(made, order, sides, rng))
    return Design(made, tuple(presented))


def _spread(songs: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """`count` songs, all used before one comes again."""
    spread: list[str] = []
    while len(spread) < count:
        spread += rng.sample(list(songs), len(songs))
    return spread[:count]


def _sides(questions: Sequence[Question], rng: random.Random) -> dict[str, bool]:
    """Whether each question is swapped: half of those with one criterion and pair.

    Of odd numbers the odd ones out are swapped in turn, so that it is half of all too.
    """
    groups: dict[tuple[str, str, str], list[str]] = {}
    for q in questions:
        groups.setdefault((q.criterion, q.first, q.second), []).append(q.identity)
    sides: dict[str, bool] = {}
    more = rng.random() < 0.5
    for members in rng.sample(list(groups.values()), len(groups)):
        count = len(members) // 2
        if len(members) % 2:
            count, more = count + more, not more
        swapped = [n < count for n in range(len(members))]
        rng.shuffle(swapped)
        sides |= dict(zip(members, swapped, strict=True))
    return sides


def _sheet(
    questions: Sequence[Question], order: Sequence[str], sides: dict[str, bool], rng: random.Random
) -> tuple[Presented, ...]:
    sheet: list[Presented] = []
    for criterion in order:
        block = [q for q in questions if q.criterion == criterion]
        rng.shuffle(block)
        # The first question of a block teaches what is asked: no identical pair.
        if block[0].kind == IDENTICAL:
            real = next((n for n, q in enumerate(block) if q.kind == PAIR), 0)
            block[0], block[real] = block[real], block[0]
        sheet += [Presented(q.identity, sides[q.identity]) for q in block]
    return tuple(sheet)
