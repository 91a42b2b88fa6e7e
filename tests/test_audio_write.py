"""audio_write: formats, whole files or none, and samples beyond full scale."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from sep_tf import audio_io, audio_write, overwriting
from sep_tf.errors import SepTfError
from tests.audio_files import FORMATS, RATE, hidden_files, tone, write

# Writing.


@pytest.mark.parametrize("extension", audio_write.FORMATS)
@pytest.mark.parametrize("n", [1, 160, 50_001])
def test_writes_every_format(tmp_path, extension, n):
    path = tmp_path / f"a{extension}"
    with audio_io.Writer(path, 48_000) as writer:
        for start in range(0, n, 10_000):
            writer.write(tone(n, 48_000)[start : start + 10_000, 0])
        assert not path.exists()
    assert audio_io.probe(path).frames == n
    assert (writer.frames, hidden_files(tmp_path)) == (n, [])
    read, _ = audio_io.read(path)
    if n == 50_001:
        assert np.abs(read - tone(n, 48_000)[:, 0])[2_000:-2_000].max() < 0.1


def test_a_long_ogg_block(tmp_path):
    with audio_io.Writer(tmp_path / "a.ogg", RATE) as writer:
        writer.write(tone(20 * RATE)[:, 0])
    assert audio_io.probe(tmp_path / "a.ogg").frames == 20 * RATE


@pytest.mark.parametrize("name", ["wav16", "flac", "ogg", "opus", "mp3"])
def test_the_length_of_blocks_changes_nothing(tmp_path, name):
    extension, subtype, rate, _ = FORMATS[name]
    path = write(tmp_path / f"a{extension}", tone(60_000, rate), rate, subtype)
    once, many = (
        np.concatenate(list(audio_io.read_blocks(path, block_frames=n))) for n in (60_000, 1_111)
    )
    np.testing.assert_array_equal(once, many)


@pytest.mark.parametrize("writer", [audio_io.Writer, audio_io.VoiceWriter])
def test_a_finished_file_appears_at_the_end_of_the_block(tmp_path, writer):
    path = tmp_path / "a.wav"
    with writer(path, RATE) as out:
        out.write(tone(10_000)[:, 0])
        out.finish()
        assert not path.exists()
    assert audio_io.probe(path).frames == 10_000
    path.unlink()
    with pytest.raises(RuntimeError), writer(path, RATE) as out:
        out.write(tone(10_000)[:, 0])
        out.finish()
        raise RuntimeError
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("writer", [audio_io.Writer, audio_io.VoiceWriter])
def test_nothing_stays_after_an_error(tmp_path, writer, error):
    path = tmp_path / "a.wav"
    path.write_bytes(b"before")
    with pytest.raises(error), writer(path, RATE) as out:
        out.write(tone(10_000)[:, 0])
        raise error
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.wav"]


def test_replacing_keeps_links_and_the_old_file_until_the_end(tmp_path):
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    with overwriting.replacing(link) as temporary:
        with open(temporary, "w") as file:
            file.write("new")
        assert target.read_text() == "old"
    assert link.is_symlink() and target.read_text() == "new"
    with pytest.raises(RuntimeError), overwriting.replacing(link):
        raise RuntimeError
    assert target.read_text() == "new" and hidden_files(tmp_path) == []


def test_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(SepTfError, match=r"pipe\.csv: cannot be written: is a device or a pipe"):
        overwriting.check_writable(tmp_path / "pipe.csv")
    assert (tmp_path / "pipe.csv").is_fifo() and hidden_files(tmp_path) == []


def test_files_get_the_usual_permissions(tmp_path):
    with audio_io.Writer(tmp_path / "a.wav", RATE) as writer:
        writer.write(tone(1)[:, 0])
    (tmp_path / "usual").touch()
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    "name, words",
    [
        ("a.xyz", "unknown output format '.xyz', expected one of: .wav, .flac"),
        ("a", "unknown output format ''"),
        ("missing/a.wav", "its folder does not exist"),
        ("file.wav/a.wav", "not a directory"),
        ("folder.wav", "is a folder"),
        ("x" * 300 + ".wav", "name too long"),
    ],
)
def test_unwritable_outputs(tmp_path, name, words):
    (tmp_path / "file.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(SepTfError, match=words):
        audio_io.check_output(tmp_path / name, RATE)
    assert sorted(os.listdir(tmp_path)) == ["file.wav", "folder.wav"]


def test_rates_a_format_cannot_hold_are_known_before_any_work(tmp_path):
    for name in ("a.mp3", "a.opus"):
        with pytest.raises(SepTfError, match="cannot hold 1 channel.* at 96000 Hz"):
            audio_io.check_output(tmp_path / name, 96_000)
    audio_io.check_output(tmp_path / "a.mp3", 48_000)
    assert os.listdir(tmp_path) == []


def test_integers_clamp_and_never_wrap(tmp_path):
    for name in ("a.wav", "a.flac", "a.aiff"):
        with audio_io.Writer(tmp_path / name, RATE) as writer:
            writer.write(np.array([1.5, -1.5, 1.0, -1.0, 100.0], np.float32))
        read, _ = audio_io.read(tmp_path / name)
        np.testing.assert_allclose(read, [1, -1, 1, -1, 1], atol=1e-6)
        assert writer.peak == 100.0


def test_a_wav_above_4_gib_becomes_rf64(tmp_path):
    writer = audio_io.Writer(tmp_path / "a.wav", RATE, expected_frames=2**31)
    with writer:
        writer.write(tone(10)[:, 0])
    assert audio_io.probe(tmp_path / "a.wav").format == "RF64"
    with pytest.raises(SepTfError, match="too long for a WAV"):
        with audio_io.Writer(tmp_path / "b.wav", RATE) as writer:
            writer.frames = 2**31
            writer.write(tone(10)[:, 0])
    assert os.listdir(tmp_path) == ["a.wav"]


_FULL_DISK = """
import resource, signal, sys
import numpy as np
from sep_tf import audio_io, errors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for kind in (audio_io.Writer, audio_io.VoiceWriter):
    for path in sys.argv[2:]:
        try:
            with kind(path, 48_000) as writer:
                for _ in range(30):
                    writer.write(np.random.default_rng(0).uniform(-1, 1, 10_000))
        except errors.SepTfError as error:
            print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no file size limit here")
