from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_usgseg.io.images import card_entry, read_spacing

PIXELS = np.zeros((10, 12), np.uint8)


def imagej(unit, x, y, **more):
    metadata = {} if unit is None else {"unit": unit}
    return {"imagej": True, "resolution": (x, y), "metadata": metadata | more}


def ome(**sizes):
    return {"ome": True, "metadata": {"axes": "YX", **sizes}}


MM = {"PhysicalSizeXUnit": "mm", "PhysicalSizeYUnit": "mm"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (imagej("mm", 5, 4), (0.25, 0.2)),
        (imagej("cm", 50, 50), (0.2, 0.2)),
        (imagej("um", 0.01, 0.02), (0.05, 0.1)),
        (imagej("micron", 0.01, 0.01), (0.1, 0.1)),
        (imagej("\\u00B5m", 0.01, 0.01), (0.1, 0.1)),
        (ome(PhysicalSizeX=0.2, PhysicalSizeY=0.3, **MM), (0.3, 0.2)),
        (ome(PhysicalSizeX=100, PhysicalSizeY=100), (0.1, 0.1)),
        ({**imagej("mm", 5, 4), "extratags": [(274, "H", 1, 6, True)]}, (0.2, 0.25)),
    ],
)
def test_the_spacing_of_imagej_and_ome_is_read_as_row_and_column(tmp_path, options, expected):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, **options)
    assert read_spacing(path) == pytest.approx(expected)


@pytest.mark.parametrize(
    "options",
    [
        *(imagej("inch", dpi, dpi) for dpi in (72, 96, 300, 500)),
        *(imagej("cm", dpi / 2.54, dpi / 2.54) for dpi in (72, 96, 150, 300)),
        imagej("pixel", 1, 1), imagej(None, 1, 1), imagej("mm", 0, 0), imagej("mm", 1e9, 1e9),
        imagej("mm", 5, 5, yunit="sec"),
        ome(), ome(PhysicalSizeX=0.2, **MM), ome(PhysicalSizeX=0.0, PhysicalSizeY=0.0),
        *({"resolution": (dpi, dpi), "resolutionunit": 2} for dpi in (72, 96, 300, 123)),
        {"resolution": (50, 50), "resolutionunit": 3},
        {},
    ],
)  # fmt: skip
def test_a_printer_s_resolution_is_no_spacing(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, **options)
    assert read_spacing(path) is None


@pytest.mark.parametrize("dpi", [72, 96, 127, 300])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_other_files_say_nothing_of_the_tissue(tmp_path, suffix, dpi):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(PIXELS).save(path, dpi=(dpi, dpi))
    assert read_spacing(path) is None


def test_a_file_that_cannot_be_read_has_no_spacing(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0 torn")
    assert read_spacing(tmp_path / "a.tif") is None
    assert read_spacing(tmp_path / "none.tif") is None


def test_the_card_holds_a_number_or_row_and_column():
    assert card_entry(None) is None
    assert card_entry((0.2, 0.2 + 1e-9)) == 0.2
    assert card_entry((0.1 + 0.2, 0.4)) == [0.3, 0.4]
