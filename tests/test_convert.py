"""`sep-tf convert`: chunks that leave no seam, lengths, levels, singers."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sep_tf import audio_io, convert, metrics, world
from sep_tf.runtimes import ModelInfo
from sep_tf.runtimes.keras import save_weights
from tests import harness

SINGERS = ("ann", "ben")
VOICE = Path(__file__).parent.parent / "examples" / "sakura" / "vocals.flac"


class Timbre:
    """A runtime that smooths the envelope in time and tilts it by the singer's number."""

    name = "fake"

    def __init__(self, chunk_frames: int) -> None:
        self.info = ModelInfo("autovc", {}, 32, chunk_frames, singers=SINGERS)
        self.calls: list[tuple[int, int]] = []

    def __call__(self, inputs):
        self.calls.append((inputs["source"], inputs["target"]))
        assert len(inputs["envelope"]) == self.info.frames
        kernel = np.ones(9) / 9
        smooth = np.apply_along_axis(np.convolve, 0, inputs["envelope"], kernel, mode="same")
        smooth[:, 1] += inputs["target"]
        return {
            "envelope": smooth.astype(np.float32),
            "aperiodicity": inputs["aperiodicity"] - 1.0,
        }


def features(frames: int) -> world.VocoderFeatures:
    rng = np.random.default_rng(frames)
    return world.VocoderFeatures(
        rng.normal(-8, 1, (frames, 60)).astype(np.float32),
        rng.normal(-20, 1, (frames, 4)).astype(np.float32),
        np.full(frames, 220.0, np.float32),
        np.ones(frames, bool),
    )


@pytest.mark.parametrize("frames", [1, 63, 64, 65, 300])
@pytest.mark.parametrize("piece", [7, 64, 1000])
def test_chunks_do_not_show(frames, piece):
    voice = features(frames)
    pieces = [voice[start : start + piece] for start in range(0, frames, piece)]
    runtime = Timbre(64)
    found = world.VocoderFeatures.concatenate(list(convert.convert(runtime, pieces, 1)))
    whole = world.VocoderFeatures.concatenate(list(convert.convert(Timbre(512), [voice], 1)))
    assert len(found) == frames and set(runtime.calls) == {(-1, 1)}
    np.testing.assert_allclose(found.stacked, whole.stacked, atol=1e-5)
    np.testing.assert_array_equal(found.f0, voice.f0)
    np.testing.assert_allclose(found.aperiodicity, voice.aperiodicity - 1.0, atol=1e-5)


@pytest.mark.parametrize("gain", [0.05, 1.0])
def test_level_length_and_melody_are_kept(tmp_path, gain):
    """Whatever the voice's level, the network hears it at the same one."""
    audio = gain * harness.sung(2.0, 220.0, level=0.5)
    soundfile.write(tmp_path / "voice.wav", audio, harness.RATE, subtype="FLOAT")
    result = convert.convert_file(
        Timbre(64), str(tmp_path / "voice.wav"), str(tmp_path / "out.wav"), 0, output_rate=44_100
    )
    found, rate = soundfile.read(tmp_path / "out.wav")
    assert rate == 44_100 and len(found) == 88_200 and result.seconds == 2.0
    level = 20 * np.log10(np.std(found) / np.std(audio))
    assert abs(level) < 2.0
    f0 = world.estimate_f0(audio_io.read(tmp_path / "out.wav", harness.RATE)[0])[50:350]
    assert 1200 * np.abs(np.log2(np.median(f0[f0 > 0]) / 220.0)) < 20


def test_gain_leaves_silence_as_it_is():
    found = features(40)
    found.envelope[10:20] = world.silence_features(10).envelope
    louder = convert.with_gain(found, 10.0)
    np.testing.assert_array_equal(louder.envelope[10:20], found.envelope[10:20])
    np.testing.assert_allclose(
        louder.envelope[:10, 0], found.envelope[:10, 0] + 2 * np.log(10), rtol=1e-6
    )


