"""What the tests of evaluations share: a folder of two short songs, and the program."""

import csv
from pathlib import Path

import numpy as np
import soundfile

from sep_tf import audio_io, cli
from sep_tf.evaluation import songs as songs_module

RATE = 32_000
ROOT = Path(__file__).parents[1]
SAKURA = ROOT / "examples" / "sakura"


def sung(f0: float, seconds: float = 0.8) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    voice = sum(
        np.exp(-0.5 * ((k * f0 - 800) / 400) ** 2) * np.sin(2 * np.pi * k * f0 * t)
        for k in range(1, 30)
    )
    noise = np.random.default_rng(0).normal(size=len(t))
    return (0.2 * voice / np.abs(voice).max() + 5e-4 * noise).astype(np.float32)


def make_songs(folder: Path) -> Path:
    """Two voices, a backing of noise, and manifests of both styles."""
    soundfile.write(folder / "a.wav", sung(220.0), RATE, "FLOAT")
    soundfile.write(folder / "b.wav", sung(330.0), RATE, "FLOAT")
    swell = 0.05 * (1 + np.sin(2 * np.pi * 3 * np.arange(2 * RATE) / RATE))
    noise = (swell * np.random.default_rng(1).normal(size=2 * RATE)).astype(np.float32)
    soundfile.write(folder / "noise.wav", noise, RATE, "FLOAT")
    mixtures = (
        "id,singer,vocals,backing,backing_start,vocals_gain,backing_gain,snr_db,seconds\n"
        "one,x,a.wav,noise.wav,0.5,0.5,0.25,3.0,0.8\n"
        "two,y,b.wav,noise.wav,0.25,2.0,0.1,3.0,0.8\n"
    )
    (folder / "test.csv").write_text(mixtures)
    aligned = "song,vocals,backing,singer,seconds\nsum,a.wav,noise.wav,x,0.8\n"
    (folder / "aligned.csv").write_text(aligned)
    project = (
        "song_id,singer,vocals,backing,split\n"
        "t,x,a.wav,noise.wav,train\n"
        "v,x,b.wav,noise.wav,validation\n"
        "w,x,a.wav,,test\n"
    )
    (folder / "project.csv").write_text(project)
    return folder


def make_short_song(folder: Path, seconds: float = 4.0) -> Path:
    """A manifest of one song, from the bundled one: a second of backing, then voice too."""
    vocals, mix = (
        audio_io.read(SAKURA / name, RATE, offset=1.0, duration=seconds)[0]
        for name in ("vocals.flac", "mix.flac")
    )
    soundfile.write(folder / "vocals.wav", vocals, RATE, "FLOAT")
    soundfile.write(folder / "backing.wav", mix - vocals, RATE, "FLOAT")
    manifest = folder / "song.csv"
    manifest.write_text("id,singer,vocals,backing\nsakura,nit,vocals.wav,backing.wav\n")
    return manifest


def rows_of(songs, name: str, split: str = "test"):
    return [item.row for item in songs_module.select(str(songs / name), split, None)]


def run(*argv: str) -> int:
    return cli.main(["evaluate", *map(str, argv)])


def error_of(capsys, *argv: str) -> str:
    assert run(*argv) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("sep-tf evaluate: error: ")
    return err


def rows_in(folder):
    """{(song, system, segment): row} of results.csv."""
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        return {(r["song_id"], r["system"], r["segment"]): r for r in csv.DictReader(file)}
