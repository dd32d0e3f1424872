"""What a person's hand does in the dock: chips, fields, lists, by real mouse and key events."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_usgseg.io.labels import read_classes, read_labels, semantic
from tests.support.person import Person


def find(person: Person, phrase: str) -> None:
    """Type a phrase, press Enter, wait for what is found."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    field = person.widget.find_panel.phrase
    field.setFocus()
    field.selectAll()
    QTest.keyClicks(field, phrase)
    QTest.keyClick(field, Qt.Key.Key_Return)
    person.settle()


def add_class(person: Person, name: str) -> None:
    """Type the name of a further class and press Enter."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    QTest.keyClicks(person.widget.classes.name, name)
    QTest.keyClick(person.widget.classes.name, Qt.Key.Key_Return)
    person.settle()


def click_chip(person: Person, name: str, shift: bool = False) -> None:
    """Click the chip of a class."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    chips = person.widget.classes.list
    (chip,) = chips.findItems(name, Qt.MatchFlag.MatchExactly)
    chips.scrollToItem(chip)
    held = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
    at = chips.visualItemRect(chip).center()
    QTest.mouseClick(chips.viewport(), Qt.MouseButton.LeftButton, held, at)
    person.settle()


def press_button(person: Person, button: object) -> None:
    """Click a button."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    person.settle()


def choose_labelling(person: Person, name: str) -> None:
    """Choose "per class" or "per object" in the dock's list."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    choice = person.widget.classes.labelling
    choice.showPopup()
    view = choice.view()
    at = view.visualRect(choice.model().index(choice.findText(name), 0)).center()
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=at)
    person.settle()


def hover(person: Person, x: float, y: float) -> None:
    """Move the mouse over XY pixels of the image."""
    from qtpy.QtCore import QEvent, QPointF, Qt
    from qtpy.QtGui import QEnterEvent, QMouseEvent
    from qtpy.QtWidgets import QApplication

    native = person.viewer.window._qt_viewer.canvas.native
    at = QPointF(person.canvas_point(x, y))
    there = QPointF(native.mapToGlobal(at.toPoint()))
    none = Qt.MouseButton.NoButton
    QApplication.sendEvent(native, QEnterEvent(at, at, there))
    moved = QMouseEvent(
        QEvent.Type.MouseMove, at, there, none, none, Qt.KeyboardModifier.NoModifier
    )
    QApplication.sendEvent(native, moved)
    QApplication.processEvents()


def press_g(person: Person, go_on: bool = False) -> str:
    """Accept (and go on) by the key, wait until it is on disk; gives the image's id."""
    from qtpy.QtCore import Qt

    image_id = person.session.record.image_id
    shift = Qt.KeyboardModifier.ShiftModifier
    person.press(Qt.Key.Key_G, Qt.KeyboardModifier.NoModifier if go_on else shift)
    person.wait(lambda: person.session.loaded is not None and not person.session.outbox.stores())
    person.settle()
    return image_id


def press_empty(person: Person) -> str:
    """Mark the image as empty by the key, wait until the next one is there; gives its id."""
    from qtpy.QtCore import Qt

    image_id = person.session.record.image_id
    person.press(Qt.Key.Key_0)
    person.wait(lambda: person.session.loaded is not None and not person.session.outbox.stores())
    person.settle()
    return image_id


def saved(folder: Path, image_id: str) -> dict[str, np.ndarray]:
    """Class name -> mask, as they are on disk; codes of objects count as their class."""
    root = folder / "usgseg"
    classes = semantic(read_labels(root / "labels" / f"{image_id}.png"), "instance")
    names = {item.class_id: item.name for item in read_classes(root / "classes.json")}
    return {names[value]: classes == value for value in np.unique(classes).tolist() if value}
