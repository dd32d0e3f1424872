"""Direct edits of the accepted labels: lasso, stroke, box, and what a brush paints with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...core.geometry import box_from_points, clip_box
from ...core.types import BoolArray, FloatArray
from ...io.labels import MAX_CLASS, STEP, class_of, code_of, free_numbers, instance_of, values_in
from ...project.records import LabelMap
from . import regions

if TYPE_CHECKING:
    from ..session import AnnotationSession


class Painting:
    """``session.painting``: adds pixels to the accepted labels, or takes them away.

    In instance labelling one object is picked; what is painted belongs to it. With none picked, the
    next stroke begins an object of the picked class, and that is the picked one from then on.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self._picked = 0
        self._pointed: tuple[float, float] | None = None
        self._seen: LabelMap | None = None
        self._values: list[int] = []
        session.image_changed.connect(self._forget)

    def _forget(self) -> None:
        self._picked, self._pointed = 0, None

    @property
    def pointed(self) -> tuple[float, float] | None:
        """Where (x, y) the person pointed at the labels last, on this image; None nowhere."""
        return self._pointed

    @property
    def values(self) -> list[int]:
        """The label values on the current image, ascending."""
        labels = self._session.labels
        if labels is not self._seen:
            self._seen = labels
            self._values = [] if labels is None else values_in(labels)
        return self._values

    @property
    def value(self) -> int:
        """The label value that the next stroke is painted with."""
        session = self._session
        active = session.table.active
        if session.settings.labelling == "semantic" or session.labels is None:
            return active
        if class_of(self._picked, "instance") == active:
            return self._picked
        numbers = free_numbers(self.values, active) if active <= MAX_CLASS else []
        return code_of(active, numbers[0]) if numbers else active

    def take_value(self, value: int) -> None:
        """Paint with a label value from now on: its class, and in instance labelling its object."""
        session, labelling = self._session, self._session.settings.labelling
        if session.table.get(class_of(value, labelling)) is None:
            return
        self._picked = value if instance_of(value, labelling) else 0
        session.editing.pick_class(class_of(value, labelling))
        session.classes_changed.emit()

    def new_object(self) -> None:
        """The next stroke begins another object."""
        if self._picked:
            self._picked = 0
            self._session.classes_changed.emit()

    def pick(self, x: float, y: float) -> None:
        """Paint on with the class, and the object, of the labels at XY pixels."""
        session = self._session
        session.flushing.emit()
        labels, column, row = session.labels, round(x), round(y)
        if labels is None:
            return
        inside = 0 <= row < labels.shape[0] and 0 <= column < labels.shape[1]
        if inside and labels[row, column]:
            self._pointed = x, y
            self.take_value(int(labels[row, column]))
        else:
            self._pointed = None
            self.new_object()

    def lasso(self, polygon: FloatArray, positive: bool = True) -> None:
        """Add the inside of a closed line (M, 2) to the labels, or take it out of them."""
        labels = self._session.labels
        if labels is None:
            return
        polygon = np.asarray(polygon, np.float32)
        reason = regions.why_no_lasso(polygon, labels.shape)
        if reason:
            self._session.say(reason)
        else:
            inside = regions.lasso_mask(polygon, labels.shape)
            self._paint("lasso on labels", inside, positive)

    def stroke(self, line: FloatArray, width: float, positive: bool = True) -> None:
        """Add a stroke (M, 2) of a width in pixels to the labels, or take it out of them."""
        labels = self._session.labels
        if labels is not None and len(line):
            inside = regions.stroke_mask(np.asarray(line, np.float32), width, labels.shape)
            self._paint("stroke on labels", inside, positive)

    def box(self, a: tuple[float, float], b: tuple[float, float], positive: bool = True) -> None:
        """Add the box between two corners to the labels, or take it out of them."""
        labels = self._session.labels
        if labels is None:
            return
        box = box_from_points(a, b)
        reason = regions.why_no_box(box, labels.shape, 1.0)
        if reason:
            self._session.say(reason)
            return
        x0, y0, x1, y1 = (round(float(v)) for v in clip_box(box, labels.shape))
        inside = np.zeros(labels.shape, bool)
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
        self._paint("box on labels", inside, positive)

    def _paint(self, name: str, inside: BoolArray, positive: bool) -> None:
        session = self._session
        session.flushing.emit()
        if session.labels is None:
            return
        if not inside.any():
            session.say(regions.OUTSIDE)
            return
        value = self.value if positive else 0
        dtype = np.promote_types(session.labels.dtype, np.min_scalar_type(value))
        after = session.labels.astype(dtype)
        after[inside] = value
        self.continue_with(value)
        session.editing.relabel(name if positive else f"{name}, taken away", after)

    def continue_with(self, value: int) -> None:
        """What was painted with ``value`` goes on with it, where it is an object's."""
        if instance_of(value, self._session.settings.labelling):
            self._picked = value

    def numbered(self, labels: LabelMap) -> LabelMap:
        """A label map (H, W) as it came from a brush, with codes where objects are told apart.

        A bare class number that a person painted with becomes the picked object of that class, or
        a new one.
        """
        session, before = self._session, self._session.labels
        if session.settings.labelling == "semantic" or before is None:
            return labels
        changed = labels != before
        used = self.values
        for value in values_in(labels[changed]):
            if value >= STEP or value > MAX_CLASS or session.table.get(value) is None:
                self.continue_with(value)
                continue
            code = self._picked if class_of(self._picked, "instance") == value else 0
            if not code:
                numbers = free_numbers(used, value)
                code = code_of(value, numbers[0]) if numbers else value
            labels = labels.astype(np.uint16)
            labels[changed & (labels == value)] = code
            self.continue_with(code)
        return labels
