"""audio_io: every format, every way to cut a file into blocks, every way a file can be bad."""

import io
import os
import re
import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sep_tf import audio_headers, audio_io
from sep_tf.errors import AudioError, SepTfError
from tests.audio_files import FORMATS, RATE, tone, write

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


# libsndfile lists these, and does not write them or read what it wrote.
NOT_BOTH_WAYS = {
    *(("MP3", "MPEG_LAYER_I"), ("MP3", "MPEG_LAYER_II"), ("WAV", "MPEG_LAYER_III")),
    ("AIFF", "DWVW_12"),
}
KINDS = [
    (kind, subtype)
    for kind in soundfile.available_formats()
    for subtype in soundfile.available_subtypes(kind)
    if kind not in ("RAW", "SD2") and (kind, subtype) not in NOT_BOTH_WAYS
]


@pytest.mark.parametrize("kind, subtype", KINDS)
def test_an_offset_is_a_slice_in_whatever_can_be_written(tmp_path, kind, subtype):
    path = tmp_path / "a"
    soundfile.write(path, tone(8_000, 8_000)[:, 0], 8_000, subtype, format=kind)
    whole, rate = audio_io.read(path)  # some have one rate only
    np.testing.assert_array_equal(audio_io.read(path, offset=3_000 / rate)[0], whole[3_000:])


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


def test_an_offset_into_a_damaged_file_is_an_error_of_one_line(tmp_path):
    path, rng = tmp_path / "a.flac", np.random.default_rng(0)
    write(path, 0.1 * rng.standard_normal((300_000, 1)), subtype="PCM_16")
    data = path.read_bytes()
    path.write_bytes(data[: int(0.6 * len(data))])
    for offset in (0.0, 1.0, 3.5, 6.0):
        with pytest.raises(AudioError, match="truncated or damaged after") as caught:
            audio_io.read(path, offset=offset)
        # Of the file, whatever part of it is wanted: 0.6 of 6.8 s, and what was read before.
        after = float(re.search(r"after (\S+) s", str(caught.value))[1])
        assert min(offset, 2.9) <= after <= 4.1


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
    with pytest.raises(AudioError, match=r"sample 40000 \(0.907 s\)"):
        audio_io.read(path, offset=0.5)
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
    with pytest.raises(AudioError, match="is beyond its end"):
        audio_io.read(path, offset=1e308)
    assert len(audio_io.read(path, duration=1e308)[0]) == RATE
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
