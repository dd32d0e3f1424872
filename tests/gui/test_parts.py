from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.annotation.settings import View
from napari_usgseg.core.types import ImageRecord
from napari_usgseg.gui.canvas import drawing
from napari_usgseg.gui.panels import images_panel
from napari_usgseg.gui.parts import NewestFirst

pytestmark = [pytest.mark.gui, pytest.mark.usefixtures("qapp")]


class FailsOnce:
    """A function that has no memory the first time."""

    def __init__(self, real) -> None:
        self.real = real
        self.calls = 0

    def __call__(self, *args):
        self.calls += 1
        if self.calls == 1:
            raise MemoryError("too large")
        return self.real(*args)


def test_a_job_that_fails_is_printed_and_stops_no_other(qtbot, capfd):
    thread, heard = NewestFirst("test", 4), []
    thread.done.connect(lambda *what: heard.append(what))
    job = FailsOnce(lambda: "good")
    for key in ("a", "b", "c"):
        thread.submit(key, job)
        qtbot.waitUntil(lambda key=key: bool(heard) and heard[-1][0] == key, timeout=5_000)
    assert heard == [("a", None), ("b", "good"), ("c", "good")]
    assert "MemoryError: too large" in capfd.readouterr().err
    thread.close()


def test_a_picture_that_failed_is_made_when_it_is_asked_for_again(qtbot, monkeypatch):
    monkeypatch.setattr(drawing, "picture", FailsOnce(drawing.picture))
    pictures, grey, view = drawing.Pictures(), np.eye(40, dtype=np.uint8), View(despeckling="lee")
    ready = []
    pictures.ready.connect(lambda: ready.append(1))
    assert pictures.get("a", (grey,), view)[0] is grey
    qtbot.waitUntil(lambda: pictures._awaited is None, timeout=5_000)
    assert not ready
    with qtbot.waitSignal(pictures.ready, timeout=5_000):
        assert pictures.get("a", (grey,), view)[0] is grey
    assert pictures.get("a", (grey,), view)[0] is not grey
    pictures.close()


def test_a_thumbnail_that_failed_is_made_when_it_is_asked_for_again(
    qtbot, monkeypatch, tmp_path: Path
):
    monkeypatch.setattr(images_panel, "_read_thumbnail", FailsOnce(images_panel._read_thumbnail))
    Image.fromarray(np.eye(40, dtype=np.uint8)).save(tmp_path / "a.png")
    record = ImageRecord("a", tmp_path / "a.png", None, (40, 40))
    thumbnails, made = images_panel.Thumbnails(), []
    thumbnails.made.connect(made.append)
    assert thumbnails.get(record) is None
    qtbot.waitUntil(lambda: not thumbnails._asked, timeout=5_000)
    assert not made
    assert thumbnails.get(record) is None
    qtbot.waitUntil(lambda: made == ["a"], timeout=5_000)
    assert thumbnails.get(record) is not None
    thumbnails.close()
