"""What is drawn in the window and not accepted, with the mouse and the keys of a person."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_usgseg.gui.canvas.tools import Tool
from napari_usgseg.project.records import ImageState

pytestmark = pytest.mark.gui

LEFT = Qt.MouseButton.LeftButton


def draw_on_labels(person, tool: Tool) -> None:
    """Edit labels with one of our tools."""
    if not person.widget.correct.on_labels.isChecked():
        person.press(Qt.Key.Key_E, Qt.KeyboardModifier.ShiftModifier)
    person.widget.tools.arm(tool)
    person.drag((60, 60), (140, 60), (140, 140))
    person.settle()


def brush(person) -> None:
    """Napari's own brush."""
    person.press(Qt.Key.Key_J)
    person.drag((100, 90), (130, 90), (160, 90))
    person.settle()
    person.press(Qt.Key.Key_J)


DRAW = {
    "scribble": lambda person: draw_on_labels(person, Tool.SCRIBBLE),
    "box": lambda person: draw_on_labels(person, Tool.BOX),
    "lasso": lambda person: draw_on_labels(person, Tool.LASSO),
    "napari's brush": brush,
}


def type_into(field, text: str) -> None:
    field.clear()
    QTest.keyClicks(field, text)


def export(person, out: Path, groups: str = "") -> None:
    """Type where to, and press the button."""
    person.widget.folds.set_open("Export")
    type_into(person.widget.export.place, str(out))
    type_into(person.widget.export.form.controls["groups"].native, groups)
    QTest.mouseClick(person.widget.export.run, LEFT)
    person.settle()


def test_labels_that_nobody_accepted_count_nowhere(at_work, phantom_folder, tmp_path):
    session, widget = at_work.session, at_work.widget
    first = session.record.image_id
    for draw in DRAW.values():
        draw(at_work)
        assert session.labels.any()
        assert widget.images.progress.text().startswith("0 of 4 labelled")
        assert session.state_of(first) is ImageState.PROPOSED
        assert not any(session.prompt_predictor.counts.values())
        assert widget.accept.text().startswith("Accept and next")
        at_work.press(Qt.Key.Key_U)
        at_work.settle()
        assert session.state_of(first) is ImageState.UNTOUCHED
        assert not session.labels.any()
    DRAW["box"](at_work)
    QTest.mouseClick(widget.images.next, LEFT)
    at_work.wait(lambda: session.record.image_id != first and session.loaded is not None)
    at_work.settle()
    out = tmp_path / "set"
    export(at_work, out)
    assert "nothing is labelled yet" in widget.status.text()
    assert not out.exists()
    dialog = widget.export.show_effort()
    at_work.wait(lambda: dialog.totals.text() != "")
    assert dialog.totals.text().startswith("0 of 4 images accepted")
    assert "Accept 3 images at least; 0 are accepted." in session.prompt_predictor.cannot_train

    QTest.mouseClick(widget.images.previous, LEFT)
    at_work.wait(lambda: session.record.image_id == first and session.labels is not None)
    at_work.settle()
    assert session.labels[100, 100], "nothing that was drawn is lost"
    at_work.press(Qt.Key.Key_G)
    at_work.wait(lambda: session.record.image_id != first and session.loaded is not None)
    at_work.settle()
    assert widget.images.progress.text().startswith("1 of 4 labelled")
    assert session.prompt_predictor.counts == {1: 1}
    export(at_work, out)
    assert widget.status.text().startswith("Exported to"), "its failure before is over"
    assert [path.name for path in (out / "masks").iterdir()] == [f"{first}.png"]


def test_an_accepted_image_that_is_painted_on_stays_accepted(at_work):
    session = at_work.session
    first = session.record.image_id
    DRAW["box"](at_work)
    at_work.press(Qt.Key.Key_G, Qt.KeyboardModifier.ShiftModifier)
    at_work.settle()
    assert session.state_of(first) is ImageState.ACCEPTED
    assert at_work.widget.accept.text().startswith("Keep and next")
    brush(at_work)
    assert session.state_of(first) is ImageState.ACCEPTED
    at_work.press(Qt.Key.Key_U)
    at_work.press(Qt.Key.Key_U)
    at_work.settle()
    assert session.state_of(first) is ImageState.PROPOSED
    assert session.labels[100, 100]


def test_an_export_goes_into_a_new_folder_and_never_among_other_files(at_work, phantom_folder):
    session, widget = at_work.session, at_work.widget
    DRAW["box"](at_work)
    at_work.press(Qt.Key.Key_G)
    at_work.wait(lambda: session.image_queue.accepted_count == 1)
    at_work.settle()
    before = {path: path.read_bytes() for path in phantom_folder.glob("*.png")}
    widget.export.form.controls["overwrite"].value = True
    for place in (phantom_folder, phantom_folder / "usgseg"):
        export(at_work, place)
        assert session.status.error
        assert "choose" in widget.status.text()
        assert "overwrite it" not in widget.status.text()
    assert {path: path.read_bytes() for path in phantom_folder.glob("*.png")} == before
    assert not (phantom_folder / "dataset.json").exists()

    export(at_work, Path("wrist labels"))
    out = phantom_folder.parent / "wrist labels"
    assert widget.status.text().startswith(f"Exported to {out}")
    (mask,) = (out / "masks").iterdir()
    export(at_work, out)
    assert not session.status.error, "what the program wrote is replaced where that is asked for"
    mask.write_bytes(b"mine now")
    export(at_work, out)
    assert session.status.error
    assert mask.read_bytes() == b"mine now"
    widget.export.form.controls["overwrite"].value = False
    export(at_work, out)
    assert session.status.error
    assert "overwrite" not in widget.status.text()


