"""`sep-tf extract` and bad input: one clear line, exit 1, no output file, nothing heavy loaded.

The model is played by a stand-in that copies its input; the real one has its own tests.
"""

import inspect
import json
import os
import sys

import numpy as np
import pytest
import soundfile

from sep_tf import audio_io, cli, extract, jobs, resynth, runtimes, separator
from sep_tf.errors import ModelError
from sep_tf.runtimes import signatures

RATE = 16_000
REAL_SEPARATOR = separator.Separator


class CopyingSeparator:
    """Writes the mean of the channels, times `scale`."""

    system = "sin"
    scale = 1.0
    fails_with: BaseException | None = None

    def __init__(self, model, runtime, f0, *, server=None, singer=None, transpose=0.0, formant=1.0):
        REAL_SEPARATOR(model, runtime, f0, singer=singer, transpose=transpose, formant=formant)

    def load(self):
        pass

    def separate_file(
        self,
        src,
        dst,
        *,
        output_rate,
        clip,
        encoding,
        offset,
        duration,
        accompaniment=None,
        features_out=None,
        f0_out=None,
        midi_out=None,
        plot=None,
        progress=None,
    ):
        info = audio_io.probe(src)
        rate = output_rate or info.sample_rate
        resampler = audio_io.Resampler(info.sample_rate, rate)
        with audio_io.VoiceWriter(dst, rate, clip, encoding) as writer:
            for block in audio_io.read_blocks(src, offset=offset, duration=duration):
                writer.write(resampler.push(self.scale * block.mean(axis=1)))
                if self.fails_with is not None:
                    raise self.fails_with
            writer.write(resampler.finish())
        if features_out:
            with audio_io.replacing(features_out) as path, open(path, "wb") as file:
                np.savez(file, f0=np.zeros(1))
        seconds = writer.frames / rate
        return separator.Result(
            input=str(src),
            output=str(dst),
            runtime="litert",
            sample_rate=rate,
            n_samples=writer.frames,
            seconds=seconds,
            elapsed=0.1,
            real_time_factor=0.1 / seconds,
            peak=writer.peak,
            gain=writer.gain,
            voiced_share=0.5,
        )


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Works in a folder with one good song, the stand-in for a separator, and a model file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(separator, "Separator", CopyingSeparator)
    monkeypatch.setattr(CopyingSeparator, "system", "sin")
    monkeypatch.setattr(CopyingSeparator, "scale", 1.0)
    monkeypatch.setattr(CopyingSeparator, "fails_with", None)
    model = tmp_path / "weights"
    model.mkdir()
    (model / "sin-lite.tflite").write_bytes(b"model")
    monkeypatch.setattr(runtimes, "PRESETS", model)
    song("song.wav")
    return tmp_path


def song(name, n=RATE, channels=1, scale=0.5, rate=RATE, subtype=None):
    os.makedirs(os.path.dirname(os.path.abspath(name)), exist_ok=True)
    audio = scale * np.sin(np.arange(n * channels) * 0.05).reshape(n, channels)
    soundfile.write(name, audio, rate, subtype=subtype)


def all_files() -> set[str]:
    return {
        os.path.relpath(os.path.join(parent, name))
        for parent, _, names in os.walk(".")
        for name in names
    }


