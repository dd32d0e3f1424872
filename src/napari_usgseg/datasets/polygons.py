"""Data sets whose objects are polygons in text files: JSON point lists, VIA's CSV, DDTI's XML."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..errors import DatasetError
from ..io.images import read_image
from .source import Pair, SourceItem, files_in

Polygon = Sequence[Sequence[float]]
"""XY pixels of its corners."""


def drawn(size_hw: tuple[int, int], polygons: Mapping[int, Sequence[Polygon]]) -> NDArray[np.uint8]:
    """A label map (H, W) of filled polygons; later labels lie over earlier ones.

    Args:
        size_hw: (H, W).
        polygons: by label value.
    """
    canvas = Image.new("L", (size_hw[1], size_hw[0]))
    draw = ImageDraw.Draw(canvas)
    for label, parts in polygons.items():
        for part in parts:
            if len(part) >= 3:
                draw.polygon([(float(x), float(y)) for x, y in part], fill=label)
    return np.array(canvas)


@dataclass(frozen=True, slots=True)
class PointLists:
    """A JSON file for each image and label: a list of XY points.

    Attributes:
        image: regular expression for images, as in ``paired.PairedFiles``.
        lists: label value -> name of the JSON file in terms of its groups.
        words: what is expected.
        known_from: see ``Layout``.
        empty_findings: findings whose images have no file.
    """

    image: str
    lists: Mapping[int, str]
    words: str
    known_from: str = ""
    empty_findings: tuple[str, ...] = ()

    def items(self, folder: Path) -> Iterator[SourceItem | Exception]:
        """See ``Layout``."""
        pattern = re.compile(self.image, re.IGNORECASE)
        for file in files_in(folder):
            found = pattern.fullmatch(file)
            if found is None:
                continue
            words = found.groupdict()
            finding = (words.get("finding") or "").lower() or None
            lists = {label: folder / name.format(**words) for label, name in self.lists.items()}
            there = {label: path for label, path in lists.items() if path.is_file()}
            if not there and finding not in self.empty_findings:
                wanted = ", ".join(path.relative_to(folder).as_posix() for path in lists.values())
                yield DatasetError(folder / file, f"has no outline: expected {wanted}")
                continue
            item_id = "_".join(filter(None, (finding, words["id"])))
            read = partial(_read_lists, folder / file, there)
            yield SourceItem(item_id, item_id, file, read, finding)


def _read_lists(image_path: Path, lists: Mapping[int, Path]) -> Pair:
    image = read_image(image_path)
    polygons: dict[int, list[Polygon]] = {}
    for label, path in lists.items():
        try:
            points = np.asarray(json.loads(path.read_text(encoding="utf-8")), float)
            if points.ndim != 2 or points.shape[1] != 2:
                raise ValueError(f"shape {points.shape}")
        except (OSError, ValueError, TypeError) as error:
            raise DatasetError(path, f"not a list of XY points ({error})") from error
        polygons[label] = [points.tolist()]
    return image, drawn((image.shape[0], image.shape[1]), polygons)


@dataclass(frozen=True, slots=True)
class ViaCsv:
    """One CSV file of the VGG Image Annotator for all images.

    Attributes:
        table: name of the CSV file, anywhere in the folder; the first that is found counts.
        attribute: key of ``region_attributes`` that names the region.
        regions: label value -> that name.
        words: what is expected.
        known_from: see ``Layout``.
        patient: regular expression whose first group names the patient in an image's name.
    """

    table: tuple[str, ...]
    attribute: str
    regions: Mapping[int, str]
    words: str
    known_from: str = ""
    patient: str = ""

    def items(self, folder: Path) -> Iterator[SourceItem | Exception]:
        """See ``Layout``; only images that the table names are taken."""
        files = files_in(folder)
        table = next((f for name in self.table for f in files if f.split("/")[-1] == name), None)
        if table is None:
            yield DatasetError(folder, f"no {' or '.join(self.table)} in it; expected {self.words}")
            return
        pictures = {file.split("/")[-1]: file for file in files if not file.endswith(".csv")}
        try:
            regions = self._regions(folder / table)
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            yield DatasetError(folder / table, f"not a table of VIA ({error})")
            return
        for name, polygons in regions.items():
            if name not in pictures:
                yield DatasetError(folder / table, f"names {name}, which is not in the folder")
                continue
            item_id = Path(name).stem
            found = re.search(self.patient, item_id) if self.patient else None
            group = found.group(1) if found else item_id
            read = partial(_read_drawn, folder / pictures[name], polygons)
            yield SourceItem(item_id, group, pictures[name], read)

    def _regions(self, path: Path) -> dict[str, dict[int, list[Polygon]]]:
        labels = {region.casefold(): label for label, region in self.regions.items()}
        found: dict[str, dict[int, list[Polygon]]] = {}
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line in csv.DictReader(file):
                shape = json.loads(line["region_shape_attributes"] or "{}")
                named = json.loads(line["region_attributes"] or "{}").get(self.attribute, "")
                polygons = found.setdefault(line["filename"], {label: [] for label in self.regions})
                label = labels.get(str(named).strip().casefold())
                if label is not None and shape.get("name") == "polygon":
                    corners = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
                    polygons[label].append([list(corner) for corner in corners])
        return found


def _read_drawn(image_path: Path, polygons: Mapping[int, Sequence[Polygon]]) -> Pair:
    image = read_image(image_path)
    return image, drawn((image.shape[0], image.shape[1]), polygons)


@dataclass(frozen=True, slots=True)
class DdtiXml:
    """DDTI: ``<case>.xml`` with free-hand regions as JSON, and ``<case>_<image>.jpg``."""

    words: str = "<case>.xml beside <case>_<number>.jpg"
    known_from: str = "readers in public repositories"
    label: int = 1
    suffixes: tuple[str, ...] = field(default=(".jpg", ".png"))

    def items(self, folder: Path) -> Iterator[SourceItem | Exception]:
        """See ``Layout``; one group for each case."""
        files = files_in(folder)
        for file in files:
            if not file.lower().endswith(".xml"):
                continue
            case = file[: -len(".xml")]
            try:
                marks = ElementTree.parse(folder / file).getroot().findall("mark")
                outlines = {m.findtext("image", ""): m.findtext("svg", "") for m in marks}
                shapes = {key: _ddti_shapes(text) for key, text in outlines.items() if text}
            except (ElementTree.ParseError, ValueError, KeyError, TypeError, OSError) as error:
                yield DatasetError(folder / file, f"not a DDTI description ({error})")
                continue
            for number, polygons in shapes.items():
                picture = next((f"{case}_{number}{s}" for s in self.suffixes if f"{case}_{number}{s}" in files), None)
                if picture is None:
                    yield DatasetError(folder / file, f"image {number} of the case is missing")
                    continue
                read = partial(_read_drawn, folder / picture, {self.label: polygons})
                name = case.split("/")[-1]
                yield SourceItem(f"{name}_{number}", name, picture, read)


def _ddti_shapes(text: str) -> list[Polygon]:
    parts: list[dict[str, Any]] = json.loads(text)
    return [[(p["x"], p["y"]) for p in part["points"]] for part in parts]
