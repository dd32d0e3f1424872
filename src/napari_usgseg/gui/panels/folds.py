"""What is set once: cleaning, models, export."""

from __future__ import annotations

import types
import typing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ...annotation.session import AnnotationSession
from ...annotation.settings import Settings
from ...io.formats import FORMATS
from ...models.registry import DETECTORS, SEGMENTERS
from ...project.project import Project
from ...segmentation.postprocess import PostprocessSettings
from ..parts import button, row
from .ledger_panel import LedgerDialog

CHOOSE_FILE = "from a file..."


class CleaningForm(QWidget):
    """One control for each field of ``PostprocessSettings``."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        form = QFormLayout(self)
        form.setContentsMargins(12, 0, 0, 0)
        form.setSpacing(3)
        self._controls: dict[str, QWidget] = {}
        hints = typing.get_type_hints(PostprocessSettings)
        for item in fields(PostprocessSettings):
            control = _control(hints[item.name], getattr(PostprocessSettings(), item.name))
            control.setToolTip(f"Cleaning of proposed masks: {item.name.replace('_', ' ')}.")
            self._controls[item.name] = control
            form.addRow(item.name.replace("_", " "), control)
            _connect(control, self._on_edited)
        self.overwrite = QCheckBox("accepting replaces other labels")
        self.overwrite.setToolTip("Otherwise pixels that have another label are left as they are.")
        self.overwrite.toggled.connect(self._on_edited)
        form.addRow(self.overwrite)
        session.settings_changed.connect(self._on_settings)
        self._on_settings()

    def _on_edited(self, _: Any = None) -> None:
        values = {name: _get(control) for name, control in self._controls.items()}
        self._session.set_settings(
            replace(
                self._session.settings,
                cleaning=PostprocessSettings(**values),
                overwrite=self.overwrite.isChecked(),
            )
        )

    def _on_settings(self) -> None:
        settings = self._session.settings
        for name, control in self._controls.items():
            with QSignalBlocker(control):
                _set(control, getattr(settings.cleaning, name))
        with QSignalBlocker(self.overwrite):
            self.overwrite.setChecked(settings.overwrite)


def _control(hint: Any, default: Any) -> QWidget:
    if typing.get_origin(hint) is Literal:
        box = QComboBox()
        box.addItems([str(value) for value in typing.get_args(hint)])
        return box
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    if hint is bool:
        return QCheckBox()
    if hint is int:
        spin = QSpinBox()
        spin.setRange(0, 1_000_000)
        spin.setKeyboardTracking(False)
        return spin
    number = QDoubleSpinBox()
    number.setRange(0.0, 1_000_000.0)
    number.setDecimals(4 if isinstance(default, float) and 0 < default < 0.01 else 2)
    number.setSingleStep(0.5)
    number.setKeyboardTracking(False)
    return number


def _connect(control: QWidget, changed: Any) -> None:
    if isinstance(control, QComboBox):
        control.currentTextChanged.connect(changed)
    elif isinstance(control, QCheckBox):
        control.toggled.connect(changed)
    elif isinstance(control, QSpinBox | QDoubleSpinBox):
        control.valueChanged.connect(changed)


def _get(control: QWidget) -> Any:
    if isinstance(control, QComboBox):
        return control.currentText()
    if isinstance(control, QCheckBox):
        return control.isChecked()
    assert isinstance(control, QSpinBox | QDoubleSpinBox)
    return control.value()


def _set(control: QWidget, value: Any) -> None:
    if isinstance(control, QComboBox):
        control.setCurrentText(str(value))
    elif isinstance(control, QCheckBox):
        control.setChecked(bool(value))
    elif isinstance(control, QSpinBox | QDoubleSpinBox):
        control.setValue(value or 0)


class ModelForm(QWidget):
    """Which segmenter, which detector."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.segmenter = _names("segmenter", "Turns prompts into masks.")
        self.detector = _names("detector", "Turns phrases into boxes.")
        form = QFormLayout(self)
        form.setContentsMargins(12, 0, 0, 0)
        form.addRow("segmenter", self.segmenter)
        form.addRow("detector", self.detector)
        note = QLabel("nano needs no network. Others are fetched once.")
        note.setWordWrap(True)
        form.addRow(note)
        self.segmenter.textActivated.connect(self._on_segmenter)
        self.detector.textActivated.connect(self._on_detector)
        session.settings_changed.connect(self._on_settings)
        self._on_settings()

    def _on_segmenter(self, name: str) -> None:
        if name == CHOOSE_FILE:
            name, _ = QFileDialog.getOpenFileName(
                self, "A segmenter's checkpoint", "", "Checkpoints (*.safetensors *.pt *.pth)"
            )
        self._take(replace(self._session.settings, segmenter=name))

    def _on_detector(self, name: str) -> None:
        if name == CHOOSE_FILE:
            name = QFileDialog.getExistingDirectory(self, "A detector's folder")
        self._take(replace(self._session.settings, detector=name))

    def _take(self, settings: Settings) -> None:
        if settings.segmenter and settings.detector:
            self._session.set_settings(settings)
        self._on_settings()

    def _on_settings(self) -> None:
        settings = self._session.settings
        for box, name in ((self.segmenter, settings.segmenter), (self.detector, settings.detector)):
            if box.findText(name) < 0:
                box.insertItem(box.count() - 1, name)
            box.setCurrentText(name)


