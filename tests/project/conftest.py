"""A folder of three images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.labelling import SIZE_HW


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images of a person"
    folder.mkdir()
    for number, name in enumerate(("1.png", "2.png", "10.png")):
        Image.fromarray(np.full(SIZE_HW, 100 + number, np.uint8)).save(folder / name)
    return folder
