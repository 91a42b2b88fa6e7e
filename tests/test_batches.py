"""Batches of the pipeline: order that can be resumed, shares of workers, masks, other disks."""

import dataclasses
import re

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from sep_tf import train
from sep_tf.config import AugmentConfig
from sep_tf.errors import DataError
from tests import harness
from tfrecords import augment, dataset, equalise, mastering, schema


@pytest.fixture
def options(monkeypatch):
    # Filling the real buffer takes longer than everything else here.
    monkeypatch.setattr(dataset, "_SHUFFLE_RECORDS", 6)
    return dataset.PhraseOptions(batch_size=3, phrase_frames=32, seed=5)


def take(corpus, options, skip=0, count=1):
    batches = dataset.phrases(corpus.records, options, skip).take(count)
    return [{name: value.numpy() for name, value in batch.items()} for batch in batches]


def test_batches_are_a_function_of_the_seed_and_can_be_resumed(corpus, options):
    batches = take(corpus, options, count=5)
    for skip in (0, 3):
        (again,) = take(corpus, options, skip=skip)
        harness.assert_same(again, batches[skip], rtol=0, atol=0)
    assert not np.array_equal(batches[0]["magnitude"], batches[1]["magnitude"])
    # One data set gives them as often as it is asked: validation is made once.
    fixed = dataset.phrases(corpus.records, options).take(2)
    for _ in range(2):
        for number, batch in enumerate(fixed):
            values = {name: value.numpy() for name, value in batch.items()}
            harness.assert_same(values, batches[number], rtol=0, atol=0)
    tf.random.set_seed(0)  # A program's own seed is another matter.
    skipped = next(iter(dataset.phrases(corpus.records, options).skip(3)))
    harness.assert_same({k: v.numpy() for k, v in skipped.items()}, batches[3], rtol=0, atol=0)
    (other,) = take(corpus, dataclasses.replace(options, seed=6))
    assert not np.array_equal(other["magnitude"], batches[0]["magnitude"])


@pytest.mark.slow
def test_a_start_far_from_the_first_batch_is_the_same_example(corpus, options, monkeypatch):
    """Beyond several blocks and rounds of the records, altered in every way."""
    monkeypatch.setattr(dataset, "_BLOCK_FRAMES", 512)
    monkeypatch.setattr(dataset, "_BLOCK_EXAMPLES", 16)
    altered = AugmentConfig(
        altered=0.7, speed=(0.8, 1.2), backing_speed=(0.9, 1.3), vocals_eq_db=2.0,
        backing_eq_db=3.0, vocals_tilt_db=8.0, vocals_dull=0.3, backing_voices=0.4, reverb=0.5,
    )  # fmt: skip
    options = dataclasses.replace(options, augment=altered, debug=True)
    whole = take(corpus, options, count=31)
    for first in (7, 30):
        (again,) = take(corpus, options, first)
        # Batches of other rows are summed up in another order by the processor.
        harness.assert_same(again, whole[first], rtol=1e-5, atol=1e-5)
    starts = {batch["f0"][0].tobytes() for batch in whole}
    assert len(starts) > 25


@pytest.mark.parametrize("colour", [{"vocals_tilt_db": 20.0}, {"vocals_dull": 1.0}])
def test_targets_follow_the_colour_of_the_voice(corpus, options, colour):
    """The same examples with and without: what the filter does is what the target says."""
    plain = AugmentConfig(backing_free=0.0, vocal_free=0.0)
    options = dataclasses.replace(options, spectrograms=(), waveforms=("voice",), augment=plain)
    coloured = dataclasses.replace(options, augment=dataclasses.replace(plain, **colour))
    (before,), (after,) = take(corpus, options), take(corpus, coloured)
    basis = np.linalg.pinv(equalise.feature_basis())
    for row in range(len(before["voice"])):
        sounding = before["voiced"][row] > 0
        if sounding.sum() < 20:
            continue
        change = (after["features"] - before["features"])[row][sounding]
        np.testing.assert_allclose(change, np.tile(change[0], (len(change), 1)), atol=1e-4)
        curve = (change[0, :60] @ basis).astype(np.float32)
        assert np.ptp(curve) > 0.2 and not change[0, 60:].any()
        expected = equalise.apply(tf.constant(before["voice"][row]), tf.constant(curve)).numpy()
        # Only the ends of the phrase, filtered with their margins, differ.
        inside = slice(2000, -2000)
        error = np.abs(expected - after["voice"][row])[inside].max()
        assert error < 0.02 * np.abs(expected).max()
        return
    pytest.fail("no voice in the batch")


