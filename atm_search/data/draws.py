"""Random numbers that are the same on every machine and under every numpy."""

import math

import numpy as np
import numpy.typing as npt

from atm_search.data.shapes import Floats

Integers = npt.NDArray[np.uint64]


class Draws:
    """Uniform random numbers of several images, asked for in a fixed order.

    The k-th number of an image is a hash of seed, image number and k, so it depends neither on the
    other images nor on their count. Source: SplitMix64 (Steele, Lea and Flood 2014).
    """

    def __init__(self, numbers: Integers, seed: int) -> None:
        """Begin the sequences of the images with these numbers, uint64 [n]."""
        self._keys = _mix(numbers + np.uint64(seed))
        self._next = 1

    def bits(self, *shape: int) -> Integers:
        """[n, *shape] of 64 random bits."""
        size = math.prod(shape)
        counters = np.arange(self._next, self._next + size, dtype=np.uint64)
        self._next += size
        steps = counters * np.uint64(0x9E37_79B9_7F4A_7C15)
        return _mix(self._keys[:, None] + steps).reshape(len(self._keys), *shape)

    def uniform(self, *shape: int) -> Floats:
        """[n, *shape] in [0, 1): the 24 high bits, all that float32 holds exactly."""
        return (self.bits(*shape) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)

    def between(self, low: Floats | float, high: Floats | float, *shape: int) -> Floats:
        """[n, *shape] between bounds that are numbers or suit this shape."""
        low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        return low + (high - low) * self.uniform(*shape)


def _mix(bits: Integers) -> Integers:
    """SplitMix64's finaliser; arithmetic on arrays wraps modulo 2**64."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return bits ^ (bits >> np.uint64(31))