def make_bad(kind):
    """Makes the bad file; returns its path."""
    content = {
        "empty.wav": b"",
        "text.wav": b"these are words\n" * 50,
        "text.mp3": b"these are words\n" * 50,
        "noise.flac": bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)),
        "video.mp4": b"\0\0\0\x20ftypisom" + bytes(100),
    }
    if kind in content:
        with open(kind, "wb") as file:
            file.write(content[kind])
    elif kind.startswith("truncated"):
        song(kind, 60_000)
        with open(kind, "rb") as file:
            data = file.read()
        with open(kind, "wb") as file:
            file.write(data[: len(data) // 2])
    elif kind in ("nan.wav", "inf.wav"):
        audio = np.zeros(RATE)
        audio[-1] = np.nan if kind == "nan.wav" else np.inf
        soundfile.write(kind, audio, RATE, subtype="FLOAT")
    elif kind == "zero_length.wav":
        soundfile.write(kind, np.zeros(0), RATE)
    elif kind == "folder_without_audio":
        os.mkdir(kind)
        with open(f"{kind}/cover.jpg", "w"):
            pass
    return kind


BAD_FILES = {
    "missing.wav": "No such file or directory",
    "missing": "No such file or directory",
    "empty.wav": "is empty",
    "text.wav": "not an audio file",
    "text.mp3": "not an audio file",
    "noise.flac": "not an audio file",
    "video.mp4": "ffmpeg -i video.mp4",
    "truncated.wav": "truncated",
    "truncated.flac": "truncated",
    "truncated.ogg": "truncated",
    "truncated.mp3": "truncated",
    "nan.wav": "NaN or infinite",
    "inf.wav": "NaN or infinite",
    "zero_length.wav": "holds no samples",
    "folder_without_audio": "holds no audio",
}


def fails(capfd, verb, *argv) -> str:
    """Runs, and checks all that holds for every failure; returns the line."""
    before = all_files()
    code = cli.main([verb, *argv])
    out, err = capfd.readouterr()
    assert code == 1 and out == ""
    assert err.startswith(f"sep-tf {verb}: error: ") and err.count("\n") == 1, err
    assert all_files() == before
    return err


@pytest.mark.parametrize("verb", ["extract", "resynth"])
@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_input(capfd, verb, kind):
    path = make_bad(kind)
    # C libraries print their own warnings about some broken files; the line is ours.
    line = fails(capfd, verb, path, "--output=out.wav")
    assert path in line and BAD_FILES[kind] in line


@pytest.mark.parametrize(
    "argv, words",
    [
        ([], "no input given"),
        (["song.wav", "--foo=1"], "unknown flag --foo"),
        (["song.wav", "--ouput=x.wav"], "unknown flag --ouput (did you mean --output?)"),
        (["song.wav", "--system=sim"], "unknown system 'sim', expected one of: sin"),
        (["song.wav", "--runtime=onnx"], "unknown runtime 'onnx', expected one of: auto, litert"),
        (["song.wav", "--f0=crepe"], "unknown f0 source 'crepe', expected one of: model, harvest"),
        (["song.wav", "--f0=missing.csv"], "missing.csv: No such file"),
        (["song.wav", "--transpose=30"], "transpose must be within 24 semitones, not 30"),
        (["song.wav", "--formant=0"], "formant must be a ratio from 0.5 to 2, not 0"),
        (["song.wav", "--encoding=pcm8"], "unknown encoding 'pcm8', expected one of: pcm16"),
        (["song.wav", "--output=o.flac", "--encoding=float"], "cannot hold float samples"),
        (["song.wav", "--name={song}.wav"], "unknown field {song}"),
        (["song.wav", "--name=voice.wav"], "without {stem} all outputs have one name"),
        (["song.wav", "--name=../{stem}.wav"], "leads out of the output folder"),
        (["song.wav", "other.wav", "--name={stem[0]}.wav"], "unknown field"),
        (["song.wav", "--existing=ask"], "ask"),
        (["song.wav", "--jobs=0"], "--jobs=0"),
        (["song.wav", "--f0_out=x.txt"], "expected a name that ends in .csv"),
        (["song.wav", "--midi_out=x.npz"], "expected a name that ends in .mid or .midi"),
        (["song.wav", "--plot=x.doc"], "expected a name that ends in .png"),
        (["song.wav", "--system=sdn"], "unknown model 'sdn-lite'"),
        (["song.wav", "--clip=soft"], "unknown clip 'soft', expected one of: rescale, clamp, none"),
        (["song.wav", "--model=sin-huge"], "unknown model 'sin-huge'"),
        (["song.wav", "--model=nowhere/x.tflite"], "nowhere/x.tflite does not exist"),
        (["song.wav", "--output_rate=7"], "--output_rate=7"),
        (["song.wav", "--output_rate=fast"], "--output_rate=fast"),
        (["song.wav", "--offset=-1"], "offset must be 0 or more"),
        (["song.wav", "--offset=1"], "beyond its end (1.000 s)"),
        (["song.wav", "--offset=nan"], "offset must be"),
        (["song.wav", "--duration=0"], "duration must be above 0"),
        (["song.wav", "--output=missing/out.wav"], "its folder does not exist"),
        (["song.wav", "--output=song.wav/out.wav"], "not a directory"),
        (["song.wav", "--output=missing/deep/"], "its parent does not exist"),
        (["song.wav", "--output=out.xyz"], "unknown output format '.xyz'"),
        (["song.wav", "--output=out"], "unknown output format ''"),
        (["song.wav", "--output=song.wav"], "the output would overwrite song.wav"),
        (["song.wav", "--output=./../" + "{here}/song.wav"], "would overwrite song.wav"),
        (["song.wav", "--output=link.wav"], "the output would overwrite song.wav"),
        (["song.wav", "--output=hard.wav"], "the output would overwrite song.wav"),
        (["song.wav", "song.wav", "other.wav", "--output=o.wav"], "several inputs need a folder"),
        (["folder", "--output=o.wav"], "several inputs need a folder"),
        (["song.wav", "folder/song.wav", "--output=weights"], "would both become"),
        (["song.wav", "--output=out.flac", "--clip=none"], "needs a format with float samples"),
        (["song.wav", "--output=out.mp3", "--output_rate=96000"], "cannot hold 1 channel"),
        (["song.wav", "--features_out=x.txt"], "expected a name that ends in .npz"),
        (["song.wav", "--features_out=no/x.npz"], "its folder does not exist"),
        (["song.wav", "folder", "--features_out=x.npz"], "is not an existing folder"),
        (["song.wav", "folder", "--features_out=weights"], "two inputs are called song"),
        (["song.wav", "--report=no/report.json"], "its folder does not exist"),
        (["song.wav", "--report=song.wav"], "it would overwrite song.wav"),
        (["song.wav", "--report=song.voice.wav"], "it would overwrite song.voice.wav"),
        (["song.wav", "--report=weights/sin-lite.tflite"], "it would overwrite"),
        (["--flagfile=missing.flags", "song.wav"], "missing.flags"),
    ],
)
def test_bad_flags(capfd, monkeypatch, here, argv, words):
    song("other.wav")
    song("folder/song.wav")
    os.symlink("song.wav", "link.wav")
    os.link("song.wav", "hard.wav")

    def never(*args, **kwargs):
        raise AssertionError("the model was loaded before everything was checked")

    monkeypatch.setattr(CopyingSeparator, "load", never)
    argv = [argument.replace("{here}", here.name) for argument in argv]
    assert words in fails(capfd, "extract", *argv)


def test_weights_that_do_not_fit_fail_once(capfd):
    CopyingSeparator.fails_with = ModelError("weights of another model")
    song("other.wav")
    assert "weights of another model" in fails(capfd, "extract", "song.wav", "other.wav")


def test_a_model_of_another_system(capfd, monkeypatch):
    monkeypatch.setattr(CopyingSeparator, "system", "unet")
    assert extract.run(["song.wav", "--system=sin"]) == 1
    assert "a model of system unet, not sin" in capfd.readouterr().err
    assert not os.path.exists("song.voice.wav")


def test_a_folder_below_that_cannot_be_listed(capfd, monkeypatch, here):
    (here / "album" / "secret").mkdir(parents=True)
    song("album/one.wav")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert extract.run(["album"]) == 1
    error = capfd.readouterr().err
    assert "secret: permission denied" in error and error.count("\n") == 1


def test_a_bug_keeps_its_traceback():
    CopyingSeparator.fails_with = ZeroDivisionError()
    before = all_files()
    with pytest.raises(ZeroDivisionError):
        cli.main(["extract", "song.wav"])
    assert all_files() == before


@pytest.mark.parametrize(
    "error, code", [(KeyboardInterrupt(), 130), (cli.Terminated(), 143), (OSError(28, "full"), 1)]
)
def test_interruptions_leave_nothing(capfd, error, code):
    CopyingSeparator.fails_with = error
    before = all_files()
    assert cli.main(["extract", "song.wav", "--output=out.wav"]) == code
    assert capfd.readouterr().err.count("\n") == 1
    assert all_files() == before


# What works.


@pytest.mark.parametrize("argv", [["song.wav"], ["--input=song.wav"], ["--input", "song.wav"]])
def test_writes_beside_the_song(capfd, argv):
    assert cli.main(["extract", *argv]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("song.voice.wav: 1.00 s of audio in ") and "real-time factor" in out
    assert err == "" and out.count("\n") == 1
    info = audio_io.probe("song.voice.wav")
    assert (info.frames, info.sample_rate, info.channels) == (RATE, RATE, 1)


@pytest.mark.parametrize("name", ["out.wav", "out.flac", "new/", "weights", "名 前.ogg"])
def test_output_is_a_file_or_a_folder(name):
    assert cli.main(["extract", "song.wav", f"--output={name}"]) == 0
    expected = name if "." in name else os.path.join(name, "song.voice.wav")
    assert audio_io.probe(expected).frames == RATE


def test_an_existing_output_is_replaced():
    song("out.wav", 5)
    assert cli.main(["extract", "song.wav", "--output=out.wav"]) == 0
    assert audio_io.probe("out.wav").frames == RATE


def test_output_rate_offset_and_duration():
    argv = ["song.wav", "--output=o.wav", "--output_rate=44100", "--offset=.25", "--duration=.5"]
    assert cli.main(["extract", *argv]) == 0
    assert audio_io.probe("o.wav").frames == 22_050


def test_flags_start_from_their_defaults_in_every_run():
    assert cli.main(["extract", "song.wav", "--output=o.wav", "--duration=0.5"]) == 0
    assert cli.main(["extract", "song.wav", "--output=o.wav"]) == 0
    assert audio_io.probe("o.wav").frames == RATE


def test_all_inputs_are_tried(capfd):
    make_bad("empty.wav")
    make_bad("nan.wav")
    song("other.flac", 100)
    make_bad("folder_without_audio")
    argv = ["nan.wav", "empty.wav", "song.wav", "missing.wav", "folder_without_audio"]
    argv += ["other.flac", "--output=out"]
    assert cli.main(["extract", *argv, "--report=report.json"]) == 1
    out, err = capfd.readouterr()
    assert err.count("\n") == 4 and err.count("sep-tf extract: error: ") == 4
    failed = ["empty.wav", "missing.wav", "folder_without_audio", "nan.wav"]
    assert out.splitlines()[-1] == f"2 of 6 files done, failed: {', '.join(failed)}"
    assert sorted(os.listdir("out")) == ["other.voice.wav", "song.voice.wav"]
    with open("report.json") as file:
        report = json.load(file)
    assert [r["n_samples"] for r in report["results"]] == [RATE, 100]
    assert [f["input"] for f in report["failures"]] == failed


def test_folders_are_searched_and_mirrored(capfd):
    for name in ("in/a.wav", "in/b/a.flac", "in/c.wav", "in/c.ogg", "in/.hidden/x.wav"):
        song(name, 100)
    song("in/old.voice.wav", 100)
    with open("in/notes.txt", "w") as file:
        file.write("no song")
    for _ in range(2):  # outputs of the first run are no songs for the second
        assert cli.main(["extract", "in", "--output=out/", "--features_out=weights"]) == 1
        assert "two inputs are called" in capfd.readouterr().err
        assert cli.main(["extract", "in", "--output=out/"]) == 0
        assert cli.main(["extract", "in"]) == 0
    made = {name for name in all_files() if name.endswith(".voice.wav")} - {"in/old.voice.wav"}
    names = ("a", "b/a", "c.wav", "c.ogg")
    assert made == {f"{top}/{name}.voice.wav" for top in ("in", "out") for name in names}


def test_the_same_song_twice_is_one_song(capfd):
    os.symlink("song.wav", "link.wav")
    assert cli.main(["extract", "song.wav", "./song.wav", "link.wav", "--output=o/"]) == 0
    assert len(os.listdir("o")) == 1


@pytest.mark.parametrize("clip", audio_io.CLIP_MODES)
def test_clipping_never_happens_unsaid(capfd, clip):
    CopyingSeparator.scale = 4.0
    assert cli.main(["extract", "song.wav", f"--clip={clip}"]) == 0
    err = capfd.readouterr().err
    assert "song.voice.wav: the voice peaks 6 dB above full scale" in err
    assert f"(--clip={clip})" in err and err.count("\n") == 1
    peak = np.abs(audio_io.read("song.voice.wav")[0]).max()
    assert peak == pytest.approx(2.0 if clip == "none" else 1.0, rel=1e-3)


def test_side_outputs():
    argv = ["song.wav", "--features_out=f.npz", "--report=r.json", "--f0=harvest"]
    assert cli.main(["extract", *argv]) == 0
    assert set(np.load("f.npz")) == {"f0"}
    with open("r.json") as file:
        (result,) = json.load(file)["results"]
    assert result["output"] == "song.voice.wav" and result["gain"] == 1.0


def test_progress_only_on_a_terminal(monkeypatch):
    with jobs.progress_bar("song") as progress:
        assert progress is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with jobs.progress_bar("song") as progress:
        progress(1.0, 10.0)
        progress(10.0, 10.0)


def test_the_stand_in_is_called_like_the_real_one():
    for name in ("__init__", "load", "separate_file"):
        ours, real = (
            inspect.signature(getattr(c, name)).parameters
            for c in (CopyingSeparator, REAL_SEPARATOR)
        )
        assert set(ours) == set(real)


def test_lists_agree():
    assert ("auto", *runtimes.RUNTIMES) == extract.RUNTIMES
    assert set(extract.SYSTEMS) == set(signatures.SIGNATURES) - {"autovc"}
    assert resynth.SUFFIX.removesuffix(".wav") == ".resynth"
