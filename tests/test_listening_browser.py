"""The page of a listening test in headless Chromium: participants take it, and are reported."""

import json
import re

import listening
import pytest

from sep_tf import cli
from sep_tf.listening_test import builder, store

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(
    listening.CHROMIUM is None, reason="no chromium: apt-get install chromium"
)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=listening.CHROMIUM, args=[*listening.FLAGS, "--mute-audio"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    return listening.make_evaluation(tmp_path_factory.mktemp("evaluation"))


def build(evaluation, folder, *more: str):
    argv = ["listen", "build", str(evaluation), f"--output_dir={folder}", "--title=Voices", *more]
    assert cli.main(argv) == 0
    return folder


class Visitor:
    """One participant in a browser of their own, who decides by a rule of the test's.

    `wanted` is what the report must say of them: {question: choice}.
    """

    def __init__(self, browser, url: str, **context) -> None:
        self.context = browser.new_context(accept_downloads=True, **context)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.wanted: dict[str, str] = {}
        self.page.goto(url)

    def begin(self, headphone_trials: int) -> None:
        page = self.page
        page.get_by_role("button", name="Begin").click()
        page.get_by_label("Your first language").fill("Hrvatski")
        page.get_by_label("How well").select_option("fluent")
        page.get_by_label("Musical training").select_option("3 to 10 years")
        page.get_by_label("What are you listening on").select_option("headphones")
        page.get_by_role("button", name="Continue").click()
        if not headphone_trials:
            return
        quietest = page.evaluate("TEST.headphones.map(t => t.quietest)")
        for place in quietest:
            assert page.get_by_role("button", name="Next").is_disabled()
            page.get_by_role("button", name="Play the three tones").click()
            page.get_by_label(("First", "Second", "Third")[place]).check()
            page.get_by_role("button", name="Next").click()
        page.get_by_role("heading", name="Headphones: good").wait_for()
        page.get_by_role("button", name="Continue").click()

    def answer(self, rule, keys: bool = False) -> None:
        """One question, after the page that explains its part, if that is there."""
        page = self.page
        page.locator(".clips, .primary:text('Start this part')").first.wait_for()
        start = page.get_by_role("button", name="Start this part")
        if start.count():
            start.click()
        question = page.evaluate("TEST.sheets[state.sheet][state.step - FIRST_QUESTION].question")
        choice = rule(question)
        self.wanted[question] = choice
        next_button = page.get_by_role("button", name="Next")
        assert next_button.is_disabled()
        label = {"a": "Clip A", "b": "Clip B"}[choice]
        radio = page.get_by_role("radio", name=label)
        for letter in ("A", "B"):
            assert radio.is_disabled()
            if keys:
                page.keyboard.press(letter.lower())
            else:
                page.get_by_role("button", name=f"Clip {letter}").click()
            pressed = page.get_by_role("button", name=f"Clip {letter}", pressed=True)
            pressed.wait_for(state="visible")
            pressed.wait_for(state="detached")
        if keys:
            page.keyboard.press({"a": "1", "b": "2"}[choice])
            page.keyboard.press("Enter")
        else:
            radio.check()
            next_button.click()

    def close(self) -> None:
        assert not self.errors
        self.context.close()


def arrived(visitor) -> None:
    visitor.page.get_by_text("Your answers have arrived").wait_for()


def stored(folder):
    return [
        {question: choice for question, (choice, _) in person.answers.items()}
        for person in store.read(folder / store.FILE)
    ]


def test_one_participant_by_keyboard_on_a_phone(browser, evaluation, tmp_path, capsys):
    argv = ["--pairs=sin-unet", "--criteria=isolation", "--questions=1", "--headphone_trials=1"]
    folder = build(evaluation, tmp_path / "test", *argv)
    with listening.serving(folder) as (url, _):
        visitor = Visitor(browser, url, viewport={"width": 360, "height": 640}, has_touch=True)
        page = visitor.page
        visitor.begin(headphone_trials=1)
        visitor.answer(lambda question: "b", keys=True)
        # Nothing is wider than the phone.
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        visitor.answer(lambda question: "a", keys=True)
        arrived(visitor)
        assert stored(folder) == [visitor.wanted]
        (person,) = store.read(folder / store.FILE)
        assert person.finished and person.headphones == (1, 1)
        assert person.questionnaire["language"] == "Hrvatski"
        assert all(0.5 < seconds < 60 for _, seconds in person.answers.values())
        visitor.close()
    capsys.readouterr()
    assert cli.main(["listen", "report", str(folder)]) == 0
    assert "1 participant counts, 0 are left out" in capsys.readouterr().out


@pytest.mark.slow
def test_three_participants_one_reloads_one_loses_the_server(browser, evaluation, tmp_path, capsys):
    argv = ["--questions=1", "--headphone_trials=1"]
    folder = build(evaluation, tmp_path / "test", *argv)
    design = builder.read_key(folder)["design"]
    questions = {q.identity: q for q in design.questions}
    total = len(questions)
    assert total == 12  # three criteria, three pairs and an identical one

    def side_of(visitor, system_wins):
        """Picks the first system of the pair, or the second; A of identical pairs."""
        sheet = visitor.page.evaluate("state.sheet")
        swapped = {p.question: p.swapped for p in design.sheets[sheet]}

        def rule(question):
            if questions[question].kind == "identical":
                return "a"
            return "a" if system_wins(questions[question]) != swapped[question] else "b"

        return rule

    with listening.serving(folder) as (url, process):
        port = int(re.search(r":(\d+)/", url).group(1))
        first = Visitor(browser, url)
        first.begin(1)
        rule = side_of(first, lambda q: True)
        for _ in range(total):
            first.answer(rule)
        arrived(first)

        second = Visitor(browser, url)
        second.begin(1)
        rule = side_of(second, lambda q: q.criterion != "quality")
        for _ in range(total // 2):
            second.answer(rule)
        second.page.reload()
        assert f"Question {total // 2 + 1} of {total}" in second.page.locator("#place").inner_text()
        for _ in range(total - total // 2):
            second.answer(rule)
        arrived(second)

        third = Visitor(browser, url)
        third.begin(1)
        rule = side_of(third, lambda q: q.second == "unet")
        third.answer(rule)
        listening.wait_for(lambda: len(stored(folder)[2]) == 1)
        # Clips of coming questions are there before they are needed.
        third.page.wait_for_function("[...loaded.values()].every(a => a.readyState === 4)")
        process.kill()
        process.wait()
        third.answer(rule)
        third.page.get_by_text("No connection: 1 answer is kept").wait_for()
        third.answer(rule)
        third.page.get_by_text("No connection: 2 answers are kept").wait_for()
        assert len(stored(folder)[2]) == 1
    with listening.serving(folder, port):
        for _ in range(total - 3):
            third.answer(rule)
        arrived(third)
    for visitor in (first, second, third):
        visitor.close()

    assert stored(folder) == [first.wanted, second.wanted, third.wanted]
    assert cli.main(["listen", "report", str(folder)]) == 0
    report = json.loads((folder / "report" / "report.json").read_text())
    assert report["participants"] == 3 and report["excluded"] == []
    assert report["identical_pairs"] == {"a": 9, "b": 0, "no_difference": 0}
    counts = {
        (p["criterion"], p["first"], p["second"]): (p["for_first"], p["for_second"])
        for p in report["preferences"]
    }
    for criterion in ("intelligibility", "isolation", "quality"):
        second_says = (0, 1) if criterion == "quality" else (1, 0)
        for other in ("unet", "ss", "sdn"):
            third_says = (1, 0) if other == "unet" else (0, 1)
            wanted = tuple(1 * (n == 0) + second_says[n] + third_says[n] for n in (0, 1))
            assert counts[criterion, "sin", other] == wanted
    sheets = [person.sheet for person in store.read(folder / store.FILE)]
    assert sheets == [0, 1, 2]
    assert "Share: answers for the first system" in capsys.readouterr().out


@pytest.mark.slow
def test_without_a_server_answers_are_downloaded(browser, evaluation, tmp_path, capsys):
    argv = ["--pairs=sin-unet", "--criteria=quality", "--questions=2", "--headphone_trials=0"]
    folder = build(evaluation, tmp_path / "test", *argv, "--identical=0", "--ties")
    visitor = Visitor(browser, (folder / "site" / "index.html").as_uri())
    visitor.begin(0)
    for choice in ("a", "b"):
        visitor.answer(lambda question, choice=choice: choice)
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("button", name="Download my answers").click()
    file = tmp_path / "answers.json"
    download.value.save_as(file)
    visitor.close()
    assert cli.main(["listen", "report", str(folder), f"--answers={file}"]) == 0
    report = json.loads((folder / "report" / "report.json").read_text())
    assert report["participants"] == 1
    (preference,) = report["preferences"]
    key = builder.read_key(folder)
    person = store.read_downloads([str(file)], key["id"], key["design"], ties=True)[0]
    swapped = {p.question: p.swapped for p in key["design"].sheets[person.sheet]}
    for_first = sum((c == "b") == swapped[q] for q, c in visitor.wanted.items())
    assert (preference["for_first"], preference["for_second"]) == (for_first, 2 - for_first)
