"""Forms made from records: magicgui makes a control for each field of a frozen dataclass.

The hint of a field is ``Annotated[type, {...}]`` with magicgui's options (``label``, ``tooltip``,
``min``, ``max``, ``step``, ``choices``, ``widget_type``) and two of ours: ``placeholder`` is shown
in an empty line of text, ``none`` is what the least value of a number or ``None`` is called.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from typing import Annotated, Any, get_args, get_type_hints

from magicgui.widgets import CheckBox, FloatSlider, Slider, create_widget
from magicgui.widgets.bases import RangedWidget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QFormLayout, QLineEdit, QWidget
from superqt.utils import qdebounced

from ..annotation.session import AnnotationSession
from .parts import row

NUMBER_WIDTH = 80
QUIET_MS = 150
"""A slider that is moved is taken at its word when it has rested so long."""


class Form(QWidget):
    """A form for a record.

    ``changed`` carries the name of the field that the person has changed.

    Args:
        record: a dataclass; its fields are the controls.

    Attributes:
        controls: magicgui's controls by the names of the fields.
    """

    changed = Signal(str)

    def __init__(self, record: type) -> None:
        super().__init__()
        self._none: set[str] = set()
        self._moving: set[str] = set()  # sliders that were moved and have not rested yet
        self._rows = QFormLayout(self)
        self._rows.setContentsMargins(12, 0, 0, 0)
        self._rows.setSpacing(3)
        hints = get_type_hints(record, include_extras=True)
        names = [item.name for item in fields(record)]
        self.controls = {name: self._made(name, hints[name]) for name in names}
        for name, control in self.controls.items():
            self._listen(name, control)
            label = () if isinstance(control, CheckBox) else (control.label,)
            self._rows.addRow(*label, control.native)

    def _made(self, name: str, hint: Any) -> Any:
        kind, given = get_args(hint)
        options = {"label": name.replace("_", " "), **given}
        placeholder, none = options.pop("placeholder", ""), options.pop("none", "")
        control = create_widget(name=name, annotation=Annotated[kind, options])
        native = control.native
        native.setToolTip(control.tooltip)  # magicgui has none over a slider and its number
        for part in native.findChildren(QAbstractSpinBox):
            part.setToolTip(control.tooltip)
        if isinstance(native, QLineEdit):
            native.setPlaceholderText(placeholder)
        elif isinstance(native, QAbstractSpinBox):
            native.setKeyboardTracking(False)
            if none:
                self._none.add(name)
                native.setSpecialValueText(none)
            else:  # Qt would have room for the greatest number that can be typed
                native.setMinimumWidth(NUMBER_WIDTH)
        elif isinstance(native, QComboBox):  # else a long name makes the dock wide
            native.setMinimumContentsLength(10)
            native.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
        return control

    def _listen(self, name: str, control: Any) -> None:
        tell: Any = partial(self.changed.emit, name)
        if isinstance(control, Slider | FloatSlider):
            # a timer without a parent would outlive the form, and tell of a control that is gone
            tell = qdebounced(tell, timeout=QUIET_MS, parent=self)
            control.changed.connect(lambda _: self._moving.add(name))
        control.changed.connect(lambda _: tell())

    def add_beside(self, name: str, *widgets: QWidget) -> None:
        """Put more widgets at the end of a field's row."""
        control = self.controls[name].native
        index, role = self._rows.getWidgetPosition(control)
        self._rows.removeWidget(control)
        self._rows.setLayout(index, role, row(control, *widgets, stretch=0))

    def value(self, name: str) -> Any:
        """What a field holds now."""
        value = self.controls[name].value
        return None if name in self._none and value == self.controls[name].min else value

    def show_record(self, record: object) -> None:
        """Show the fields of a record; ``changed`` is silent, and a slider's move is given up."""
        self._moving.clear()
        for name, control in self.controls.items():
            value = getattr(record, name)
            with control.changed.blocked():
                if value is None:
                    value = control.min
                elif isinstance(control, RangedWidget):  # a file may hold more than is offered
                    control.max = max(control.max, value)
                control.value = value


class SettingsForm(Form):
    """A form for some of a session's settings: what is changed here reaches them, and back.

    Args:
        session: whose settings they are.
        record: its fields are some of the settings'.
        part: the field of the settings that has them, or "" for the settings themselves.
    """

    def __init__(self, session: AnnotationSession, record: type, part: str = "") -> None:
        super().__init__(record)
        self._session = session
        self._part = part
        self._shown: Any = None
        self.changed.connect(self._on_changed)
        session.settings_changed.connect(self._on_settings)
        self._on_settings()

    def _on_changed(self, name: str) -> None:
        settings = self._session.settings
        change = {name: self.value(name)}
        if self._part:
            change = {self._part: replace(getattr(settings, self._part), **change)}
        self._session.set_settings(replace(settings, **change))

    def _on_settings(self) -> None:
        settings = self._session.settings
        record = getattr(settings, self._part) if self._part else settings
        before, self._shown = self._shown, record
        # a slider that has not rested yet stays where it is, unless its own setting is another now
        moving = {
            name: self.value(name)
            for name in self._moving
            if getattr(record, name) == getattr(before, name)
        }
        self.show_record(replace(record, **moving))
        self._moving.update(moving)
