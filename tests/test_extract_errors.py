"""`sep-tf extract` and bad input: one clear line, exit 1, no output file, nothing heavy loaded.

The model is played by a stand-in that copies its input; the real one has its own tests.
"""

import os

import pytest

from sep_tf import cli, extract
from sep_tf.errors import ModelError
from tests.copying import (  # noqa: F401
    RATE,
    REAL_SEPARATOR,
    CopyingSeparator,
    all_files,
    here,
    make_bad,
    song,
)

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
    "huge.wav": "is 1e+37, 1 being full scale",
    "channels.wav": "300 channels cannot be right",
    "zero_length.wav": "holds no samples",
    "folder_without_audio": "holds no audio",
}
# The stand-in's file says nothing of its system.
UNET = ("--system=unet", "--model=sin-lite")


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
        (["song.wav", "other.wav", "--f0=f0.csv"], "f0.csv: is the melody of one song"),
        (["folder", "song.wav", "--f0=f0.csv"], "f0.csv: is the melody of one song"),
        (["song.wav", "--transpose=30"], "transpose must be within 24 semitones, not 30"),
        (["song.wav", "--formant=0"], "formant must be a ratio from 0.5 to 2, not 0"),
        (["song.wav", "--encoding=pcm8"], "unknown encoding 'pcm8', expected one of: pcm16"),
        (["song.wav", "--output=o.flac", "--encoding=float"], "cannot hold float samples"),
        (["song.wav", "--name={song}.wav"], "unknown field {song}"),
        (["song.wav", "--name=voice.wav"], "without {stem} all outputs have one name"),
        (["song.wav", "--name=../{stem}.wav"], "leads out of the output folder"),
        (["song.wav", "other.wav", "--name={stem[0]}.wav"], "unknown field"),
        (["song.wav", "--name={stem:d}.wav"], "{stem} takes no format"),
        (["song.wav", "--name={stem!r}.wav"], "{stem} takes no format"),
        (["song.wav", "--name={stem:{x}}.wav"], "{stem} takes no format"),
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
        (["song.wav", "--offset=nan"], "--offset=nan is no finite number"),
        (["song.wav", "--duration=0"], "duration must be above 0"),
        (["song.wav", "--output=missing/out.wav"], "its folder does not exist"),
        (["song.wav", "--output=song.wav/out.wav"], "not a directory"),
        (["song.wav", "--output=missing/deep/"], "its parent does not exist"),
        (["song.wav", "other.wav", "--output="], "--output= names nothing"),
        (["song.wav", "other.wav", "--plot="], "--plot= names nothing"),
        (["song.wav", "--name=hard.wav/{stem}.wav"], "hard.wav: the folder cannot be made"),
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
        (["song.wav", "--output=out.mp3", "--output_rate=96000"], "at 96000 Hz, but at 48000 Hz"),
        (["song.wav", "--output=o.wav", "--name={stem}.wav"], "--name needs a folder"),
        (["song.wav", "--features_out=x.txt"], "expected a name that ends in .npz"),
        (["song.wav", "--features_out=no/x.npz"], "its folder does not exist"),
        (["song.wav", "--features_out=missing/deep/"], "its parent does not exist"),
        (["song.wav", "folder", "--features_out=x.npz"], "several inputs need a folder"),
        (["folder", "--plot=x.svg"], "--plot=x.svg: several inputs need a folder"),
        (["song.wav", "folder", "--features_out=weights"], "would both become weights/song"),
        (["six.wav", *UNET, "--output=v.mp3"], "v.mp3: MP3 (MPEG_LAYER_III) cannot hold 6 channel"),
        (["six.wav", "--accompaniment=b.mp3"], "b.mp3: MP3 (MPEG_LAYER_III) cannot hold 6 channel"),
        (["song.wav", "--report=no/report.json"], "its folder does not exist"),
        (["song.wav", "--report=song.wav"], "it would overwrite song.wav"),
        (["song.wav", "--report=song.voice.wav"], "it would overwrite song.voice.wav"),
        (["song.wav", "--report=weights/sin-lite.tflite"], "it would overwrite"),
        (["--flagfile=missing.flags", "song.wav"], "missing.flags"),
    ],
)
def test_bad_flags(capfd, monkeypatch, tmp_path, argv, words):
    song("other.wav")
    song("six.wav", channels=6)
    song("folder/song.wav")
    with open("f0.csv", "w") as file:
        file.write("0,220\n0.01,220\n")
    os.symlink("song.wav", "link.wav")
    os.link("song.wav", "hard.wav")

    def never(*args, **kwargs):
        raise AssertionError("the model was loaded before everything was checked")

    monkeypatch.setattr(CopyingSeparator, "load", never)
    argv = [argument.replace("{here}", tmp_path.name) for argument in argv]
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


def test_a_folder_below_that_cannot_be_listed(capfd, monkeypatch, tmp_path):
    (tmp_path / "album" / "secret").mkdir(parents=True)
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
