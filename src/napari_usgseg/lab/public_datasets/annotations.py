"""Annotations of every kind as masks, one a class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ...core.errors import DatasetError
from ...core.types import BoolArray, FloatArray
from ...io.masks import HALF, SOFT, fitted, read_colors, read_mask_file, read_object
from ...io.tables import read_table
from .registry import MaskRule

Polygons = dict[str, list[FloatArray]]
"""The annotator's word for a class ("" where there is none) -> polygons (N, 2)."""


def json_polygons(path: Path) -> list[FloatArray]:
    """One polygon ``[[x, y], ...]`` or several ``[[[x, y], ...], ...]`` (the layout of AUL).

    Raises:
        DatasetError: the file is no such list.
    """
    try:
        points = json.loads(path.read_text(encoding="utf-8"))
        several = bool(points) and isinstance(points[0][0], list)
        return [_polygon(path, each) for each in (points if several else [points])]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise DatasetError(path, f"not a polygon ({error}); expected [[x, y], ...]") from error


def via_polygons(path: Path) -> dict[str, Polygons]:
    """File name in small letters -> polygons, from a CSV of the VGG Image Annotator.

    Columns ``filename``, ``region_shape_attributes`` and ``region_attributes`` (the layout of
    kidneyUS); the word is the first attribute's value. An image whose rows have no region is
    there, without polygons.

    Raises:
        DatasetError: the file is no such table.
    """
    images: dict[str, Polygons] = {}
    for number, row in enumerate(read_table(path), start=2):
        try:
            polygons = images.setdefault(row["filename"].casefold(), {})
            shape = json.loads(row["region_shape_attributes"] or "{}")
            word = next(iter(json.loads(row["region_attributes"] or "{}").values()), "")
            if shape.get("name") in ("polygon", "polyline"):
                points = list(zip(shape["all_points_x"], shape["all_points_y"], strict=True))
                polygons.setdefault(str(word), []).append(_polygon(path, points))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise DatasetError(
                path, f"row {number} is not of the VGG Image Annotator ({error!r})"
            ) from error
    return images


def ddti_polygons(path: Path) -> dict[str, Polygons]:
    """Number of the image within its case -> polygons, from an XML of the DDTI.

    ``<mark><image>1</image><svg>[{"points": [{"x": 1, "y": 2}, ...]}, ...]</svg></mark>``.

    Raises:
        DatasetError: the file is no such XML; some of the DDTI are cut off.
    """
    images: dict[str, Polygons] = {}
    try:
        for mark in ElementTree.parse(path).getroot().iter("mark"):
            regions = json.loads(mark.findtext("svg") or "[]")
            polygons = images.setdefault((mark.findtext("image") or "").strip(), {})
            polygons.setdefault("", []).extend(
                _polygon(path, [(point["x"], point["y"]) for point in region["points"]])
                for region in regions
            )
    except (OSError, ValueError, KeyError, TypeError, ElementTree.ParseError) as error:
        raise DatasetError(path, f"cut off or not of the DDTI ({error})") from error
    return images


def _polygon(path: Path, points: Any) -> FloatArray:
    polygon = np.asarray(points, np.float32)
    if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 3:
        raise DatasetError(path, f"a polygon of shape {polygon.shape}; expected 3 points or more")
    if not np.isfinite(polygon).all():
        raise DatasetError(path, "a polygon with points that are no numbers")
    return polygon


Masks = dict[str, BoolArray]

_CLOSED = 0.8
"""From this share of its convex hull on, what a line holds is its inside."""


class AnnotationReader:
    """Reads annotations; files that hold those of many images are parsed once."""

    def __init__(self, invert: bool = False) -> None:
        self._invert = invert
        self._parsed: dict[Path, dict[str, Polygons]] = {}

    def read(
        self, rule: MaskRule, path: Path, names: dict[str, str], image: Path,
        size_hw: tuple[int, int],
    ) -> tuple[Masks | None, list[str]]:  # fmt: skip
        """The masks of one annotation file for one image, and what is odd about them.

        None where a file for many images says nothing of this one.

        Raises:
            DatasetError: it is not of its kind, or not of the image's size.
            ImageReadError: a mask cannot be read.
        """
        if rule.kind in ("polygon", "via", "ddti"):
            polygons = self._polygons(rule, path, names, image)
            return (None if polygons is None else _drawn(rule, polygons, names, size_hw)), []
        if rule.kind == "values":
            values = read_mask_file(path).values
        else:
            values = (read_colors if rule.kind == "colors" else read_object)(path)
        lossy = path.suffix.lower() in (".jpg", ".jpeg")
        return self.decode(rule, values, path, names, size_hw, lossy=lossy)

    def decode(
        self, rule: MaskRule, values: NDArray[Any], path: Path, names: dict[str, str],
        size_hw: tuple[int, int], lossy: bool = False,
    ) -> tuple[Masks, list[str]]:  # fmt: skip
        """The masks in an array (H, W) or (H, W, C), and what is odd about them.

        An array of the image's shape at another scale is brought to its size (``io.masks``).

        Raises:
            DatasetError: it is of another shape than the image.
        """
        notes: list[str] = []
        if rule.kind in ("colors", "values"):
            by_kind = _by_color if rule.kind == "colors" else _by_value
            return by_kind(rule, fitted(path, values, size_hw), notes), notes
        mask = fitted(path, _binary(values, notes, lossy), size_hw)
        if rule.kind == "outline":
            mask = _filled(mask, notes)
        if rule.inverted or self._invert:
            mask = ~mask
        if mask[0, 0] and mask[0, -1] and mask[-1, 0] and mask[-1, -1]:
            notes.append("the object touches all four corners; is it inverted (--invert)?")
        return {rule.class_name.format(**names): mask}, notes

    def _polygons(
        self, rule: MaskRule, path: Path, names: dict[str, str], image: Path
    ) -> Polygons | None:
        if rule.kind == "polygon":
            return {"": json_polygons(path)}
        if path not in self._parsed:
            parse = via_polygons if rule.kind == "via" else ddti_polygons
            self._parsed[path] = parse(path)
        key = image.name if rule.kind == "via" else names["index"]
        return self._parsed[path].get(key.casefold())


