"""Extraction on a device: the library's own core and LiteRT, nothing else."""

# Before NumPy, for which it decides on threads.
import sep_tf.cli  # noqa: F401
