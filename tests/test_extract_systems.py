"""Every system by `sep-tf extract`: bundled, and of random weights on all three runtimes."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from export import module, saved_model, tflite
from sep_tf import audio_io, cli, metrics, models
from sep_tf.config import PRESETS, ExtractConfig
from sep_tf.runtimes.keras import save_weights
from sep_tf.runtimes.signatures import SIGNATURES
from tests import harness

SINGERS = ("ann", "ben")
RATE = 44_100
# Runtime -> what its file is called after the name of the model.
FILES = {"litert": ".tflite", "keras": ".weights.h5", "saved_model": "/1"}


def exported(system: str, folder, runtimes=tuple(FILES)) -> str:
    """Files of a model of random weights for the runtimes; returns what their names begin with."""
    singers = SINGERS if SIGNATURES[system].singers else ()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ExtractConfig", lambda: ExtractConfig(chunk_frames=128))
        model = models.build_system(system, PRESETS["tiny"], len(singers))
        harness.randomise(model, 3)  # with which every system sings, and moves
        info = module.model_info(model, PRESETS["tiny"], system, singers)
    base = folder / system
    if "litert" in runtimes:
        tflite.write(tflite.convert(model, info), info, folder / f"{system}.tflite")
    if "keras" in runtimes:
        save_weights(model, info, folder / f"{system}.weights.h5")
    if "saved_model" in runtimes:
        base.mkdir()
        saved_model.write(model, info, base / "1")
    return str(base)


@pytest.fixture(autouse=True)
def song(tmp_path, monkeypatch) -> None:
    """A second of singing with a band, in stereo."""
    monkeypatch.chdir(tmp_path)
    sides = [harness.sung(1.4, 220.0) + harness.band(1.4, side) for side in (1, 2)]
    soundfile.write("song.wav", np.stack(sides, 1)[: harness.RATE], RATE, subtype="FLOAT")


def extract(model: str, *argv: str) -> np.ndarray:
    """Runs the program; the voice, [samples, channels]."""
    command = ["extract", "song.wav", "--output=voice.wav", f"--model={model}", *argv]
    assert cli.main([*command, "--encoding=float", "--clip=none"]) == 0
    return soundfile.read("voice.wav", always_2d=True)[0]


def test_sdn_sings_as_who_is_named(tmp_path, capsys):
    """Names are listed by info, each is another voice, and a missing or wrong one is told."""
    model = exported("sdn", tmp_path, ["litert"]) + ".tflite"
    assert cli.main(["info", model]) == 0
    assert capsys.readouterr().out.splitlines()[1].strip() == "singers: ann, ben"
    voices = [extract(model, "--system=sdn", f"--singer={name}") for name in SINGERS]
    assert all(len(voice) == harness.RATE and np.isfinite(voice).all() for voice in voices)
    assert voices[0].any() and np.abs(voices[0] - voices[1]).max() > 0.05 * np.abs(voices[0]).max()
    argv = ["song.wav", f"--model={model}", "--output=other.wav"]
    for more, words in (
        ([], "needs a singer, one of: ann, ben"),
        (["--singer=anne"], "unknown singer 'anne' (did you mean ann?), expected one of: ann, ben"),
        (["--singer=ann", "--system=sin"], "a model of system sdn, not sin"),
        (["--singer=ann", "--accompaniment=band.wav"], "use --system=unet"),
    ):
        line = harness.one_line_error(lambda a: cli.main(["extract", *a]), [*argv, *more], capsys)
        assert words in line
    assert not (tmp_path / "other.wav").exists()


def contour() -> np.ndarray:
    """f0 of voiced rows of --f0_out, Hz."""
    rows = np.genfromtxt("f0.csv", delimiter=",", names=True)
    return rows["frequency"][rows["confidence"] > 0.5]


def heard(model: str, *argv: str) -> metrics.Analysis:
    """WORLD's analysis of what is sung."""
    extract(model, *argv)
    return metrics.analyse_voice(audio_io.read("voice.wav", harness.RATE)[0])


def test_an_octave_up_doubles_f0():
    found, sung = [], []
    for semitones in (0, 12):
        f0 = heard("sin-lite", f"--transpose={semitones}", "--f0_out=f0.csv").f0
        found.append(contour())
        sung.append(np.median(f0[f0 > 0]))
    assert len(found[0]) > 100
    np.testing.assert_allclose(found[1], 2 * found[0], rtol=1e-4)
    assert sung[1] == pytest.approx(2 * sung[0], rel=0.01)


def test_two_singers_have_two_timbres_and_one_melody():
    # Somebody has to sing: tones are no singing for every singer.
    song = Path(__file__).parent.parent / "examples" / "sakura" / "mix.flac"
    audio, rate = soundfile.read(song, start=5 * 44_100, frames=2 * 44_100)
    soundfile.write("song.wav", audio, rate, subtype="FLOAT")
    found, voices = [], []
    for singer in ("pjs", "kumi"):
        voices.append(heard("sdn-lite", f"--singer={singer}", "--f0_out=f0.csv"))
        found.append(contour())
    assert len(found[0]) > 100
    np.testing.assert_array_equal(*found)
    both = (voices[0].f0 > 0) & (voices[1].f0 > 0)
    assert both.sum() > 100
    assert np.median(np.abs(1200 * np.log2(voices[0].f0[both] / voices[1].f0[both]))) < 5
    assert metrics.distortion(*voices).mean_db > 2.0


@pytest.mark.slow
@pytest.mark.parametrize("system", ["sin", "sdn", "ss", "unet"])
def test_the_same_voice_on_every_runtime(system, tmp_path):
    base = exported(system, tmp_path)
    singer = ["--singer=ben"] if SIGNATURES[system].singers else []
    vocoder = system != "unet"
    voices, features = {}, {}
    for runtime, ending in FILES.items():
        argv = [base + ending, f"--runtime={runtime}", f"--system={system}", *singer]
        if vocoder:
            # The voices are of one contour: phase is f0 summed up, and a last bit of it, which
            # runtimes may differ by, moves high partials by a percent within a second.
            side = [] if features else ["--f0_out=f0.csv"]
            extract(*argv, "--features_out=f.npz", *side)
            with np.load("f.npz") as stored:
                features[runtime] = dict(stored)
            voices[runtime] = extract(*argv, "--f0=f0.csv")
        else:
            voices[runtime] = extract(*argv, "--accompaniment=band.wav")
            band, _ = soundfile.read("band.wav")
            mixture, _ = soundfile.read("song.wav")
            np.testing.assert_allclose(band + voices[runtime], mixture, atol=1e-5)
    expected = voices["litert"]
    assert expected.shape == (harness.RATE, 1 if vocoder else 2) and expected.std() > 1e-5
    for runtime in ("keras", "saved_model"):
        error = np.abs(voices[runtime] - expected).max()
        assert error < 1e-3 * np.abs(expected).max(), (runtime, error)
        for name, value in features.get(runtime, {}).items():
            reference = features["litert"][name].astype(float)
            scale = max(reference.std(), 1e-3)
            assert np.abs(value - reference).max() < 1e-3 * scale, (runtime, name)
    assert audio_io.probe("voice.wav").sample_rate == RATE
