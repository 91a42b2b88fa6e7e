"""Trained networks for other runtimes: TensorFlow Lite, SavedModel and Keras weight files."""
