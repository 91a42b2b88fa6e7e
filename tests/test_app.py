"""The page in the browser: from an upload to a voice that plays, and many at once."""

import concurrent.futures
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sep_tf import audio_io
from sep_tf.errors import ModelError
from sep_tf.separator import Separator
from tests import harness

pytest.importorskip("gradio", reason="gradio is not installed (extra [app])")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ROOT = Path(__file__).parent.parent
SONG = ROOT / "examples" / "sakura" / "mix.flac"


@contextlib.contextmanager
def started(temporary: Path, number: int, code: int):
    """The program itself, on a free port, ended by a signal; its temporary files must be gone."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    program = subprocess.Popen(
        [sys.executable, "-m", "sep_tf.app", "--port=0", "--max_mb=5"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        line = program.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        yield found[0]
        assert list(temporary.glob("sep-tf-app-*"))
        program.send_signal(number)
        assert program.wait(60) == code
        assert not list(temporary.glob("sep-tf-app-*"))
    finally:
        program.kill()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with started(tmp_path_factory.mktemp("app"), signal.SIGINT, 130) as found:
        yield found


@pytest.mark.slow
def test_sigterm_ends_it_as_ctrl_c_does(tmp_path):
    with started(tmp_path, signal.SIGTERM, 143) as address:
        urllib.request.urlopen(address).close()


@pytest.fixture(scope="module")
def song(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("songs") / "häns & song.flac"
    audio = harness.sung(2.0, 220.0) + harness.band(2.0, 1)
    soundfile.write(path, np.stack([audio, audio], axis=1), harness.RATE)
    return str(path)


def play(page, player: str) -> None:
    """Clicks Play once the sound is there, and waits until the player's clock moves."""

    def wait_for(clock: str) -> None:
        shown = f"document.querySelector('{player} {clock}')?.textContent"
        page.wait_for_function(f"/0:[0-9]*[1-9]/.test({shown})", timeout=60_000)

    wait_for("#duration")
    page.locator(player).get_by_role("button", name="Play", exact=True).click()
    wait_for("#time")


# Progress is on the page for a moment only.
WATCH = """() => new MutationObserver(() => {
    window.progress ||= /extracting/.test(document.body.innerText)
}).observe(document.body, {subtree: true, childList: true, characterData: true})"""


def extract(page) -> None:
    """Clicks Extract, and waits until another voice is there than before."""
    link = "document.querySelector('#voice a[download]')?.href"
    before = page.evaluate(link)
    page.locator("#extract").click()
    page.wait_for_function(f"before => ({link} ?? before) != before", arg=before, timeout=120_000)


def choose(page, what: str, value: str) -> None:
    page.get_by_label(what).click()
    page.get_by_role("option", name=value).click()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_from_upload_to_a_voice_that_plays(address, song, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    picture = os.environ.get("SEP_TF_SCREENSHOT")
    upload = str(SONG) if picture else song
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 770})
        elsewhere = []
        page.on("request", lambda r: None if address in r.url else elsewhere.append(r.url))
        page.goto(address)
        page.locator("#song input[type=file]").set_input_files(upload)
        play(page, "#song")
        assert page.get_by_label("System").input_value() == "sin-lite"
        page.evaluate(WATCH)
        extract(page)
        assert page.evaluate("window.progress")
        assert "s of song in" in page.locator("#said textarea").input_value()
        page.locator("#picture img").wait_for()
        # Neither label nor buttons lie on the picture.
        top = page.locator("#picture img").bounding_box()["y"]
        for part in ("label", "button"):
            box = page.locator(f"#picture {part}").first.bounding_box()
            assert box["y"] + box["height"] <= top + 1
        play(page, "#voice")
        with page.expect_download() as download:
            page.locator("#voice a[download], #voice [aria-label='Download']").first.click()
        download.value.save_as(tmp_path / "voice.wav")
        if picture:
            page.wait_for_timeout(500)
            page.screenshot(path=picture)
        choose(page, "System", "sdn-lite")
        choose(page, "Singer", "kumi")
        page.get_by_label("number input for Transposition").fill("7")
        extract(page)
        urllib.request.urlretrieve(
            page.locator("#voice a[download]").get_attribute("href"), tmp_path / "other.wav"
        )
        browser.close()
    assert audio_io.probe(tmp_path / "voice.wav").duration == audio_io.probe(upload).duration
    assert [url for url in elsewhere if url.startswith("http")] == []
    separator = Separator("sdn-lite", singer="kumi", transpose=7)
    separator.separate_file(upload, tmp_path / "expected.wav", encoding="pcm16")
    found, expected = (soundfile.read(tmp_path / name)[0] for name in ("other.wav", "expected.wav"))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
