"""Scores of systems on songs: what each figure means, and the rows of results.csv."""

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from typing import Any, Literal

WHOLE = "all"


@dataclasses.dataclass(frozen=True)
class Metric:
    """One figure of a song.

    Attributes:
      field: of Score.
      title: column of tables.
      unit: "dB", "%" (shares, kept as 0..1), "cents" or "".
      better: "low", "high", or "" where neither is.
      definition: in a sentence; metrics.py and measures.py have the details.
      source: who defined it, "ours" where this project did.
    """

    field: str
    title: str
    unit: str
    better: Literal["low", "high", ""]
    definition: str
    source: str


_MCD = "10/ln 10 · √(2 Σ Δc²) over mel-cepstra of order 24, α 0.45, c0 left out, one lag of ±150 ms"
_KUBICHEK = "Kubichek 1993; mel-cepstrum as SPTK's sp2mc"
_MELODY = "mir_eval.melody, after Poliner et al. 2007 and Salamon et al. 2014"
METRICS = (
    Metric("mcd_db", "MCD", "dB", "low",
           f"Mel-cepstral distortion: {_MCD}; frames voiced in the reference, envelopes floored"
           " 70 dB below the voice.", f"{_KUBICHEK}; the floor is ours"),
    Metric("mcd_unfloored_db", "MCD, no floor", "dB", "low", "The same without that floor.",
           _KUBICHEK),
    Metric("mcd_all_db", "MCD, all frames", "dB", "low",
           "The same as MCD over all frames, silence too.", _KUBICHEK),
    Metric("mcd_loud_db", "MCD, loud frames", "dB", "low",
           "The same as MCD over frames within 30 dB of the song's loudest.",
           f"{_KUBICHEK}; the choice of frames is ours"),
    Metric("mcd_raw_db", "MCD, raw reference", "dB", "low",
           "MCD against the raw vocal, whatever --reference says.", _KUBICHEK),
    Metric("mcd_world_db", "MCD, WORLD reference", "dB", "low",
           "MCD against the raw vocal re-synthesised by WORLD, which the paper's listeners had.",
           f"{_KUBICHEK}; reference of Chandna et al. 2020"),
    Metric("lsd_db", "log spectral distance", "dB", "low",
           "Root mean square over frequency of the difference of power spectra (Hann 1024) in "
           "dB, floored 70 dB below the voice; voiced frames.",
           "Gray and Markel 1976; the floor is ours"),
    Metric("level_db", "level", "dB", "",
           "Power over the reference's voiced frames, relative to the reference's there: 0 is as "
           "loud. The distortion does not see it.", "ours"),
    Metric("aperiodicity_db", "aperiodicity error", "dB", "low",
           "Mean absolute difference of WORLD's four coded band aperiodicities, frames voiced "
           "in both.", "ours; aperiodicity by D4C, Morise 2016"),
    Metric("timbre_db", "timbre distance", "dB", "low",
           "Distance of the long-term mean mel-cepstra of voiced frames, on the scale of the MCD.",
           "ours"),
    Metric("target_timbre_db", "distance to target singer", "dB", "low",
           "Distance of the long-term mean mel-cepstrum from the target singer's.", "ours"),
    Metric("timbre_moved", "timbre moved", "%", "high",
           "Distance from the source's timbre over the sum of the distances from source and "
           "target: 100 % is the target singer's timbre.", "ours"),
    Metric("estoi", "ESTOI", "", "high",
           "Extended short-time objective intelligibility against the reference, a proxy: it "
           "was not made for re-synthesised singing.", "Jensen and Taal 2016; pystoi"),
    Metric("content_distance", "content distance", "", "low",
           "Mean absolute difference of content codes (the mixture encoder of --content_model,"
           " on the voice over the song's backing), over the deviation of the reference's "
           "codes: 0 is the same.", "ours; codes and distance of Chandna et al. 2020, eq. 6"),
    Metric("silence_db", "level in silence", "dB", "low",
           "Isolation: level where the true voice is silent (below -60 dBFS), relative to the "
           "level where it sings.", "ours"),
    Metric("backing_correlation", "backing correlation", "", "low",
           "Isolation: correlation of the envelope in dB with the backing's, what both share "
           "with the true voice taken out.", "ours"),
    Metric("raw_pitch", "f0 ≤ 50 cents", "%", "high",
           "Raw pitch accuracy: the reference's voiced frames where the contour is within 50 "
           "cents.", _MELODY),
    Metric("voiced_pitch", "same, own voicing", "%", "high",
           "The same, frames the system calls unvoiced count as wrong.",
           "ours, of mir_eval's raw pitch accuracy"),
    Metric("raw_chroma", "same, any octave", "%", "high", "Raw chroma accuracy: octaves ignored.",
           _MELODY),
    Metric("octave_errors", "octave errors", "%", "low", "Right but for octaves.",
           "ours: raw chroma accuracy less raw pitch accuracy"),
    Metric("voicing_recall", "voicing recall", "%", "high",
           "The reference's voiced frames called voiced.", _MELODY),
    Metric("voicing_false_alarm", "false alarm", "%", "low",
           "The reference's unvoiced frames called voiced.", _MELODY),
    Metric("overall_accuracy", "overall accuracy", "%", "high",
           "All frames: right f0 and voiced, or rightly unvoiced.", _MELODY),
    Metric("heard_pitch", "f0 of the voice", "%", "high",
           "As f0 ≤ 50 cents, own voicing, for harvest on the written voice.",
           "ours; harvest, Morise 2017"),
    Metric("f0_roughness", "f0 roughness", "cents", "",
           "Mean absolute second difference of the contour over voiced frames.", "ours"),
)  # fmt: skip
BY_FIELD = {metric.field: metric for metric in METRICS}


