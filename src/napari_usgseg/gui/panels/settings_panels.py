"""Panels of settings: the look of images, the cleaning of proposals, the models that are asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from qtpy.QtWidgets import QFileDialog, QLabel, QPushButton, QVBoxLayout, QWidget

from ...annotation.session import AnnotationSession
from ...annotation.settings import Despeckling, View
from ...models.registry import DETECTORS, SEGMENTERS
from ...segmentation.postprocess import Keep
from ..canvas.display import CONTOUR_PIXELS, Display
from ..forms import Form, SettingsForm
from ..keys import explain
from ..parts import button

CHOOSE_FILE = "from a file..."
WHOLE = {"max": 1_000_000, "step": 1}
HALF = {"max": 1_000_000, "step": 0.5}
SIGNED = {"widget_type": "Slider", "min": -100, "max": 100, "step": 1}


@dataclass(frozen=True)
class Looks:
    """The fields of ``View``; no pixel that a model or a label sees is changed by them."""

    contours: Annotated[
        bool,
        {
            "tooltip": "Accepted labels as contours, not filled (up to "
            f"{CONTOUR_PIXELS // 1_000_000} megapixels)."
        },
    ]
    opacity: Annotated[
        float,
        {
            "widget_type": "FloatSlider",
            "max": 1.0,
            "step": 0.01,
            "tooltip": "How much accepted labels cover of the image.",
        },
    ]
    brightness: Annotated[int, {**SIGNED, "tooltip": "Lighter or darker, on the screen only."}]
    contrast: Annotated[int, {**SIGNED, "tooltip": "More or less contrast, on the screen only."}]
    despeckling: Annotated[
        Despeckling,
        {
            "label": "despeckle",
            "tooltip": "Less speckle, on the screen only: a median, or Lee's filter.",
        },
    ]
    regions: Annotated[
        bool,
        {
            "label": "outline regions",
            "tooltip": "The regions of a DICOM picture that models look at, as thin lines.",
        },
    ]
    onion_skin: Annotated[
        bool,
        {"tooltip": "Of a loop: in grey, the contours of what is on the frame before."},
    ]


class ViewPanel(QWidget):
    """Contours, opacity, brightness, contrast, despeckling, and a look without overlays.

    Args:
        session: whose settings it shows.
        display: hides what lies over the image.
    """

    def __init__(self, session: AnnotationSession, display: Display) -> None:
        super().__init__()
        self.form = SettingsForm(session, Looks, "view")
        for field, action in (("contours", "contours or fill"), ("despeckling", "despeckled view")):
            control = self.form.controls[field]
            explain(control.native, action, control.tooltip)
        self.alone = explain(QPushButton("Image alone"), "hold to see the image alone")
        self.alone.pressed.connect(display.bare)
        self.alone.released.connect(display.dress)
        self._display = display
        self.reset = button("Reset", "Look at images as they are.", self._reset)
        self.form.add_beside("contours", self.alone, self.reset)
        self._column = _column(self)
        self._column.addWidget(self.form)

    def add(self, panel: QWidget) -> None:
        """Put another panel below."""
        self._column.addWidget(panel)

    def _reset(self) -> None:
        self.form.show_record(View())  # also a slider that has not rested yet
        self._display.set_view(View())


@dataclass(frozen=True)
class Cleaning:
    """The fields of ``PostprocessSettings``."""

    enabled: Annotated[
        bool,
        {
            "label": "clean proposed masks",
            "tooltip": "Takes all steps below; otherwise masks stay as the model drew them.",
        },
    ]
    keep: Annotated[
        Keep,
        {
            "label": "keep pieces",
            "tooltip": "Keeps the pieces that your prompts point at, the largest one, or all.",
        },
    ]
    min_area: Annotated[
        int,
        {
            **WHOLE,
            "label": "drop specks (px)",
            "tooltip": "Drops pieces of fewer pixels.",
        },
    ]
    fill_holes: Annotated[
        float,
        {
            "max": 1.0,
            "step": 0.05,
            "label": "fill holes (share)",
            "tooltip": "Fills holes up to this share of the mask: 0 none, 1 all.",
        },
    ]
    opening: Annotated[
        int,
        {
            **WHOLE,
            "label": "cut bridges (px)",
            "tooltip": "Cuts off bridges and spurs of this half width (an opening).",
        },
    ]
    closing: Annotated[
        int,
        {
            **WHOLE,
            "label": "close gaps (px)",
            "tooltip": "Closes clefts and gaps of this half width (a closing).",
        },
    ]
    smoothing: Annotated[
        float,
        {
            **HALF,
            "label": "smooth (px)",
            "tooltip": "Rounds the border: the deviation of a Gaussian.",
        },
    ]
    dilation: Annotated[
        int,
        {
            **WHOLE,
            "label": "grow (px)",
            "tooltip": "Makes the mask wider on all sides, last of all (a dilation).",
        },
    ]


@dataclass(frozen=True)
class Accepting:
    """What accepting does to labels that are there."""

    overwrite: Annotated[
        bool,
        {
            "label": "accepting replaces other labels",
            "tooltip": "Otherwise pixels that have another label are left as they are.",
        },
    ]


class CleaningPanel(QWidget):
    """Steps that a proposed mask goes through, and what accepting it does to other labels."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self.steps = SettingsForm(session, Cleaning, "cleaning")
        self.accepting = SettingsForm(session, Accepting)
        layout = _column(self)
        layout.addWidget(self.steps)
        layout.addWidget(self.accepting)


