"""Opening of images: a folder or a layer, for whom, and where its labels are."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QAction
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QMenu,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ..annotation.session import AnnotationSession
from ..core.errors import UsgsegError
from ..project.locks import checked_name
from ..project.project import Project
from . import preferences
from .panels.class_panel import LabellingChoice
from .parts import WARNING, PlaceButton, button, row

RECENT, MOST_RECENT = "recent folders", 8
MOST_OFFERED = 4
"""On the first page; the menu has the others too."""


def folder_name(images: str, labels: str) -> str:
    """A folder as a person knows it: its last two names, and where its labels are elsewhere."""
    path = Path(images)
    path = path.parent if path.name == "images" else path
    elsewhere = "" if Path(images) in Path(labels).parents else f" (labels in {Path(labels).name})"
    return f"{'/'.join(path.parts[-2:])}{elsewhere}"


class Opening:
    """Opens folders in the name of the annotator; it asks for what is not given.

    Args:
        session: opens them.
        before: is called first.
        parent: of the dialogs.
    """

    def __init__(
        self, session: AnnotationSession, before: Callable[[], object], parent: QWidget
    ) -> None:
        self._session = session
        self._before = before
        self._parent = parent
        self.annotator = preferences.annotator()
        self._phantoms: Path | None = None
        session.opened.connect(self._remember)

    def try_phantoms(self) -> None:
        """Make phantoms in a temporary folder and open them."""
        self._before()
        self._phantoms = Path(tempfile.mkdtemp(prefix="usgseg-phantoms-")) / "phantoms"
        self._session.navigation.open_phantoms(self._phantoms)

    @property
    def recent(self) -> list[tuple[str, str]]:
        """The folders that were opened last, newest first: (images, labels).

        Whether they are there still is not looked up: a disk that is away may let one wait long.
        """
        kept = preferences.recall(RECENT)
        pairs = kept if isinstance(kept, list) else []
        return [
            (pair[0], pair[1])
            for pair in pairs
            if isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) for p in pair)
        ]

    def _remember(self) -> None:
        """Keep the folder that was opened for the next time; phantoms are gone by then."""
        store, made = self._session.store, self._phantoms
        if isinstance(store, Project) and not (made and store.folder.is_relative_to(made)):
            here = str(store.folder.absolute()), str(store.root.absolute())
            others = [pair for pair in self.recent if pair != here]
            preferences.remember(RECENT, [here, *others][:MOST_RECENT])

    def choose_labels(self) -> None:
        """Ask for another place for the labels of the images that are open."""
        store = self._session.store
        labels = self._ask_folder("Where your labels of these images are, or will be")
        if labels and isinstance(store, Project):
            self.open(store.folder, labels)

    def choose(self) -> None:
        """Ask for a folder and open it."""
        folder = self._ask_folder("A folder of ultrasound images, or of a project")
        if folder:
            self.open(folder)

    def choose_with_labels(self) -> None:
        """Ask for a folder and for a place for its labels."""
        folder = self._ask_folder("A folder of ultrasound images")
        labels = self._ask_folder("Where its labels are, or will be") if folder else ""
        if folder and labels:
            self.open(folder, labels)

    def ask_name(self) -> None:
        """Ask for the annotator's name; what is open is opened again under it."""
        name, chosen = QInputDialog.getText(
            self._parent,
            "Annotator",
            "Your name. Labels of each name are kept side by side; without a name you are the "
            "first annotator.",
            text=self.annotator,
        )
        if chosen:
            self.set_annotator(name)

    def set_annotator(self, name: str) -> None:
        """Label under a name from now on; "" is the first annotator."""
        store = self._session.store
        project = store if isinstance(store, Project) else None
        try:
            self.annotator = checked_name(project.root if project else Path(), name)
        except UsgsegError as error:  # it is not kept: no folder could be opened with it
            self._session.say(str(error), "error")
            return
        preferences.set_annotator(self.annotator)
        if project is not None and project.annotator != self.annotator:
            self.open(project.folder, project.root)

    def open(self, folder: str | Path, labels_root: str | Path | None = None) -> None:
        """Open a folder of images, or of a project."""
        self._before()
        self._session.navigation.open_folder(folder, labels_root, self.annotator)

    def _ask_folder(self, title: str) -> str:
        return QFileDialog.getExistingDirectory(self._parent, title)


