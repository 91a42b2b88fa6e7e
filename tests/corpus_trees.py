"""Small trees in the layout of each corpus, and what their manifests have to hold."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import soundfile

RATE = 8_000


def wav(path: pathlib.Path, channels: int = 1, length: int = 400, rate: int = RATE) -> np.ndarray:
    """A file of noise of its own, made with its folders; returns the samples, [n, channels]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(path.as_posix().encode()) + length)
    audio = rng.integers(-8000, 8000, (length, channels)).astype(np.int16)
    soundfile.write(path, audio, rate)
    return audio.astype(np.float32) / 32768


@dataclasses.dataclass(frozen=True)
class Tree:
    """A corpus on disk.

    Attributes:
      make: writes it below a folder.
      songs: song_id -> (singer, voice, backing); files relative to the root, "made" for one in
        the audio folder, "" for none.
      bad: a file that, when it is no audio, spoils some songs.
      spoiled: songs that are then missing.
    """

    make: Callable[[pathlib.Path], None]
    songs: dict[str, tuple[str, str, str]]
    bad: str
    spoiled: tuple[str, ...]


def _folder(root):
    for name in ("vocals/ann/one.wav", "vocals/ann/deep/two.flac", "vocals/ben/one.wav"):
        wav(root / name)
    wav(root / "backing/rock/band.wav", channels=2)
    (root / "backing/rock/readme.txt").write_text("no audio")
    (root / "backing/._band.wav").write_text("what another system leaves behind")
    for name in ("aligned/blue", "aligned/cid/green"):
        wav(root / name / "vocals.wav")
        wav(root / name / "backing.wav", length=500)


def _musdb18(root):
    for part, song in (("train", "A - One"), ("train", "B & C - Two"), ("test", "D - Three")):
        for stem in ("mixture", "drums", "bass", "other", "vocals"):
            wav(root / part / song / f"{stem}.wav", channels=2, rate=44_100)


def medley_song(root, name, stems, bleed="no", instrumental="no"):
    """A MedleyDB song; `stems` are (instrument, instruments of its raw tracks)."""
    lines = [f"artist: The {name[0]}", f"has_bleed: '{bleed}'", f"instrumental: '{instrumental}'"]
    lines.append("stems:")
    folder = root / "Audio" / name
    wav(folder / f"{name}_MIX.wav", channels=2)
    for number, (instrument, raws) in enumerate(stems, 1):
        file = f"{name}_STEM_{number:02d}.wav"
        wav(folder / f"{name}_STEMS" / file, channels=2)
        lines += [f"  S{number:02d}:", f"    filename: {file}", f"    instrument: {instrument}"]
        lines += ["    raw:"]
        for track, played in enumerate(raws, 1):
            file = f"{name}_RAW_{number:02d}_{track:02d}.wav"
            wav(folder / f"{name}_RAW" / file)
            lines += [f"      R{track:02d}:", f"        filename: {file}"]
            lines += [f"        instrument: {played}"]
    (folder / f"{name}_METADATA.yaml").write_text("\n".join(lines) + "\n")


def _medleydb(root):
    band = [("drum set", ["snare drum"]), ("electric bass", ["electric bass"])]
    choir = ("vocalists", ["female singer", "vocalists"])
    medley_song(root, "X_Song", [*band, ("male singer", ["male singer"] * 2), choir])
    medley_song(root, "Y_Tune", band, instrumental="yes")
    medley_song(root, "Z_Live", [*band, ("male singer", ["male singer"])], bleed="yes")
    medley_song(root, "W_Rap", [*band, ("male rapper", ["male rapper"])])


def _ikala(root):
    for name in ("10161_chorus", "10161_verse", "21025_verse"):
        wav(root / f"Wavfile/{name}.wav", channels=2)
    (root / "id_mapping.txt").write_text("singer\tsong\n1\t10161\n2\t21025\n")


def _nus48e(root):
    for singer in ("ADIZ", "JLEE"):
        for song in ("01", "09"):
            wav(root / f"{singer}/sing/{song}.wav")
            wav(root / f"{singer}/read/{song}.wav")
            (root / f"{singer}/sing/{song}.txt").write_text("0.0 1.0 sil\n")


def _vocalset(root):
    for path in (
        "female1/scales/belt/f1_scales_belt_a.wav",
        "female1/scales/belt/f1_scales_belt_e.wav",
        "male11/excerpts/spoken/m11_row_spoken.wav",
        "male11/long_tones/straight/m11_long_straight_a.wav",
    ):
        wav(root / "FULL" / path)


def _csd(root):
    for path in ("english/wav/en001a", "english/wav/en001b", "korean/wav/kr002a"):
        wav(root / f"{path}.wav")
    (root / "english/metadata.json").write_text("{}")


def _m4singer(root):
    for path in ("Alto-1#美错/0000", "Alto-1#美错/0001", "Bass-2#一生 爱/0000"):
        wav(root / f"{path}.wav")
        (root / f"{path}.TextGrid").write_text("")