def test_a_new_folder_can_be_typed_in_the_dialog(at_work, tmp_path, qapp):
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QFileDialog, QLineEdit

    def answer() -> None:
        dialog = qapp.activeModalWidget()
        assert isinstance(dialog, QFileDialog)
        type_into(dialog.findChild(QLineEdit, "fileNameEdit"), str(tmp_path / "brand new"))
        QTest.keyClick(dialog.findChild(QLineEdit, "fileNameEdit"), Qt.Key.Key_Return)

    at_work.widget.folds.set_open("Export")
    QTimer.singleShot(500, answer)
    QTest.mouseClick(at_work.widget.export.browse, LEFT)
    assert at_work.widget.export.place.text() == str(tmp_path / "brand new")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("", ["p1_a", "p1_b", "p2_a"]), ("prefix:_", ["p1", "p1", "p2"])],
)
def test_an_export_groups_the_images_of_a_patient(person, phantom_folder, tmp_path, rule, expected):
    names = ("p1_a", "p1_b", "p2_a")
    for path, name in zip(sorted(phantom_folder.glob("*.png")), names, strict=False):
        path.rename(path.with_stem(name))
    (left,) = set(phantom_folder.glob("*.png")) - {phantom_folder / f"{n}.png" for n in names}
    left.unlink()
    person.open(phantom_folder)
    for n in range(1, 4):
        DRAW["box"](person)
        person.press(Qt.Key.Key_G)
        person.wait(lambda n=n: person.session.image_queue.accepted_count == n)
        person.settle()
    out = tmp_path / "set"
    export(person, out, rule)
    card = json.loads((out / "dataset.json").read_text())
    assert [item["group"] for item in card["items"]] == expected
    assert not any(item["empty_mask"] for item in card["items"])


def test_the_frames_of_a_loop_are_one_group(person, tmp_path):
    import tifffile

    folder = tmp_path / "cine"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("loop 1", "loop 2"):
        tifffile.imwrite(folder / f"{name}.tif", rng.integers(0, 255, (2, 240, 320), np.uint8))
    person.open(folder)
    for n in range(1, 5):
        DRAW["box"](person)
        person.press(Qt.Key.Key_G)
        person.wait(lambda n=n: person.session.image_queue.accepted_count == n)
        person.settle()
    export(person, tmp_path / "set")
    card = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert [item["group"] for item in card["items"]] == ["loop 1"] * 2 + ["loop 2"] * 2


@pytest.mark.parametrize(
    ("tool", "on_labels"),
    [
        (Tool.POINT, False),
        *((tool, edits) for tool in (Tool.BOX, Tool.SCRIBBLE, Tool.LASSO) for edits in (0, 1)),
    ],
)
def test_beside_the_image_nothing_is_made_and_it_is_said(at_work, tool, on_labels):
    session = at_work.session
    at_work.viewer.camera.zoom /= 3
    at_work.settle()
    if on_labels:
        at_work.press(Qt.Key.Key_E, Qt.KeyboardModifier.ShiftModifier)
    at_work.widget.tools.arm(tool)
    if tool is Tool.POINT:
        at_work.click(-60, -60)
    else:
        at_work.drag((-90, -90), (-50, -90), (-50, -60))
    at_work.settle()
    assert not session.proposal.objects
    assert not session.labels.any()
    assert at_work.widget.status.text().startswith("Draw inside the image.")


def test_a_box_without_area_makes_nothing_and_it_is_said(at_work):
    at_work.widget.tools.arm(Tool.BOX)
    at_work.drag((100, 100), (100, 100))
    at_work.settle()
    assert not at_work.session.proposal.objects
    assert "width and height" in at_work.widget.status.text()


def test_files_that_are_no_images_are_counted_in_the_window(person, phantom_folder):
    others = [phantom_folder / name for name in ("a.txt", "b.txt", "report.pdf")]
    for path in others:
        path.write_bytes(b"0" * 64)
    (phantom_folder / "patient 2").mkdir()
    person.open(phantom_folder)
    told = person.widget.images.remarks
    assert told.isVisible()
    for word in ("3 other files", "2 .txt", "1 .pdf", "DICOM", "patient 2", "by itself"):
        assert word in told.toolTip()
    assert ("info", " ".join(told.toolTip().splitlines())) in person.notes
    for path in others:
        path.unlink()
    (phantom_folder / "patient 2").rmdir()
    person.widget.open_folder(phantom_folder)
    person.wait(lambda: not told.isVisible())


def test_a_rule_that_cannot_be_used_is_named_as_the_field_is(at_work, tmp_path):
    DRAW["box"](at_work)
    at_work.press(Qt.Key.Key_G)
    at_work.wait(lambda: at_work.session.image_queue.accepted_count == 1)
    at_work.settle()
    export(at_work, tmp_path / "set", "no rule")
    assert "groups 'no rule': expected" in at_work.widget.status.text()
    assert "--groups" not in at_work.widget.status.text()
