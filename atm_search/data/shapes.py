"""Signed distances to the embedded data set's ten shapes, and to the fragments beside them.

Coordinates are `u` (right) and `v` (up), in units of the shape's radius, so that every shape fits
the unit disc. A distance is negative inside. Only + - * / sqrt, abs, minimum and maximum occur:
IEEE 754 rounds these exactly, so that the pixels, whose hash names the shard, are the same on every
machine.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# Sines and cosines as literals: libm may round them differently from one machine to the next.
_SIN_30, _COS_30 = np.float32(0.5), np.float32(0.8660254)
_SIN_36, _COS_36 = np.float32(0.58778525), np.float32(0.809017)
_SQRT_HALF = np.float32(0.70710678)
_ONE = np.float32(1)


def _length(u: Floats, v: Floats) -> Floats:
    length: Floats = np.sqrt(u * u + v * v)
    return length


def _disc(u: Floats, v: Floats) -> Floats:
    return _length(u, v) - np.float32(0.85)


def _square(u: Floats, v: Floats) -> Floats:
    distance: Floats = np.maximum(np.abs(u), np.abs(v)) - np.float32(0.7)
    return distance


def _triangle(u: Floats, v: Floats) -> Floats:
    distance: Floats = np.maximum(-v, _COS_30 * np.abs(u) + _SIN_30 * v) - np.float32(0.5)
    return distance


def _hexagon(u: Floats, v: Floats) -> Floats:
    across, up = np.abs(u), np.abs(v)
    distance: Floats = np.maximum(_COS_30 * across + _SIN_30 * up, up) - np.float32(0.8)
    return distance


def _star(u: Floats, v: Floats) -> Floats:
    """Five points. Two mirrors fold the plane into one tenth, where a single edge remains."""
    across, up = np.abs(u), v
    for side in (_COS_36, -_COS_36):
        beyond: Floats = np.maximum(side * across - _SIN_36 * up, np.float32(0))
        across, up = across - side * (beyond + beyond), up + _SIN_36 * (beyond + beyond)
    # From the tip (0, 1) to the notch at 36 degrees and radius 0.42; the numbers are its normal.
    distance: Floats = np.float32(0.936) * np.abs(across) + np.float32(0.352) * (up - _ONE)
    return distance


def _ring(u: Floats, v: Floats) -> Floats:
    distance: Floats = np.abs(_length(u, v) - np.float32(0.7)) - np.float32(0.2)
    return distance


def _cross(u: Floats, v: Floats) -> Floats:
    along, aside = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
    distance: Floats = np.maximum(along - np.float32(0.92), aside - np.float32(0.28))
    return distance


def _crescent(u: Floats, v: Floats) -> Floats:
    bite = np.float32(0.75) - _length(u - np.float32(0.45), v)
    distance: Floats = np.maximum(_length(u, v) - np.float32(0.9), bite)
    return distance


def _heart(u: Floats, v: Floats) -> Floats:
    """A square standing on its corner, and a half disc on each of its upper sides."""
    across, up = np.abs(u), v + np.float32(0.1)
    square = _SQRT_HALF * (across + np.abs(up) - np.float32(0.74))
    lobe = _length(across - np.float32(0.37), up - np.float32(0.37)) - np.float32(0.5232590)
    distance: Floats = np.minimum(square, lobe)
    return distance


def _arrow(u: Floats, v: Floats) -> Floats:
    across = np.abs(u)
    head = np.maximum(-v, np.float32(0.8) * across + np.float32(0.6) * (v - np.float32(0.95)))
    shaft = np.maximum(across - np.float32(0.24), np.abs(v + np.float32(0.4)) - np.float32(0.5))
    distance: Floats = np.minimum(head, shaft)
    return distance


SHAPES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "hexagon": _hexagon,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
}
"""Class name to signed distance; the order is the order of the labels."""


def bar(u: Floats, v: Floats, half_length: Floats, half_width: Floats) -> Floats:
    """A bar along `u` with round ends; a dot if `half_length` is 0. Unit of the arguments."""
    return _length(np.maximum(np.abs(u) - half_length, np.float32(0)), v) - half_width


def arc(u: Floats, v: Floats, radius: Floats, half_width: Floats) -> Floats:
    """The upper half of a thin ring, never a closed one: a closed one would be an answer."""
    distance: Floats = np.maximum(np.abs(_length(u, v) - radius) - half_width, -v)
    return distance