class TitleBar(QWidget):
    """The folder's name, whose labels these are, a menu to open another, and who else is at it.

    Args:
        session: whose store it shows.
        opening: opens others.
        use_layer: takes the open image layer.
    """

    def __init__(
        self, session: AnnotationSession, opening: Opening, use_layer: Callable[[], object]
    ) -> None:
        super().__init__()
        self._session = session
        self.title = QLabel("")
        self.title.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.open = QToolButton()
        self.open.setText("Open...")
        self.open.setStyleSheet("QToolButton { padding-right: 14px; }")  # for the menu's arrow
        self.open.setToolTip("Open another folder, label under another name.")
        self.open.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self.open)
        for text, does in (
            ("Folder...", opening.choose),
            ("Folder, labels elsewhere...", opening.choose_with_labels),
            ("Use image layer", use_layer),
            ("Try it on a phantom", opening.try_phantoms),
        ):
            menu.addAction(text, does)
        menu.addSeparator()
        self.recent = menu.addMenu("Recent")
        self.recent.setToolTipsVisible(True)  # each says where it is
        self.recent.triggered.connect(self._on_recent)
        menu.addAction("Annotator's name...", opening.ask_name)
        menu.aboutToShow.connect(self._list_recent)
        self._opening = opening
        self.open.setMenu(menu)
        self.badge = QLabel("")
        self.badge.setWordWrap(True)
        self.badge.setStyleSheet(WARNING)
        self.badge.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.own_name = button(
            "My name...",
            "Label under a name of your own; both are kept side by side.",
            opening.ask_name,
        )
        self.elsewhere = button(
            "Labels elsewhere...",
            "Keep your labels of these images in a folder that you may write to.",
            opening.choose_labels,
        )
        self.notice = QWidget()
        held = QHBoxLayout(self.notice)
        held.setContentsMargins(0, 0, 0, 0)
        held.addWidget(self.badge, 1)
        for cure in (self.own_name, self.elsewhere):
            held.addWidget(cure, 0, Qt.AlignmentFlag.AlignTop)
        self.notice.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(row(self.title, self.open, stretch=0))
        layout.addWidget(self.notice)
        session.opened.connect(self.refresh)
        session.status_changed.connect(self._on_status)

    def _list_recent(self) -> None:
        """Offer the folders that were opened last."""
        self.recent.clear()
        for images, labels in self._opening.recent:
            action = self.recent.addAction(folder_name(images, labels))
            action.setToolTip(images)
            action.setData((images, labels))
        self.recent.setEnabled(bool(self.recent.actions()))

    def _on_recent(self, action: QAction) -> None:
        self._opening.open(*action.data())

    def _on_status(self, _: object) -> None:
        if self.badge.text() != _sentence(self._session.read_only):
            self.refresh()

    def refresh(self) -> None:
        """Show what is open."""
        store = self._session.store
        if store is None:
            return
        self.title.setText(f"{store.name} - {store.annotator}" if store.annotator else store.name)
        lines = ["An image layer; its labels are in this window only."]
        if isinstance(store, Project):
            lines = [f"Images: {store.folder}", f"Labels: {store.root}"]
            lines.append(f"Annotator: {store.annotator or '(the first, without a name)'}")
        self.title.setToolTip("\n".join(lines))
        reason = self._session.read_only
        self.badge.setText(_sentence(reason))
        self.badge.setToolTip(_sentence(reason))
        self.own_name.setVisible(store.held)
        self.elsewhere.setVisible(not store.held and isinstance(store, Project))
        self.notice.setVisible(bool(reason))


def _sentence(reason: str) -> str:
    return f"Read only: {reason}." if reason else ""


HELLO = "Open a folder of ultrasound images to label them."


class FirstPage(QWidget):
    """One sentence, and what there is to begin with.

    Args:
        session: for which the labelling is chosen.
        opening: asks for a folder, and knows those that were opened last.
        use_layer: takes the open image layer.
    """

    def __init__(
        self, session: AnnotationSession, opening: Opening, use_layer: Callable[[], object]
    ) -> None:
        super().__init__()
        hello = QLabel(HELLO)
        hello.setWordWrap(True)
        hello.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.open = button(
            "Open folder...", "Choose a folder of ultrasound images.", opening.choose
        )
        self.open.setMinimumHeight(40)
        self.use_layer = button(
            "Use the open image layer",
            "Label the selected image layer of this viewer.",
            use_layer,
        )
        self.phantom = button(
            "Try it on a phantom",
            "Makes a few artificial ultrasound images to play with.",
            opening.try_phantoms,
        )
        layout = QVBoxLayout(self)
        layout.addStretch(2)
        for widget in (hello, self.open, self.use_layer, self.phantom):
            layout.addWidget(widget)
        recent = opening.recent[:MOST_OFFERED]
        self.recent = [
            PlaceButton(folder_name(*pair), partial(opening.open, *pair)) for pair in recent
        ]
        for each, (images, _) in zip(self.recent, recent, strict=True):
            each.setToolTip(f"Open {images} again.")
        if self.recent:
            layout.addSpacing(12)
            layout.addWidget(QLabel("Opened before:"))
        for each in self.recent:
            layout.addWidget(each)
        layout.addLayout(row(QLabel("Labels:"), LabellingChoice(session), stretch=1))
        layout.addStretch(3)


LayerData = tuple[Any, dict[str, Any], str]


def phantoms() -> list[LayerData]:
    """Three phantoms, each with its true labels in a layer that is hidden at first."""
    from ..phantoms.phantom import make_phantom  # the dock opens without it

    layers: list[LayerData] = []
    for seed in range(3):
        phantom = make_phantom(seed)
        name = f"phantom {seed}: {phantom.phrase}"
        layers.append((phantom.image, {"name": name, "rgb": True, "visible": seed == 0}, "image"))
        layers.append((phantom.labels, {"name": f"{name} (truth)", "visible": False}, "labels"))
    return layers
