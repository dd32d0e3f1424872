from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.gui import preferences
from napari_usgseg.gui.opening import RECENT

pytestmark = pytest.mark.gui

HOLDER = """
import sys
from napari_usgseg.project.project import Project
store = Project(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
store.close()
"""


@pytest.fixture
def held_by_another(phantom_folder):
    """The folder is open in another process."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(phantom_folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().strip() == "held"
    yield phantom_folder
    process.communicate()


def test_who_has_the_folder_is_said_and_a_name_of_ones_own_is_the_way_out(
    person, held_by_another, monkeypatch
):
    from qtpy.QtWidgets import QInputDialog

    folder = held_by_another
    person.open(folder)
    title, session = person.widget.title, person.session
    assert title.notice.isVisible()
    assert "Read only" in title.badge.text()
    assert "is labelling here" in title.badge.text()
    assert title.own_name.isVisible()
    assert not title.elsewhere.isVisible()
    assert person.widget.accept.text() == "Next, read only  (G)"
    assert "saved" not in person.widget.status.text()
    painted = session.labels.copy()
    painted[10:30, 10:30] = 1
    session.editing.painted(painted)
    person.settle()
    assert not session.labels.any()
    assert any("Nothing was changed" in text for _, text in person.notes)

    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: (" anna ", True))
    title.own_name.click()
    person.wait(lambda: session.store.annotator == "anna" and session.loaded is not None)
    person.settle()
    assert not title.notice.isVisible()
    assert title.title.text() == f"{folder.name} - anna"
    session.editing.painted(painted)
    person.settle()
    image_id = session.record.image_id
    own = folder / "usgseg" / "labels" / "by-anna" / f"{image_id}.png"
    assert np.array_equal(np.asarray(Image.open(own)), painted)
    assert not (folder / "usgseg" / "labels" / f"{image_id}.png").exists()


def test_a_name_that_cannot_be_used_is_not_kept(at_work, phantom_folder):
    at_work.widget.opening.set_annotator("a/b")
    assert "'a/b' cannot be an annotator's name" in at_work.notes[-1][1]
    assert at_work.widget.opening.annotator == ""
    store = at_work.session.store
    at_work.widget.open_folder(phantom_folder)
    at_work.wait(lambda: at_work.session.store is not store)
    at_work.settle()
    assert not at_work.session.read_only


def test_labels_can_be_kept_elsewhere(person, phantom_folder, tmp_path, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    answers = iter([str(phantom_folder), str(tmp_path / "labels of mine")])
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: next(answers))
    person.widget.opening.choose_with_labels()
    person.wait(lambda: person.session.loaded is not None)
    person.settle()
    person.session.navigation.mark_empty()
    person.settle()
    image_id = person.session.image_queue.records[0].image_id
    assert (tmp_path / "labels of mine" / "labels" / f"{image_id}.png").is_file()
    assert not (phantom_folder / "usgseg").exists()
    assert str(tmp_path / "labels of mine") in person.widget.title.title.toolTip()


def test_the_menu_opens_what_it_says(person, phantom_folder, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    actions = {action.text(): action for action in person.widget.title.open.menu().actions()}
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(phantom_folder))
    actions["Folder..."].trigger()
    person.wait(lambda: person.session.loaded is not None)
    person.settle()
    assert person.widget.title.title.text() == phantom_folder.name
    person.viewer.add_image(np.random.default_rng(0).random((60, 80)), name="B-mode")
    person.viewer.layers.selection.active = person.viewer.layers["B-mode"]
    actions["Use image layer"].trigger()
    person.wait(lambda: person.widget.title.title.text() == "B-mode")
    assert "in this window only" in person.widget.title.title.toolTip()


def test_a_dialog_that_is_dismissed_changes_nothing(person, monkeypatch):
    from qtpy.QtWidgets import QFileDialog, QInputDialog

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("", False))
    person.widget.opening.choose()
    person.widget.opening.choose_with_labels()
    person.widget.opening.ask_name()
    assert person.session.store is None
    assert person.widget.opening.annotator == ""


def test_a_folder_that_may_not_be_written_says_so_and_labels_elsewhere_are_the_way_out(
    person, phantom_folder, tmp_path, monkeypatch
):
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QFileDialog

    (phantom_folder / "usgseg").write_bytes(b"")  # a file in the way: also for who may do all
    person.open(phantom_folder)
    title, session, widget = person.widget.title, person.session, person.widget
    assert title.notice.isVisible()
    assert f"{phantom_folder / 'usgseg'}" in title.badge.text()
    assert not title.own_name.isVisible()
    assert title.elsewhere.isVisible()
    first = session.record.image_id
    person.click(256, 190)
    person.wait(lambda: session.proposal.has_masks)
    person.settle()
    assert widget.accept.text() == "Next, read only  (G)"
    assert not widget.empty.isEnabled()
    person.press(Qt.Key.Key_G)
    person.wait(lambda: session.record.image_id != first and session.loaded is not None)
    person.settle()
    assert "saved" not in widget.status.text()
    mine = tmp_path / "labels of mine"
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(mine))
    title.elsewhere.click()
    person.wait(lambda: session.store is not None and not session.read_only)
    person.wait(lambda: session.loaded is not None)
    person.settle()
    assert not title.notice.isVisible()
    person.session.navigation.mark_empty()
    person.settle()
    assert (mine / "labels" / f"{first}.png").is_file()
    assert "saved" in widget.status.text()


def test_saved_is_said_of_the_folder_that_is_open_only(at_work, tmp_path):
    at_work.session.navigation.mark_empty()
    at_work.settle()
    assert "saved" in at_work.widget.status.text()
    folder = tmp_path / "others"
    folder.mkdir()
    Image.fromarray(np.full((60, 80), 90, np.uint8)).save(folder / "a.png")
    at_work.open(folder)
    assert "saved" not in at_work.widget.status.text()


def test_folders_that_were_opened_are_offered_in_the_next_window(
    at_work, phantom_folder, tmp_path, inference, qtbot
):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    from napari_usgseg.gui.widget import UltrasoundWidget

    folder = tmp_path / "others"
    folder.mkdir()
    Image.fromarray(np.full((60, 80), 90, np.uint8)).save(folder / "a.png")
    at_work.open(folder)
    store = at_work.session.store
    menu = at_work.widget.title.open.menu()
    menu.aboutToShow.emit()
    names = [action.text() for action in at_work.widget.title.recent.actions()]
    assert [name.rpartition("/")[2] for name in names] == [folder.name, phantom_folder.name]
    at_work.widget.title.recent.actions()[1].trigger()
    at_work.wait(lambda: at_work.session.store is not store)
    at_work.settle()
    assert at_work.session.store.folder == phantom_folder
    again = UltrasoundWidget(at_work.viewer, inference)
    qtbot.addWidget(again)
    again.show()
    assert [button.text().rpartition("/")[2] for button in again.first.recent] == [
        phantom_folder.name,
        folder.name,
    ]
    QTest.mouseClick(again.first.recent[1], Qt.MouseButton.LeftButton)
    at_work.wait(lambda: again.session.loaded is not None)
    assert again.session.store.folder == folder
    again.shut_down()


def test_a_long_name_of_a_recent_folder_makes_no_dock_wider(person, employ, tmp_path, inference):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    least = person.widget.minimumSizeHint().width()
    folder = tmp_path / f"{'a study of many nerves ' * 4}2026"
    folder.mkdir()
    Image.fromarray(np.full((60, 80), 90, np.uint8)).save(folder / "a.png")
    person.open(folder)
    later = employ(inference)
    (recent,) = later.widget.first.recent
    later.wait(lambda: recent.text().startswith("…"))
    assert later.widget.minimumSizeHint().width() == least
    assert recent.text().endswith("nerves 2026")
    assert str(folder) in recent.toolTip()
    QTest.mouseClick(recent, Qt.MouseButton.LeftButton)
    later.wait(lambda: later.session.loaded is not None)
    assert later.session.store.folder == folder


def test_phantoms_to_play_with_are_no_recent_folder(at_work, phantom_folder):
    at_work.widget.opening.try_phantoms()
    at_work.wait(lambda: at_work.session.store.folder != phantom_folder)
    at_work.settle()
    (recent,) = at_work.widget.opening.recent
    assert Path(recent[0]) == phantom_folder


@pytest.mark.parametrize("kept", [7, "a", [1, None], [["a"]], [["a", 2]], {"a": "b"}])
def test_recent_folders_that_cannot_be_read_are_none(at_work, phantom_folder, kept):
    preferences.remember(RECENT, kept)
    assert at_work.widget.opening.recent == []
    at_work.widget.title.open.menu().aboutToShow.emit()
    assert not at_work.widget.title.recent.isEnabled()
