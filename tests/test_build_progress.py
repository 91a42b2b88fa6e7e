"""How far a build is: what people read while they wait."""

import functools
import io
import re
import sys

import pytest

from tfrecords import build, progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_share_of_the_work_is_that_of_the_songs_that_are_done(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_POLL", 0.01)
    seen = []
    finished = functools.partial(build._finished, str(tmp_path))
    with progress.Watch(finished, [1.0, 6.0, 3.0], lambda *state: seen.append(state)):
        for number, known in ((1, (1, 3, 0.6)), (0, (2, 3, 0.7))):
            (tmp_path / f"{number:07d}.tfrecord.7.partial").touch()
            while not seen or seen[-1] != known:
                assert not seen or seen[-1][2] < known[2]
                (tmp_path / f"{number:07d}.tfrecord").touch()
    assert seen[0][0] == 0 or seen[0] == (1, 3, 0.6)
    assert seen[-1] == (3, 3, 1.0)


def test_lines_without_a_terminal(monkeypatch):
    now, lines = [100.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    report = progress.Reporter(lines.append)
    for second in range(301):
        now[0] = 100.0 + second
        report(second // 60, 40, second / 3000)
    assert len(lines) == 10
    # A tenth of the work in five minutes: 45 minutes are left.
    assert lines[-1] == "5 of 40 songs, about 45:00 left"
    assert lines[0] == "0 of 40 songs, about 49:30 left"
    now[0] += 30.0
    report(0, 40, 0.0)
    assert lines[-1] == "0 of 40 songs, time left unknown"


def test_a_bar_on_a_terminal(monkeypatch):
    now, screen = [100.0], Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with progress.Reporter(lambda line: pytest.fail(line)) as report:
        report(0, 40, 0.0)
        now[0] += 100.0
        report(7, 40, 0.25)
    last = screen.getvalue().split("\r")[-1]
    assert last.startswith("7/40 songs:  25%|") and last.rstrip().endswith("| [01:40<05:00]")


def test_a_build_says_how_long_it_takes(corpus, manifest_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LINES", 0.0)
    monkeypatch.setattr(progress, "_POLL", 0.02)
    argv = [f"--manifest={manifest_file}", f"--output_dir={tmp_path / 'records'}", "--workers=1"]
    assert build.run([*argv, f"--cache_dir={corpus.cache}"]) == 0
    lines = capsys.readouterr().err.splitlines()
    pattern = r"sep-tf build: (\d) of 9 songs, (about \d\d:\d\d left|time left unknown)"
    found = [re.fullmatch(pattern, line) for line in lines]
    assert all(found) and found[-1].groups() == ("9", "about 00:00 left")
    counts = [int(match[1]) for match in found]
    # How many songs a look finds done depends on the machine; counting is tested above.
    assert counts == sorted(counts)