def test_targets_follow_the_band_of_the_mixture(corpus, options):
    """Where the mixture ends, the target of its audible frames ends: the same cut-off."""
    plain = AugmentConfig(backing_free=0.0, vocal_free=0.0, altered=0.7)
    limited = dataclasses.replace(
        plain, band_limited=0.7, cutoff_hz=(6000.0, 12_000.0), limited_target=True
    )
    options = dataclasses.replace(
        options, batch_size=16, spectrograms=(), waveforms=("mixture", "voice")
    )
    before, after, unheard = (
        take(corpus, dataclasses.replace(options, augment=config))[0]
        for config in (plain, limited, dataclasses.replace(limited, limited_target=False))
    )
    np.testing.assert_array_equal(before["voice"], after["voice"])
    np.testing.assert_array_equal(before["features"], unheard["features"])
    np.testing.assert_array_equal(unheard["mixture"], after["mixture"])
    hz = np.fft.rfftfreq(before["mixture"].shape[1], 1 / 32_000)
    cutoffs = np.arange(5800.0, 12_200.0, 50.0, dtype=np.float32)
    expected = mastering.limited_target(tf.constant(cutoffs)).numpy()
    found = []
    for row in range(16):
        audible = before["audible"][row] > 0
        lost = (after["features"] - before["features"])[row]
        np.testing.assert_array_equal(lost[~audible], 0.0)
        np.testing.assert_array_equal(lost[:, 60:], 0.0)
        spectra = [np.abs(np.fft.rfft(batch["mixture"][row])) for batch in (before, after)]
        if not audible.any() or np.allclose(*spectra, rtol=1e-3, atol=1e-3):
            np.testing.assert_array_equal(lost, 0.0)
            continue
        # Half of the amplitude is left at the cut-off.
        in_mixture = hz[np.flatnonzero(spectra[1] < 0.5 * spectra[0])[0]]
        distance = np.abs(expected - lost[audible][0, :60]).max(axis=1)
        assert distance.min() < 0.1
        assert cutoffs[distance.argmin()] == pytest.approx(in_mixture, abs=150.0)
        found.append(in_mixture)
    assert len(found) > 3 and np.ptp(found) > 1000.0