def test_silence_stays_silence(tmp_path):
    soundfile.write(tmp_path / "voice.wav", np.zeros(20_000), harness.RATE)
    convert.convert_file(Timbre(64), str(tmp_path / "voice.wav"), str(tmp_path / "out.wav"), 1)
    found, _ = soundfile.read(tmp_path / "out.wav")
    assert len(found) == 20_000 and not found.any()


@pytest.mark.parametrize("semitones", [pytest.param(0, marks=pytest.mark.slow), -5])
def test_the_bundled_model_keeps_the_melody(tmp_path, semitones):
    """Four seconds of the bundled voice, as somebody else, and a fourth lower."""
    output = tmp_path / "out.wav"
    argv = ["--singer=pjs", "--offset=4", "--duration=4", f"--transpose={semitones}"]
    assert convert.run([str(VOICE), *argv, f"--output={output}"]) == 0
    voice = audio_io.read(VOICE, harness.RATE)[0][4 * harness.RATE : 8 * harness.RATE]
    before = metrics.analyse_voice(voice)
    after = metrics.analyse_voice(audio_io.read(output, harness.RATE)[0])
    assert len(before) == len(after)
    both = (before.f0 > 0) & (after.f0 > 0)
    assert both.sum() > 0.9 * (before.f0 > 0).sum()
    cents = 1200 * np.log2(after.f0[both] / before.f0[both]) - 100 * semitones
    assert np.median(np.abs(cents)) < 20
    # It is somebody else: WORLD alone is at 2.0 dB.
    assert metrics.distortion(before, after).mean_db > 3.5


def test_what_is_wrong(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("voice.wav", harness.sung(0.5, 220.0), harness.RATE)
    line = harness.one_line_error(convert.run, ["voice.wav"], capsys)
    assert "no --singer given" in line
    argv = ["voice.wav", "--singer=ann", "--model=sin-lite"]
    assert "of system sin, not autovc" in harness.one_line_error(convert.run, argv, capsys)
    argv = ["voice.wav", "--singer=ann", "--model=nobody"]
    assert "unknown model 'nobody'" in harness.one_line_error(convert.run, argv, capsys)


@pytest.mark.slow
def test_through_the_network(tmp_path, capsys):
    """AutoVC of random weights, run by the program on both runtimes: singers are heard."""
    from export import module, tflite
    from sep_tf import models
    from sep_tf.config import PRESETS

    model = models.build_system("autovc", PRESETS["tiny"], len(SINGERS))
    harness.randomise(model)
    info = module.model_info(model, PRESETS["tiny"], "autovc", SINGERS)
    save_weights(model, info, tmp_path / "autovc.weights.h5")
    tflite.write(tflite.convert(model, info), info, tmp_path / "autovc.tflite")
    soundfile.write(tmp_path / "v.wav", harness.sung(1.0, 220.0), harness.RATE)
    found = {}
    for ending in (".weights.h5", ".tflite"):
        for singer in SINGERS:
            output = tmp_path / f"{singer}{ending}.wav"
            argv = [str(tmp_path / "v.wav"), f"--model={tmp_path / 'autovc'}{ending}"]
            assert convert.run([*argv, f"--singer={singer}", f"--output={output}"]) == 0
            found[singer, ending] = soundfile.read(output)[0]
    for singer in SINGERS:
        a, b = (found[singer, ending] for ending in (".weights.h5", ".tflite"))
        assert len(a) == harness.RATE
        assert np.abs(a - b).max() < 0.01 * np.abs(a).max()
    assert np.abs(found["ann", ".tflite"] - found["ben", ".tflite"]).max() > 0.05
    capsys.readouterr()
    line = harness.one_line_error(convert.run, [*argv, "--singer=zoe"], capsys)
    assert f"{tmp_path / 'autovc.tflite'}: unknown singer 'zoe'" in line and "ann, ben" in line
