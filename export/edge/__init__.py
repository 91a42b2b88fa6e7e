"""Extraction on a device: the library's own core and LiteRT, nothing else."""
