"""audio_io: every format, every way to cut a file into blocks, every way a file can be bad."""

import io
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sep_tf import audio_headers, audio_io, audio_write
from sep_tf.errors import AudioError, SepTfError

RATE = 44_100
# format -> (extension, subtype, rate, largest error of a round trip of the tone below: one step
# of the integers, or what a lossy codec does to it)
FORMATS = {
    "wav16": (".wav", "PCM_16", RATE, 2**-15),
    "wav24": (".wav", "PCM_24", RATE, 2**-23),
    "wav_float": (".wav", "FLOAT", RATE, 0.0),
    "wav_double": (".wav", "DOUBLE", RATE, 0.0),
    "wav_u8": (".wav", "PCM_U8", RATE, 2**-7),
    "flac": (".flac", "PCM_16", RATE, 2**-15),
    "ogg": (".ogg", "VORBIS", RATE, 0.02),
    "opus": (".opus", "OPUS", 48_000, 0.05),
    "mp3": (".mp3", "MPEG_LAYER_III", RATE, 0.05),
    "aiff": (".aiff", "PCM_24", RATE, 2**-23),
    "au": (".au", "PCM_16", RATE, 2**-15),
    "caf": (".caf", "FLOAT", RATE, 0.0),
    "w64": (".w64", "PCM_24", RATE, 2**-23),
    "rf64": (".rf64", "PCM_24", RATE, 2**-23),
}


def tone(n: int, rate: int = RATE, channels: int = 1) -> np.ndarray:
    t = np.arange(n) / rate
    audio = np.stack([0.3 * np.sin(2 * np.pi * 220 * (c + 1) * t) for c in range(channels)], 1)
    return audio.astype(np.float32)


def write(path, audio, rate=RATE, subtype=None):
    container = {".opus": "OGG", ".rf64": "RF64"}.get(os.path.splitext(path)[1])
    with soundfile.SoundFile(
        path, "w", rate, audio.shape[1], subtype=subtype, format=container
    ) as file:
        for start in range(0, len(audio), 16_384):
            file.write(audio[start : start + 16_384])
    return str(path)


def hidden_files(folder) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


