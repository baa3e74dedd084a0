"""What an image of the embedded data set consists of, each part painted on a canvas of many images.

A canvas is float32 [n, 3, 112, 112], 0 to 255. Arithmetic obeys the rule of `shapes`.
"""

import numpy as np
import numpy.typing as npt

from atm_search.data.draws import Draws
from atm_search.data.shapes import SHAPES, Floats, arc, bar

IMAGE_SIZE = 112
PATCH_SIZE = 8
_SHAPE_WINDOW = 88  # pixels, wider than the largest shape
_FRAGMENT_WINDOW = 32  # likewise

_ONE, _HALF = np.float32(1), np.float32(0.5)
_PIXELS = np.arange(IMAGE_SIZE, dtype=np.float32)
_PATCH_CENTRES = np.arange(PATCH_SIZE / 2, IMAGE_SIZE, PATCH_SIZE, dtype=np.float32)

_Indices = npt.NDArray[np.int64]


def gradient(draws: Draws, ground: Floats) -> Floats:
    """A canvas of the ground colours, [n, 3], each a little lighter towards a random side."""
    slopes = draws.between(-0.2, 0.2, 2)
    axis = _PIXELS - np.float32(IMAGE_SIZE / 2)
    plane = slopes[:, 0, None, None] * axis[:, None] + slopes[:, 1, None, None] * axis
    canvas: Floats = ground[:, :, None, None] + plane[:, None]
    return canvas


def add_texture(canvas: Floats, draws: Draws, amplitude: Floats) -> None:
    """Adds stripes, a checker pattern or blobs; none where the amplitude, [n], is 0."""
    kind = np.floor(np.float32(3) * draws.uniform())
    angle, frequency, phase = draws.between(-1, 1), draws.between(0.03, 0.12), draws.uniform(2)
    tint = draws.between(0.4, 1, 3) * amplitude[:, None]
    grid, cell = draws.between(-1, 1, 16, 16), draws.between(8, 24)
    cosine, sine = rotation(angle)
    waves = np.stack([cosine * frequency, sine * frequency, phase[:, 0], phase[:, 1]], axis=1)
    for index in range(3):
        chosen = np.flatnonzero((kind == index) & (amplitude > 0))
        if index < 2:
            pattern = _stripes(waves[chosen], checker=index == 1)
        else:
            pattern = _blobs(grid[chosen], _PIXELS / cell[chosen, None])
        canvas[chosen] += tint[chosen, :, None, None] * pattern[:, None]


def _stripes(waves: Floats, *, checker: bool) -> Floats:
    """[n, 112, 112] in [-1, 1], of waves [n, 4]: periods per pixel right and down, two phases."""
    right, down, phase, cross_phase = waves[:, :, None, None].transpose(1, 0, 2, 3)
    pattern: Floats = _wave(right * _PIXELS + down * _PIXELS[:, None] + phase)
    if checker:
        pattern *= _wave(right * _PIXELS[:, None] - down * _PIXELS + cross_phase)
    return pattern


def _wave(turns: Floats) -> Floats:
    """Between -1 and 1 with period 1, steep enough to look like a stripe."""
    triangle = np.float32(4) * np.abs(turns - np.floor(turns) - _HALF) - _ONE
    wave: Floats = np.clip(triangle + triangle, -_ONE, _ONE)
    return wave


def _blobs(grid: Floats, position: Floats) -> Floats:
    """[n, 112, 112]: grids [n, 16, 16], interpolated at the rows and columns [n, 112]."""
    across_rows = _interpolate(grid, position)
    return _interpolate(across_rows.transpose(0, 2, 1), position).transpose(0, 2, 1)


def _interpolate(grid: Floats, position: Floats) -> Floats:
    """[n, 112, m]: rows of grids [n, k, m] at fractional positions [n, 112]."""
    cell = np.floor(position).astype(np.int64)
    weight = (position - cell.astype(np.float32))[:, :, None]
    image = np.arange(len(grid))[:, None]
    between: Floats = grid[image, cell] * (_ONE - weight) + grid[image, cell + 1] * weight
    return between


