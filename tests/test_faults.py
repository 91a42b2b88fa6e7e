"""Faults and load: `sep-tf extract` itself, with the bundled model, where things go wrong."""

import concurrent.futures
import contextlib
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sep_tf import audio_io, cli, separator, world
from sep_tf.errors import AudioError
from tests import harness

ROOT = Path(__file__).parent.parent
PROGRAM = [sys.executable, "-m", "sep_tf.cli"]
EXTRACT = [*PROGRAM, "extract"]
RATE = harness.RATE


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.fixture(scope="module")
def bundled():
    made = separator.Separator()
    made.load()
    return made


def sung_song(seconds: float, pitch: float = 220.0) -> np.ndarray:
    return harness.sung(seconds, pitch) + harness.band(seconds, 1)


def write(name: str, audio: np.ndarray, rate: int = RATE, **kind) -> str:
    os.makedirs(os.path.dirname(os.path.abspath(name)), exist_ok=True)
    soundfile.write(name, audio, rate, **kind)
    return name


def long_song(name: str, seconds: int = 900) -> str:
    """Minutes of work in a small file."""
    return write(name, np.tile(sung_song(10.0)[::4], seconds // 10), RATE // 4, subtype="PCM_16")


def all_files() -> set[str]:
    return {str(path) for path in Path(".").rglob("*") if not path.is_dir()}


# What is in the way of the output.


@pytest.mark.parametrize("more", [[], ["--features_out=f.npz", "--f0_out=f.csv"]])
@pytest.mark.parametrize("output, size", [("v.wav", 300_000), ("v.flac", 300_000), ("v.wav", 0)])
def test_a_full_disk(output, size, more):
    """A file may not grow beyond so many bytes: the system refuses as it does on a full disk."""
    write("song.wav", sung_song(8.0))

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    run = subprocess.run(
        [*EXTRACT, "song.wav", f"--output={output}", *more],
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.startswith("sep-tf extract: error: ") and run.stderr.count("\n") == 1
    assert "cannot be written" in run.stderr or "not written completely" in run.stderr
    assert all_files() == {"song.wav"}


@contextlib.contextmanager
def without_rights():
    """Root may write everywhere: within, the process is somebody else."""
    if os.geteuid():
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_only_be_read_and_what_may_not(capfd):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        song = write(f"{folder}/song.wav", sung_song(0.3))
        secret = write(f"{folder}/secret.wav", sung_song(0.1))
        os.chmod(secret, 0)
        before = os.listdir(folder)
        assert cli.main(["extract", song, "--output=voice.wav"]) == 0
        capfd.readouterr()
        os.chmod(folder, 0o555)
        with without_rights():
            outputs = ([], [f"--output={folder}/new/"], [f"--f0_out={folder}/f0.csv"])
            for argv in [*([song, *output] for output in outputs), [secret, "--output=v.wav"]]:
                assert cli.main(["extract", *argv]) == 1
                out, err = capfd.readouterr()
                assert "ermission denied" in err and err.count("\n") == 1 and out == ""
        os.chmod(folder, 0o755)
        assert os.listdir(folder) == before


# Interruptions.


def interrupted(command: list[str], ready: str, number: int) -> tuple[int, str]:
    """Runs on a terminal until it shows `ready`, sends the signal; (exit code, what it showed)."""
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    process = subprocess.Popen(command, stdout=end, stderr=end, stdin=subprocess.DEVNULL)
    os.close(end)
    shown = ""
    try:
        with contextlib.suppress(OSError):  # the terminal of a process that has ended
            while data := os.read(terminal, 4096).decode(errors="replace"):
                if not re.search(ready, shown) and re.search(ready, shown := shown + data):
                    time.sleep(0.2)
                    process.send_signal(number)
                    continue
                shown += data
        return process.wait(60), shown
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


@pytest.mark.parametrize(
    "verb, flags",
    [
        ("extract", ["--features_out=x.npz", "--plot=x.png"]),
        pytest.param("convert", ["--singer=pjs"], marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_in_the_middle(number, code, verb, flags):
    """One file, its bar on the terminal at some percent; everything that can be written is."""
    long_song("song.wav")
    command = [*PROGRAM, verb, "song.wav", *flags]
    found, shown = interrupted(command, r" [1-9]\d*%\|", number)
    assert found == code, shown
    assert re.search("error: (interrupted|terminated)", shown) and "Traceback" not in shown
    assert all_files() == {"song.wav"}


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_with_several_at_work(number, code):
    """What is complete stays, what is at work leaves nothing, what waits is not begun."""
    write("a.wav", sung_song(0.5))
    songs = ["a.wav", *(long_song(f"{name}.wav", 300) for name in "bcd")]
    command = [*EXTRACT, *songs, "--output=out", "--jobs=2"]
    found, shown = interrupted(command, r"a\.voice\.wav: 0\.50 s", number)
    assert found == code, shown
    assert "Traceback" not in shown and "files done" not in shown
    assert all_files() == {*songs, "out/a.voice.wav"}
    assert audio_io.probe("out/a.voice.wav").frames == RATE // 2


# Names and links.


@pytest.mark.parametrize(
    "name",
    [
        *("with space/two  spaces.wav", "曲/名前 – live (1) é.flac", "a\nline.wav"),
        *("-dash.ogg", 'it\'s "quoted" $HOME `x`.wav', "100%_{stem}.wav", "." * 5 + "dots.wav"),
        "x" * 240 + ".wav",
        "/".join(["deep" * 20] * 12) + "/song.wav",
    ],
    ids=lambda name: name[:12],
)
def test_any_name(name, capfd):
    write(name, sung_song(0.2))
    assert cli.main(["extract", "--", name]) == 0
    assert audio_io.probe(f"{os.path.splitext(name)[0]}.voice.wav").frames == RATE // 5
    assert cli.main(["extract", "--output=out/", "--", name]) == 0
    out, err = capfd.readouterr()
    assert err == "" and all(len(files) == 1 for _, _, files in os.walk("out") if files)


def test_a_name_that_leaves_no_room(capfd):
    """.voice.wav is longer than .wav: told before anything is loaded."""
    song = write("x" * 251 + ".wav", sung_song(0.2))
    assert cli.main(["extract", song]) == 1
    err = capfd.readouterr().err
    assert "name too long" in err and err.count("\n") == 1
    assert cli.main(["extract", song, "--output=v.wav"]) == 0


def test_links(capfd):
    write("real/song.wav", sung_song(0.2))
    os.symlink("real", "album")
    os.symlink("real/song.wav", "song.wav")
    os.symlink("nowhere.wav", "real/dangling.wav")
    os.symlink("..", "real/loop")
    assert cli.main(["extract", "song.wav"]) == 0
    assert os.path.exists("song.voice.wav") and not os.path.exists("real/song.voice.wav")
    capfd.readouterr()
    assert cli.main(["extract", "album", "--output=out"]) == 1
    out, err = capfd.readouterr()
    assert "dangling.wav: No such file" in err and "1 of 2 files done" in out
    assert os.listdir("out") == ["song.voice.wav"]
    # Linked folders are searched as others are, each real one once.
    write("lib/cd1/one.wav", sung_song(0.2))
    write("far/deep/two.wav", sung_song(0.2))
    os.symlink("../far", "lib/cd2")
    os.symlink("cd1", "lib/again")
    os.symlink("../../lib", "far/deep/loop")
    assert cli.main(["extract", "lib", "--output=mirror"]) == 0
    assert {str(path) for path in Path("mirror").rglob("*.wav")} == {
        "mirror/cd1/one.voice.wav",
        "mirror/cd2/deep/two.voice.wav",
    }
    # An output that is a link stays one, and what it points at is replaced.
    write("elsewhere/voice.flac", sung_song(0.1))
    os.symlink("elsewhere/voice.flac", "link.flac")
    assert cli.main(["extract", "song.wav", "--output=link.flac"]) == 0
    assert os.path.islink("link.flac") and audio_io.probe("elsewhere/voice.flac").frames == 6400


# Files that change while they are read.


@pytest.mark.parametrize(
    "change, extension",
    [(change, ".wav") for change in ("cut", "grown", "replaced", "removed", "overwritten")]
    + [("cut", ".flac"), ("overwritten", ".flac")],
)
def test_a_file_that_changes_while_it_is_read(bundled, change, extension):
    """The file as it was when it was opened, or one line; never half a voice, never a traceback."""
    # Silent but for both ends, which is quick, and at a rate at which blocks are shorter.
    parts = sung_song(0.5), np.zeros(14 * RATE, np.float32), sung_song(0.5)
    audio = np.repeat(np.concatenate(parts), 2)
    song = write(f"song{extension}", audio, 2 * RATE, subtype="PCM_16")
    before, size, changed = audio_io.read(song)[0], os.path.getsize(song), []

    def meanwhile(done: float, total: float) -> None:
        if changed:
            return
        changed.append(done)
        if change == "cut":
            os.truncate(song, size // 3)
        elif change == "grown":
            with open(song, "ab") as file:
                file.write(bytes(200_000))
        elif change == "replaced":
            write("other.wav", np.zeros(100))
            os.replace("other.wav", song)
        elif change == "removed":
            os.unlink(song)
        else:
            with open(song, "r+b") as file:
                file.write(np.random.default_rng(0).bytes(size))

    try:
        result = bundled.separate_file(song, "voice.wav", progress=meanwhile)
    except AudioError as error:
        assert change in ("cut", "overwritten") and song in str(error)
        assert not os.path.exists("voice.wav")
    else:
        assert change != "cut"
        assert audio_io.probe("voice.wav").frames == result.n_samples == len(audio)
        if change != "overwritten":
            expected = bundled.separate(before, 2 * RATE)
            np.testing.assert_allclose(soundfile.read("voice.wav")[0], expected, atol=1e-6)
    assert 0 < changed[0] < 10
    assert not [name for name in os.listdir(".") if name.startswith(".")]


# Load.


@pytest.mark.slow
def test_a_hundred_files_of_which_five_are_bad(capfd):
    bad = {"007.wav": b"", "023.mp3": b"words " * 99, "041.flac": b"fLaC" + bytes(99)}
    for number in range(98):
        if not any(name.startswith(f"{number:03d}") for name in bad):
            write(f"in/{number:03d}.wav", sung_song(0.1, 150.0 + 3 * number))
    for name, content in bad.items():
        Path("in", name).write_bytes(content)
    write("in/098.wav", np.full(3200, np.nan), subtype="FLOAT")
    os.symlink("missing.ogg", "in/099.ogg")
    assert cli.main(["extract", "in", "--output=out", "--jobs=2"]) == 1
    out, err = capfd.readouterr()
    lines = out.splitlines()
    failed = sorted([*bad, "098.wav", "099.ogg"])
    assert sorted(re.findall(r"in/(\d+\.\w+)", lines[-1])) == failed
    assert lines[-1].startswith("95 of 100 files done, failed: ")
    assert err.count("\n") == 5 and all(f"in/{name}" in err for name in failed)
    voices = os.listdir("out")
    assert len(voices) == 95 and len(lines) == 96
    assert {audio_io.probe(f"out/{name}").frames for name in voices} == {3200}


def test_eight_threads_and_one_separator(bundled):
    """Eight songs at once: every voice is what it is alone."""
    songs = [sung_song(0.6, 140.0 + 30 * number) for number in range(8)]
    alone = [bundled.separate(song, RATE) for song in songs]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda n: bundled.separate(songs[n % 8], RATE), range(16)))
    for number, voice in enumerate(together):
        np.testing.assert_array_equal(voice, alone[number % 8])
    assert all(np.abs(a - b).max() > 0.01 for a, b in zip(alone, alone[1:], strict=False))


# Valid, if odd.


@pytest.fixture(scope="module")
def expected(bundled) -> np.ndarray:
    """The voice of the plain song."""
    return bundled.separate(sung_song(3.0), RATE)


@pytest.mark.parametrize(
    "channels, subtype, error",
    [(6, "PCM_16", 0.03), (1, "PCM_24", 1e-3), (2, "FLOAT", 1e-6), (1, "DOUBLE", 1e-6)],
)
def test_channels_and_encodings(expected, channels, subtype, error):
    """Whatever holds the song, the voice is the same, as far as the encoding keeps it."""
    audio = np.repeat(sung_song(3.0)[:, None], channels, axis=1)
    write("song.wav", audio, subtype=subtype)
    assert cli.main(["extract", "song.wav", "--encoding=float", "--clip=none"]) == 0
    voice, _ = soundfile.read("song.voice.wav")
    assert voice.shape == expected.shape
    assert np.sqrt(np.mean((voice - expected) ** 2)) < error * expected.std()


@pytest.mark.parametrize("change", ["offset", "loud"])
def test_a_constant_offset_and_samples_beyond_full_scale(bundled, change):
    """The same melody, and nothing of the offset in the voice; the file is as good as its array."""
    audio = sung_song(3.0)
    audio = audio + np.float32(0.3) if change == "offset" else audio * np.float32(12.0)
    assert change == "offset" or np.abs(audio).max() > 2.0
    write("song.wav", audio, subtype="FLOAT")
    assert cli.main(["extract", "song.wav", "--encoding=float", "--clip=none"]) == 0
    voice, _ = soundfile.read("song.voice.wav")
    np.testing.assert_allclose(voice, bundled.separate(audio, RATE), atol=1e-6)
    assert abs(voice.mean()) < 0.01
    found, plain = bundled.analyse(audio, RATE), bundled.analyse(sung_song(3.0), RATE)
    both = found.voiced & plain.voiced
    assert both.sum() > 0.8 * plain.voiced.sum()
    assert np.median(1200 * np.abs(np.log2(found.f0[both] / plain.f0[both]))) < 20


@pytest.mark.parametrize(
    "audio",
    [np.full(1, 0.5), np.zeros(1), np.zeros(5000), 1e-40 * np.ones(20_000), np.full(2, -1.0)],
    ids=["one", "one zero", "zeros", "denormals", "two"],
)
def test_next_to_nothing_is_silence_of_its_length(audio):
    write("song.wav", audio.astype(np.float32), 44_100, subtype="FLOAT")
    assert cli.main(["extract", "song.wav"]) == 0
    voice, rate = soundfile.read("song.voice.wav")
    assert rate == 44_100 and len(voice) == len(audio)
    assert not voice.any()


def test_denormals_cost_no_more_than_other_samples(bundled):
    """Some processors are a hundred times slower with them."""

    def cost(audio: np.ndarray) -> float:
        started = time.process_time()
        bundled.separate(audio, 44_100)
        return time.process_time() - started

    noise = np.random.default_rng(0).normal(size=10 * 44_100).astype(np.float32)
    assert cost(noise * np.float32(1e-39)) < 2.0 * cost(noise * np.float32(0.1)) + 0.2


def test_a_song_of_noise_alone_has_no_voice_to_speak_of(bundled):
    """Nobody sings in noise: what is heard of it stays far below it."""
    noise = 0.1 * np.random.default_rng(0).normal(size=4 * RATE).astype(np.float32)
    voice = bundled.separate(noise, RATE)
    assert world.frame_level_db(voice).mean() < world.frame_level_db(noise).mean() - 6.0