@pytest.mark.parametrize("limit", [0, 50, 20_000])
def test_a_full_disk_is_noticed(tmp_path, limit):
    """Nothing may be written, a header, or a part; whichever it is, the format is not to blame."""
    names = ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.w64"]
    paths = [tmp_path / name for name in names]
    run = subprocess.run(
        # Without -B what is imported under the limit would leave half a compiled file behind.
        [sys.executable, "-B", "-O", "-c", _FULL_DISK, str(limit), *map(str, paths)],
        capture_output=True,
        text=True,
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    )
    lines = run.stdout.splitlines()
    assert [os.path.basename(line.split(":")[0]) for line in lines] == names * 2, run.stderr
    for line in lines:
        assert "cannot be written" in line or "not written completely" in line
    assert os.listdir(tmp_path) == []


# Clip modes.


def _voice(tmp_path, clip, scale, name="a.wav"):
    audio = scale * np.random.default_rng(0).uniform(-1, 1, 300_000).astype(np.float32)
    audio[1_000] = scale
    with audio_io.VoiceWriter(tmp_path / name, RATE, clip) as writer:
        for block in np.split(audio, 10):
            writer.write(block)
    assert os.listdir(tmp_path) == [name]
    return audio, audio_io.read(tmp_path / name)[0], writer


def test_rescale_divides_the_whole_voice_by_its_peak(tmp_path):
    audio, read, writer = _voice(tmp_path, "rescale", 2.5)
    assert writer.peak == 2.5 and writer.gain == pytest.approx(0.4)
    np.testing.assert_allclose(read, audio / 2.5, atol=2e-7)


@pytest.mark.parametrize("clip", audio_io.CLIP_MODES)
@pytest.mark.parametrize("scale", [0.0, 0.7, 1.0])
def test_a_voice_within_full_scale_stays(tmp_path, clip, scale):
    audio, read, writer = _voice(tmp_path, clip, scale)
    assert (writer.gain, writer.frames) == (1.0, len(audio))
    np.testing.assert_allclose(read, audio, atol=2e-7)


def test_clamp_changes_only_what_is_beyond(tmp_path):
    audio, read, writer = _voice(tmp_path, "clamp", 2.5)
    assert (writer.peak, writer.gain) == (2.5, 1.0)
    np.testing.assert_allclose(read, np.clip(audio, -1, 1), atol=2e-7)


@pytest.mark.parametrize("name", ["a.wav", "a.caf", "a.aiff", "a.w64"])
def test_none_writes_floats(tmp_path, name):
    audio, read, writer = _voice(tmp_path, "none", 2.5, name)
    assert writer.gain == 1.0 and audio_io.probe(tmp_path / name).subtype == "FLOAT"
    np.testing.assert_array_equal(read, audio)


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.ogg", "a.opus"])
def test_none_is_refused_without_floats(tmp_path, name):
    with pytest.raises(SepTfError, match="needs a format with float samples"):
        audio_io.VoiceWriter(tmp_path / name, RATE, "none")


def test_voice_writer_refuses_what_is_no_voice(tmp_path):
    with pytest.raises(SepTfError, match="unknown clip mode 'soft'"):
        audio_io.VoiceWriter(tmp_path / "a.wav", RATE, "soft")
    for block in (np.zeros((3, 2)), np.array([np.nan])):
        with pytest.raises(ValueError, match="finite samples of 1 channel"):
            with audio_io.VoiceWriter(tmp_path / "a.wav", RATE) as writer:
                writer.write(block)
    assert os.listdir(tmp_path) == []


def test_clip_note_says_by_how_much_and_what_was_done():
    assert audio_io.clip_note(1.0, "rescale") is None
    assert audio_io.clip_note(2.0, "rescale") == (
        "the voice peaks 6 dB above full scale: the whole voice was divided by 2"
    )
    for clip in audio_io.CLIP_MODES:
        assert "3.5 dB above full scale" in audio_io.clip_note(1.5, clip)
