"""Reading images: any of the usual formats to RGB uint8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3) RGB uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
