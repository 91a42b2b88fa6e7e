"""Errors whose text is one clear line for the person at the keyboard."""


class SepTfError(ValueError):
    """Base of every error a user can cause; programs print it as one line and exit 1."""


class AudioError(SepTfError):
    """A file that is not the audio it should be."""


class DataError(SepTfError):
    """A manifest, record or data set that does not hold what it should."""


class ModelError(SepTfError):
    """Weights, systems or runtimes that are missing or do not fit."""
