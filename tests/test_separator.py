"""The public API: lengths, chunks, runtimes and errors; the bundled model on the bundled song."""

import concurrent.futures
import dataclasses
import re
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sep_tf import audio_io, metrics, runtimes, separator, synthesis, voicing, world
from sep_tf.errors import AudioError, ModelError, SepTfError
from sep_tf.runtimes import ModelInfo

ROOT = Path(__file__).parent.parent
SONG, DOCS = ROOT / "examples" / "sakura", ROOT / "docs"
RATE = 32_000


class SpectralRuntime:
    """A runtime without a network: features are simple, local functions of the spectrograms."""

    name = "spectral"

    def __init__(self, chunk_frames: int = 64, context: int = 64) -> None:
        self.info = ModelInfo("sin", {}, context, chunk_frames)

    def __call__(self, spectrograms):
        coarse, fine = spectrograms["magnitude"], spectrograms["magnitude_4096"]
        assert len(coarse) == len(fine) == self.info.chunk_frames + 2 * self.info.context
        level = np.log(coarse.mean(axis=1) + 1e-4)
        # A neighbour on each side: what lies beyond the chunk must be there as context.
        smooth = np.convolve(level, np.ones(9) / 9, mode="same")
        envelope = np.zeros((len(level), 60), np.float32)
        envelope[:, 0] = smooth - 8.0
        pitch = 100.0 + fine[:, 10:200].argmax(axis=1)
        return {
            "envelope": envelope,
            "aperiodicity": np.full((len(level), 4), -20.0, np.float32),
            "f0": pitch.astype(np.float32),
            "voicing": (smooth > -3.0).astype(np.float32),
        }


@pytest.fixture
def fake(monkeypatch):
    """Separator over SpectralRuntime; `fake(chunk_frames)` makes one."""
    monkeypatch.setattr(runtimes, "find", lambda model, *_: ("spectral", Path(model)))

    def make(chunk_frames: int = 64, **wishes) -> separator.Separator:
        monkeypatch.setattr(runtimes, "load", lambda *_: SpectralRuntime(chunk_frames))
        made = separator.Separator("fake", **wishes)
        made.load()
        return made

    return make