def _drawn(
    rule: MaskRule, polygons: Polygons, names: dict[str, str], size_hw: tuple[int, int]
) -> Masks:
    words = {str(word).casefold(): name for name, word in (rule.classes or {}).items()}
    masks: Masks = {}
    for word, outlines in polygons.items():
        name = words.get(word.casefold()) if words else rule.class_name.format(**names)
        if name is None:
            continue
        canvas = Image.new("1", size_hw[::-1])
        for outline in outlines:
            ImageDraw.Draw(canvas).polygon([tuple(p) for p in outline], fill=1, outline=1)
        masks[name] = masks.get(name, np.zeros(size_hw, bool)) | np.asarray(canvas, bool)
    return masks


def _binary(values: NDArray[Any], notes: list[str], lossy: bool) -> BoolArray:
    if values.ndim == 3:
        colors = values[..., :-1] if values.shape[2] in (2, 4) else values
        values = colors.max(axis=2)
    if values.dtype.kind in "bf":
        return np.asarray(values > 0.5, bool)
    levels = np.unique(values)
    if len(levels) == 1 and not lossy:
        return np.full(values.shape, bool(levels[0] > 0))
    if len(levels) == 2 and not lossy:
        if levels[0] > 0:
            notes.append(f"values {levels[0]} and {levels[1]}, no 0; the greater is the object")
        return np.asarray(values == levels[1], bool)
    if not lossy:
        notes.append(SOFT)
    top = np.iinfo(values.dtype).max if values.dtype.itemsize > 1 else 255
    return np.asarray(values >= HALF / 255 * top, bool)


def _filled(line: BoolArray, notes: list[str]) -> BoolArray:
    """The inside of a closed line; what is filled already stays, an open line gets its hull."""
    from scipy.ndimage import binary_fill_holes, find_objects
    from skimage.morphology import convex_hull_image

    filled = np.zeros(line.shape, bool)
    for box in find_objects(line.view(np.uint8)):  # one: where the line is
        filled[box] = binary_fill_holes(line[box])
    area = int(filled.sum())
    if not area or area > 2 * int(line.sum()):
        return filled
    hull = np.asarray(convex_hull_image(line, include_borders=False), bool)
    if area >= _CLOSED * int(hull.sum()):
        return filled
    notes.append("the line is not closed; its convex hull is taken")
    return hull


def _by_color(rule: MaskRule, values: NDArray[Any], notes: list[str]) -> Masks:
    classes = rule.classes or {}
    colors = values[..., :3].astype(int) if values.ndim == 3 and values.shape[2] >= 3 else None
    if colors is None:
        if values.any():
            notes.append("a grey mask where colors say the class; taken as empty")
        return {name: np.zeros(values.shape[:2], bool) for name in classes}
    wanted = np.array([color for color in classes.values() if not isinstance(color, str)])
    distance = ((colors[:, :, None] - wanted) ** 2).sum(-1)
    inside = colors.max(-1) >= HALF
    known = distance.min(-1) < HALF**2
    strange = int((inside & ~known).sum())
    if strange:
        notes.append(f"{strange} pixels of another color; left out")
    nearest = distance.argmin(-1)
    return {name: inside & known & (nearest == i) for i, name in enumerate(classes)}


def _by_value(rule: MaskRule, values: NDArray[Any], notes: list[str]) -> Masks:
    classes = {name: v for name, v in (rule.classes or {}).items() if not isinstance(v, str)}
    whole = np.rint(values).astype(int) if values.dtype.kind == "f" else values
    known = {0, *(number for numbers in classes.values() for number in numbers)}
    strange = sorted(set(np.unique(whole).tolist()) - known)
    if strange:
        shown = ", ".join(map(str, strange[:5])) + (", ..." if len(strange) > 5 else "")
        notes.append(f"values that say nothing: {shown}; left out")
    return {name: np.isin(whole, numbers) for name, numbers in classes.items()}
