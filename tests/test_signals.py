"""What is accepted as a signal."""

import math

import numpy as np
import pytest

from sep_tf import signals
from sep_tf.errors import AudioError


@pytest.mark.parametrize("rate", [0, -1, 999, 44_100.5, 2e6, math.nan, math.inf, -math.inf])
def test_rates_that_make_no_sense(rate):
    with pytest.raises(AudioError, match="makes no sense"):
        signals.check_rate(rate)


@pytest.mark.filterwarnings("error")
def test_samples_that_overflow():
    with pytest.raises(AudioError, match="NaN or infinite"):
        signals.checked(np.array([0.0, 1e300]))


@pytest.mark.parametrize("rate", [1000, 44_100, 48_000.0])
def test_rates_are_integers(rate):
    assert signals.check_rate(rate) == rate and isinstance(signals.check_rate(rate), int)
