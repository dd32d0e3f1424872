"""Painting: strokes, boxes and lassos that change the labels themselves, and what a brush did.

In instance labelling one object is picked; what is painted belongs to it. With none picked, the
next stroke begins an object of the picked class, and that is the picked one from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...core.geometry import box_from_points, clip_box, mask_extent, stroke_mask, value_at
from ...core.types import BoolArray, FloatArray
from ...io.labels import MAX_CLASS, STEP, LabelMap, class_of, instance_of, next_code, values_in
from .. import regions
from ..state import AnnotationState, Change, Refused
from .classes import pick_class


def value_to_paint(state: AnnotationState, used: Callable[[], list[int]] | None = None) -> int:
    """The label value that the next stroke is painted with.

    Args:
        state: with the labels.
        used: gives the values of the labels, where somebody keeps them.
    """
    active = state.table.active
    if state.labelling == "semantic" or state.labels is None:
        return active
    if class_of(state.picked, "instance") == active:
        return state.picked
    return next_code(values_in(state.labels) if used is None else used(), active)


def take_value(state: AnnotationState, value: int) -> Change:
    """Paint with a label value from now on: its class, and in instance labelling its object."""
    class_id = class_of(value, state.labelling)
    if state.table.get(class_id) is None:
        raise Refused
    return pick_class(_going_on_with(replace(state, picked=0), value), class_id)


def pick(state: AnnotationState, x: float, y: float) -> Change:
    """Paint on with the class, and the object, of the labels at XY pixels."""
    value = value_at(state.shown_labels(), x, y)
    if value:
        return take_value(replace(state, pointed=(x, y)), value)
    return Change(state=replace(state, pointed=None, picked=0))


def lasso(state: AnnotationState, polygon: FloatArray, positive: bool = True) -> Change:
    """Add the inside of a closed line (M, 2) to the labels, or take it out of them."""
    size_hw = state.shown_labels().shape
    polygon = np.asarray(polygon, np.float32)
    if reason := regions.why_no_lasso(polygon):
        raise Refused(reason)
    return _paint(state, "lasso on labels", regions.lasso_mask(polygon, size_hw), positive)


def stroke(state: AnnotationState, line: FloatArray, width: float, positive: bool = True) -> Change:
    """Add a stroke (M, 2) of a width in pixels to the labels, or take it out of them."""
    return _band(state, "stroke on labels", line, width, positive)


def trace(state: AnnotationState, line: FloatArray, width: float, positive: bool = True) -> Change:
    """Add the band along a traced line (M, 2) to the labels, or take it out of them."""
    return _band(state, "trace on labels", line, width, positive)


def _band(
    state: AnnotationState, name: str, line: FloatArray, width: float, positive: bool
) -> Change:
    size_hw = state.shown_labels().shape
    if not len(line):
        raise Refused
    return _paint(state, name, stroke_mask(np.asarray(line, np.float32), width, size_hw), positive)


def box(
    state: AnnotationState,
    a: tuple[float, float],
    b: tuple[float, float],
    positive: bool = True,
) -> Change:
    """Add the box between two corners to the labels, or take it out of them."""
    size_hw = state.shown_labels().shape
    corners = box_from_points(a, b)
    if reason := regions.why_no_box(corners, size_hw, 1.0):
        raise Refused(reason)
    x0, y0, x1, y1 = (round(float(v)) for v in clip_box(corners, size_hw))
    inside = np.zeros(size_hw, bool)
    inside[y0 : y1 + 1, x0 : x1 + 1] = True
    return _paint(state, "box on labels", inside, positive)


def painted(state: AnnotationState, labels: LabelMap) -> Change:
    """Take a label map (H, W) as it came from a brush.

    In instance labelling a bare class number that a person painted with becomes the picked object
    of that class, or a new one.
    """
    before = state.shown_labels()
    if labels.shape != before.shape:
        raise Refused
    if state.labelling == "instance":
        changed, used = labels != before, values_in(before)
        for value in values_in(labels[changed]):
            code = value
            # A brush in napari paints with the class; a code (from 1000 on) was picked with the
            # pipette and stays.
            if value <= MAX_CLASS and value < STEP and state.table.get(value) is not None:
                same = class_of(state.picked, "instance") == value
                code = state.picked if same else next_code(used, value)
                labels = labels.astype(np.uint16)
                labels[changed & (labels == value)] = code
            state = _going_on_with(state, code)
    return Change(state.relabel("paint", labels), state)


def _paint(state: AnnotationState, name: str, inside: BoolArray, positive: bool) -> Change:
    window = mask_extent(inside)
    if window is None:
        raise Refused(regions.OUTSIDE)
    before, value = state.shown_labels(), value_to_paint(state) if positive else 0
    after = before.astype(np.promote_types(before.dtype, np.min_scalar_type(value)))
    after[window][inside[window]] = value
    edit = state.relabel(name if positive else f"{name}, taken away", after)
    return Change(edit, _going_on_with(state, value))


def _going_on_with(state: AnnotationState, value: int) -> AnnotationState:
    """What is painted with a value goes on with it, where it is an object's."""
    return replace(state, picked=value) if instance_of(value, state.labelling) else state
