"""Physics of a B-mode image: pulse, speckle, attenuation, compression, scan conversion.

The received signal is the convolution of random scatterers with a point-spread function: a
modulated Gaussian pulse along the beam, a Gaussian beam profile across it. It is computed
demodulated (IQ): ``|(s * exp(-2 pi i f z)) conv gauss|`` is the envelope of ``s conv (gauss cos)``.
Maps are drawn in the image's own pixels; a fan is sampled along its beams and converted back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    """
    from scipy.ndimage import gaussian_filter1d

    echo, loss, mirror = (_along_beams(scan, m) for m in (echo_db, loss_db, specular))
    z = np.arange(len(echo), dtype=np.float32)[:, None]
    far = z / len(echo)
    through = _amplitude(-gaussian_filter1d(np.cumsum(loss, axis=0), 2 * beam_width, axis=1))
    noise = _amplitude(noise_db + 30 * (far - 1))
    off_focus = np.clip(np.abs(far - 0.45) * 1.6, 0, 1)
    # White scatterers lose this much energy in the two Gaussians; the reference tissue is then 1.
    strength = _amplitude(echo) * np.float32(np.sqrt(4 * np.pi * pulse * beam_width))
    demodulation = np.exp(-2j * np.pi * _CYCLES_PER_PIXEL * z).astype(np.complex64)
    envelope = np.zeros_like(echo)
    for _ in range(looks):
        scatterers = rng.standard_normal(echo.shape, np.float32) * strength
        pulsed = gaussian_filter1d(scatterers * demodulation + mirror, pulse, axis=0, truncate=3)
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


def _along_beams(scan: Scan, values: FloatArray) -> FloatArray:
    from scipy.ndimage import map_coordinates

    if scan.to_beams is None:
        return values[scan.window]
    return map_coordinates(values, scan.to_beams, order=1, mode="nearest")


def _to_image(scan: Scan, grey: FloatArray) -> NDArray[np.uint8]:
    from scipy.ndimage import map_coordinates

    image = np.zeros(scan.visible.shape, np.uint8)
    if scan.to_image is None:
        image[scan.window] = np.rint(grey)
    else:
        image[scan.visible] = np.rint(map_coordinates(grey, scan.to_image, order=1, mode="nearest"))
    return image
