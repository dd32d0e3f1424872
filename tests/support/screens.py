"""Screens of scanners: phantoms with text beside them, and perhaps on them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_usgseg.phantoms.phantom import make_phantom

WHO = {
    "PatientName": "Zebedee^Maria", "PatientID": "MRN90210", "StudyInstanceUID": "1.2.840.99.7",
    "StudyDate": "19870605", "InstitutionName": "ZEBHOSPITAL",
}  # fmt: skip


def screen(text: str = "ZEBEDEE MARIA", inside: str = "") -> np.ndarray:
    """A phantom as a scanner shows it (2, H, W): text on the left, and perhaps on the tissue."""
    image = np.asarray(make_phantom(5).image)
    grey = image if image.ndim == 2 else image[..., 0]
    grey = np.pad(grey, ((30, 30), (200, 10)))
    drawn = Image.fromarray(grey)
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(size=16)
    draw.text((8, 60), text, font=font, fill=255)
    draw.text((200 + image.shape[1] // 2, 30 + image.shape[0] // 2), inside, font=font, fill=255)
    return np.stack([np.asarray(drawn)] * 2)
