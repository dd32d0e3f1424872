"""Panel of measuring: what a pixel's length is, and calipers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from ...annotation.session import AnnotationSession
from ..canvas.measuring import Measuring
from ..canvas.tools import CanvasTools, Tool
from ..forms import Form
from ..keys import explain
from ..parts import button, row, toggle


@dataclass(frozen=True)
class Lengths:
    """What a person says of lengths in images like the shown one."""

    mm_per_pixel: Annotated[
        float,
        {
            "max": 10.0,
            "step": 0.0001,
            "none": "not known",
            "label": "a pixel is (mm)",
            "tooltip": "Of images of this size, scanner and depth whose file does not say it; kept "
            "with the folder.",
        },
    ]
    last_caliper: Annotated[
        float,
        {
            "max": 1000.0,
            "step": 1.0,
            "none": "not known",
            "label": "last caliper is (mm)",
            "tooltip": "Draw a caliper along the depth ruler or any known length, and say how long "
            "that is.",
        },
    ]


class MeasurePanel(QWidget):
    """The scale of the shown image, who says it, and calipers.

    Args:
        session: whose image is shown.
        measuring: the scale and the calipers.
        tools: of which the caliper is one.
    """

    def __init__(
        self, session: AnnotationSession, measuring: Measuring, tools: CanvasTools
    ) -> None:
        super().__init__()
        self._session, self._measuring, self._tools = session, measuring, tools
        self.says = QLabel()
        self.says.setWordWrap(True)
        self.says.setContentsMargins(12, 0, 0, 0)
        self.form = Form(Lengths)
        self.caliper = explain(toggle("Caliper", "", partial(tools.arm, Tool.CALIPER)), "caliper")
        self.clear = button("Clear calipers", "Take all calipers away.", measuring.clear_calipers)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self.says)
        layout.addWidget(self.form)
        layout.addLayout(row(self.caliper, self.clear))
        self.form.changed.connect(self._on_changed)
        measuring.changed.connect(self.refresh)
        session.image_loaded.connect(self.refresh)
        session.settings_changed.connect(self.refresh)
        tools.changed.connect(self._on_tools)
        self.refresh()
        self._on_tools()

    def _on_changed(self, name: str) -> None:
        value = self.form.value(name)
        if name == "mm_per_pixel":
            self._measuring.set_mm_per_pixel(value)
        elif value is not None:
            self._measuring.set_last_caliper(value)
        self.refresh()

    def _on_tools(self) -> None:
        self.caliper.setChecked(self._tools.tool is Tool.CALIPER and not self._tools.layer_draws)

    def refresh(self) -> None:
        """Say what is known of lengths in the image that is shown."""
        scale = self._measuring.scale
        free = scale is not None and scale.is_for_person
        self.says.setText("" if scale is None else scale.words())
        said = self._session.settings.mm_per_pixel
        side = said.get(scale.key) if scale is not None and free else None
        self.form.show_record(Lengths(side or 0.0, 0.0))
        self.form.setEnabled(free)
        self.clear.setEnabled(bool(self._measuring.calipers))
