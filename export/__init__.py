"""Trained networks for other runtimes: TensorFlow Lite and Keras weight files."""
