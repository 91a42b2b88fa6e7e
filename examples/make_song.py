"""Makes the bundled song again: "Sakura Sakura" with a band, as a mix and as the true voice.

The NIT-SONG070-F001 voice of pysinsy sings the score below; WORLD puts it in tune; fluidsynth plays
the band from a MIDI file written here. The mix is voice + reverb of the voice + band, sample by
sample, so that the mix less the voice is everything that extraction has to leave out.

Needs, beside the project itself, `pip install pysinsy mido` (pysinsy is compiled: C++) and
`apt-get install fluidsynth fluid-soundfont-gm`. Two runs give the same samples.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

try:
    import mido
    import numpy as np
    import pysinsy
    import pyworld
    import soundfile
    import soxr
    from absl import app, flags
except ImportError as error:
    sys.exit(f"make_song.py: error: no module {error.name}: pip install -e . pysinsy mido")

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "output_dir", str(pathlib.Path(__file__).parent / "sakura"), "Where the song is written."
)
flags.DEFINE_string(
    "soundfont", "/usr/share/sounds/sf2/FluidR3_GM.sf2", "General MIDI bank that plays the band."
)

# The score, one line a bar of 4/4. A note is pitch:eighths:syllable, written in A minor; R rests.
# Traditional melody; words of 1888. A long-vowel mark holds the vowel before it.
TEMPO = 112  # Quarters a minute.
TRANSPOSE = 5  # Semitones, for voice and band: to D minor, where this voice is most even.
MELODY = (
    "R:8",
    "A4:2:さ A4:2:く B4:4:ら",
    "A4:2:さ A4:2:く B4:4:ら",
    "A4:2:や B4:2:よ C5:2:い B4:2:の",
    "A4:2:そ B4:1:ら A4:1:ー F4:4:わ",
    "E4:2:み C4:2:わ E4:2:た F4:2:す",
    "E4:2:か E4:1:ぎ C4:1:ー B3:4:り",
    "R:8",
    "E4:2:み F4:2:に B4:1:ゆ A4:1:ー F4:2:か",
    "E4:4:ん R:4",
    "R:8",
)
# Two chords a bar. The koto plays in the bars marked *, where nobody sings.
CHORDS = "Am F* | Am Am | F F | Am Am | F Dm | Am F | Am Em | Am F* | F Dm | Am Em | Am Am*"
VOICINGS = {  # Bass, then the chord.
    "Am": ("A1", "A3 C4 E4"),
    "Dm": ("D2", "A3 D4 F4"),
    "Em": ("E2", "B3 E4 G4"),
    "F": ("F2", "A3 C4 F4"),
}
KOTO = "E5 C5 B4 A4 F4 E4 C4 B3"  # One note an eighth.
PROGRAMS = {"chords": (0, 4), "bass": (1, 33), "koto": (2, 107)}  # Channel, program from 0.
DRUM_CHANNEL, KICK, SNARE, HAT = 9, 36, 38, 42

RATE = 44_100
FRAME = 0.005  # Seconds from one frame of WORLD to the next.
TAIL = 1.0  # Seconds after the last bar, for the band to ring.
VOICE_OVER_BAND_DB = 4.5
REVERB_DB = -13.0
PEAK_DB = -1.0
EIGHTH = 30 / TEMPO  # Seconds.
SECONDS = len(MELODY) * 8 * EIGHTH + TAIL


def midi_number(name: str) -> int:
    """The transposed MIDI number of a natural such as "A4"."""
    return 12 * (int(name[1]) + 1) + "C D EF G A B".index(name[0]) + TRANSPOSE


def melody() -> list[tuple[int, int | None, int, str]]:
    """The notes in order: start in eighths, MIDI number (None: rest), eighths, syllable."""
    notes, start = [], 0
    for note in " ".join(MELODY).split():
        name, eighths, *syllable = note.split(":")
        number = None if name == "R" else midi_number(name)
        notes.append((start, number, int(eighths), "".join(syllable)))
        start += int(eighths)
    return notes


def music_xml() -> str:
    """The melody as MusicXML with divisions of an eighth."""
    names = {1: "eighth", 2: "quarter", 4: "half", 8: "whole"}
    text = '<?xml version="1.0" encoding="UTF-8"?>\n<score-partwise version="2.0"><part-list>'
    text += '<score-part id="P1"><part-name>voice</part-name></score-part></part-list>'
    text += '<part id="P1">'
    for start, number, eighths, syllable in melody():
        if start % 8 == 0:
            text += f'{"</measure>" if start else ""}\n<measure number="{start // 8 + 1}">'
        if start == 0:
            text += "<attributes><divisions>2</divisions><key><fifths>-1</fifths></key>"
            text += "<time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
            text += f'<direction><sound tempo="{TEMPO}"/></direction>'
        pitch, lyric = "<rest/>", ""
        if number is not None:
            step = "CCDDEFFGGAAB"[number % 12]
            sharp = "<alter>1</alter>" if number % 12 in (1, 3, 6, 8, 10) else ""
            pitch = f"<pitch><step>{step}</step>{sharp}<octave>{number // 12 - 1}</octave></pitch>"
            lyric = f"<lyric><text>{syllable}</text></lyric>"
        text += f"<note>{pitch}<duration>{eighths}</duration><voice>1</voice>"
        text += f"<type>{names[eighths]}</type>{lyric}</note>"
    return text + "</measure>\n</part></score-partwise>\n"


def smooth(values: np.ndarray, seconds: float) -> np.ndarray:
    """Values per frame, averaged by a Hann window of that many seconds."""
    window = np.hanning(round(seconds / FRAME) | 1)
    padded = np.pad(values, len(window) // 2, mode="edge")
    return np.convolve(padded, window / window.sum(), "valid")


def score_f0(frames: int) -> np.ndarray:
    """The f0 to sing per frame in Hz: glides from note to note, and a vibrato on long notes."""
    time = np.arange(frames) * FRAME
    pitch, depth = np.full(frames, np.nan), np.zeros(frames)
    for start, number, eighths, _ in melody():
        if number is None:
            continue
        age = time - start * EIGHTH
        # Until the next note begins, so that there are values in rests too.
        pitch[age >= 0] = number
        depth[age >= 0] = np.clip((age[age >= 0] - 0.3) / 0.3, 0, 1) * 0.25 * (eighths >= 4)
    pitch[np.isnan(pitch)] = pitch[~np.isnan(pitch)][0]
    semitones = smooth(pitch, 0.1) + smooth(depth, 0.1) * np.sin(2 * np.pi * 5.5 * time)
    return 440 * 2 ** ((semitones - 69) / 12)


def sing(score: pathlib.Path) -> np.ndarray:
    """The dry voice [SECONDS * RATE] of a MusicXML file, in tune and evened out."""
    raw, rate = pysinsy.synthesize(str(score))
    raw = np.pad(raw / 2**15, (0, round(SECONDS * rate)))[: round(SECONDS * rate)]
    f0, time = pyworld.harvest(raw, rate, f0_floor=150, f0_ceil=900, frame_period=1000 * FRAME)
    envelope = pyworld.cheaptrick(raw, f0, time, rate)
    aperiodicity = pyworld.d4c(raw, f0, time, rate, threshold=0.5)
    tuned = np.where(f0 > 0, score_f0(len(f0)), 0)
    voice = pyworld.synthesize(tuned, envelope, aperiodicity, rate, 1000 * FRAME)[: len(raw)]
    # The singer is 20 dB louder on some notes than on others, and hisses in rests.
    hop = round(FRAME * rate)
    level = np.sqrt(smooth(np.add.reduceat(voice**2, np.arange(0, len(voice), hop)) / hop, 0.2))
    gain = np.where(level > 0.02 * level.max(), (level + 1e-9) ** -0.7, 0)
    centres = hop * (np.arange(len(level)) + 0.5)
    voice = voice * np.interp(np.arange(len(voice)), centres, smooth(gain, 0.06))
    return soxr.resample(voice, rate, RATE)


def band_events() -> list[tuple[float, float, int, int, int]]:
    """What the band plays: start and length in eighths, channel, MIDI number, velocity."""
    events = []
    for bar, line in enumerate(CHORDS.split("|")):
        start = 8 * bar
        for half, name in enumerate(line.replace("*", "").split()):
            bass, chord = VOICINGS[name]
            at = start + 4 * half
            events += [(at, 4, PROGRAMS["chords"][0], midi_number(n), 70) for n in chord.split()]
            root = midi_number(bass)
            for t, length, note in ((0, 3, root), (3, 1, root + 12)):
                events.append((at + t, length, PROGRAMS["bass"][0], note, 96))
        if "*" in line:
            notes = enumerate(KOTO.split())
            events += [(start + t, 2, PROGRAMS["koto"][0], midi_number(n), 92) for t, n in notes]
        for t in range(8):
            events.append((start + t, 1, DRUM_CHANNEL, HAT, 105 - 25 * (t % 2)))
            if t % 2 == 0:
                events.append((start + t, 1, DRUM_CHANNEL, SNARE if t % 4 else KICK, 120))
    return events


def write_midi(path: pathlib.Path) -> None:
    """Writes the band as a MIDI file of one track."""
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(TEMPO))])
    track += [mido.Message("program_change", channel=c, program=p) for c, p in PROGRAMS.values()]
    messages = []
    for start, length, channel, note, velocity in band_events():
        for at, sounding in ((start, velocity), (start + length, 0)):
            messages.append((round(at * 240), sounding, channel, note))
    now = 0
    for tick, velocity, channel, note in sorted(messages):
        message = mido.Message("note_on", channel=channel, note=note, velocity=velocity)
        track.append(message.copy(time=tick - now))
        now = tick
    mido.MidiFile(type=0, ticks_per_beat=480, tracks=[track]).save(path)


def play(midi: pathlib.Path, soundfont: str, folder: pathlib.Path) -> np.ndarray:
    """The band [SECONDS * RATE, 2], as fluidsynth plays a MIDI file, without effects."""
    wav, length = folder / "band.wav", round(SECONDS * RATE)
    command = f"fluidsynth -ni -q -R 0 -C 0 -g 0.5 -r {RATE} -T wav -O float -F".split()
    subprocess.run([*command, wav, soundfont, midi], check=True, stdout=subprocess.DEVNULL)
    band = soundfile.read(wav, always_2d=True)[0][:length]
    band = np.pad(band, ((0, length - len(band)), (0, 0)))
    fade = np.clip((length - np.arange(length)) / (TAIL * RATE), 0, 1)
    return band * fade[:, None]


def reverb(voice: np.ndarray) -> np.ndarray:
    """The voice in a room, without the direct sound: decaying noise, [samples, 2]."""
    time = np.arange(RATE) / RATE
    noise = np.random.default_rng(1888).standard_normal((RATE, 2))
    impulse = noise * np.where(time > 0.02, 10 ** (-3 * time / 0.9), 0)[:, None]
    size = len(voice) + RATE
    wet = np.fft.rfft(impulse, size, axis=0) * np.fft.rfft(voice, size)[:, None]
    return np.fft.irfft(wet, size, axis=0)[: len(voice)]


def rms(audio: np.ndarray) -> float:
    """Root of the mean power of all samples."""
    return float(np.sqrt(np.mean(audio**2)))


def main(argv: list[str]) -> None:
    """Makes the song and says what came out."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]}")
    if not shutil.which("fluidsynth") or not pathlib.Path(FLAGS.soundfont).is_file():
        sys.exit(
            "make_song.py: error: no fluidsynth, or no file at --soundfont: "
            "apt-get install fluidsynth fluid-soundfont-gm"
        )
    output = pathlib.Path(FLAGS.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    (output / "voice.musicxml").write_text(music_xml(), "utf-8")
    write_midi(output / "band.mid")
    voice = sing(output / "voice.musicxml")
    with tempfile.TemporaryDirectory() as folder:
        band = play(output / "band.mid", FLAGS.soundfont, pathlib.Path(folder))
    sung = np.abs(voice) > 0.01 * np.abs(voice).max()
    band *= rms(voice[sung]) / rms(band[sung]) * 10 ** (-VOICE_OVER_BAND_DB / 20)
    wet = reverb(voice)
    wet *= rms(voice) / rms(wet) * 10 ** (REVERB_DB / 20)
    mix = voice[:, None] + wet + band
    gain = 10 ** (PEAK_DB / 20) / np.abs(mix).max()
    for name, audio in (("mix", mix), ("vocals", voice)):
        soundfile.write(output / f"{name}.flac", audio * gain, RATE, "PCM_16")
    print(f"{output}: {SECONDS:.2f} s, sung {sung.mean():.0%}")


if __name__ == "__main__":
    app.run(main)
