"""Export formats: what a data set looks like on disk, an entry of ``FORMATS`` each.

``io.export`` reads the images one after the other, leaves out those that fail, and writes over
nothing of a person's. A format says what files one image becomes (``write_image``) and what the
file says that lists them all (``write_card``). To add one, write these two functions and name them
in ``FORMATS``: ``usgseg export --format`` and the window's form offer it from then on.

``usgseg --help`` imports this module, so what takes long to import is imported inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.errors import PromptError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..core.types import LabelClass
    from .labels import Labelling, LabelMap
    from .outputs import OutputFolder


@dataclass(frozen=True, slots=True, eq=False)
class ExportImage:
    """One labelled image of an export.

    Attributes:
        image_id: unique in the data set.
        file_name: of its files, without suffix; safe on every file system and unique, too.
        source: name of the file that it was read from.
        group: the patient, video or case that it is of.
        image: (H, W, 3) RGB uint8.
        labels: (H, W), the class number of each pixel, 0 for background.
        codes: (H, W), ``class number * 1000 + n`` for the n-th object of a class, where objects
            were told apart (``io.labels``); else None.
        spacing_mm: millimetres per pixel (row, column), None where they are not known.
    """

    image_id: str
    file_name: str
    source: str
    group: str
    image: NDArray[np.uint8]
    labels: LabelMap
    codes: LabelMap | None
    spacing_mm: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ExportAbout:
    """What is true of a whole export.

    Attributes:
        name: of the data set.
        organ: what the images show.
        target: the phrase that a sonographer would type for class 1.
        classes: with their colours, as the person named them.
        labels: class number -> name, of each in ``classes`` and of each number without a class.
        labelling: "instance" where objects were told apart, else "semantic".
    """

    name: str
    organ: str
    target: str
    classes: Sequence[LabelClass]
    labels: Mapping[int, str]
    labelling: Labelling


Entry = dict[str, Any]
"""What ``write_image`` has to tell ``write_card`` of its image; only these two look inside."""


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A way to write a data set.

    Attributes:
        summary: what it gives, for help texts.
        card: path below the folder of the file that lists all images. It is removed first and
            written last, so that an export that was cut off is none.
        write_image: writes the files of one image through the folder and gives its entry. Where it
            raises a ``UsgsegError``, what it wrote is removed and the image is left out.
        write_card: writes the card, from the entries of all images.
    """

    summary: str
    card: str
    write_image: Callable[[OutputFolder, ExportImage], Entry]
    write_card: Callable[[OutputFolder, ExportAbout, Sequence[Entry]], None]


def _write_png_image(folder: OutputFolder, item: ExportImage) -> Entry:
    from .datasets import image_entry, write_pair
    from .images import card_entry
    from .labels import write_png

    write_pair(folder.root, item.file_name, item.image, item.labels, folder.write)
    if item.codes is not None:
        path = folder.root / "instances" / f"{item.file_name}.png"
        write_png(path, item.codes.astype("uint16"), folder.write)  # 16 bits also where all are 0
    spacing = card_entry(item.spacing_mm)
    return image_entry(
        item.image_id, item.group, item.labels, source=item.source, pixel_size_mm=spacing
    )


def _write_png_card(folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]) -> None:
    from .datasets import write_card
    from .labels import CLASSES_FILE, write_classes

    write_classes(folder.root / CLASSES_FILE, about.classes, folder.write)
    write_card(
        folder.root,
        folder.write,
        name=about.name,
        organ=about.organ,
        target=about.target,
        labels=about.labels,
        items=entries,
        labelling=about.labelling,
    )


COCO_CARD = "annotations.json"


def _write_coco_image(folder: OutputFolder, item: ExportImage) -> Entry:
    from pycocotools import mask as run_lengths

    from .images import card_entry
    from .labels import write_image

    file = f"{item.file_name}.png"
    write_image(folder.root / "images" / file, item.image, folder.write)
    height, width = item.labels.shape
    image: dict[str, Any] = {"file_name": file, "width": width, "height": height}
    image["group"] = item.group
    if (spacing := card_entry(item.spacing_mm)) is not None:
        image["pixel_size_mm"] = spacing
    objects = []
    for class_id, mask in _objects(item):
        runs = run_lengths.encode(mask.astype("uint8", order="F"))
        objects.append(
            {
                "category_id": class_id,
                "segmentation": {"size": [height, width], "counts": runs["counts"].decode()},
                "bbox": run_lengths.toBbox(runs).tolist(),
                "area": int(mask.sum()),
                "iscrowd": 0,
            }
        )
    return {"image": image, "annotations": objects}


def _objects(item: ExportImage) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Class and mask (H, W) of each object, or of each piece where objects are not told apart."""
    from ..core.geometry import components
    from .labels import class_of, instance_of, values_in

    labels = item.labels if item.codes is None else item.codes
    for value in values_in(labels):
        if item.codes is not None and instance_of(value, "instance"):
            yield class_of(value, "instance"), labels == value
        else:  # a class, or a region of one, whose objects are not told apart
            for piece in components(labels == value, min_fraction=0):
                yield value, piece


def _write_coco_card(folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]) -> None:
    import json

    images = [{"id": number, **entry["image"]} for number, entry in enumerate(entries, start=1)]
    objects = [
        {"image_id": number, **each}
        for number, entry in enumerate(entries, start=1)
        for each in entry["annotations"]
    ]
    card = {
        "info": {"description": about.name, "organ": about.organ, "target": about.target},
        "licenses": [],
        "categories": [
            {"id": value, "name": name, "supercategory": about.organ}
            for value, name in sorted(about.labels.items())
        ],
        "images": images,
        "annotations": [{"id": number, **each} for number, each in enumerate(objects, start=1)],
    }
    text = json.dumps(card, ensure_ascii=False) + "\n"
    folder.write(folder.root / COCO_CARD, text.encode("utf-8", "backslashreplace"))


FORMATS: Mapping[str, ExportFormat] = {
    "png": ExportFormat(
        "images/, masks/ and dataset.json, which evaluate and train read",
        "dataset.json",
        _write_png_image,
        _write_png_card,
    ),
    "coco": ExportFormat(
        "images/ and annotations.json: COCO instances, masks as run lengths; an object each, or a "
        "connected piece of a class where objects were not told apart",
        COCO_CARD,
        _write_coco_image,
        _write_coco_card,
    ),
}
"""Name -> format; the first is what is taken where none is named."""

DEFAULT_FORMAT = next(iter(FORMATS))
DEFAULT_ORGAN = "unknown"
"""What the images of a data set show, where nobody says it."""


def export_format(name: str) -> ExportFormat:
    """The format of a name.

    Raises:
        PromptError: there is none; it names those that there are.
    """
    if name not in FORMATS:
        raise PromptError(f"no export format {name!r}; expected one of {', '.join(FORMATS)}")
    return FORMATS[name]
