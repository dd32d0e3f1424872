"""Scene of tissue maps into which layers, streaks and objects are drawn, and its B-mode image.

Lengths are pixels of the image. A shape is a *level* map (H, W): negative inside, 0 on the border.

The received signal is the convolution of random scatterers with a point-spread function: a
modulated Gaussian pulse along the beam, a Gaussian beam profile across it. It is computed
demodulated (IQ): ``|(s * exp(-2 pi i f z)) conv gauss|`` is the envelope of ``s conv (gauss cos)``.
Maps are drawn in the image's own pixels; a fan is sampled along its beams and converted back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import components
from ..core.types import BoolArray, FloatArray

DYNAMIC_RANGE_DB = 55.0
_CYCLES_PER_PIXEL = 0.27


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """The geometry of a scan in an image of (H, W) pixels.

    Attributes:
        visible: (H, W) bool, where there is an image at all.
        depth: (H, W) pixels from the probe's surface along the beam.
        beam_yx: (2, H, W) unit vectors along the beam, as (row, column).
        to_beams: (2, samples, beams) rows and columns in the image of every sample of every beam;
            None where beams are the columns of the rectangle ``window`` (linear probe).
        to_image: (2, N) samples and beams of every visible pixel; None as above.
        window: rows and columns that hold the image.
    """

    visible: BoolArray
    depth: FloatArray
    beam_yx: FloatArray
    to_beams: FloatArray | None
    to_image: FloatArray | None
    window: tuple[slice, slice]


def linear_scan(size_hw: tuple[int, int], margins: tuple[int, int, int, int]) -> Scan:
    """A linear probe at the top; ``margins`` are black pixels (top, bottom, left, right)."""
    height, width = size_hw
    top, bottom, left, right = margins
    window = (slice(top, height - bottom), slice(left, width - right))
    visible = np.zeros(size_hw, bool)
    visible[window] = True
    rows = np.mgrid[:height, :width][0].astype(np.float32)
    beam = np.zeros((2, height, width), np.float32)
    beam[0] = 1.0
    return Scan(visible, rows - top, beam, None, None, window)


def fan_scan(
    size_hw: tuple[int, int], half_angle: float, radius: float, overhang: float = 1.0
) -> Scan:
    """A curvilinear (or, with a small ``radius``, a phased) probe at the top.

    Args:
        size_hw: (H, W).
        half_angle: radians between the middle beam and the last.
        radius: of the probe's surface, as a fraction of the image's height.
        overhang: how much wider than the image the fan may be, which crops its sides.
    """
    height, width = size_hw
    widest = overhang * (width / 2 - 1) / np.sin(half_angle)
    start = min(radius * height, widest / 2)
    reach = start + (height - 1) - start * (1 - np.cos(half_angle))
    reach = min(reach, widest)
    apex_y, apex_x = -start * np.cos(half_angle), (width - 1) / 2
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    down, across = rows - apex_y, columns - apex_x
    distance = np.sqrt(down**2 + across**2)
    angle = np.arctan2(across, down)
    visible = (distance >= start) & (distance <= reach) & (np.abs(angle) <= half_angle)
    samples = max(8, round(reach - start))
    beams = max(8, round(half_angle * (reach + start)))
    r = np.linspace(start, reach, samples, dtype=np.float32)[:, None]
    theta = np.linspace(-half_angle, half_angle, beams, dtype=np.float32)[None]
    to_beams = np.stack([apex_y + r * np.cos(theta), apex_x + r * np.sin(theta)])
    to_image = np.stack(
        [
            (distance[visible] - start) / (reach - start) * (samples - 1),
            (angle[visible] / half_angle + 1) / 2 * (beams - 1),
        ]
    )
    beam = np.stack([down, across]) / np.maximum(distance, 1e-6)
    return Scan(
        visible,
        distance - np.float32(start),
        beam,
        to_beams,
        to_image,
        (slice(None), slice(None)),
    )


def b_mode(
    scan: Scan,
    echo_db: FloatArray,
    loss_db: FloatArray,
    specular: FloatArray,
    *,
    pulse: float,
    beam_width: float,
    gain_db: float,
    noise_db: float,
    looks: int,
    rng: np.random.Generator,
    scatterers: Sequence[FloatArray] | None = None,
) -> NDArray[np.uint8]:
    """Render tissue maps (H, W) to a grey B-mode image (H, W) uint8, black outside the scan.

    Args:
        scan: geometry.
        echo_db: echogenicity; 0 is the reference tissue.
        loss_db: two-way attenuation per pixel of depth beyond what the time-gain compensation
            corrects; negative where a fluid attenuates less (enhancement), high in bone (shadow).
        specular: amplitude of smooth interfaces, beside the reference tissue's 1.
        pulse: standard deviation of the pulse's envelope, in pixels along the beam.
        beam_width: standard deviation of the beam at its focus, in pixels across.
        gain_db: grey level of the reference tissue below white.
        noise_db: electronic noise at the greatest depth, beside the reference tissue.
        looks: from how many angles the image is compounded, which averages speckle.
        rng: source of the scatterers and the noise.
        scatterers: for each look, the amplitudes (H, W) of the scatterers, normal with mean 0 and
            deviation 1, where they move from frame to frame; None draws them.
    """
    from scipy.ndimage import gaussian_filter1d

    echo, loss, mirror = (_along_beams(scan, m) for m in (echo_db, loss_db, specular))
    z = np.arange(len(echo), dtype=np.float32)[:, None]
    far = z / len(echo)
    # The loss adds up along the beam, so its running sum (in dB) is what is left at a depth;
    # blurred across, for a beam is wider than a pixel.
    through = _amplitude(-gaussian_filter1d(np.cumsum(loss, axis=0), 2 * beam_width, axis=1))
    # Time-gain compensation amplifies the noise with depth: 30 dB from the probe to the end.
    noise = _amplitude(noise_db + 30 * (far - 1))
    # The beam is narrow at 45 % of the depth and wider before and behind.
    off_focus = np.clip(np.abs(far - 0.45) * 1.6, 0, 1)
    # White scatterers lose this much energy in the two Gaussians; the reference tissue is then 1.
    strength = _amplitude(echo) * np.float32(np.sqrt(4 * np.pi * pulse * beam_width))
    demodulation = np.exp(-2j * np.pi * _CYCLES_PER_PIXEL * z).astype(np.complex64)
    envelope = np.zeros_like(echo)
    for look in range(looks):
        if scatterers is None:
            sent_back = rng.standard_normal(echo.shape, np.float32) * strength
        else:
            sent_back = _along_beams(scan, scatterers[look], order=0) * strength
        pulsed = gaussian_filter1d(sent_back * demodulation + mirror, pulse, axis=0, truncate=3)
        sharp = gaussian_filter1d(pulsed, beam_width, axis=1, truncate=3)
        blurred = gaussian_filter1d(sharp, beam_width, axis=1, truncate=3) * np.float32(1.18)
        received = (sharp + (blurred - sharp) * off_focus) * through
        hiss = rng.standard_normal((2, *echo.shape), np.float32) * noise
        envelope += np.hypot(received.real + hiss[0], received.imag + hiss[1])
    level_db = 20 * np.log10(envelope / looks + np.float32(1e-4)) - gain_db
    grey = np.clip(level_db / DYNAMIC_RANGE_DB + 1, 0, 1) * 255
    return _to_image(scan, grey.astype(np.float32))


def _amplitude(level_db: NDArray[Any] | float) -> FloatArray:
    return np.power(np.float32(10), np.asarray(level_db, np.float32) / np.float32(20))


def _along_beams(scan: Scan, values: FloatArray, order: int = 1) -> FloatArray:
    from scipy.ndimage import map_coordinates

    if scan.to_beams is None:
        return values[scan.window]
    return map_coordinates(values, scan.to_beams, order=order, mode="nearest")


def _to_image(scan: Scan, grey: FloatArray) -> NDArray[np.uint8]:
    from scipy.ndimage import map_coordinates

    image = np.zeros(scan.visible.shape, np.uint8)
    if scan.to_image is None:
        image[scan.window] = np.rint(grey)
    else:
        image[scan.visible] = np.rint(map_coordinates(grey, scan.to_image, order=1, mode="nearest"))
    return image


Spot = tuple[float, float, float, float]
"""Row, column, vertical radius and horizontal radius of an object."""


@dataclass(slots=True, eq=False)
class Scene:
    """Tissue maps under construction, and the truth about them.

    Attributes:
        scan: the geometry.
        rng: source of everything random.
        echo_db: (H, W) echogenicity beside the reference tissue.
        loss_db: (H, W) attenuation per pixel beyond the time-gain compensation.
        specular: (H, W) amplitude of smooth interfaces.
        labels: (H, W) label by kind of object.
        instances: (H, W) 1.. for every object.
        placed: the spots of the objects so far.
    """

    scan: Scan
    rng: np.random.Generator
    echo_db: FloatArray = field(init=False)
    loss_db: FloatArray = field(init=False)
    specular: FloatArray = field(init=False)
    labels: NDArray[np.uint8] = field(init=False)
    instances: NDArray[np.uint8] = field(init=False)
    placed: list[Spot] = field(default_factory=list)

    def __post_init__(self) -> None:
        shape = self.scan.visible.shape
        self.echo_db, self.loss_db, self.specular = (np.zeros(shape, np.float32) for _ in range(3))
        self.labels, self.instances = (np.zeros(shape, np.uint8) for _ in range(2))

    @property
    def reach(self) -> float:
        """Greatest depth in pixels."""
        return float(self.scan.depth[self.scan.visible].max())

    @property
    def unit(self) -> float:
        """Pixels of 1/256 of the shorter side of the image."""
        return min(self.scan.visible.shape) / 256

    def uniform(self, low: float, high: float) -> float:
        """A random number between ``low`` and ``high``."""
        return float(self.rng.uniform(low, high))

    def noise(self, cell_y: float, cell_x: float) -> FloatArray:
        """Smooth random map (H, W) of mean 0 and deviation about 1; cells in pixels."""
        height, width = self.scan.visible.shape
        down, across = _spline(height, cell_y), _spline(width, cell_x)
        coarse = self.rng.standard_normal((down.shape[1], across.shape[1]), np.float32)
        coarse *= 2  # about what the splines' averaging takes away
        smooth: FloatArray = np.linalg.multi_dot([down, coarse, across.T])
        return smooth

    def streaks(self, cell_y: float, cell_x: float, width: float, slope: float = 0.0) -> FloatArray:
        """Fine curved lines (H, W) in [0, 1], as of septa, fascicles and fibres."""
        lines = self.noise(cell_y, cell_x)
        lines += np.float32(0.3) * self.noise(cell_y / 2, cell_x / 3)
        if slope:
            shift = np.rint(slope * np.arange(lines.shape[1])).astype(int)
            rows = (np.arange(lines.shape[0])[:, None] + shift) % lines.shape[0]
            lines = np.take_along_axis(lines, rows, axis=0)
        broken = np.clip(np.float32(0.6) + self.noise(2 * cell_y, cell_x / 2), 0, 1)
        return np.exp(-((lines / np.float32(width)) ** 2)) * broken

    def depth_line(self, depth: float, waviness: float, cell: float) -> FloatArray:
        """Level of a layer's border: depth below a wavy line at ``depth`` pixels."""
        width = self.scan.visible.shape[1]
        spline = _spline(width, cell)
        wave = spline @ self.rng.standard_normal((spline.shape[1], 1), np.float32)
        return self.scan.depth - np.float32(depth) - np.float32(1.6 * waviness) * wave.T

    def layer(self, below: FloatArray, echo_db: FloatArray | float, loss_db: float = 0.0) -> None:
        """Fill everything deeper than the border ``below`` with a tissue."""
        deeper = below > 0
        self.echo_db = np.where(deeper, np.float32(echo_db), self.echo_db)
        self.loss_db = np.where(deeper, np.float32(loss_db), self.loss_db)

    def interface(self, level: FloatArray, amplitude: float, width: float, power: float) -> None:
        """A smooth reflector along level 0, brightest where the beam meets it square.

        ``power`` says how fast it fades with the angle; 0 is seen from everywhere.
        """
        slope_y, slope_x = np.gradient(level)
        steep = np.sqrt(slope_y**2 + slope_x**2) + np.float32(1e-6)
        beam_y, beam_x = self.scan.beam_yx
        facing = np.abs(slope_y * beam_y + slope_x * beam_x) / steep
        line = np.exp(-0.5 * (level / steep / np.float32(width)) ** 2)
        ragged = np.exp(0.5 * self.noise(4 * self.unit, 9 * self.unit) - 0.4)
        self.specular += np.float32(amplitude) * line * ragged * (facing**power if power else 1)

    def tissue(
        self,
        level: FloatArray,
        echo_db: FloatArray | float,
        through_db: float = 0.0,
        edge: float = 1.0,
    ) -> BoolArray:
        """Fill the inside of a shape; a beam loses ``through_db`` in crossing its whole height."""
        inside = level < 0
        rows = np.flatnonzero(inside.any(axis=1))
        if len(rows) == 0:
            return inside
        slope = np.abs(level[:, 1:] - level[:, :-1]).max() + np.float32(1e-6)
        soft = np.clip(0.5 - level / (slope * 2 * np.float32(edge)), 0, 1)
        self.echo_db = self.echo_db + soft * (np.float32(echo_db) - self.echo_db)
        self.specular = self.specular * (1 - soft)
        self.loss_db[inside] = through_db / len(rows)
        return inside

    def label(self, inside: BoolArray, label: int) -> None:
        """Note what is visible of a shape, each connected part an object; later ones win."""
        for part in components(inside & self.scan.visible):
            self.labels[part] = label
            self.instances[part] = self.instances.max() + 1

    def ellipse(
        self,
        spot: Spot,
        angle: float = 0.0,
        rough: float = 0.0,
        cell: float = 0.8,
    ) -> FloatArray:
        """Level of an ellipse at ``spot`` (row, column, vertical radius, horizontal radius).

        ``rough`` is the deviation of its border as a fraction of the radius, ``cell`` the length of
        its bumps in radii, ``angle`` in radians (for small ones, the radii keep their meaning).
        """
        row, column, radius_y, radius_x = spot
        height, width = self.scan.visible.shape
        y = np.arange(height, dtype=np.float32)[:, None] - np.float32(row)
        x = np.arange(width, dtype=np.float32)[None] - np.float32(column)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        level = np.hypot(
            (y * cos - x * sin) / np.float32(radius_y), (y * sin + x * cos) / np.float32(radius_x)
        ) - np.float32(1)
        if rough:
            size = max(3.0, cell * min(radius_y, radius_x))
            level = level + np.float32(rough) * self.noise(size, size)
        return level

    def tube(self, points: NDArray[np.float64], radius: float) -> FloatArray:
        """Level (in radii) of a tube of ``radius`` pixels along points (N, 2) of (row, column)."""
        height, width = self.scan.visible.shape
        y = np.arange(height, dtype=np.float32)[:, None]
        x = np.arange(width, dtype=np.float32)[None]
        nearest = np.full((height, width), np.inf, np.float32)
        for (ay, ax), (by, bx) in pairwise(points):
            dy, dx = np.float32(by - ay), np.float32(bx - ax)
            along = ((y - ay) * dy + (x - ax) * dx) / (dy * dy + dx * dx + np.float32(1e-6))
            along = np.clip(along, 0, 1, out=along)
            away = (y - np.float32(ay) - along * dy) ** 2 + (x - np.float32(ax) - along * dx) ** 2
            np.minimum(nearest, away, out=nearest)
        return (np.sqrt(nearest) / np.float32(radius) - 1).astype(np.float32)

    def place(
        self,
        radius_y: float,
        radius_x: float,
        depths: tuple[float, float] = (0.1, 0.95),
        *,
        within: BoolArray | None = None,
        casts_shadow: bool = False,
        gap: float = 3.0,
    ) -> Spot | None:
        """A free, visible spot for an object, or None where none was found.

        ``depths`` are fractions of the reach, ``within`` a mask (H, W), in which the whole object
        lies. What casts a shadow gets no earlier object below it.
        """
        room = self.scan.visible if within is None else self.scan.visible & within
        height, width = room.shape
        around = np.linspace(0, 2 * np.pi, 9)[:-1]
        # Drawn and thrown away until it fits; 40 is enough for all but the fullest scenes, which
        # then have an object fewer.
        for _ in range(40):
            row, column = self.uniform(0, height), self.uniform(0, width)
            rows = np.rint(row + radius_y * np.sin(around)).astype(int)
            columns = np.rint(column + radius_x * np.cos(around)).astype(int)
            if (
                rows.min() < 0
                or columns.min() < 0
                or rows.max() >= height
                or (columns.max() >= width)
            ):
                continue
            depth = self.scan.depth[rows, columns] / self.reach
            if not room[rows, columns].all() or not (
                depths[0] <= depth.min() and depth.max() <= depths[1]
            ):
                continue
            spot = (row, column, radius_y, radius_x)
            if any(_collide(spot, other, gap, casts_shadow) for other in self.placed):
                continue
            self.placed.append(spot)
            return spot
        return None

    def place_surely(
        self,
        radius_y: float,
        radius_x: float,
        depths: tuple[float, float] = (0.1, 0.95),
        *,
        within: BoolArray | None = None,
    ) -> Spot:
        """As ``place``, for what an image is about: it shrinks until there is room.

        Where there is none at all, it may cover another object.
        """
        while (spot := self.place(radius_y, radius_x, depths, within=within)) is None:
            radius_y, radius_x = 0.85 * radius_y, 0.85 * radius_x
            if min(radius_y, radius_x) < 4 * self.unit:
                depths, within = (0.0, 1.0), None
            if min(radius_y, radius_x) < self.unit:
                self.placed.clear()
        return spot


def _collide(a: Spot, b: Spot, gap: float, casts_shadow: bool) -> bool:
    rows, columns = abs(a[0] - b[0]), abs(a[1] - b[1])
    if casts_shadow and b[0] > a[0] and columns < a[3] + b[3]:
        return True
    return bool((rows / (a[2] + b[2] + gap)) ** 2 + (columns / (a[3] + b[3] + gap)) ** 2 < 1)


def _spline(length: int, cell: float) -> FloatArray:
    """Cubic B-spline weights (length, knots) that turn random knots into a smooth curve."""
    at = np.arange(length, dtype=np.float32) / np.float32(max(cell, 1.0))
    knots = int(at[-1]) + 4
    away = np.abs(at[:, None] - (np.arange(knots, dtype=np.float32)[None] - 1))
    near = 2 / 3 - away**2 + away**3 / 2
    far = np.clip(2 - away, 0, None) ** 3 / 6
    return np.where(away < 1, near, far).astype(np.float32)
