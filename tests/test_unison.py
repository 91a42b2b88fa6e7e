"""The worked example of --f0: three voices in unison, one of them again."""

import re

import pytest
import soundfile

from examples import unison
from sep_tf import audio_io
from tests import harness
from tests.test_shared_data import DATA


@pytest.mark.parametrize("source", ["synthetic", "recorded"])
@pytest.mark.slow
def test_three_voices_become_one_on_the_leaders_f0(source, tmp_path, capsys):
    voice = str(tmp_path / "voice.wav")
    if source == "synthetic":
        soundfile.write(voice, harness.sung(4.0, 220.0), harness.RATE)
    else:
        voice = str(DATA / "vocals/ravdess_19/03-02-02-02-01-01-19.ogg")
        if not (DATA / "vocals.csv").is_file():
            pytest.skip(f"no recordings in {DATA}")
    assert unison.PROGRAM.run(unison.main, [voice, f"--output_dir={tmp_path / 'out'}"]) == 0
    out = capsys.readouterr().out
    shares = {m[1]: int(m[2]) for m in re.finditer(r"^(\S+) +(\d+) %", out, re.MULTILINE)}
    assert shares["leader"] == 100
    assert shares["--f0=csv"] > 75 and shares["--f0=csv"] >= shares["unison"]
    assert len(list((tmp_path / "out").glob("*.wav"))) == 5
    (three,) = (tmp_path / "out").glob("*.unison.wav")
    (one,) = (tmp_path / "out").glob("*.csv.wav")
    assert audio_io.probe(one).frames == audio_io.probe(three).frames