# Reading.


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_reads_every_format_whole(tmp_path, name, channels):
    extension, subtype, rate, error = FORMATS[name]
    audio = tone(30_011, rate, channels)
    path = write(tmp_path / f"a{extension}", audio, rate, subtype)
    info = audio_io.probe(path)
    assert (info.frames, info.channels, info.sample_rate) == (30_011, channels, rate)
    assert info.duration == pytest.approx(30_011 / rate)
    blocks = list(audio_io.read_blocks(path, block_frames=7_000))
    assert [len(block) for block in blocks] == [7_000] * 4 + [2_011]
    read = np.concatenate(blocks)
    assert read.dtype == np.float32 and read.shape == audio.shape
    assert np.abs(read - audio).max() <= error


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 48_000, 96_000, 176_400, 192_000])
@pytest.mark.parametrize("channels", [1, 3, 8])
def test_reads_any_rate_and_channel_count(tmp_path, rate, channels):
    path = write(tmp_path / "a.wav", tone(rate // 100, rate, channels), rate, "PCM_16")
    mono, read_rate = audio_io.read(path)
    assert mono.shape == (rate // 100,) and read_rate == rate
    every, _ = audio_io.read(path, sample_rate=32_000, mono=False)
    assert every.shape == (audio_io.resampled_length(rate // 100, rate, 32_000), channels)


def test_mono_is_the_mean_of_the_channels(tmp_path):
    audio = tone(1_000, channels=3)
    path = write(tmp_path / "a.wav", audio, subtype="FLOAT")
    np.testing.assert_allclose(audio_io.read(path)[0], audio.mean(1), atol=1e-7)


@pytest.mark.parametrize("name", ["wav16", "flac", "ogg", "opus", "mp3", "caf"])
def test_offset_and_duration_are_slices(tmp_path, name):
    extension, subtype, rate, _ = FORMATS[name]
    path = write(tmp_path / f"a{extension}", tone(60_000, rate), rate, subtype)
    whole, _ = audio_io.read(path)
    part, _ = audio_io.read(path, offset=0.5, duration=0.25)
    np.testing.assert_array_equal(part, whole[rate // 2 :][: rate // 4])
    rest, _ = audio_io.read(path, offset=0.5, duration=1e9)
    np.testing.assert_array_equal(rest, whole[rate // 2 :])


@pytest.mark.parametrize("name", ["wav16", "flac", "aiff", "caf", "w64", "ogg"])
def test_one_sample_is_a_file(tmp_path, name):
    extension, subtype, rate, error = FORMATS[name]
    path = write(tmp_path / f"a{extension}", tone(1), rate, subtype)
    assert audio_io.read(path)[0].shape == (1,)
    assert audio_io.read(path, sample_rate=192_000)[0].shape == (4,)


def test_samples_beyond_full_scale_are_read_as_they_are(tmp_path):
    path = write(tmp_path / "a.wav", 10 * tone(1_000), subtype="FLOAT")
    assert np.abs(audio_io.read(path)[0]).max() > 2.5


@pytest.mark.parametrize("name", ["with space.wav", "名前é.flac", "-dash.ogg", "a'b\"c.mp3"])
def test_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with audio_io.Writer(name, RATE) as writer:
        writer.write(tone(1_000)[:, 0])
    assert audio_io.probe(name).frames == 1_000
    assert os.listdir(tmp_path) == [name]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_a_name_that_is_not_utf8(tmp_path):
    path = os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff.wav")
    with audio_io.Writer(path, RATE) as writer:
        writer.write(tone(1_000)[:, 0])
    assert audio_io.probe(path).frames == 1_000


def test_content_counts_not_extension(tmp_path):
    path = write(tmp_path / "a.flac", tone(5_000))
    os.rename(path, tmp_path / "a.mp3")
    assert audio_io.probe(tmp_path / "a.mp3").format == "FLAC"


def _without_index(path) -> None:
    """Takes the first frame with its Xing header off an MP3."""
    data = path.read_bytes()
    path.write_bytes(data[data.find(data[:2], 4) :])


def test_mp3_without_index_is_read_to_its_end(tmp_path):
    path = tmp_path / "a.mp3"
    rng = np.random.default_rng(0)
    write(path, np.concatenate([tone(200_000), 0.3 * rng.standard_normal((50_000, 1))]))
    assert audio_headers.mp3_index(io.BytesIO(path.read_bytes())) is not None
    _without_index(path)
    assert audio_headers.mp3_index(io.BytesIO(path.read_bytes())) is None
    read, _ = audio_io.read(path)
    assert audio_io.probe(path).frames == len(read)
    # Without the index the encoder's delay and padding are heard too.
    assert 250_000 <= len(read) <= 250_000 + 4 * 1152


def test_mp3_with_tags(tmp_path):
    path = tmp_path / "a.mp3"
    write(path, tone(50_000))
    picture = b"\xff\xfb\x90" * 30_000
    size = bytes((len(picture) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x04\0\0" + size + picture + path.read_bytes() + b"TAG" + b"\0" * 125)
    assert len(audio_io.read(path)[0]) == 50_000


# Bad files.


@pytest.mark.parametrize("name", [n for n in FORMATS if n != "wav_u8"])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.99])
def test_truncated(tmp_path, name, share):
    extension, subtype, rate, _ = FORMATS[name]
    rng = np.random.default_rng(0)
    path = tmp_path / f"a{extension}"
    write(path, (tone(60_000, rate) + 0.01 * rng.standard_normal((60_000, 1))), rate, subtype)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(AudioError) as caught:
        list(audio_io.read_blocks(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [n for n in FORMATS if n not in ("wav_u8",)])
def test_one_missing_byte_is_noticed(tmp_path, name):
    extension, subtype, rate, _ = FORMATS[name]
    path = tmp_path / f"a{extension}"
    write(path, tone(60_000, rate), rate, subtype)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AudioError, match="truncated"):
        list(audio_io.read_blocks(path))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_headers_never_crash(tmp_path_factory, data):
    name = data.draw(st.sampled_from(["wav16", "rf64", "aiff", "caf", "w64", "au", "ogg"]))
    folder = tmp_path_factory.getbasetemp()
    extension, subtype, rate, _ = FORMATS[name]
    path = folder / f"damaged-{name}{extension}"
    if not path.exists():
        write(path, tone(50, rate), rate, subtype)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(len(content), 120) - 1))] = data.draw(
            st.integers(0, 255)
        )
    cut = data.draw(st.integers(0, len(content)))
    audio_headers.missing(io.BytesIO(bytes(content[:cut])))
    audio_headers.missing(io.BytesIO(bytes(content)))


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_wav_from_a_pipe_has_no_promise(tmp_path, size):
    path = tmp_path / "a.wav"
    write(path, tone(1_000), subtype="PCM_16")
    data = bytearray(path.read_bytes())
    at = data.find(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)
    assert audio_io.read(path)[0].shape == (1_000,)


def test_flac_of_unknown_length_says_what_to_do(tmp_path):
    path = tmp_path / "a.flac"
    write(path, tone(10_000))
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the total in STREAMINFO
    data[22:26] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(AudioError, match="ffmpeg -i"):
        audio_io.probe(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(tmp_path, bad):
    audio = tone(50_000, channels=2)
    audio[40_000, 1] = bad
    path = write(tmp_path / "a.wav", audio, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"sample 40000 \(0.907 s\) is NaN or infinite"):
        audio_io.read(path)
    assert audio_io.read(path, duration=0.9)[0].shape == (39_690,)


def test_double_beyond_float_is_not_finite(tmp_path):
    path = write(tmp_path / "a.wav", np.full((10, 1), 1e300), subtype="DOUBLE")
    with pytest.raises(AudioError, match="NaN or infinite"):
        audio_io.read(path)


def test_files_that_are_no_audio(tmp_path):
    text, empty, silent = tmp_path / "t.wav", tmp_path / "e.wav", tmp_path / "s.wav"
    text.write_text("not audio at all\n" * 100)
    empty.write_bytes(b"")
    write(silent, np.zeros((0, 1)))
    for path, words in (
        (text, "not an audio file"),
        (empty, "empty"),
        (silent, "no samples"),
        (tmp_path, "folder"),
        (tmp_path / "missing.wav", "No such file"),
        (tmp_path / ("x" * 300), "name too long"),
    ):
        with pytest.raises(AudioError, match=f"(?i){words}") as caught:
            audio_io.probe(path)
        assert str(path) in str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="not a regular file"):
        audio_io.probe(tmp_path / "pipe.wav")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path):
    path = write(tmp_path / "a.wav", tone(10))
    os.chmod(path, 0)
    with pytest.raises(AudioError, match="Permission denied"):
        audio_io.probe(path)


@pytest.mark.parametrize(
    "name, content",
    [
        ("song.m4a", b"\0\0\0\x20ftypM4A " + bytes(100)),
        ("song.mp4", b"garbage" * 20),
        ("no_extension", b"\x1aE\xdf\xa3" + bytes(100)),
        ("it's a song.wma", b"0&\xb2u" + bytes(100)),
        ("clip.avi", b"RIFF\xff\0\0\0AVI " + bytes(300)),
    ],
)
def test_foreign_formats_name_the_ffmpeg_command(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match="ffmpeg -i '?/") as caught:
        audio_io.probe(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [1, 3_999, 1_000_000])
def test_absurd_rates(tmp_path, rate):
    path = write(tmp_path / "a.wav", tone(100), rate, "PCM_16")
    with pytest.raises(AudioError, match=f"sample rate of {rate} Hz"):
        audio_io.probe(path)


def test_ranges(tmp_path):
    path = write(tmp_path / "a.wav", tone(RATE))
    for offset, duration in ((-1, None), (np.nan, None), (np.inf, None), (0, 0), (0, -1)):
        with pytest.raises(SepTfError, match="offset|duration"):
            audio_io.read(path, offset=offset, duration=duration)
    with pytest.raises(AudioError, match=r"offset 1 s is beyond its end \(1.000 s\)"):
        audio_io.read(path, offset=1)
    assert audio_io.read(path, duration=1e-9)[0].shape == (1,)


# Resampling.

RATES = st.sampled_from([8_000, 11_025, 22_050, 32_000, 44_100, 44_101, 48_000, 96_000, 192_000])


@settings(max_examples=60, deadline=None)
@given(
    rates=st.tuples(RATES, RATES),
    n=st.integers(0, 20_000),
    cuts=st.lists(st.floats(0, 1), max_size=12),
    channels=st.sampled_from([1, 2]),
)
def test_resampling_does_not_depend_on_blocks(rates, n, cuts, channels):
    audio = np.random.default_rng(n).standard_normal((n, channels)).astype(np.float32)
    audio = audio[:, 0] if channels == 1 else audio

    def resample(blocks):
        resampler = audio_io.Resampler(*rates, channels)
        return np.concatenate([*map(resampler.push, blocks), resampler.finish()])

    whole = resample([audio])
    parts = resample(np.split(audio, sorted(int(cut * n) for cut in cuts)))
    np.testing.assert_array_equal(whole, parts)
    assert len(whole) == audio_io.resampled_length(n, *rates)
    if rates[0] == rates[1]:
        np.testing.assert_array_equal(whole, audio)


@given(n=st.integers(0, 10**12), rates=st.tuples(RATES, RATES))
def test_resampled_length_rounds_halves_up(n, rates):
    length = audio_io.resampled_length(n, *rates)
    assert -rates[0] < 2 * (n * rates[1] - length * rates[0]) + 0 < rates[0] or (
        2 * (length * rates[0] - n * rates[1]) == rates[0]
    )


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 5_000), rate=RATES)
def test_there_and_back_has_the_input_length(n, rate):
    down, up = audio_io.Resampler(rate, 32_000), audio_io.Resampler(32_000, rate)
    inner = np.concatenate([down.push(np.ones(n, np.float32)), down.finish()])
    assert len(np.concatenate([up.push(inner), up.finish(total=n)])) == n


def test_resampling_keeps_the_tone_in_place():
    audio = tone(RATE)[:, 0]
    resampler = audio_io.Resampler(RATE, 32_000)
    out = np.concatenate([resampler.push(audio), resampler.finish()])
    expected = tone(32_000, 32_000)[:, 0]
    assert np.abs(out - expected)[2_000:-2_000].max() < 1e-4


def test_resampler_refuses_other_shapes_and_too_short_totals():
    with pytest.raises(ValueError, match="expected blocks"):
        audio_io.Resampler(1, 2).push(np.zeros((3, 2), np.float32))
    same = audio_io.Resampler(RATE, RATE)
    same.push(np.zeros(10, np.float32))
    with pytest.raises(ValueError, match="more than"):
        same.finish(total=9)


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
    with audio_io.replacing(link) as temporary:
        with open(temporary, "w") as file:
            file.write("new")
        assert target.read_text() == "old"
    assert link.is_symlink() and target.read_text() == "new"
    with pytest.raises(RuntimeError), audio_io.replacing(link):
        raise RuntimeError
    assert target.read_text() == "new" and hidden_files(tmp_path) == []


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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SepTfError, match="permission denied"):
        audio_io.check_output(tmp_path / "a.wav", RATE)


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
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for kind in (audio_io.Writer, audio_io.VoiceWriter):
    for path in sys.argv[1:]:
        try:
            with kind(path, 48_000) as writer:
                for _ in range(30):
                    writer.write(np.random.default_rng(0).uniform(-1, 1, 10_000))
        except errors.SepTfError as error:
            print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no file size limit here")
def test_a_full_disk_is_noticed(tmp_path):
    names = ["a.wav", "a.flac", "a.ogg", "a.mp3"]
    run = subprocess.run(
        [sys.executable, "-O", "-c", _FULL_DISK, *(str(tmp_path / name) for name in names)],
        capture_output=True,
        text=True,
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    )
    lines = run.stdout.splitlines()
    assert [os.path.basename(line.split(":")[0]) for line in lines] == names * 2, run.stderr
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
        with pytest.raises(ValueError, match="finite samples of one channel"):
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
