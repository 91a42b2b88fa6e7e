"""Answers of participants: what is accepted, and where it is kept (SQLite).

An answer is kept before it is acknowledged, and kept once however often it is sent.
"""

import dataclasses
import hashlib
import json
import secrets
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sep_tf.errors import DataError, SepTfError
from sep_tf.listening_test.design import Design

# Where a test keeps its answers.
FILE = "answers.sqlite"
CHOICES = ("a", "b", "none")
# The questionnaire: fields with the answers that are offered, or None for a few words.
QUESTIONNAIRE: dict[str, tuple[str, ...] | None] = {
    "language": None,
    "fluency": ("native", "fluent", "some", "none"),
    "training": ("none", "up to 3 years", "3 to 10 years", "over 10 years"),
    "playback": ("headphones", "earphones", "loudspeakers"),
}
# Controls, surrogates, what is for private use or unassigned, ends of lines and paragraphs.
_NO_TEXT = {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}
_LONGEST_TEXT = 60
_LONGEST_SECONDS = 24 * 3600.0
_MOST_PLAYS = 10_000
_MOST_PARTICIPANTS = 100_000

_TABLES = """
CREATE TABLE IF NOT EXISTS test (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS participants (
  id TEXT PRIMARY KEY, sheet INTEGER NOT NULL, created REAL NOT NULL, questionnaire TEXT,
  headphones TEXT, finished REAL);
CREATE TABLE IF NOT EXISTS answers (
  participant TEXT NOT NULL REFERENCES participants(id), question TEXT NOT NULL,
  choice TEXT NOT NULL, seconds REAL NOT NULL, plays TEXT NOT NULL, received REAL NOT NULL,
  PRIMARY KEY (participant, question));
"""


class Refused(SepTfError):
    """A message that no page of ours would send; nothing of it is kept."""


@dataclasses.dataclass(frozen=True)
class Participant:
    """One participant and what they answered.

    Attributes:
      identity: drawn at random.
      sheet: number of the sheet.
      questionnaire: by field; empty if it was not filled in.
      headphones: (right, trials) of the check; None if it was not taken.
      answers: {question: (choice, seconds)}, choice "a", "b" or "none".
      finished: whether the last page was reached.
    """

    identity: str
    sheet: int
    questionnaire: dict[str, str]
    headphones: tuple[int, int] | None
    answers: dict[str, tuple[str, float]]
    finished: bool


def check(
    message: Any, design: Design, ties: bool, headphone_trials: int, sheet: int
) -> dict[str, Any]:
    """A participant's message in the form that is kept.

    Args:
      message: parsed JSON: `answers`, and once each `questionnaire`, `headphones`, `finished`.
      design: of the test.
      ties: whether "none" may be chosen.
      headphone_trials: of the test's check.
      sheet: the participant's.

    Raises:
      Refused: it is not what the page sends.
    """
    _require(isinstance(message, dict), "a message is an object")
    known = {"participant", "answers", "questionnaire", "headphones", "finished", "sheet", "test"}
    _require(set(message) <= known, "a message with unknown fields")
    asked = {presented.question for presented in design.sheets[sheet]}
    answers = message.get("answers", [])
    _require(isinstance(answers, list) and len(answers) <= len(asked), "too many answers")
    checked = [_check_answer(answer, asked, ties) for answer in answers]
    _require(len({a["question"] for a in checked}) == len(checked), "a question is answered twice")
    finished = message.get("finished", False)
    _require(isinstance(finished, bool), "finished is true or false")
    return {
        "answers": checked,
        "questionnaire": _check_questionnaire(message.get("questionnaire")),
        "headphones": _check_headphones(message.get("headphones"), headphone_trials),
        "finished": finished,
    }


def _check_answer(answer: Any, asked: set[str], ties: bool) -> dict[str, Any]:
    _require(isinstance(answer, dict), "an answer is an object")
    _require(set(answer) == {"question", "choice", "seconds", "plays"}, "an answer's fields")
    question, choice = answer["question"], answer["choice"]
    _require(isinstance(question, str) and question in asked, "a question that was not asked")
    _require(choice in CHOICES and isinstance(choice, str), "an unknown choice")
    _require(ties or choice != "none", "a choice that was not offered")
    seconds = answer["seconds"]
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    # Before it becomes a float, which not every whole number of JSON can; NaN is not between them.
    sensible = number and 0 <= seconds <= _LONGEST_SECONDS
    _require(sensible, "seconds that make no sense")
    plays = answer["plays"]
    _require(isinstance(plays, dict) and set(plays) == {"a", "b", "reference"}, "plays' fields")
    for count in plays.values():
        whole = isinstance(count, int) and not isinstance(count, bool)
        _require(whole and 0 <= count <= _MOST_PLAYS, "plays that make no sense")
    return {"question": question, "choice": choice, "seconds": float(seconds), "plays": plays}


