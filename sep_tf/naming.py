"""Flags that programs from audio file to audio file share, and the names of what they write."""

import os
import string
from typing import TYPE_CHECKING

from absl import flags

from sep_tf import cli
from sep_tf.config import ExtractConfig

if TYPE_CHECKING:
    from sep_tf.jobs import Job

EXISTING = ("overwrite", "skip")
# Fields of --name, and what becomes of them.
FIELDS = ("stem", "folder", "ext")
_DEFAULTS = ExtractConfig()


def define_flags(values: flags.FlagValues, what: str, suffix: str) -> None:
    """Defines --input, --output and what goes with them.

    Args:
      values: the program's flags.
      what: an input, as "Song".
      suffix: of outputs, as ".voice.wav".
    """
    flags.DEFINE_multi_string(
        "input",
        [],
        f"{what}, or folder of {what.lower()}s with its subfolders; may be given without --input. "
        "Read are wav, flac, ogg, opus, mp3, aiff, au, caf, w64 and rf64; for m4a and video the "
        "ffmpeg command that converts them is printed. In folders, files called *.voice.*, "
        "*.resynth.*, *.accompaniment.* and *.converted.* are passed over: earlier runs made them.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "output",
        None,
        "File that ends in .wav, .flac, .ogg, .opus, .mp3, .aiff, .aif, .caf or .w64, which names "
        "its format. For several inputs a folder; for one input, a new folder's name ends in /.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "name",
        None,
        "Name of each output in the folder, from {stem}, {ext} and {folder} of its input; "
        f"for example '{{folder}}/{{stem}}.voice.flac'. By default {{folder}}/{{stem}}{suffix}.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "existing",
        "overwrite",
        EXISTING,
        "What becomes of outputs that are there: they are replaced, or their inputs passed over.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "output_rate",
        None,
        "Sample rate of the result in Hz, 8000 to 192000; by default the input's.",
        lower_bound=8_000,
        upper_bound=192_000,
        flag_values=values,
    )
    flags.DEFINE_string(
        "encoding",
        None,
        "Samples as pcm16, pcm24 or float (not in .flac); by default the format's own (24 bit in "
        "WAV and FLAC). .ogg, .opus and .mp3 have no choice.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "clip",
        _DEFAULTS.clip,
        "A result beyond full scale is divided by its peak (rescale), cut off (clamp), or written "
        "as it is (none, in float formats).",
        flag_values=values,
    )
    flags.DEFINE_float("offset", 0.0, "Seconds of the input to skip.", flag_values=values)
    flags.DEFINE_float("duration", None, "Seconds to use, by default all.", flag_values=values)
    flags.DEFINE_integer(
        "jobs",
        1,
        "Files worked on at a time, 1 to 64.",
        lower_bound=1,
        upper_bound=64,
        flag_values=values,
    )


def check_template(template: str) -> None:
    """Raises UsageError for a --name that names nothing, or an unknown field."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise cli.UsageError(f"--name={template}: {error}") from error
    fields = [field for _, field, _, _ in parts]
    for _, field, form, conversion in parts:
        if form or conversion:
            raise cli.UsageError(f"--name={template}: {{{field}}} takes no format")
        if field is not None and field not in FIELDS:
            known = ", ".join(f"{{{name}}}" for name in FIELDS)
            raise cli.UsageError(f"--name={template}: unknown field {{{field}}}, known: {known}")
    if "stem" not in fields:
        raise cli.UsageError(f"--name={template}: without {{stem}} all outputs have one name")
    if os.path.isabs(template) or ".." in template.split("/"):
        raise cli.UsageError(f"--name={template}: leads out of the output folder")


def plan(values: flags.FlagValues, args: list[str], suffix: str) -> "tuple[list[Job], list[Job]]":
    """What to do, and what is passed over because its output is there (--existing=skip).

    Raises:
      SepTfError: see `jobs.plan`.
    """
    from sep_tf import jobs

    if values.name is not None:
        check_template(values.name)
    planned = jobs.plan([*values.input, *args], values.output, suffix, values.name)
    if values.existing == "overwrite":
        return planned, []
    there = [job for job in planned if os.path.exists(job.target)]
    return [job for job in planned if not os.path.exists(job.target)], there


def tell_skipped(program: cli.Program, skipped: "list[Job]") -> None:
    """One line on stdout about what was passed over."""
    if skipped:
        names = ", ".join(job.target for job in skipped[:5])
        more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        print(f"passed over {len(skipped)} that are there: {names}{more}", flush=True)
