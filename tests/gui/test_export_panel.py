from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from napari_usgseg.effort.ledger import open_for_report, read_ledger

pytestmark = pytest.mark.gui


def paint_and_accept(person) -> None:
    labels = person.session.labels.copy()
    labels[20:60, 30:90] = 1
    person.session.editing.painted(labels)
    person.session.editing.accept_and_next()
    person.wait(lambda: person.session.loaded is not None)
    person.settle()


def test_the_window_shows_the_figures_of_the_report(at_work, phantom_folder: Path) -> None:
    for _ in range(2):
        paint_and_accept(at_work)
    dialog = at_work.widget.export.show_effort()
    at_work.wait(lambda: dialog.models.rowCount() > 0)
    with open_for_report(phantom_folder) as stores:
        ledger = read_ledger(stores)
    assert len(ledger.accepted) == 2
    assert dialog.totals.text().startswith(f"2 of {ledger.image_count} images accepted")
    assert dialog.models.item(0, 0).text() == "by hand"
    assert dialog.models.item(0, 1).text() == "2"
    assert not dialog.plot.pixmap().isNull()
    dialog.close()


def test_it_reads_on_a_thread_of_its_own(at_work, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_usgseg.effort import ledger

    paint_and_accept(at_work)
    readers: list[str] = []

    def read(*arguments):
        readers.append(threading.current_thread().name)
        return read_ledger(*arguments)

    monkeypatch.setattr(ledger, "read_ledger", read)
    dialog = at_work.widget.export.show_effort()
    at_work.wait(lambda: dialog.models.rowCount() > 0)
    assert readers == ["usgseg-ledger"]
    dialog.close()


def test_whatever_ends_the_reading_is_said(at_work, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_usgseg.effort import ledger

    def fail(*_: object) -> None:
        raise KeyError("dice")

    monkeypatch.setattr(ledger, "read_ledger", fail)
    dialog = at_work.widget.export.show_effort()
    at_work.wait(lambda: dialog.note.text() == "KeyError: 'dice'")
    monkeypatch.undo()
    dialog.refresh.click()
    at_work.wait(lambda: dialog.totals.text().startswith("0 of"))
    dialog.close()


def test_what_nobody_filled_in_is_written_as_the_command_line_would(at_work, tmp_path) -> None:
    from napari_usgseg.io.formats import DEFAULT_ORGAN

    at_work.session.editing.rename_class(1, "cyst")
    at_work.session.editing.add_class("nodule")
    paint_and_accept(at_work)
    at_work.widget.export.export_to(tmp_path / "out")
    at_work.wait(lambda: (tmp_path / "out" / "dataset.json").is_file())
    at_work.settle()
    card = json.loads((tmp_path / "out" / "dataset.json").read_text(encoding="utf-8"))
    assert (card["organ"], card["target"]) == (DEFAULT_ORGAN, "cyst")
    assert at_work.widget.export.form.controls["target"].native.placeholderText() == "cyst"


def test_refresh_takes_in_what_was_labelled_since(at_work) -> None:
    paint_and_accept(at_work)
    dialog = at_work.widget.export.show_effort()
    at_work.wait(lambda: dialog.models.rowCount() > 0)
    paint_and_accept(at_work)
    dialog.refresh.click()
    at_work.wait(lambda: dialog.totals.text().startswith("2 of"))
    dialog.close()


def test_a_report_is_written_from_the_window(at_work, tmp_path: Path, monkeypatch) -> None:
    from qtpy.QtWidgets import QFileDialog

    paint_and_accept(at_work)
    out = tmp_path / "report"
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(out))
    dialog = at_work.widget.export.show_effort()
    dialog.write.click()
    at_work.wait(lambda: "index.html" in dialog.note.text())
    assert sorted(path.name for path in out.glob("[!.]*")) == [
        "images.csv",
        "index.html",
        "models.csv",
        "phrases.csv",
    ]
    dialog.close()


@pytest.mark.parametrize("kind", ["File...", "Folder..."])
def test_labels_of_another_program_come_in_from_the_window(
    person, phantom_folder: Path, tmp_path: Path, monkeypatch, kind: str
) -> None:
    from qtpy.QtWidgets import QFileDialog

    person.open(phantom_folder)
    record = person.session.record
    height, width = record.size_hw
    card = {
        "images": [{"id": 1, "file_name": record.path.name, "width": width, "height": height}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [20, 30, 40, 20]}],
        "categories": [{"id": 1, "name": "ganglion"}],
    }
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(card))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    (action,) = (a for a in person.widget.export.take.menu().actions() if a.text() == kind)
    action.trigger()
    person.wait(lambda: person.session.loaded is not None and person.session.proposal.has_masks)
    person.settle()
    assert person.session.record.image_id == record.image_id
    assert person.session.proposal.objects[0].proposal.mask.sum() == 800
    assert "ganglion" in [item.name for item in person.session.table.classes]


def test_a_layer_without_a_file_has_no_ledger(person) -> None:
    person.session.navigation.open_array("layer", np.zeros((40, 50), np.uint8))
    person.wait(lambda: person.session.loaded is not None)
    dialog = person.widget.export.show_effort()
    assert "folders of images" in dialog.note.text()
    assert not dialog.write.isEnabled()
    dialog.close()


def test_it_closes_with_the_dock(person, phantom_folder: Path) -> None:
    person.open(phantom_folder)
    dialog = person.widget.export.show_effort()
    person.viewer.window.remove_dock_widget(person.widget)
    assert not dialog.isVisible()


def test_looking_around_with_the_mouse_counts_as_work(at_work) -> None:
    from napari_usgseg.effort.efforts import Stopwatch

    now = [0.0]
    at_work.session.effort = Stopwatch(lambda: now[0])
    for now[0] in (0.0, 20.0, 40.0, 60.0):
        at_work.drag((30, 30), (31, 30))
    assert at_work.session.effort.take() == 60.0
    before = len(at_work.viewer.mouse_move_callbacks)
    at_work.widget.tools.close()
    assert len(at_work.viewer.mouse_move_callbacks) < before
