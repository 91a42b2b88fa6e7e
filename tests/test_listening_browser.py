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

    `by` is what they use: "click", "tap", or "keys": Tab, Space, Enter and arrows. `wanted` is what
    the report must say of them: {question: choice}.
    """

    def __init__(self, browser, url: str, by: str = "click", **context) -> None:
        self.by = by
        self.context = browser.new_context(accept_downloads=True, **context)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.wanted: dict[str, str] = {}
        # Nobody waits for the page to try again.
        self.page.add_init_script(
            "{ const f = setTimeout; setTimeout = (g, ms) => f(g, ms / 10); }"
        )
        self.page.goto(url)

    def press(self, name: str) -> None:
        """A button; before it, nothing of the page is wider than the window."""
        width = self.page.viewport_size["width"]
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width
        button = self.page.get_by_role("button", name=name)
        if self.by == "keys":
            self.tab_to(button)
            self.page.keyboard.press("Space" if name.startswith(("Play", "Clip")) else "Enter")
        else:
            getattr(button, self.by)()

    def tab_to(self, locator) -> None:
        for _ in range(8):
            if locator.evaluate("e => e === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not lead to {locator}")

    def select(self, label: str, value: str) -> None:
        field = self.page.get_by_label(label)
        if self.by != "keys":
            field.select_option(value)
            return
        self.tab_to(field)
        for _ in range(8):
            if field.input_value() == value:
                return
            self.page.keyboard.press("ArrowDown")
        raise AssertionError(f"{value} cannot be reached")

    def choose(self, name: str, place: int) -> None:
        """The radio button with this name, `place` after the first one."""
        radio = self.page.get_by_role("radio", name=name, exact=True)
        if self.by == "keys":
            self.tab_to(self.page.get_by_role("radio").first)
            self.page.keyboard.press("Space")
            for _ in range(place):
                self.page.keyboard.press("ArrowDown")
            assert radio.is_checked()
        else:
            getattr(radio, self.by)()

    def begin(self, headphone_trials: int) -> None:
        page = self.page
        self.press("Begin")
        language = page.get_by_label("Your first language")
        if self.by == "keys":
            self.tab_to(language)
            page.keyboard.type("Hrvatski")
        else:
            language.fill("Hrvatski")
        self.select("How well", "fluent")
        self.select("Musical training", "3 to 10 years")
        self.select("What are you listening on", "headphones")
        self.press("Continue")
        if headphone_trials:
            self.check_headphones()

    def check_headphones(self) -> None:
        page = self.page
        quietest = page.evaluate("TEST.headphones.map(t => t.quietest)")
        for place in quietest:
            assert page.get_by_role("button", name="Next").is_disabled()
            self.press("Play the three tones")
            assert self.said() == "You can choose now."
            self.choose(("First", "Second", "Third")[place], place)
            self.press("Next")
        page.get_by_role("heading", name="Headphones: good").wait_for()
        self.press("Continue")

    def start_part(self) -> None:
        """Leaves the page that explains a part, if that is there."""
        self.page.locator(".clips, .primary:text('Start this part')").first.wait_for()
        if self.page.get_by_role("button", name="Start this part").count():
            self.press("Start this part")

    def said(self) -> str:
        """What a screen reader reads aloud."""
        return self.page.get_by_role("status").first.inner_text()

    def hear(self, clip) -> None:
        """Waits until a clip that was started is at its end."""
        listening.wait_for(lambda: clip.get_attribute("aria-pressed") == "true")
        listening.wait_for(lambda: clip.get_attribute("aria-pressed") == "false")

    def answer(self, rule, shortcuts: bool = False) -> None:
        """One question, after the page that explains its part."""
        self.start_part()
        page = self.page
        question = page.evaluate("TEST.sheets[state.sheet][state.step - FIRST_QUESTION].question")
        choice = rule(question)
        self.wanted[question] = choice
        next_button = page.get_by_role("button", name="Next")
        radios = page.get_by_role("radio")
        for letter in ("A", "B"):
            assert next_button.is_disabled() and radios.first.is_disabled()
            assert self.said() == "Listen to both clips, then choose."
            if shortcuts:
                page.keyboard.press(letter.lower())
            else:
                self.press(f"Clip {letter}")
            self.hear(page.get_by_role("button", name=f"Clip {letter}"))
        assert self.said() == "You can choose now."
        if shortcuts:
            page.keyboard.press({"a": "1", "b": "2"}[choice])
            page.keyboard.press("Enter")
        else:
            place = {"a": 0, "b": radios.count() - 1}[choice]
            self.choose(f"Clip {choice.upper()}", place)
            self.press("Next")

    def close(self) -> None:
        assert not self.errors
        self.context.close()


def arrived(visitor) -> None:
    visitor.page.get_by_text("Your answers have arrived").wait_for()


def stored(folder):
    return [
        {question: choice for question, (choice, _) in person.answers.items()}
        for person in store.read(folder / store.FILE, builder.read_key(folder)["id"])
    ]


ONE = ("--pairs=sin-unet", "--criteria=isolation", "--questions=1", "--headphone_trials=1")


def test_one_participant_by_keyboard(browser, evaluation, tmp_path, capsys):
    folder = build(evaluation, tmp_path / "test", *ONE)
    with listening.serving(folder) as (url, _):
        visitor = Visitor(browser, url, by="keys")
        page = visitor.page
        visitor.begin(headphone_trials=1)
        visitor.start_part()
        # Single keys do nothing while the focus is elsewhere.
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("a")
        assert page.evaluate("[...loaded.values()].every(sound => sound.paused)")
        page.evaluate("$('page').focus()")
        visitor.answer(lambda question: "b", shortcuts=True)
        visitor.answer(lambda question: "b")
        arrived(visitor)
        assert stored(folder) == [visitor.wanted]
        (person,) = store.read(folder / store.FILE, builder.read_key(folder)["id"])
        assert person.finished and person.headphones == (1, 1)
        assert person.questionnaire == {
            "language": "Hrvatski", "fluency": "fluent", "training": "3 to 10 years",
            "playback": "headphones",
        }  # fmt: skip
        assert all(0.5 < seconds < 60 for _, seconds in person.answers.values())
        visitor.close()
    capsys.readouterr()
    assert cli.main(["listen", "report", str(folder)]) == 0
    assert "1 participant counts, 0 are left out" in capsys.readouterr().out


def test_headphones_that_come_late_and_who_comes_next(browser, evaluation, tmp_path):
    """What the check ended with is told, not what a reload found; then another may begin."""
    folder = build(evaluation, tmp_path / "test", *ONE, "--identical=0")
    with listening.serving(folder) as (url, _):
        visitor = Visitor(browser, url)
        page = visitor.page
        page.evaluate("state.headphones.answers = [(TEST.headphones[0].quietest + 1) % 3]")
        visitor.begin(headphone_trials=0)
        page.get_by_role("heading", name="These do not seem").wait_for()
        page.reload()
        visitor.press("Check again")
        visitor.check_headphones()
        visitor.answer(lambda question: "b")
        arrived(visitor)
        (person,) = store.read(folder / store.FILE, builder.read_key(folder)["id"])
        assert person.headphones == (1, 1)
        visitor.press("Somebody else takes the test here")
        page.get_by_role("heading", name="Welcome").wait_for()
        page.wait_for_timeout(500)  # who only looks is nobody yet
        assert len(store.read(folder / store.FILE, builder.read_key(folder)["id"])) == 1
        visitor.begin(headphone_trials=1)
        visitor.answer(lambda question: "a")
        arrived(visitor)
        assert len(stored(folder)) == 2
        visitor.close()


def test_one_participant_on_a_phone(browser, evaluation, tmp_path):
    folder = build(evaluation, tmp_path / "test", *ONE, "--identical=0", "--ties")
    phone = {"viewport": {"width": 360, "height": 640}, "is_mobile": True, "has_touch": True}
    with listening.serving(folder) as (url, _):
        visitor = Visitor(browser, url, by="tap", **phone)
        visitor.begin(headphone_trials=1)
        visitor.answer(lambda question: "b")
        arrived(visitor)
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 360
        assert stored(folder) == [visitor.wanted]
        visitor.close()


@pytest.mark.slow
def test_three_participants_one_reloads_one_loses_the_server(browser, evaluation, tmp_path, capsys):
    argv = ["--pairs=sin-unet", "--criteria=isolation,quality", "--questions=1"]
    argv += ["--headphone_trials=0"]
    folder = build(evaluation, tmp_path / "test", *argv)
    design = builder.read_key(folder)["design"]
    questions = {q.identity: q for q in design.questions}
    total = len(questions)
    assert total == 4  # two criteria, a pair and an identical one

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
        first.begin(0)
        rule = side_of(first, lambda q: True)
        for _ in range(total):
            first.answer(rule)
        arrived(first)

        second = Visitor(browser, url)
        second.begin(0)
        rule = side_of(second, lambda q: q.criterion != "quality")
        for _ in range(total // 2):
            second.answer(rule)
        second.page.reload()
        assert f"Question {total // 2 + 1} of {total}" in second.page.locator("#place").inner_text()
        for _ in range(total - total // 2):
            second.answer(rule)
        arrived(second)

        third = Visitor(browser, url)
        third.begin(0)
        rule = side_of(third, lambda q: False)
        third.answer(rule)
        listening.wait_for(lambda: len(stored(folder)[2]) == 1)
        # Clips of coming questions are there before they are needed.
        ready = "[...loaded.values()].every(sound => sound.readyState === 4)"
        listening.wait_for(lambda: third.page.evaluate(ready))
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
    assert report["identical_pairs"] == {"a": 6, "b": 0, "no_difference": 0, "p": 2 / 2**6}
    counts = {
        (p["criterion"], p["first"], p["second"]): (p["for_first"], p["for_second"])
        for p in report["preferences"]
    }
    assert counts == {("isolation", "sin", "unet"): (2, 1), ("quality", "sin", "unet"): (1, 2)}
    sheets = [
        person.sheet for person in store.read(folder / store.FILE, builder.read_key(folder)["id"])
    ]
    assert sheets == [0, 1, 2]
    assert "Share: answers for the first system" in capsys.readouterr().out


def test_without_a_server_answers_are_downloaded(browser, evaluation, tmp_path, capsys):
    argv = ["--pairs=sin-unet", "--criteria=quality", "--questions=2", "--headphone_trials=1"]
    folder = build(evaluation, tmp_path / "test", *argv, "--identical=0", "--ties")
    clips, away = folder / "site" / "clips", tmp_path / "away"
    clips.rename(away)
    visitor = Visitor(browser, (folder / "site" / "index.html").as_uri())
    page = visitor.page
    visitor.begin(0)

    # A clip that cannot be had is spoken of, and had as soon as it is there.
    missing = "Cannot be loaded, trying again: "
    listening.wait_for(lambda: visitor.said() == f"{missing}Play the three tones.")
    away.rename(clips)
    listening.wait_for(lambda: visitor.said() == "Listen, then choose.")
    clips.rename(away)  # those of the questions are not asked for yet
    visitor.check_headphones()
    visitor.start_part()
    listening.wait_for(lambda: visitor.said() == f"{missing}Clip A, Clip B, Reference.")
    away.rename(clips)
    listening.wait_for(lambda: visitor.said().startswith("Listen"))
    for choice in ("a", "b"):
        visitor.answer(lambda question, choice=choice: choice)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download my answers").click()
    file = tmp_path / "answers.json"
    download.value.save_as(file)
    visitor.close()
    assert cli.main(["listen", "report", str(folder), f"--answers={file}"]) == 0
    report = json.loads((folder / "report" / "report.json").read_text())
    assert report["participants"] == 1
    (preference,) = report["preferences"]
    key = builder.read_key(folder)
    person = store.read_downloads([str(file)], key["id"], key["design"], True, 1)[0]
    swapped = {p.question: p.swapped for p in key["design"].sheets[person.sheet]}
    for_first = sum((c == "b") == swapped[q] for q, c in visitor.wanted.items())
    assert (preference["for_first"], preference["for_second"]) == (for_first, 2 - for_first)