def _names(kind: str, tooltip: str) -> QComboBox:
    box = QComboBox()
    box.addItems(list(SEGMENTERS if kind == "segmenter" else DETECTORS))
    box.addItem(CHOOSE_FILE)
    box.setToolTip(tooltip)
    box.setMinimumContentsLength(12)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    return box


class ExportForm(QWidget):
    """Everything that is accepted, as a data set."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.organ = QLineEdit()
        self.organ.setPlaceholderText("such as: breast")
        self.organ.setToolTip("What the images show; written into dataset.json.")
        self.target = QLineEdit()
        self.target.setToolTip("The phrase for class 1; written into dataset.json.")
        self.groups = QLineEdit()
        self.groups.setPlaceholderText("such as: prefix:_")
        self.groups.setToolTip(
            "Which images are of one patient or loop, so that no split tears them apart: folder, "
            "prefix:_ (what stands before the first _ of a name), a regular expression, or a CSV. "
            "Left empty, the images of a patient's folder and the frames of a file belong together."
        )
        self.place = QLineEdit()
        self.place.setPlaceholderText("a new or an empty folder")
        self.place.setToolTip(
            "Where the data set goes. A name alone is a folder beside that of the images; a folder "
            "that holds anything else is refused."
        )
        self.browse = button("...", "Choose a folder, or type a new name there.", self.choose)
        self.overwrite = QCheckBox("replace an earlier export")
        self.overwrite.setToolTip(
            "Only of what this program exported there, and what nobody changed since."
        )
        self.format = QComboBox()
        for name, each in FORMATS.items():
            self.format.addItem(name)
            self.format.setItemData(
                self.format.count() - 1, each.summary, Qt.ItemDataRole.ToolTipRole
            )
        self.format.setToolTip("How the data set is written.")
        self.run = button(
            "Export", "Write accepted images and label maps as a data set.", self.export
        )
        form = QFormLayout()
        form.setContentsMargins(12, 0, 0, 0)
        form.addRow("organ", self.organ)
        form.addRow("target", self.target)
        form.addRow("groups", self.groups)
        form.addRow("format", self.format)
        form.addRow("into", row(self.place, self.browse, stretch=0))
        form.addRow(self.overwrite)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.run)
        self.effort = button(
            "Effort...", "Time, clicks and models for each image, and a report.", self.show_effort
        )
        layout.addWidget(self.effort)
        self._ledger: LedgerDialog | None = None
        session.classes_changed.connect(self._on_classes)
        self._on_classes()

    def choose(self) -> bool:
        """Ask for a folder, which may be a new one; False where the person gave none."""
        dialog = QFileDialog(self, "A new or an empty folder for the data set", str(self._beside))
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.setFileMode(QFileDialog.FileMode.AnyFile)  # so that a new name may be typed
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setOption(QFileDialog.Option.DontConfirmOverwrite)
        dialog.setLabelText(QFileDialog.DialogLabel.Accept, "Choose")
        if not dialog.exec():
            return False
        self.place.setText(dialog.selectedFiles()[0])
        return True

    def export(self) -> None:
        """Export into the folder that is typed, or else ask for one."""
        if self.place.text().strip() or self.choose():
            self.export_to(self._beside / Path(self.place.text().strip()).expanduser())

    @property
    def _beside(self) -> Path:
        """The folder that the images' folder is in: exports do not go among images."""
        store = self._session.store
        return store.folder.absolute().parent if isinstance(store, Project) else Path.home()

    def export_to(self, out: Path) -> None:
        """Export into a folder."""
        target = self.target.text().strip() or self.target.placeholderText()
        organ = self.organ.text().strip() or "ultrasound"
        groups = self.groups.text().strip() or None
        self._session.export(
            out, organ, target, self.overwrite.isChecked(), groups, self.format.currentText()
        )

    def show_effort(self) -> LedgerDialog:
        """Open the effort ledger beside the window, or bring it up to date."""
        if self._ledger is None:
            self._ledger = LedgerDialog(self._session, self)
        else:
            self._ledger.reload()
        self._ledger.show()
        self._ledger.raise_()
        return self._ledger

    def close_effort(self) -> None:
        """Close the effort ledger, if it is open."""
        if self._ledger is not None:
            self._ledger.close()

    def _on_classes(self) -> None:
        first = self._session.table.get(1)
        self.target.setPlaceholderText("object" if first is None else first.name)
