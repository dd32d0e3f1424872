"""What the registry says of a data set, and where its files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

MaskKind = Literal["binary", "outline", "colors", "values", "polygon", "via", "ddti"]
"""How a file says which pixels are an object.

binary: two values; outline: a closed line whose inside is the object; colors: one color a class;
values: one number a class; polygon: JSON of [[x, y], ...]; via: the CSV of the VGG Image Annotator,
one for all images; ddti: the XML of the DDTI, one for all images of a case.
"""


@dataclass(frozen=True, slots=True)
class LabelRule:
    """A label of the prepared data set: its name, and the classes of the original that it holds."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MaskRule:
    """Where annotations are, and what they say.

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
    """

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


@dataclass(frozen=True, slots=True)
class KnownDataset:
    """A public data set.

    Attributes:
        name: as the paper calls it.
        organ: what the images show.
        target: the phrase for label 1 when labels are merged.
        phrases: ways to say it, ``target`` first.
        merged: the classes of the original that label 1 holds then.
        kept: the labels when they are kept apart; the first has value 1.
        homepage: where it can be had.
        licence: as stated there or by its authors; "not stated" where nothing was found.
        size: what it holds, by its authors.
        images: how many the paper (arXiv 2506.23903, its table of data sets) counts, None for the
            extras. Its scripts count lesions or label files, not always images; see ``note``.
        split: the paper's (train, val, test) counts, or None.
        seen: whether the paper's model was tuned on it; None for the extras.
        groups: what keeps images together in a split, in words.
        note: what to know before drawing conclusions.
        layout: where its files are.
    """

    name: str
    organ: str
    target: str
    phrases: tuple[str, ...]
    merged: tuple[str, ...]
    kept: tuple[LabelRule, ...]
    homepage: str
    licence: str
    size: str
    images: int | None
    split: tuple[int, int, int] | None
    seen: bool | None
    groups: str
    note: str
    layout: Layout

    def label_rules(self, keep: bool) -> tuple[LabelRule, ...]:
        """The labels of the prepared data set: one for all, or those of the original."""
        return self.kept if keep else (LabelRule(self.target, self.merged),)
