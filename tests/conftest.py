"""Fixtures that every test may use: the real data, the real embedded models, phantoms."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

# torch's compiler and a software OpenGL driver each bring an LLVM, and a process in which the
# driver's came first ends when torch loads its own; the product keeps them in two processes, these
# tests meet in one
with suppress(ImportError):
    import triton._C.libtriton  # noqa: F401

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real ultrasound images; skips where it is absent."""
    folder = Path(os.environ.get("USGSEG_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set USGSEG_DATA to a folder of data sets")
    return folder


@pytest.fixture(scope="session")
def nano_segmenter():
    """The embedded segmenter, as a user gets it."""
    from napari_usgseg.models.registry import load_segmenter

    return load_segmenter("nano")


@pytest.fixture(scope="session")
def nano_detector():
    """The embedded detector, as a user gets it."""
    from napari_usgseg.models.registry import load_detector

    return load_detector("nano")