def _ravdess(root):
    for name in (
        "Actor_01/03-02-01-01-01-01-01",
        "Actor_01/03-02-01-01-01-02-01",
        "Actor_02/03-02-03-02-02-01-02",
        "Actor_02/03-01-03-02-02-01-02",
    ):
        wav(root / f"{name}.wav")


TREES = {
    "folder": Tree(
        _folder,
        {
            "vocals/ann/one": ("ann", "vocals/ann/one.wav", ""),
            "vocals/ann/deep/two": ("ann", "vocals/ann/deep/two.flac", ""),
            "vocals/ben/one": ("ben", "vocals/ben/one.wav", ""),
            "backing/rock/band": ("", "", "backing/rock/band.wav"),
            "aligned/blue": ("blue", "aligned/blue/vocals.wav", "aligned/blue/backing.wav"),
            "aligned/cid/green": (
                "cid",
                "aligned/cid/green/vocals.wav",
                "aligned/cid/green/backing.wav",
            ),
        },
        "aligned/blue/backing.wav",
        ("aligned/blue",),
    ),
    "musdb18": Tree(
        _musdb18,
        {
            "musdb18/A - One": ("musdb18_A", "train/A - One/vocals.wav", "made"),
            "musdb18/B & C - Two": ("musdb18_B & C", "train/B & C - Two/vocals.wav", "made"),
            "musdb18/D - Three": ("musdb18_D", "test/D - Three/vocals.wav", "made"),
        },
        "train/A - One/bass.wav",
        ("musdb18/A - One",),
    ),
    "medleydb": Tree(
        _medleydb,
        {
            f"medleydb/X_Song/RAW_{n}": (
                "medleydb_The X",
                f"Audio/X_Song/X_Song_RAW/X_Song_RAW_{n}.wav",
                "made",
            )
            for n in ("03_01", "03_02", "04_01")
        }
        | {"medleydb/Y_Tune": ("", "", "Audio/Y_Tune/Y_Tune_MIX.wav")},
        "Audio/X_Song/X_Song_STEMS/X_Song_STEM_02.wav",
        tuple(f"medleydb/X_Song/RAW_{n}" for n in ("03_01", "03_02", "04_01")),
    ),
    "ikala": Tree(
        _ikala,
        {
            "ikala/10161_chorus": ("ikala_1", "made", "made"),
            "ikala/10161_verse": ("ikala_1", "made", "made"),
            "ikala/21025_verse": ("ikala_2", "made", "made"),
        },
        "Wavfile/10161_verse.wav",
        ("ikala/10161_verse",),
    ),
    "nus48e": Tree(
        _nus48e,
        {
            f"nus48e/{singer}/{song}": (f"nus48e_{singer}", f"{singer}/sing/{song}.wav", "")
            for singer in ("ADIZ", "JLEE")
            for song in ("01", "09")
        },
        "JLEE/sing/09.wav",
        ("nus48e/JLEE/09",),
    ),
    "vocalset": Tree(
        _vocalset,
        {
            f"vocalset/{path}": (f"vocalset_{path.split('/')[0]}", f"FULL/{path}.wav", "")
            for path in (
                "female1/scales/belt/f1_scales_belt_a",
                "female1/scales/belt/f1_scales_belt_e",
                "male11/long_tones/straight/m11_long_straight_a",
            )
        },
        "FULL/female1/scales/belt/f1_scales_belt_a.wav",
        ("vocalset/female1/scales/belt/f1_scales_belt_a",),
    ),
    "csd": Tree(
        _csd,
        {
            "csd/en001a": ("csd", "english/wav/en001a.wav", ""),
            "csd/en001b": ("csd", "english/wav/en001b.wav", ""),
            "csd/kr002a": ("csd", "korean/wav/kr002a.wav", ""),
        },
        "korean/wav/kr002a.wav",
        ("csd/kr002a",),
    ),
    "m4singer": Tree(
        _m4singer,
        {
            f"m4singer/{path}": (f"m4singer_{path.split('#')[0]}", f"{path}.wav", "")
            for path in ("Alto-1#美错/0000", "Alto-1#美错/0001", "Bass-2#一生 爱/0000")
        },
        "Alto-1#美错/0001.wav",
        ("m4singer/Alto-1#美错/0001",),
    ),
    "ravdess": Tree(
        _ravdess,
        {
            f"ravdess/{path.split('/')[1]}": (
                f"ravdess_{path.split('/')[0][-2:]}",
                f"{path}.wav",
                "",
            )
            for path in (
                "Actor_01/03-02-01-01-01-01-01",
                "Actor_01/03-02-01-01-01-02-01",
                "Actor_02/03-02-03-02-02-01-02",
            )
        },
        "Actor_01/03-02-01-01-01-02-01.wav",
        ("ravdess/03-02-01-01-01-02-01",),
    ),
}