@dataclass(frozen=True)
class Models:
    """Names of the catalogue, or paths."""

    segmenter: Annotated[
        str, {"tooltip": "Turns prompts into masks.", "choices": (*SEGMENTERS, CHOOSE_FILE)}
    ]
    detector: Annotated[
        str, {"tooltip": "Turns phrases into boxes.", "choices": (*DETECTORS, CHOOSE_FILE)}
    ]


@dataclass(frozen=True)
class Seen:
    """What models see of a picture."""

    crop_to_regions: Annotated[
        bool,
        {
            "label": "models see regions alone",
            "tooltip": "Of a DICOM picture whose scanner wrote its regions: those of tissue, each "
            "by itself, and nothing else. Otherwise models see the whole screen.",
        },
    ]


class ModelPanel(QWidget):
    """Which segmenter, which detector, and what they see."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.form = Form(Models)
        note = QLabel("nano needs no network. Others are fetched once.")
        note.setWordWrap(True)
        note.setContentsMargins(12, 0, 0, 0)
        layout = _column(self)
        self.seen = SettingsForm(session, Seen)
        layout.addWidget(self.form)
        layout.addWidget(self.seen)
        layout.addWidget(note)
        self.form.changed.connect(self._on_changed)
        session.settings_changed.connect(self._on_settings)
        self._on_settings()

    def _on_changed(self, kind: str) -> None:
        name = self.form.value(kind)
        if name == CHOOSE_FILE:
            name = self._ask(kind)
        if name:
            self._session.set_settings(replace(self._session.settings, **{kind: name}))
        self._on_settings()

    def _ask(self, kind: str) -> str:
        if kind == "detector":
            return QFileDialog.getExistingDirectory(self, "A detector's folder")
        name, _ = QFileDialog.getOpenFileName(
            self, "A segmenter's checkpoint", "", "Checkpoints (*.safetensors *.pt *.pth)"
        )
        return name

    def _on_settings(self) -> None:
        for kind, control in self.form.controls.items():
            name = getattr(self._session.settings, kind)
            if name not in control.choices:
                names = [*control.choices[:-1], name, CHOOSE_FILE]
                with control.changed.blocked():
                    control.choices = ()  # else magicgui puts what is new below all others
                    control.choices = lambda _, names=names: names
        self.form.show_record(self._session.settings)


def _column(widget: QWidget) -> QVBoxLayout:
    layout = QVBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(3)
    return layout