def add_shapes(
    canvas: Floats, draws: Draws, labels: _Indices, radius: Floats, colour: Floats
) -> npt.NDArray[np.bool_]:
    """Paints the one shape that each image is about.

    Args:
        canvas: changed in place.
        draws: give position and rotation, up to 28 degrees either way.
        labels: index into `SHAPES`, [n].
        radius: pixels, [n].
        colour: [n, 3].

    Returns:
        Whether the centre of each patch lies in the shape, [n, 14, 14].
    """
    centre = draws.between(radius[:, None], IMAGE_SIZE - radius[:, None], 2)
    cosine, sine = rotation(draws.between(-0.25, 0.25))
    foreground = np.empty((len(canvas), len(_PATCH_CENTRES), len(_PATCH_CENTRES)), np.bool_)
    for label, distance in enumerate(SHAPES.values()):
        chosen = np.flatnonzero(labels == label)
        middle, scale = centre[chosen], radius[chosen, None, None]
        turn = cosine[chosen], sine[chosen]
        corner, pixels = _window(middle, _SHAPE_WINDOW)
        u, v = _turned(pixels - middle[:, :, None], *turn)
        _paint(canvas, chosen, corner, scale * distance(u / scale, v / scale), colour[chosen])
        u, v = _turned(_PATCH_CENTRES - middle[:, :, None], *turn)
        foreground[chosen] = distance(u / scale, v / scale) < 0
    return foreground


def add_fragments(canvas: Floats, draws: Draws, wanted: Floats, numbers: range) -> None:
    """Paints bars, dots and arcs, all of them smaller or thinner than a shape.

    Args:
        canvas: changed in place.
        draws: give everything else.
        wanted: how many fragments an image has, [n].
        numbers: which of them to paint: a fragment is, where its number is below `wanted`.
    """
    for number in numbers:
        centre, colour = draws.between(4, IMAGE_SIZE - 4, 2), draws.between(20, 235, 3)
        cosine, sine = rotation(draws.between(-1, 1))
        side = np.where(draws.uniform() < _HALF, -_ONE, _ONE)
        length, width = draws.between(0, 12), draws.between(1, 2.5)
        chosen = np.flatnonzero(wanted > number)
        middle = centre[chosen]
        corner, pixels = _window(middle, _FRAGMENT_WINDOW)
        turn = cosine[chosen] * side[chosen], sine[chosen] * side[chosen]
        u, v = _turned(pixels - middle[:, :, None], *turn)
        half_length, half_width = length[chosen, None, None], width[chosen, None, None]
        if number % 4 < 2:
            distance = bar(u, v, half_length, half_width)
        else:
            distance = arc(u, v, np.float32(4) + half_length * _HALF, half_width)
        _paint(canvas, chosen, corner, distance, colour[chosen])


def add_noise(canvas: Floats, draws: Draws, amplitude: Floats) -> None:
    """Adds uniform noise within the amplitude, [n], to every value; eight per 64 random bits."""
    bits = draws.bits(canvas[0].size // 8).astype("<u8")  # byte order decides which value is which
    unit = bits.view(np.uint8).astype(np.float32) * np.float32(2 / 255) - _ONE
    canvas += unit.reshape(canvas.shape) * amplitude[:, None, None, None]


def rotation(half_tangent: Floats) -> tuple[Floats, Floats]:
    """Cosine and sine of the angle whose half has this tangent: no libm in it."""
    square = half_tangent * half_tangent
    return (_ONE - square) / (_ONE + square), (half_tangent + half_tangent) / (_ONE + square)


def _window(centre: Floats, size: int) -> tuple[_Indices, Floats]:
    """The corners, [n, 2], of windows in the canvas that hold the centres, and their pixels."""
    corner = np.clip(np.floor(centre) - size // 2, 0, IMAGE_SIZE - size).astype(np.int64)
    return corner, (corner[:, :, None] + np.arange(size)).astype(np.float32)


def _turned(offset: Floats, cosine: Floats, sine: Floats) -> tuple[Floats, Floats]:
    """Offsets right and down, [n, 2, size], as rotated right and up, each [n, size, size]."""
    across, up = offset[:, 0, None, :], -offset[:, 1, :, None]
    cosine, sine = cosine[:, None, None], sine[:, None, None]
    return cosine * across + sine * up, cosine * up - sine * across


def _paint(
    canvas: Floats, chosen: _Indices, corner: _Indices, distance: Floats, colour: Floats
) -> None:
    """Blends a colour into a window of the chosen images, fully half a pixel inside the edge.

    Args:
        canvas: changed in place.
        chosen: image indices, none twice, [m].
        corner: left and upper end of the window, [m, 2].
        distance: to the edge, in pixels, negative inside, [m, size, size].
        colour: [m, 3].
    """
    size = distance.shape[-1]
    cover = np.clip(_HALF - distance, np.float32(0), _ONE)
    views = np.lib.stride_tricks.sliding_window_view(
        canvas, (size, size), axis=(2, 3), writeable=True
    )
    window = (chosen, slice(None), corner[:, 1], corner[:, 0])
    pixels = views[window]
    views[window] = pixels + cover[:, None] * (colour[:, :, None, None] - pixels)