def test_twenty_uploads_at_once(address, song):
    """All are answered, one at a time; each gets its own voice."""
    from gradio_client import Client, handle_file

    def ask(number: int) -> str:
        client = Client(address, verbose=False)
        voice, picture, said = client.predict(
            handle_file(song), "sin-lite", None, number % 3, 1.0, api_name="/extract"
        )
        assert os.path.getsize(picture) > 10_000 and "2.0 s of song" in said
        return voice

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        voices = list(pool.map(ask, range(20)))
    sounds = [Path(voice).read_bytes() for voice in voices]
    # Three transpositions, three voices, whoever asked beside whom.
    assert len(set(sounds)) == 3
    assert all(sound == sounds[number % 3] for number, sound in enumerate(sounds))
    assert audio_io.probe(voices[0]).frames == audio_io.probe(song).frames


@pytest.mark.slow
def test_what_is_wrong_is_said(address, song, tmp_path):
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    client = Client(address, verbose=False)
    text = tmp_path / "words.wav"
    text.write_text("these are words\n" * 50)
    with pytest.raises(AppError, match="words.wav: not an audio file") as error:
        client.predict(handle_file(str(text)), "sin-lite", None, 0, 1.0, api_name="/extract")
    assert "/tmp" not in str(error.value)
    large = tmp_path / "large.wav"
    soundfile.write(large, np.zeros(4_000_000), 44_100)
    with pytest.raises(Exception, match="(?i)size|413|large"):
        client.predict(handle_file(str(large)), "sin-lite", None, 0, 1.0, api_name="/extract")
    with pytest.raises(urllib.error.HTTPError):  # nothing else of this machine is served
        urllib.request.urlopen(f"{address}/gradio_api/file=/etc/passwd")


def test_one_song_at_a_time(tmp_path, monkeypatch):
    """Six ask at once: never are two at work."""
    from gradio_client import Client, handle_file

    from sep_tf import app

    song = str(tmp_path / "song.wav")
    soundfile.write(song, np.zeros(1000), 32_000)
    lock, at_work, done = threading.Lock(), [], []

    def extract(self, *wishes):
        at_work.append(None)
        time.sleep(0.2)
        with lock:
            done.append(len(at_work))
        at_work.pop()
        return song, str(ROOT / "docs" / "app.png"), "done"

    monkeypatch.setattr(app.Studio, "extract", extract)
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")  # set within, and put back
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with app.serving(["sin-lite"]) as address, concurrent.futures.ThreadPoolExecutor(6) as pool:
        clients = [Client(address, verbose=False, download_files=False) for _ in range(6)]
        wishes = (handle_file(song), "sin-lite", None, 0, 1.0)
        asked = [pool.submit(client.predict, *wishes, api_name="/extract") for client in clients]
        assert all(task.result()[2] == "done" for task in asked)
    assert done == [1] * 6


def test_what_nobody_fetched_in_an_hour_is_removed(tmp_path):
    from sep_tf import app

    for name, minutes in (("old", 61), ("new", 59)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "song.voice.wav").write_bytes(b"")
        then = time.time() - 60 * minutes
        os.utime(tmp_path / name, (then, then))
    with pytest.raises(ModelError):
        app.Studio(str(tmp_path), "auto").extract("song.wav", "nobody", None, 0, 1.0, None)
    assert os.listdir(tmp_path) == ["new"]


def test_flags(capsys):
    from sep_tf import app

    line = harness.one_line_error(app.run, ["--model=nobody"], capsys)
    assert "unknown model 'nobody'" in line
    assert "--port=99999" in harness.one_line_error(app.run, ["--port=99999"], capsys)
    assert app.FLAGS["host"].default == "127.0.0.1"