@dataclasses.dataclass(frozen=True)
class Score:
    """One system on one song, or on a segment of it; NaN where there was nothing to measure.

    `segment` is "all", or the seconds "30-60". `heard_pitch` is harvest's f0 of the written voice,
    own voicing; the other f0 figures are the system's.
    """

    song_id: str
    singer: str
    condition: str
    system: str
    segment: str
    seconds: float
    voiced_frames: int
    unvoiced_frames: int
    lag_frames: int
    mcd_db: float = math.nan
    mcd_unfloored_db: float = math.nan
    mcd_all_db: float = math.nan
    mcd_loud_db: float = math.nan
    mcd_raw_db: float = math.nan
    mcd_world_db: float = math.nan
    lsd_db: float = math.nan
    level_db: float = math.nan
    aperiodicity_db: float = math.nan
    timbre_db: float = math.nan
    target_timbre_db: float = math.nan
    timbre_moved: float = math.nan
    estoi: float = math.nan
    content_distance: float = math.nan
    silence_db: float = math.nan
    backing_correlation: float = math.nan
    raw_pitch: float = math.nan
    voiced_pitch: float = math.nan
    raw_chroma: float = math.nan
    octave_errors: float = math.nan
    voicing_recall: float = math.nan
    voicing_false_alarm: float = math.nan
    overall_accuracy: float = math.nan
    heard_pitch: float = math.nan
    f0_roughness: float = math.nan

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no NaN: None stands for it."""
        values = dataclasses.asdict(self)
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in values.items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Score":
        """Inverse of `to_dict`; raises TypeError on keys it does not know."""
        return cls(**{k: math.nan if v is None else v for k, v in values.items()})


def whole(scores: Sequence[Score]) -> list[Score]:
    """The rows of whole songs."""
    return [score for score in scores if score.segment == WHOLE]


def results_csv(scores: Sequence[Score]) -> str:
    """The scores as CSV text; a cell without a value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(f.name for f in dataclasses.fields(Score))
    for score in scores:
        writer.writerow(_csv_cell(value) for value in dataclasses.astuple(score))
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return value
