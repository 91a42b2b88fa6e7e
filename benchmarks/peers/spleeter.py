"""Spleeter, 2 stems: a U-Net for each stem on segments of 512 frames (Hennequin et al., JOSS 2020).

A mask is the share of a stem's power in both.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.peers import spectra

FRAMES, BINS, CHANNELS = 512, 1024, 2
FILTERS = (16, 32, 64, 128, 256, 512)


def network() -> keras.Model:
    """Magnitude [B, 512, 1024, 2] -> magnitude of the stem."""
    mixture = keras.Input((FRAMES, BINS, CHANNELS))
    x, skips = mixture, []
    for number, filters in enumerate(FILTERS, 1):
        x = layers.Conv2D(filters, 5, strides=2, padding="same")(x)
        skips.append(x)
        normalised = layers.BatchNormalization()(x)
        # The last one's normalisation is in the published network, and leads nowhere.
        last = (x, normalised)
        x = layers.LeakyReLU(0.2)(normalised) if number < len(FILTERS) else x
    unused = last[1]
    for number, filters in enumerate((*FILTERS[-2::-1], 1)):
        if number:
            x = ops.concatenate([skips[-1 - number], x], axis=-1)
        x = layers.Conv2DTranspose(filters, 5, strides=2, padding="same", activation="relu")(x)
        x = layers.BatchNormalization()(x)
    mask = layers.Conv2D(CHANNELS, 4, dilation_rate=2, activation="sigmoid", padding="same")(x)
    return keras.Model(mixture, [mask * mixture, unused])


def make() -> tuple:
    """Its networks, and the function that separates a song."""
    models = [network(), network()]
    run = tf.function(lambda x: [model(x)[0] for model in models])

    def separate(audio: np.ndarray) -> np.ndarray:
        mixture = spectra.forward(audio)
        voice = np.zeros_like(mixture)
        for start in range(0, len(mixture), FRAMES):
            piece = mixture[start : start + FRAMES]
            magnitude = np.zeros((1, FRAMES, BINS, CHANNELS), np.float32)
            magnitude[0, : len(piece)] = np.abs(piece[:, :BINS])
            vocals, band = (out.numpy()[0, : len(piece)] ** 2 for out in run(magnitude))
            voice[start : start + FRAMES, :BINS] = (
                piece[:, :BINS] * (vocals + 5e-11) / (vocals + band + 1e-10)
            )
        return spectra.inverse(voice, len(audio))

    return models, separate