def _check_questionnaire(values: Any) -> dict[str, str] | None:
    if values is None:
        return None
    _require(isinstance(values, dict) and set(values) == set(QUESTIONNAIRE), "its questionnaire")
    for field, value in values.items():
        offered = QUESTIONNAIRE[field]
        line = _is_line(value) and (offered is None or value in offered)
        _require(line, f"its questionnaire's {field}")
    return values


def _is_line(text: Any) -> bool:
    """Whether it is a few words, something to read, in one line.

    It may hold what is invisible and some writing needs: joiners, marks of direction, spaces that
    do not break; but nothing that reorders what comes after it.
    """
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
        return False
    kinds = {unicodedata.category(letter) for letter in text}
    reorders = any("\u202a" <= x <= "\u202e" or "\u2066" <= x <= "\u2069" for x in text)
    return not (reorders or kinds & _NO_TEXT) and bool(kinds - {"Zs", "Cf"})


def _check_headphones(values: Any, expected: int) -> dict[str, int] | None:
    if values is None:
        return None
    fields = isinstance(values, dict) and set(values) == {"right", "trials"}
    _require(fields, "its headphone check")
    right, trials = values["right"], values["trials"]
    for count in (right, trials):
        _require(isinstance(count, int) and not isinstance(count, bool), "its headphone check")
    _require(0 <= right <= trials == expected, "its headphone check")
    return values


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise Refused(f"not accepted: {what}")


class Store:
    """The answers of one test. Calls from several threads are taken in turn."""

    def __init__(
        self, path: Path, test: str, design: Design, ties: bool, headphone_trials: int
    ) -> None:
        """Opens the file, or makes it.

        Args:
          path: SQLite file.
          test: identity of the test.
          design: of the test.
          ties: whether "none" may be chosen.
          headphone_trials: of the test's check.

        Raises:
          DataError: it is no such file, or holds another test's answers.
        """
        self._design, self._ties, self._headphone_trials = design, ties, headphone_trials
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            # What is acknowledged survives a crash of the machine, not of the program alone.
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_TABLES)
            self._db.execute(
                "INSERT INTO test SELECT ? WHERE NOT EXISTS (SELECT * FROM test)", (test,)
            )
            tests = _tests(self._db)
        except sqlite3.Error as error:
            raise DataError(f"{path}: answers cannot be kept there: {error}") from error
        if tests != [test]:
            self._db.close()
            raise _another(path)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    def enrol(self, sheet: Any = None) -> tuple[str, int]:
        """A new participant: (identity, sheet), the sheet that the fewest have.

        Args:
          sheet: that a page has already begun with while there was no server.

        Raises:
          Refused: no such sheet, or too many participants.
        """
        number = len(self._design.sheets)
        if sheet is not None:
            whole = isinstance(sheet, int) and not isinstance(sheet, bool)
            _require(whole and 0 <= sheet < number, "a sheet that does not exist")
        with self._lock, self._db:
            taken = [row[0] for row in self._db.execute("SELECT sheet FROM participants")]
            _require(len(taken) < _MOST_PARTICIPANTS, "too many participants")
            if sheet is None:
                sheet = min(range(number), key=lambda n: (taken.count(n), n))
            identity = secrets.token_urlsafe(16)
            self._db.execute(
                "INSERT INTO participants (id, sheet, created) VALUES (?, ?, ?)",
                (identity, sheet, time.time()),
            )
        return identity, sheet

    def keep(self, message: Any) -> list[str]:
        """Keeps a participant's message; what was kept before stays as it is.

        Returns:
          The questions of this participant that are now kept.

        Raises:
          Refused: an unknown participant, or something the page would not send.
        """
        identity = message.get("participant") if isinstance(message, dict) else None
        _require(_is_line(identity), "a message without a participant")
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            row = self._db.execute(
                "SELECT sheet FROM participants WHERE id = ?", (identity,)
            ).fetchone()
            _require(row is not None, "an unknown participant")
            checked = check(message, self._design, self._ties, self._headphone_trials, row[0])
            now = time.time()
            self._db.executemany(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (
                        identity,
                        a["question"],
                        a["choice"],
                        a["seconds"],
                        json.dumps(a["plays"]),
                        now,
                    )
                    for a in checked["answers"]
                ],
            )
            for field in ("questionnaire", "headphones"):
                if checked[field] is not None:
                    self._db.execute(
                        f"UPDATE participants SET {field} = COALESCE({field}, ?) WHERE id = ?",
                        (json.dumps(checked[field]), identity),
                    )
            if checked["finished"]:
                self._db.execute(
                    "UPDATE participants SET finished = COALESCE(finished, ?) WHERE id = ?",
                    (now, identity),
                )
            kept = self._db.execute(
                "SELECT question FROM answers WHERE participant = ?", (identity,)
            )
            return [row[0] for row in kept]

    def count(self) -> tuple[int, int]:
        """(participants, of these finished)."""
        with self._lock:
            row = self._db.execute("SELECT COUNT(*), COUNT(finished) FROM participants").fetchone()
        return row[0], row[1]


