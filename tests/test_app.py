"""The page in the browser: from an upload to a voice that plays, and many at once."""

import concurrent.futures
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sep_tf import audio_io
from tests import harness

pytest.importorskip("gradio", reason="gradio is not installed (extra [app])")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SONG = Path(__file__).parent.parent / "examples" / "sakura" / "mix.flac"


@pytest.fixture(scope="module")
def temporary(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def address(temporary):
    """The program itself, on a free port; afterwards its temporary files must be gone."""
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
        program.send_signal(signal.SIGINT)
        assert program.wait(60) == 130
        assert not list(temporary.glob("sep-tf-app-*"))
    finally:
        program.kill()


@pytest.fixture(scope="module")
def song(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("songs") / "häns & song.flac"
    audio = harness.sung(2.0, 220.0) + harness.band(2.0, 1)
    soundfile.write(path, np.stack([audio, audio], axis=1), harness.RATE)
    return str(path)


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
        play = page.locator("#song").get_by_role("button", name="Play", exact=True)
        play.wait_for(timeout=60_000)
        page.locator("#extract").click()
        page.wait_for_function(
            "/s of song in/.test(document.querySelector('#said textarea').value)",
            timeout=120_000,
        )
        page.locator("#picture img").wait_for()
        # Neither label nor buttons lie on the picture.
        top = page.locator("#picture img").bounding_box()["y"]
        for part in ("label", "button"):
            box = page.locator(f"#picture {part}").first.bounding_box()
            assert box["y"] + box["height"] <= top + 1
        page.locator("#voice").get_by_role("button", name="Play", exact=True).click()
        # The player's clock must move.
        page.wait_for_function(
            "/0:0[1-9]/.test(document.querySelector('#voice #time').textContent)", timeout=30_000
        )
        with page.expect_download() as download:
            page.locator("#voice a[download], #voice [aria-label='Download']").first.click()
        download.value.save_as(tmp_path / "voice.wav")
        if picture:
            page.wait_for_timeout(500)
            page.screenshot(path=picture)
        browser.close()
    assert audio_io.probe(tmp_path / "voice.wav").duration == audio_io.probe(upload).duration
    assert [url for url in elsewhere if url.startswith("http")] == []


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


def test_flags(capsys):
    from sep_tf import app

    line = harness.one_line_error(app.run, ["--model=nobody"], capsys)
    assert "unknown model 'nobody'" in line
    assert "--port=99999" in harness.one_line_error(app.run, ["--port=99999"], capsys)
    assert app.FLAGS["host"].default == "127.0.0.1"