def test_examples_without_voice_or_music_are_as_many_as_asked_for(corpus, options):
    """Shares of 2000 examples, within three standard deviations; never both at once."""
    count, shares = 2000, {"accompaniment": 0.2, "voice": 0.1}
    options = dataclasses.replace(
        options,
        batch_size=250,
        spectrograms=(),
        waveforms=tuple(shares),
        augment=AugmentConfig(backing_free=0.2, vocal_free=0.1),
    )
    batches = take(corpus, options, count=count // 250)
    silent = {
        name: np.concatenate([np.abs(batch[name]).max(axis=1) == 0.0 for batch in batches])
        for name in shares
    }
    for name, share in shares.items():
        deviation = np.sqrt(share * (1 - share) / count)
        assert abs(silent[name].mean() - share) < 3 * deviation, name
    assert not (silent["voice"] & silent["accompaniment"]).any()


def test_a_voice_meets_different_music(corpus, options):
    """Each voice without music of its own meets every band; the other keeps its own."""
    hop, index = 160, schema.DatasetIndex.load(corpus.records)
    length = (options.phrase_frames - 1) * hop
    music = {}
    for name in ("band-1", "band-2", "own"):
        audio = soundfile.read(corpus.manifest.parent / f"{name}.wav", dtype="float32")[0]
        windows = np.lib.stride_tricks.sliding_window_view(audio, length)[::hop]
        music[name] = windows / np.linalg.norm(windows, axis=1, keepdims=True)
    options = dataclasses.replace(
        options,
        batch_size=60,
        spectrograms=(),
        waveforms=("accompaniment",),
        augment=AugmentConfig(backing_free=0.0),
    )
    met = {}
    for batch in take(corpus, options, count=2):
        for number, heard in zip(batch["song_index"], batch["accompaniment"], strict=True):
            unit = heard / np.linalg.norm(heard)
            (name,) = [n for n, windows in music.items() if (windows @ unit).max() > 0.999]
            met.setdefault(index.songs[number], []).append(name)
    assert set(met.pop("ben-both")) == {"own"}
    assert set(met) == {"ann-solo", "ann-short"}
    for names in met.values():
        # By chance: neither band is much rarer than the other, nor do they take turns.
        assert 0.25 < names.count("band-1") / len(names) < 0.75
        pairs = set(zip(names[:-1], names[1:], strict=True))
        assert len(pairs) == 4


@pytest.mark.slow
def test_records_may_lie_on_another_file_system(corpus, options):
    for path in corpus.records.iterdir():
        with tf.io.gfile.GFile(f"ram://far/records/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    near = take(corpus, options)
    far = dataset.phrases("ram://far/records", options).take(1)
    for batch in far:
        harness.assert_same({k: v.numpy() for k, v in batch.items()}, near[0], rtol=0, atol=0)
    with pytest.raises(DataError, match="ram://nowhere is no data set"):
        dataset.phrases("ram://nowhere", options)


@pytest.mark.slow
def test_masks_silence_a_band_and_a_stretch_of_the_mixture(corpus, options):
    """No wider than asked for, of the mixture's spectrograms alone; fades are of the music."""
    names = ("magnitude", "voice_magnitude", "magnitude_4096/2")
    fixed = AugmentConfig(
        vocals_db=(-20.0,) * 2, snr_db=(3.0,) * 2, vocal_free=0.0, backing_free=1.0
    )
    options = dataclasses.replace(options, batch_size=12, spectrograms=names, augment=fixed)
    masked = dataclasses.replace(fixed, freq_mask=2000.0, time_mask=0.05)
    (plain,) = take(corpus, options)
    (found,) = take(corpus, dataclasses.replace(options, augment=masked))
    np.testing.assert_array_equal(found["voice_magnitude"], plain["voice_magnitude"])
    np.testing.assert_array_equal(found["features"], plain["features"])
    for name, bins, frames in (("magnitude", 64, 10), ("magnitude_4096/2", 256, 5)):
        changed = found[name] != plain[name]
        assert np.all(found[name][changed] == 0.0)
        bands, stretches = changed.all(axis=1).sum(axis=1), changed.all(axis=2).sum(axis=1)
        assert bins / 2 < bands.max() <= bins and len(set(bands)) > 3
        assert 1 < stretches.max() <= frames
        rest = changed & ~changed.all(axis=1, keepdims=True) & ~changed.all(axis=2, keepdims=True)
        assert not rest.any()


@pytest.mark.slow
def test_values_that_are_not_finite_are_named_in_debug(
    corpus, options, monkeypatch, tmp_path, capsys
):
    mix = augment.mix

    def spoiled(*arguments):
        made = mix(*arguments)
        return made | {"f0": made["f0"] / tf.zeros_like(made["f0"])}

    monkeypatch.setattr(augment, "mix", spoiled)
    take(corpus, options)
    with pytest.raises(tf.errors.InvalidArgumentError, match="f0 is not finite in a batch of"):
        take(corpus, dataclasses.replace(options, debug=True))
    # And by the program: not as a damaged record, which none of them is.
    argv = [f"--data_dir={corpus.records}", f"--model_dir={tmp_path}", "--preset=tiny", "--debug"]
    argv += ["--stage=f0", "--steps=1", "--phrase_frames=64", "--batch_size=4"]
    assert train.run(argv) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r": f0 is not finite in a batch of the songs \[.*ann-.*\]; made by", line)
    assert "damaged" not in line


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_the_batches_of_one(corpus, options, workers):
    options = dataclasses.replace(options, batch_size=6)
    whole = take(corpus, options, count=2)
    shares = [
        take(corpus, dataclasses.replace(options, shard=(worker, workers)), count=2)
        for worker in range(workers)
    ]
    for number, batch in enumerate(whole):
        joined = {name: np.concatenate([share[number][name] for share in shares]) for name in batch}
        harness.assert_same(joined, batch, rtol=0, atol=1e-6)


def test_workers_that_cannot_share_a_batch(corpus, options):
    with pytest.raises(DataError, match="2 workers cannot share a batch of 3 equally"):
        dataset.phrases(corpus.records, dataclasses.replace(options, shard=(0, 2)))


def test_batches_hold_their_split_only(corpus, options):
    index = schema.DatasetIndex.load(corpus.records)
    options = dataclasses.replace(options, spectrograms=("magnitude", "magnitude_4096"))
    batches = take(corpus, options, count=8)
    shapes = {
        "features": (3, 32, 64),
        "f0": (3, 32),
        "voiced": (3, 32),
        "audible": (3, 32),
        "singer": (3,),
        "song_index": (3,),
        "magnitude": (3, 32, 513),
        "magnitude_4096": (3, 32, 2049),
    }
    assert {name: value.shape for name, value in batches[0].items()} == shapes
    numbers = np.concatenate([batch["song_index"] for batch in batches])
    assert {index.songs[n] for n in numbers} == {"ann-solo", "ann-short", "ben-both"}
    for batch in batches:
        for number, singer in zip(batch["song_index"], batch["singer"], strict=True):
            assert index.songs[number].startswith(index.singers[singer])
        assert all(np.isfinite(value).all() for value in batch.values())
    (valid,) = take(corpus, dataclasses.replace(options, split="validation_unseen"))
    assert {index.songs[n] for n in valid["song_index"]} == {"cid-valid"}
    assert set(valid["singer"]) == {-1}
