"""`make demo` ends in a voice, figures and a picture."""

import numpy as np
import soundfile

from examples import demo


def test_demo(tmp_path, monkeypatch, capsys):
    song = tmp_path / "sakura"
    song.mkdir()
    for name in ("mix.flac", "vocals.flac"):
        # Eight seconds: two without a voice, six with it.
        audio, rate = soundfile.read(demo.SONG / name, frames=8 * 44_100)
        soundfile.write(song / name, audio, rate)
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
