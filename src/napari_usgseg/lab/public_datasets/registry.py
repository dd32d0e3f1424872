"""The registry of public data sets: ``registry.toml`` as records.

The eighteen of GroundingDINO-US-SAM (arXiv 2506.23903) with the paper's counts, fifteen that its
model was tuned on ("seen") and three that it was only tested on; and some extras.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from pydantic import ConfigDict, TypeAdapter

from ...core.errors import DatasetError

MaskKind = Literal["binary", "outline", "colors", "values", "polygon", "via", "ddti"]
"""How a file says which pixels are an object.

binary: two values; outline: a closed line whose inside is the object; colors: one color a class;
values: one number a class; polygon: JSON of [[x, y], ...]; via: the CSV of the VGG Image Annotator,
one for all images; ddti: the XML of the DDTI, one for all images of a case.
"""


STRICT = ConfigDict(extra="forbid")
"""A misspelt key of the file is an error, for left out it would change which images are taken."""


@dataclass(frozen=True, slots=True)
class LabelRule:
    """A label of the prepared data set: its name, and the classes of the original that it holds."""

    __pydantic_config__ = STRICT

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MaskRule:
    """Rule of a data set's masks: where annotations are, and what they say.

    Attributes:
        pattern: of the path, as in ``Layout.image``. An annotation belongs to the image whose
            named groups of the same names are equal.
        kind: see ``MaskKind``.
        class_name: the class of the pixels, where a file holds one class; ``{finding}`` and the
            other named groups of the image's pattern are filled in.
        classes: class -> what codes it: a color (R, G, B), numbers, or the annotator's word.
        channel: which of the last axis of a 4-D volume.
        inverted: the object is dark, the background bright.
        required: whether an image without such an annotation is a fault.
    """

    __pydantic_config__ = STRICT

    pattern: str
    kind: MaskKind = "binary"
    class_name: str = "object"
    classes: Mapping[str, tuple[int, ...] | str] | None = None
    channel: int | None = None
    inverted: bool = False
    required: bool = True


@dataclass(frozen=True, slots=True)
class TableRule:
    """A table (CSV or XLSX) with one row an image: the columns that are read, by their names.

    ``id`` names the image: its file name, with or without suffix.
    """

    __pydantic_config__ = STRICT

    pattern: str
    id: str
    group: str | None = None
    finding: str | None = None
    spacing_mm: str | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """An original folder layout.

    Attributes:
        image: regular expressions of the images' paths with ``/``, matched without regard to case
            from the data set's folder or any folder in it on. Named groups: ``id``, and where
            there are any ``finding``, ``part`` (train, test) and others. The first expression
            that fits any file is the one that counts.
        files: the same in words: examples of images and annotations.
        masks: the annotations.
        item: the id of an item, from the named groups.
        group: patient, case or video, from the named groups; None: images are kept together by
            near duplicates only.
        table: what is known of each image.
        ignore: paths that are no images although a pattern fits.
        empty_findings: findings without an object; their images need no annotation.
        source: where this layout was read about.
        verified: False where it was not found in code that reads the original.
        checked: what ``prepare`` made of the original folder itself; "" where it was not at hand.
    """

    __pydantic_config__ = STRICT

    image: tuple[str, ...]
    files: str
    masks: tuple[MaskRule, ...]
    item: str = "{id}"
    group: str | None = None
    table: TableRule | None = None
    ignore: tuple[str, ...] = ()
    empty_findings: tuple[str, ...] = ()
    source: str = ""
    verified: bool = True
    checked: str = ""


@dataclass(frozen=True, slots=True)
class KnownDataset:
    """A public data set.

    Attributes:
        name: as the paper calls it.
        organ: what the images show.
        target: the phrase for label 1 when labels are merged.
        phrases: ways to say it, ``target`` first.
        kept: the labels when they are kept apart; the first has value 1.
        homepage: where it can be had.
        licence: as stated there or by its authors; "not stated" where nothing was found.
        size: what it holds, by its authors.
        groups: what keeps images together in a split, in words.
        layout: where its files are.
        merged: the classes of the original that label 1 holds when labels are merged.
        images: how many the paper (arXiv 2506.23903, its table of data sets) counts, None for the
            extras. Its scripts count lesions or label files, not always images; see ``note``.
        split: the paper's (train, val, test) counts, or None.
        seen: whether the paper's model was tuned on it; None for the extras.
        note: what to know before drawing conclusions.
    """

    __pydantic_config__ = STRICT

    name: str
    organ: str
    target: str
    phrases: tuple[str, ...]
    kept: tuple[LabelRule, ...]
    homepage: str
    licence: str
    size: str
    groups: str
    layout: Layout
    merged: tuple[str, ...] = ("object",)
    images: int | None = None
    split: tuple[int, int, int] | None = None
    seen: bool | None = None
    note: str = ""

    def label_rules(self, keep: bool) -> tuple[LabelRule, ...]:
        """The labels of the prepared data set: one for all, or those of the original."""
        return self.kept if keep else (LabelRule(self.target, self.merged),)


@cache
def known_datasets() -> tuple[KnownDataset, ...]:
    """All of them, the paper's first and in its order."""
    text = resources.files(__package__).joinpath("registry.toml").read_text(encoding="utf-8")
    cards = tomllib.loads(text)["dataset"]
    for card in cards:
        card["phrases"] = [card["target"], *card.get("phrases", ())]
        merged = card.get("merged", ["object"])
        card.setdefault("kept", [{"name": card["target"], "classes": merged}])
    return TypeAdapter(tuple[KnownDataset, ...]).validate_python(cards)


def known_dataset(name: str) -> KnownDataset:
    """One by its name; case, hyphens and underscores do not matter.

    Raises:
        DatasetError: there is none of that name.
    """
    found = find_dataset(name)
    if found is None:
        names = ", ".join(item.name for item in known_datasets())
        raise DatasetError(name, f"no data set of that name is known; there are {names}")
    return found


def find_dataset(name: str) -> KnownDataset | None:
    """One by its name, as in ``known_dataset``, or None."""
    return next((d for d in known_datasets() if _plain(d.name) == _plain(name)), None)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()