def song(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Noise bursts under a gliding tone."""
    n = round(seconds * rate)
    t = np.arange(n) / rate
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * np.cumsum(200 + 50 * np.sin(2 * np.pi * t)) / rate)
    return (0.2 * tone * (np.sin(3 * t) > -0.5) + 0.01 * rng.standard_normal(n)).astype(np.float32)


def notes(seconds: float, sung: float) -> np.ndarray:
    """Tones of so many seconds with rests of 0.3 s between them."""
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 220.0 * t) * (t % (sung + 0.3) < sung)).astype(np.float32)


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 9000),
    rate=st.sampled_from([8000, 11025, 22050, 32000, 44100, 48000, 192000]),
)
def test_the_voice_is_as_long_as_the_song(n, rate):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtimes, "find", lambda *_: ("spectral", Path("x")))
        patch.setattr(runtimes, "load", lambda *_: SpectralRuntime())
        audio = song(1.2, rate)[:n]
        voice = separator.Separator("fake").separate(audio, rate)
    assert voice.shape == audio.shape and voice.dtype == np.float32
    assert np.isfinite(voice).all()


def test_a_model_may_be_a_path(tmp_path):
    separator.Separator(runtimes.PRESETS / "sin-lite.tflite")
    with pytest.raises(ModelError, match="does not exist"):
        separator.Separator(tmp_path / "mine.tflite")


def test_chunks_do_not_show(fake):
    audio = song(4.0)
    whole, cut = (fake(size).analyse(audio, RATE) for size in (1024, 48))
    assert len(whole) == 1 + len(audio) // 160
    for field in dataclasses.fields(world.VocoderFeatures):
        np.testing.assert_allclose(
            getattr(cut, field.name), getattr(whole, field.name), atol=1e-5, err_msg=field.name
        )


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_a_stream_is_the_voice_of_the_whole(fake, rate):
    rng = np.random.default_rng(3)
    audio = (rng.normal(size=(2 * rate + 7, 2)) * 0.1).astype(np.float32)
    blocks = [block.copy() for block in np.array_split(audio, [1, 500, 500, 501, 30_000])]
    pieces = list(fake().stream(iter(blocks), rate))
    np.testing.assert_array_equal(np.concatenate(blocks), audio)
    voice = np.concatenate(pieces)
    assert voice.dtype == np.float32 and len(voice) == len(audio)
    np.testing.assert_allclose(voice, fake().separate(audio, rate), atol=1e-5)


@pytest.mark.parametrize("sung, segment", [(40.0, 20.0), (6.0, 8.5), (2.2, 5.0)])
def test_how_late_a_stream_is(fake, sung, segment):
    """A chunk with its context, the wait for voicing and a segment, at every yield."""
    made, audio = fake(1024), notes(40.0, sung)
    heard, late, voice = 0, [], 0

    def blocks():
        nonlocal heard
        for block in np.split(audio, 400):
            heard += len(block)
            yield block

    for part in made.stream(blocks(), RATE):
        if len(part):
            late.append((heard - voice) / RATE)
        voice += len(part)
    assert voice == len(audio) and made.analyse(audio, RATE).voiced.mean() > 0.8
    info = made.runtime.info
    chunk = (info.chunk_frames + info.context + voicing.DELAY_FRAMES) / 200
    assert chunk < max(late) < chunk + segment + 0.2, late


def test_what_is_said_of_how_late_a_stream_is_holds_for_the_bundled_model():
    info = runtimes.describe("sin-lite")
    chunk = (info.chunk_frames + info.context + voicing.DELAY_FRAMES) / 200
    for text in (separator.Separator.stream.__doc__, (DOCS / "edge.md").read_text("utf-8")):
        said = re.findall(r"([\d.]+)\s+s\b", text)
        for seconds in (chunk + 2.5, chunk + 5, chunk + 20):
            assert any(0 <= float(number) - seconds <= 0.2 for number in said), (seconds, said)


def test_a_stream_ends_where_its_sound_is_broken(fake):
    with pytest.raises(AudioError, match="NaN"):
        list(fake().stream([np.zeros(100), np.array([np.nan])], RATE))


def test_a_file_gives_the_same_voice_as_its_array(fake, tmp_path):
    made = fake()
    audio = np.stack([song(3.3, 44_100), song(3.3, 44_100, seed=1)], axis=1)
    soundfile.write(tmp_path / "song.wav", audio, 44_100, subtype="FLOAT")
    seen = []
    result = made.separate_file(
        tmp_path / "song.wav",
        tmp_path / "voice.wav",
        clip="none",
        features_out=tmp_path / "voice.npz",
        progress=lambda done, total: seen.append((done, total)),
    )
    voice, rate = soundfile.read(tmp_path / "voice.wav", dtype="float32")
    assert rate == 44_100 and result.n_samples == len(voice) == len(audio)
    np.testing.assert_allclose(voice, made.separate(audio, 44_100), atol=1e-6)
    with np.load(tmp_path / "voice.npz") as stored:
        features = made.analyse(audio, 44_100)
        np.testing.assert_array_equal(stored["voiced"], features.voiced)
        np.testing.assert_allclose(stored["f0"], features.f0, rtol=1e-5)
    assert result.voiced_share == pytest.approx(features.voiced.mean())
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == pytest.approx(seen[-1][1]) == pytest.approx(3.3)


def test_offset_duration_and_rate(fake, tmp_path):
    soundfile.write(tmp_path / "song.flac", song(3.0), RATE)
    result = fake().separate_file(
        tmp_path / "song.flac",
        tmp_path / "voice.wav",
        offset=0.5,
        duration=1.25,
        output_rate=48_000,
    )
    info = audio_io.probe(tmp_path / "voice.wav")
    assert (info.sample_rate, info.frames) == (48_000, 60_000)
    assert result.seconds == pytest.approx(1.25)


def test_silent_far_from_every_voiced_frame(fake):
    """Noise without a tone: consonants beside the voice stay, the rest of the music does not."""
    audio = song(3.0)
    audio[2 * RATE :] = 0.001 * np.random.default_rng(0).standard_normal(RATE)
    features = fake().analyse(audio, RATE)
    last = np.flatnonzero(features.voiced)[-1]
    assert last < 520
    assert (features.envelope[last + 41 :, 0] < -30).all()
    assert (features.envelope[last : last + 40, 0] > -30).all()


def test_silence_gives_silence(fake):
    made = fake()
    assert not made.separate(np.zeros(50_000), 44_100).any()
    assert not made.analyse(np.zeros(3_000), RATE).voiced.any()


def test_same_samples_twice_from_many_threads_and_untouched_input(fake):
    made = fake()
    audio = song(2.0, 44_100)
    before = audio.copy()
    expected = made.separate(audio, 44_100)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for voice in pool.map(lambda _: made.separate(audio, 44_100), range(8)):
            np.testing.assert_array_equal(voice, expected)
    np.testing.assert_array_equal(audio, before)


@pytest.mark.parametrize(
    "audio, words",
    [
        (np.zeros(0), "no samples"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.array([0.0, np.inf]), "NaN or infinite"),
        (np.zeros((2, 2, 2)), r"\[2, 2, 2\]"),
        (np.zeros(10, np.int16), "int16"),
    ],
)
def test_bad_arrays(fake, audio, words):
    with pytest.raises(AudioError, match=words):
        fake().separate(audio, 44_100)


def test_unknown_names():
    with pytest.raises(ModelError, match="unknown runtime 'tpu'"):
        separator.Separator(runtime="tpu")
    with pytest.raises(ModelError, match="unknown model 'nobody'"):
        separator.Separator("nobody")
    with pytest.raises(ModelError, match="does not exist"):
        separator.Separator("folder/model.tflite")
    with pytest.raises(SepTfError, match="unknown f0 source 'guess'"):
        separator.Separator(f0="guess")


@pytest.mark.parametrize("name, content", [("m.tflite", b"no model"), ("m.weights.h5", b"none")])
def test_files_that_are_no_models(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is no model of sep_tf"):
        separator.Separator(str(path)).load()


def test_harvest_replaces_the_networks_pitch(fake):
    made = fake(f0="harvest")
    t = np.arange(RATE) / RATE
    audio = sum(0.1 / h * np.sin(2 * np.pi * 233.0 * h * t) for h in range(1, 12))
    f0 = made.analyse(audio, RATE).f0[20:180]
    assert np.abs(f0 / 233.0 - 1.0).max() < 0.01


def test_a_model_is_opened_at_first_use_and_once(monkeypatch):
    opened = []
    monkeypatch.setattr(
        runtimes, "open_model", lambda *what: opened.append(what) or SpectralRuntime()
    )
    made = [separator.Separator() for _ in range(2)]
    assert not opened
    for _ in range(2):
        made[0].analyse(song(0.5), RATE)
    assert len(opened) == 1
    made[1].load()
    assert len(opened) == 2


@pytest.mark.parametrize(
    "absent, expected",
    [((), "litert"), (("ai_edge_litert",), "keras"), (("ai_edge_litert", "tensorflow"), "keras")],
)
def test_auto_is_the_first_that_is_installed(monkeypatch, absent, expected):
    monkeypatch.setattr(
        runtimes.importlib.util, "find_spec", lambda name: None if name in absent else name
    )
    name, path = runtimes.find("sin-lite", "auto")
    assert name == expected and path.name.endswith(runtimes.RUNTIMES[expected].ending)


def test_auto_without_any_names_what_to_install(monkeypatch):
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="runtime litert needs the package ai_edge_litert"):
        separator.Separator()


def test_synthesis_and_networks_overlap(fake, monkeypatch):
    """The network goes on with later chunks while the first segment is rendered."""
    made, called, seen = fake(), threading.Event(), []
    network, render = SpectralRuntime.__call__, synthesis._render

    def call(self, inputs):
        called.set()
        return network(self, inputs)

    def render_first_during_a_call(*args):
        if not seen:
            called.clear()
            seen.append(called.wait(10.0))
        return render(*args)

    monkeypatch.setattr(SpectralRuntime, "__call__", call)
    monkeypatch.setattr(synthesis, "_render", render_first_during_a_call)
    made.separate(notes(12.0, 2.2), RATE)
    assert seen == [True]


# The bundled weights.


@pytest.fixture(scope="module")
def bundled():
    return separator.Separator.from_pretrained()


@pytest.fixture(scope="module")
def demo_song(bundled):
    """Mixture, voice and features of ten seconds: two without a voice, eight with it."""
    names = ("mix.flac", "vocals.flac")
    mix, true = (audio_io.read(SONG / name, RATE)[0][: 10 * RATE] for name in names)
    return mix, true, bundled.analyse(mix, RATE)


def test_bundled_song_is_in_tune_and_silent_where_nobody_sings(demo_song):
    """A guard against broken weights or front ends; the song is no test of quality."""
    _, true, features = demo_song
    reference = metrics.analyse_voice(true)
    scores = metrics.pitch_scores(reference.f0, features.f0, features.voiced)
    # WORLD's harvest on the mixture: 0.12.
    assert scores.raw_pitch > 0.7
    assert scores.voicing_false_alarm < 0.5
    voice = world.synthesise(features, len(true))
    assert metrics.distortion(reference, metrics.analyse_voice(voice)).mean_db < 8.0


def test_runtimes_give_the_same_voice(demo_song):
    mix, _, features = demo_song
    other = separator.Separator(runtime="keras").analyse(mix[: 5 * RATE], RATE)
    both = slice(0, len(other) - 200)
    cents = 1200 * np.abs(np.log2(other.f0[both] / features.f0[both]))
    sung = other.voiced[both] & features.voiced[both]
    assert (other.voiced[both] == features.voiced[both]).mean() > 0.995
    assert (cents[sung] < 10).mean() > 0.99
    error = np.abs(other.envelope[both] - features.envelope[both]).max()
    assert error < 0.05 * features.envelope[both].std(axis=0).max()


def test_extract_needs_no_tensorflow(tmp_path):
    soundfile.write(tmp_path / "song.wav", song(0.5), RATE)
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras'): sys.modules[name] = None\n"
        "from sep_tf import cli\n"
        f"sys.exit(cli.main(['extract', {str(tmp_path / 'song.wav')!r}]))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert audio_io.probe(tmp_path / "song.voice.wav").frames == RATE // 2


@pytest.mark.slow
def test_memory_does_not_grow_with_the_song(fake, tmp_path):
    def peak(seconds: int) -> int:
        path = tmp_path / f"{seconds}.wav"
        with soundfile.SoundFile(path, "w", 16_000, 1) as file:
            for second in range(seconds):
                file.write(song(1.0, 16_000, seed=second))
        tracemalloc.start()
        fake(2560).separate_file(path, tmp_path / "voice.wav")
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    short, long = peak(120), peak(900)
    assert long < 1.1 * short