def _tests(db: sqlite3.Connection) -> list[str]:
    return [row[0] for row in db.execute("SELECT id FROM test")]


def _another(path: Path) -> DataError:
    return DataError(f"{path}: holds answers of another test")


def read(path: Path, test: str) -> list[Participant]:
    """Everybody in an answers file, in the order of arrival; it may be in use by a server.

    Raises:
      DataError: no such file, not one of ours, or of another test.
    """
    if not path.is_file():
        raise DataError(f"{path}: no answers yet; `sep-tf listen serve` collects them")
    try:
        with closing(sqlite3.connect(path)) as db:
            if _tests(db) != [test]:
                raise _another(path)
            answers: dict[str, dict[str, tuple[str, float]]] = {}
            rows = db.execute("SELECT participant, question, choice, seconds FROM answers")
            for identity, question, choice, seconds in rows:
                answers.setdefault(identity, {})[question] = (choice, seconds)
            people = db.execute(
                "SELECT id, sheet, questionnaire, headphones, finished FROM participants "
                "ORDER BY created, rowid"
            ).fetchall()
    except sqlite3.Error as error:
        raise DataError(f"{path}: no answers of a listening test: {error}") from error
    return [
        Participant(
            identity,
            sheet,
            json.loads(questionnaire or "{}"),
            _headphones(json.loads(headphones) if headphones else None),
            answers.get(identity, {}),
            finished is not None,
        )
        for identity, sheet, questionnaire, headphones, finished in people
    ]


def _headphones(values: dict[str, int] | None) -> tuple[int, int] | None:
    return None if values is None else (values["right"], values["trials"])


def read_downloads(
    paths: Iterable[str], test: str, design: Design, ties: bool, headphone_trials: int
) -> list[Participant]:
    """Participants in files that the page let them download.

    Raises:
      DataError: a file that is none, or of another test.
    """
    return [_read_download(Path(path), test, design, ties, headphone_trials) for path in paths]


def _read_download(
    path: Path, test: str, design: Design, ties: bool, headphone_trials: int
) -> Participant:
    try:
        data = path.read_bytes()
        message = json.loads(data)
        _require(
            isinstance(message, dict) and message.get("test") == test, "another test's answers"
        )
        sheet, identity = message.get("sheet"), message.get("participant")
        whole = isinstance(sheet, int) and not isinstance(sheet, bool)
        _require(whole and 0 <= sheet < len(design.sheets), "a sheet that does not exist")
        _require(identity is None or _is_line(identity), "its participant")
        checked = check(message, design, ties, headphone_trials, sheet)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: no answers of this test: {error}") from error
    return Participant(
        # Who never reached a server has no name: the same file twice is the same person.
        identity or f"file {hashlib.sha256(data).hexdigest()[:16]}",
        sheet,
        checked["questionnaire"] or {},
        _headphones(checked["headphones"]),
        {a["question"]: (a["choice"], a["seconds"]) for a in checked["answers"]},
        checked["finished"],
    )


def merge(stored: Sequence[Participant], downloaded: Sequence[Participant]) -> list[Participant]:
    """Everybody once: who was stored in part and sent a file too counts with the fuller one."""
    merged = {person.identity: person for person in stored}
    for person in downloaded:
        before = merged.get(person.identity)
        if before is None or len(person.answers) > len(before.answers):
            merged[person.identity] = person
    return list(merged.values())
