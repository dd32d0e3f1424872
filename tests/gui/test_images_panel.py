from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.annotation.image_queue import ImageQueue
from napari_usgseg.annotation.session import AnnotationSession
from napari_usgseg.core.types import ImageRecord
from napari_usgseg.gui.panels.images_panel import (
    FILTERS,
    HEIGHT,
    KEPT_BYTES,
    WIDTH,
    ImagesModel,
    ImagesPanel,
    Thumbnails,
    progress_text,
    thumbnail,
)
from napari_usgseg.jobs import Lane
from napari_usgseg.jobs.files import run_file_job
from napari_usgseg.project.records import Edit, ImageState

pytestmark = pytest.mark.gui


def folder_of(count: int, folder: Path) -> Path:
    """So many names of one small image."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32)).astype(np.uint8)
    first = folder / "00000.png"
    Image.fromarray(pixels).save(first)
    for number in range(1, count):
        os.link(first, folder / f"{number:05d}.png")
    return folder


class Desk:
    """A session whose files are read and written at once, without models, and the panel."""

    def __init__(self, qtbot, folder: Path) -> None:
        self.session = AnnotationSession()
        self.session.requested.connect(self._on_job)
        self.panel = ImagesPanel(self.session)
        qtbot.addWidget(self.panel)
        self.panel.resize(348, 400)
        self.panel.show()
        self.session.navigation.open_folder(folder)

    def _on_job(self, job) -> None:
        if job.lane is Lane.FILES:
            job.receive(run_file_job(job))

    def shown(self) -> list[str]:
        model = self.panel.model
        return [model.image_id(model.index(row)) for row in range(model.rowCount())]

    def close(self) -> None:
        self.session.close()
        self.panel.close_threads()


@pytest.fixture
def desk(qtbot, tmp_path, request):
    desk = Desk(qtbot, folder_of(getattr(request, "param", 6), tmp_path / "images"))
    yield desk
    desk.close()


@pytest.mark.parametrize("desk", [10_000], indirect=True)
@pytest.mark.parametrize("name", ["all", "untouched"])
def test_accepting_and_going_on_touches_few_of_ten_thousand_rows(desk, name, qtbot, monkeypatch):
    session, panel = desk.session, desk.panel
    panel.filter.setCurrentText(name)
    panel.filter.textActivated.emit(name)
    session.navigation.open_image("05000")
    qtbot.wait(50)
    calls: Counter[str] = Counter()
    for owner, method in (
        (ImagesModel, "data"),
        (ImagesModel, "_look_again"),
        (ImageQueue, "state_of"),
        (ImageQueue, "get"),
    ):
        real = getattr(owner, method)

        def counted(*args, real=real, method=method):
            calls[method] += 1
            return real(*args)

        monkeypatch.setattr(owner, method, counted)
    drawn = session.labels.copy()
    drawn[2:9, 3:12] = 1
    for _ in range(20):
        session.editing.painted(drawn)
        assert session.editing.accept()
        session.navigation.step(1)
        qtbot.wait(5)
    assert session.record.image_id == "05020"
    assert session.image_queue.accepted_count == 20
    assert panel.progress.text().startswith("20 of 10000 labelled, ")
    assert panel.model.rowCount() == (10_000 if name == "all" else 9_980)
    assert 0 < calls["_look_again"] <= 20 * 8
    assert 0 < sum(calls.values()) < 10_000, calls


def test_the_filter_shows_what_it_says_and_the_current_image(desk):
    session, panel = desk.session, desk.panel
    session.navigation.open_image("00000")
    session.navigation.mark_empty()
    assert session.record.image_id == "00001"
    drawn = session.labels.copy()
    drawn[2:9, 3:12] = 1
    session.editing.painted(drawn)
    session.editing.accept()
    session.navigation.open_image("00003")
    session.navigation.flag()
    session.navigation.skip()
    assert session.record.image_id == "00005"

    def choose(name: str) -> list[str]:
        panel.filter.setCurrentText(name)
        panel.filter.textActivated.emit(name)
        return desk.shown()

    assert choose("labelled") == ["00001", "00005"]
    assert choose("empty") == ["00000", "00005"]
    assert choose("for review") == ["00003", "00005"]
    assert choose("skipped") == ["00004", "00005"]
    assert choose("untouched") == ["00002", "00005"]
    assert choose("proposed") == ["00005"]
    assert choose("all") == [f"{n:05d}" for n in range(6)]
    assert set(FILTERS.values()) == {None, *ImageState}


def test_rows_come_and_go_one_by_one_as_images_change(desk):
    session, panel = desk.session, desk.panel
    resets: list[int] = []
    panel.filter.setCurrentText("untouched")
    panel.filter.textActivated.emit("untouched")
    panel.model.modelReset.connect(lambda: resets.append(1))
    session.navigation.open_image("00002")
    drawn = session.labels.copy()
    drawn[2:9, 3:12] = 1
    session.editing.painted(drawn)
    session.editing.accept()
    assert "00002" in desk.shown(), "the current image stays in sight"
    session.navigation.step(1)
    assert session.record.image_id == "00003"
    assert desk.shown() == ["00000", "00001", "00003", "00004", "00005"]
    session.undo()
    session.undo()
    assert desk.shown() == [f"{n:05d}" for n in range(6)]
    assert panel.list.currentIndex().row() == 2
    assert not resets


def test_a_name_that_is_typed_goes_to_the_image(desk, qtbot):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    panel, session = desk.panel, desk.session
    panel.ask_name()
    QTest.keyClicks(panel.name, "4.png")
    QTest.keyClick(panel.name, Qt.Key.Key_Return)
    assert session.record.image_id == "00004"
    assert panel.list.currentIndex().row() == 4
    assert not panel.name.hasFocus()
    panel.name.setText("kidney")
    QTest.keyClick(panel.name, Qt.Key.Key_Return)
    assert session.record.image_id == "00004"
    assert "kidney" in session.facts["note"]


def test_states_are_said_with_a_mark_and_a_word(desk):
    from qtpy.QtCore import Qt

    session, model = desk.session, desk.panel.model
    session.navigation.open_image("00001")
    session.navigation.flag()
    session.navigation.skip()

    def text(row: int) -> str:
        return model.data(model.index(row), Qt.ItemDataRole.DisplayRole)

    assert [text(row).split()[-1] for row in (0, 1, 2)] == ["00000.png", "review", "skipped"]
    assert len({text(row)[0] for row in (0, 1, 2)}) == 3


def test_thumbnails_are_made_for_rows_in_sight_only_and_few_are_kept(qtbot, tmp_path):
    desk = Desk(qtbot, folder_of(400, tmp_path / "images"))
    kept = desk.panel.thumbnails._kept
    qtbot.waitUntil(lambda: len(kept) >= 3, timeout=20_000)
    desk.panel.list.scrollToBottom()
    qtbot.waitUntil(lambda: "00399" in kept, timeout=20_000)
    assert len(kept) < 100
    for size in ((WIDTH, HEIGHT), (160, 120)):
        assert Thumbnails(size=size)._kept.maxsize * 4 * size[0] * size[1] <= KEPT_BYTES
    icon = kept["00399"]
    assert icon.actualSize(desk.panel.list.iconSize()).width() <= WIDTH
    desk.close()


def test_a_damaged_image_has_no_thumbnail_and_stops_nothing(qtbot, tmp_path):
    folder = folder_of(5, tmp_path / "images")
    (folder / "00002.png").unlink()
    Image.fromarray(np.zeros((400, 300), np.uint8)).save(folder / "00002.png")
    desk = Desk(qtbot, folder)
    desk.panel.thumbnails.forget()
    whole = (folder / "00002.png").read_bytes()
    (folder / "00002.png").write_bytes(whole[:100])
    desk.panel.list.viewport().update()
    qtbot.waitUntil(lambda: len(desk.panel.thumbnails._kept) == 5, timeout=20_000)
    desk.close()


def test_a_thumbnail_of_the_folder_before_is_not_shown_for_an_image_of_the_same_name(
    qtbot, tmp_path, monkeypatch
):
    from napari_usgseg.gui.panels import images_panel as thumbnails

    begun, late, read = threading.Event(), threading.Event(), thumbnails.read_image

    def slow(path, frame):
        if path.parent.name == "one":
            begun.set()
            assert late.wait(20)
        return read(path, frame)

    monkeypatch.setattr(thumbnails, "read_image", slow)
    records = []
    for name, grey in (("one", 0), ("two", 255)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((30, 40), grey, np.uint8)).save(tmp_path / name / "a.png")
        records.append(ImageRecord("a", tmp_path / name / "a.png", None, (30, 40)))
    made = thumbnails.Thumbnails()
    made.get(records[0])
    assert begun.wait(20)
    made.forget()
    made.get(records[1])
    late.set()
    qtbot.waitUntil(lambda: made.get(records[1]) is not None, timeout=20_000)
    icon = made.get(records[1])
    assert icon.pixmap(40, 30).toImage().pixelColor(20, 15).red() == 255
    made.close()


@pytest.mark.parametrize("shape", [(30, 40), (1000, 10), (7, 3000), (1, 1), (600, 800)])
def test_a_thumbnail_fits_and_keeps_the_images_shape(shape):
    made = thumbnail(np.full((*shape, 3), 90, np.uint8))
    assert made.shape[0] <= HEIGHT
    assert made.shape[1] <= WIDTH
    assert (made == 90).all()
    if min(shape) > 100:
        assert made.shape[1] / made.shape[0] == pytest.approx(shape[1] / shape[0], rel=0.05)


def test_progress_is_told_with_pace_and_what_is_left(monkeypatch):
    from napari_usgseg.annotation import image_queue

    now = 0.0
    monkeypatch.setattr(image_queue.time, "monotonic", lambda: now)
    records = [ImageRecord(f"{n}", Path(f"{n}.png"), None, (4, 4)) for n in range(500)]
    states = {str(n): ImageState.ACCEPTED if n < 292 else ImageState.UNTOUCHED for n in range(500)}
    queue = ImageQueue(records, states)
    assert progress_text(queue) == "292 of 500 labelled"
    for n in range(292, 312):
        now += 88
        queue.set_drawn(str(n), True)
        accept = Edit("accept", str(n), state=(ImageState.UNTOUCHED, ImageState.ACCEPTED))
        queue.note_accept(accept)
        queue.apply(accept)
    assert progress_text(queue) == "312 of 500 labelled, 41 per hour, about 5 h left"
    queue.set_drawn("300", False)
    assert progress_text(queue).startswith("312 of 500 labelled, 1 of them empty, 41 per hour")
    queue.set_drawn("300", True)
    for n in range(312, 470):
        queue.set_state(str(n), ImageState.SKIPPED)
    assert progress_text(queue) == "312 of 500 labelled, 41 per hour, about 44 min left"
    for n in range(470, 500):
        queue.set_state(str(n), ImageState.SKIPPED)
    assert progress_text(queue) == "312 of 500 labelled, 41 per hour"


def test_what_is_odd_about_images_is_told_once_for_the_folder_with_a_count(
    person, phantom_folder, tmp_path
):
    folder = tmp_path / "hidden"
    folder.mkdir()
    grey = np.random.default_rng(0).integers(0, 255, (60, 80), np.uint8)
    nothing = np.zeros_like(grey)
    for name in ("a", "b"):
        Image.fromarray(np.stack([grey, grey, grey, nothing], -1)).save(folder / f"{name}.png")
    person.open(folder)
    remarks, odd = person.widget.images.remarks, "its alpha hides the whole picture and was ignored"
    assert remarks.isVisible()
    assert remarks.toolTip() == f"a.png: {odd}"
    person.session.navigation.step(1)
    person.wait(lambda: person.session.loaded is not None)
    person.settle()
    assert remarks.toolTip() == f"{odd} (2 files, the first a.png)"
    person.open(phantom_folder)
    assert not remarks.isVisible()
