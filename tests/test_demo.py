"""`make demo` ends in a voice, figures and a picture."""

import shutil

import numpy as np
import soundfile

from examples import demo


def test_demo(tmp_path, monkeypatch, capsys):
    song = tmp_path / "sakura"
    shutil.copytree(demo.SONG, song, ignore=shutil.ignore_patterns("voice.*"))
    monkeypatch.setattr(demo, "SONG", song)
    assert demo.PROGRAM.run(demo.main, []) == 0
    printed = capsys.readouterr().out
    for word in ("real-time factor", "dB mel-cepstral", "dBFS on average", str(song / "voice.wav")):
        assert word in printed
    voice, rate = soundfile.read(song / "voice.wav")
    mix = soundfile.info(song / "mix.flac")
    assert (len(voice), rate) == (mix.frames, mix.samplerate)
    assert 0.01 < np.abs(voice).max() <= 1.0
    assert (song / "voice.png").read_bytes().startswith(b"\x89PNG")
