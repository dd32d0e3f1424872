"""Formats of data sets: what one looks like on disk, an entry of ``FORMATS`` and a module each.

``io.export`` reads the images one after the other, leaves out those that fail, and writes over
nothing of a person's. A format's module says what files one image becomes (``write_image``), what
the file says that lists them all (``write_card``), and how both come back (``recognises``,
``read``); see ``records.FormatModule``. To add one, write the module and name it in ``FORMATS``:
``usgseg export --format``, ``usgseg import`` and the window's form have it then.

``usgseg --help`` imports this module, so each format's own is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from ...core.errors import DatasetError, PromptError
from .records import FormatModule, LabelSet


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A way to write a data set.

    Attributes:
        module: name of its module, and after a colon of the object in it, if it is not the module.
        summary: what it gives, for help texts.
        card: path below the folder of the file that lists all images. It is removed first and
            written last, so that an export that was cut off is none.
        loses: what does not come back from it, as a sentence; "" where all does.
        told: what a person must know of each export, as a sentence.
    """

    module: str
    summary: str
    card: str
    loses: str = ""
    told: str = ""


ONE_REGION = "objects of a class are one region"
PIECES = "an object of several pieces becomes several"

FORMATS: Mapping[str, ExportFormat] = {
    "png": ExportFormat(
        "png",
        "images/, masks/ and dataset.json, which evaluate and train read; instances/ where objects "
        "were told apart",
        "dataset.json",
    ),
    "png-color": ExportFormat(
        "png:COLORS",
        "images/ and masks/ in the classes' colours, for people",
        "classes.json",
        ONE_REGION,
    ),
    "png-classes": ExportFormat(
        "png:CLASSES",
        "images/ and masks/<class>/ in black and white",
        "classes.json",
        ONE_REGION,
    ),
    "coco": ExportFormat(
        "coco",
        "images/ and annotations.json: COCO instances, masks as run lengths; an object each, or a "
        "connected piece of a class where objects were not told apart",
        "annotations.json",
    ),
    "coco-polygons": ExportFormat(
        "coco:POLYGONS",
        "the same with masks as polygons, holes joined to their rim",
        "annotations.json",
    ),
    "yolo": ExportFormat(
        "yolo",
        "data.yaml, images/ and labels/ by side: YOLO segmentation, a polygon an object",
        "data.yaml",
        f"{PIECES}; a pixel at a hole's or a narrow bay's rim may differ",
    ),
    "yolo-boxes": ExportFormat(
        "yolo:BOXES",
        "the same for YOLO detection: a box an object",
        "data.yaml",
        "a mask becomes a box",
    ),
    "voc": ExportFormat(
        "voc",
        "JPEGImages/ (PNG files), Annotations/, SegmentationClass/, SegmentationObject/ and "
        "ImageSets/: Pascal VOC",
        "labelmap.txt",
        "an image holds 254 objects and classes at most",
    ),
    "labelme": ExportFormat(
        "labelme", "an image and a JSON file of shapes each: labelme", "labels.txt", "class numbers"
    ),
    "cvat": ExportFormat(
        "cvat", "images/ and annotations.xml: CVAT for images 1.1, masks", "annotations.xml"
    ),
    "nifti": ExportFormat(
        "nifti",
        "images/ and labels/ as .nii.gz with the pixel's size in the affine, and labels.json",
        "labels.json",
    ),
    "nifti-loops": ExportFormat(
        "nifti:LOOPS",
        "the same with one file for the labelled frames of a loop: columns, rows and frames",
        "labels.json",
    ),
    "nnunet": ExportFormat(
        "nnunet",
        "imagesTr/, labelsTr/, imagesTs/, labelsTs/, dataset.json and splits_final.json (folds by "
        "patient): nnU-Net v2 raw data, in grey",
        "dataset.json",
        f"{ONE_REGION}; colour becomes grey",
    ),
    "imagefolder": ExportFormat(
        "imagefolder",
        "train/, validation/ and test/ with images, masks and metadata.jsonl: Hugging Face "
        "imagefolder",
        "classes.json",
    ),
    "dicom-seg": ExportFormat(
        "dicom_seg",
        "images/ and segmentations/: DICOM segmentations of ultrasound images that are made anew, "
        "without a word of the patient; a frame of a loop is an image",
        "segmentations.json",
        "a loop, whose frames become images; of a class's name what is longer than 64 bytes",
    ),
    "dicom-seg-loops": ExportFormat(
        "dicom_seg:LOOPS",
        "the same with one multi-frame image and one segmentation for the labelled frames of a "
        "loop, in a frame of reference that is made up",
        "segmentations.json",
        "of a class's name what is longer than 64 bytes",
        "Loops have a frame of reference now that no scanner measured: their frames lie 1 mm apart "
        "in it, which means nothing.",
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


def format_module(name: str) -> FormatModule:
    """What a format does, imported when it is used first; names as for ``export_format``."""
    place, _, inside = export_format(name).module.partition(":")
    module = import_module(f".{place}", __name__)
    found: FormatModule = getattr(module, inside) if inside else module
    return found


def read_labels_of(path: Path, name: str | None = None) -> tuple[str, LabelSet]:
    """The labels that a file or a folder holds, and the name of its format.

    Args:
        path: of a file or a folder.
        name: of the format; None finds it from the names and first bytes of the files.

    Raises:
        DatasetError: there is nothing, it is of no format that is known, or it is damaged.
        PromptError: there is no such format.
    """
    if not path.exists():
        raise DatasetError(path, "no such file or folder; check the path")
    if name is not None:
        return name, format_module(name).read(path)
    for each in FORMATS:
        if format_module(each).recognises(path):
            return each, format_module(each).read(path)
    if _has_pictures(path):
        return DEFAULT_FORMAT, format_module(DEFAULT_FORMAT).read(path)
    raise DatasetError(
        path,
        f"is of no format that is known ({', '.join(FORMATS)}); name it, if it is one of these",
    )


def _has_pictures(path: Path) -> bool:
    """Whether it is a picture, or a folder with one directly in it: perhaps label maps."""
    from ..search import IMAGE_SUFFIXES

    files = [path] if path.is_file() else path.iterdir()
    return any(file.suffix.lower() in IMAGE_SUFFIXES for file in files)
