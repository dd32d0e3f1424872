"""What the dock shows before anything is open, and while a person labels."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from ...annotation.session import AnnotationSession
from ..parts import button, row
from .class_panel import LabellingChoice

HELLO = "Open a folder of ultrasound images to label them."


class FirstPage(QWidget):
    """One sentence, and what there is to begin with.

    Args:
        session: for which the labelling is chosen.
        choose: asks for a folder.
        use_layer: takes the open image layer.
        try_phantoms: makes phantoms.
    """

    def __init__(
        self,
        session: AnnotationSession,
        choose: Callable[[], object],
        use_layer: Callable[[], object],
        try_phantoms: Callable[[], object],
    ) -> None:
        super().__init__()
        hello = QLabel(HELLO)
        hello.setWordWrap(True)
        hello.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.open = button("Open folder...", "Choose a folder of ultrasound images.", choose)
        self.open.setMinimumHeight(40)
        self.use_layer = button(
            "Use the open image layer",
            "Label the selected image layer of this viewer.",
            use_layer,
        )
        self.phantom = button(
            "Try it on a phantom",
            "Makes a few artificial ultrasound images to play with.",
            try_phantoms,
        )
        layout = QVBoxLayout(self)
        layout.addStretch(2)
        for widget in (hello, self.open, self.use_layer, self.phantom):
            layout.addWidget(widget)
        layout.addLayout(row(QLabel("Labels:"), LabellingChoice(session), stretch=1))
        layout.addStretch(3)


class WorkPage(QWidget):
    """Top to bottom in the order of work.

    Args:
        upper: takes the room that is left over.
        others: below it.
    """

    def __init__(self, title: QWidget, upper: QWidget, *others: QWidget) -> None:
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(title)
        layout.addWidget(upper, 1)
        for widget in others:
            layout.addWidget(widget)
