"""What layers show, as arrays: outlines of proposals, marks of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from ..geometry import mask_to_box, xy_to_rc
from ..io.instances import (
    MAX_INSTANCE,
    SHADES,
    Labelling,
    class_of,
    code_of,
    instance_color,
    instance_of,
)
from ..store.records import ClassTable, DraftObject
from ..types import FloatArray

POSITIVE, NEGATIVE, NEUTRAL = "#00d26a", "#ff3b6b", "#ffffff"
Mark = tuple[NDArray[Any], str, str]
"""Vertices (row, column), "rectangle" or "path", colour."""
LabelColors = dict[int | None, Any]
"""Label value -> colour; None is any other value."""


def put(layer: Labels, labels: NDArray[Any]) -> bool:
    """Show a label map in a layer; False where it is there already.

    Shape and type permitting it is written into the layer's own array, which is much cheaper in
    napari than a new one.
    """
    data = layer.data
    if data.shape != labels.shape or data.dtype != labels.dtype:
        layer.data = labels.copy()
        return True
    if np.array_equal(data, labels):
        return False
    data[...] = labels
    layer.refresh(extent=False)
    return True


def outlines(
    objects: tuple[DraftObject, ...], shape: tuple[int, ...], labelling: Labelling = "semantic"
) -> NDArray[Any]:
    """Label values along the inner border of what is proposed, (H, W), 0 elsewhere.

    They are class ids, or where objects are told apart codes that give neighbours other shades.
    napari's own contour of a Labels layer goes over the whole image at each change, which takes
    seconds at 6000 x 6000 pixels; here only each object's box is looked at.
    """
    values = [item.class_id for item in objects]
    if labelling == "instance":
        shades = (1 + n % SHADES for n in range(len(objects)))
        values = [code_of(value, n) for value, n in zip(values, shades, strict=True)]
    canvas = np.zeros(shape, np.uint16 if max(values, default=0) > 255 else np.uint8)
    width = max(2, round(max(shape) / 300))
    for item, value in zip(objects, values, strict=True):
        box = None if item.proposal is None else mask_to_box(item.proposal.mask)
        if box is not None and item.proposal is not None:
            x0, y0, x1, y1 = (int(side) for side in box)
            part = np.s_[y0 : y1 + 1, x0 : x1 + 1]
            mask = item.proposal.mask[part]
            canvas[part][mask & ~eroded(mask, width)] = value
    return canvas


def label_colors(table: ClassTable, labelling: Labelling, values: list[int]) -> LabelColors:
    """The colour of every label value: of its class, or a shade of that for each object.

    Args:
        table: the classes.
        labelling: what the values are.
        values: that are on the image; a few more are coloured for what comes next.
    """
    colors: LabelColors = {None: "#999999", 0: "transparent"}
    colors.update({item.class_id: item.color for item in table.classes})
    if labelling == "instance":
        last = {item.class_id: SHADES for item in table.classes}
        for value in values:
            class_id, number = class_of(value, labelling), instance_of(value, labelling)
            last[class_id] = max(last.get(class_id, 0), number + 1)
        for item in table.classes:
            for number in range(1, min(last[item.class_id], MAX_INSTANCE) + 1):
                colors[code_of(item.class_id, number)] = instance_color(item.color, number)
    return colors


def eroded(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """A mask (H, W) without its outermost ``width`` pixels; beyond the array there is nothing."""
    rows, columns = mask.shape
    padded = np.pad(mask, width)
    along = np.ones((rows, columns + 2 * width), bool)
    for shift in range(2 * width + 1):
        along &= padded[shift : shift + rows]
    inner = np.ones((rows, columns), bool)
    for shift in range(2 * width + 1):
        inner &= along[:, shift : shift + columns]
    return inner


def prompt_marks(objects: tuple[DraftObject, ...]) -> list[Mark]:
    """Boxes and scribbles of all objects."""
    marks: list[Mark] = []
    for item in objects:
        box = item.prompts.box
        if box is not None:
            marks.append((xy_to_rc(corners(box[:2], box[2:])), "rectangle", NEUTRAL))
        for line, sign in item.prompts.scribbles:
            marks.append((xy_to_rc(line), "path", POSITIVE if sign else NEGATIVE))
    return marks


def stroke_marks(line: Sequence[FloatArray], shape: str) -> list[Mark]:
    """What is being drawn, XY: a "rectangle", "polygon" or "path"; nothing of a single point."""
    if len(line) < 2:
        return []
    box = shape == "rectangle"
    ends = [line[0]] if shape == "polygon" else []
    vertices = corners(line[0], line[-1]) if box else np.array([*line, *ends])
    return [(xy_to_rc(vertices), "rectangle" if box else "path", NEUTRAL)]


def corners(a: FloatArray, b: FloatArray) -> FloatArray:
    """The four corners XY of the box between two points."""
    return np.array([[a[0], a[1]], [b[0], a[1]], [b[0], b[1]], [a[0], b[1]]], np.float32)
