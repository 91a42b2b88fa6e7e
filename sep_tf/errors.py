"""Errors whose text is one clear line for the person at the keyboard."""

import os
import re


class SepTfError(ValueError):
    """Base of every error a user can cause; programs print it as one line and exit 1."""


class AudioError(SepTfError):
    """A file that is not the audio it should be."""


class DataError(SepTfError):
    """A manifest, record or data set that does not hold what it should."""


class ModelError(SepTfError):
    """Weights, systems or runtimes that are missing or do not fit."""


def tensorflow_cannot_write(path: os.PathLike[str], message: str) -> SepTfError:
    """The error for the user where TensorFlow says "FILE; why", and more on further lines."""
    why = tensorflow_says(message.partition("\n")[0]).rpartition("; ")[2]
    return SepTfError(f"{path}: cannot be written: {why}")


def tensorflow_says(message: str) -> str:
    """What an error of TensorFlow says, without its names of functions, nodes and operations."""
    lines = [line.strip() for line in message.splitlines()]
    # The last line says it; those before name functions, those in brackets nodes.
    said = [line for line in lines if line and not line.startswith("[[")]
    failed = [line for line in said if "assertion failed" in line]
    line = (failed or said[-1:] or [""])[0]
    line = re.sub(r"\{\{.*?\}\} ?| ?\[Op:.*?\]| name:\s*\S*$", "", line)
    line = re.sub(r"^Error in user-defined function passed to .*? Iterator::\S+: ", "", line)
    # What is asserted is in brackets, and so is each value beside it.
    return re.sub(r"^.*?assertion failed: \[(.*?)\]", r"\1", line)
