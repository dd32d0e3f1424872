"""Polygons in the files of annotation programs; XY pixels of the image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..errors import DatasetError
from ..io.tables import read_table
from ..types import FloatArray

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
