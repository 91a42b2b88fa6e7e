"""index.html of an evaluation in headless Chromium: read without a mouse, sorted, listened to."""

import csv

import listening
import numpy as np
import pytest
import soundfile
from evaluations import RATE, run, sung

from sep_tf.evaluation.scores import METRICS

for _package in ("matplotlib", "mir_eval", "pystoi", "scipy"):
    pytest.importorskip(_package)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(
    listening.CHROMIUM is None, reason="no chromium: apt-get install chromium"
)
# Enough songs for a p value, in no order of their noise; one name is no file name and no URL.
NOISE = {"a#1 ü%20": 3.0, "b": 0.3, "c": 5.0, "d": 0.1, "e": 1.0, "f": 0.6}
SECONDS = 0.4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    songs = tmp_path_factory.mktemp("songs")
    lines = ["id,singer,vocals,backing,backing_gain"]
    soundfile.write(songs / "voice.wav", sung(220.0, SECONDS), RATE, "FLOAT")
    noise = 0.05 * np.random.default_rng(1).normal(size=round(SECONDS * RATE))
    soundfile.write(songs / "noise.wav", noise, RATE, "FLOAT")
    for n, (song, gain) in enumerate(NOISE.items()):
        lines.append(f"{song},singer {n},voice.wav,noise.wav,{gain}")
    (songs / "songs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = tmp_path_factory.mktemp("evaluation")
    argv = ["--systems=mixture,world", "--baseline=mixture", f"--output_dir={out}"]
    assert run(songs / "songs.csv", *argv) == 0
    return out


@pytest.fixture(scope="module")
def page(folder):
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=listening.CHROMIUM, args=[*listening.FLAGS, "--mute-audio"]
        )
        page = browser.new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("requestfailed", lambda request: page.errors.append(request.url))
        page.goto((folder / "index.html").as_uri())
        yield page
        assert page.errors == []
        browser.close()


def shown(page) -> list[str]:
    return page.locator("#songs summary b").all_inner_texts()


def test_songs_are_sorted_worst_first_and_filtered(page, folder):
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["system"] == "mixture"]
    rows.sort(key=lambda row: -float(row["mcd_db"]))
    worst = [row["song_id"] for row in rows]
    assert shown(page) == worst and set(worst) == set(NOISE) and worst != list(NOISE)
    page.get_by_label("order").select_option("best first")
    assert shown(page) == worst[::-1]
    page.get_by_label("order").select_option("worst first")
    page.get_by_label("containing").fill("SINGER 4")
    assert shown(page) == ["e"] and page.get_by_role("status").inner_text() == "1 of 6 songs"
    page.get_by_label("containing").fill("")
    assert shown(page) == worst


def test_a_song_opens_and_its_clips_load(page):
    page.locator("details.song summary", has_text="a#1 ü%20").click()
    song = page.locator("details.song[open]")
    song.locator(".voices").wait_for()
    assert song.locator(".voice b").all_inner_texts() == ["mixture", "reference", "world"]
    durations = song.locator("audio").evaluate_all(
        """clips => Promise.all(clips.map(clip => new Promise((done, failed) => {
          clip.addEventListener("loadeddata", () => done(clip.duration));
          clip.addEventListener("error", () => failed(clip.src));
          clip.load();
          clip.preload = "auto";
        })))"""
    )
    assert durations == pytest.approx([SECONDS] * 3, abs=1e-3)
    picture = song.locator("img")
    picture.scroll_into_view_if_needed()
    picture.evaluate("image => image.decode()")
    assert picture.evaluate("image => image.naturalWidth") > 300
    assert song.locator("tbody tr").count() > 15
    page.locator("details.song summary", has_text="a#1 ü%20").click()


def test_definitions_sources_and_p_values_need_no_mouse(page):
    assert not page.locator("dl").is_visible()
    page.get_by_text("What each figure means").press("Enter")
    text = page.locator("dl").inner_text()
    assert all(f"{m.definition} Source: {m.source}." in text for m in METRICS)
    page.get_by_text("Significance: p of the difference from mixture").press("Enter")
    # WORLD is nearer in all six songs: 2 / 2^6.
    assert "MCD\t0.031" in page.locator("details.more table").inner_text().splitlines()
    assert page.locator("#tables > .scroll tr").nth(1).inner_text().endswith(" *")
