"""The records that flow through napari-usgseg.

Coordinates are XY pixels of the original image (the centre of the top-left pixel is ``(0, 0)``),
boxes are XYXY, sizes are ``(H, W)``. Only ``gui.canvas`` turns them into napari's (row, column).
Records are frozen and compare by identity, because they hold arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import PromptError

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ImageRecord:
    """One image (or one frame of a file) of a data set.

    Attributes:
        image_id: unique within its folder; the stem of the label file.
        path: where the pixels are.
        frame: index within a multi-frame file, or None.
        size_hw: (H, W) in pixels after EXIF orientation.
        spacing_mm: millimetres per pixel (row, column), or None where unknown.
    """

    image_id: str
    path: Path
    frame: int | None
    size_hw: tuple[int, int]
    spacing_mm: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TextPrompt:
    """A sentence of one or more phrases, separated by full stops ("kidney. renal medulla.").

    ``box_threshold`` is the least score of a box, ``text_threshold`` the least score of a token
    that gives a box its phrase (Grounding DINO, arXiv 2303.05499, section 3). Both are in [0, 1];
    None takes the detector's own, which its model card states.

    Raises:
        PromptError: a threshold is out of range.
    """

    text: str
    box_threshold: float | None = None
    text_threshold: float | None = None

    def __post_init__(self) -> None:
        for name in ("box_threshold", "text_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:  # NaN is not, either
                raise PromptError(f"{name} must be between 0 and 1, got {value:g}")


def _no_points() -> FloatArray:
    return np.zeros((0, 2), np.float32)


def _no_labels() -> NDArray[np.int32]:
    return np.zeros((0,), np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """Prompts of a person for one object.

    Attributes:
        point_coords: (N, 2) XY pixels.
        point_labels: (N,) 1 = positive, 0 = negative.
        box: (4,) XYXY pixels, or None.
        scribbles: (polyline (M, 2) XY pixels, label 1 or 0) pairs; sampled to points on use.
        mask_input: (h, w) logits of a previous prediction on the segmenter's low-resolution grid,
            or of any other size over the whole image (resampled on use), or None.
    """

    point_coords: FloatArray = field(default_factory=_no_points)
    point_labels: NDArray[np.int32] = field(default_factory=_no_labels)
    box: FloatArray | None = None
    scribbles: tuple[tuple[FloatArray, int], ...] = ()
    mask_input: FloatArray | None = None

    @property
    def is_empty(self) -> bool:
        """True where nothing is pointed at (a ``mask_input`` alone is not a prompt of a person)."""
        return len(self.point_coords) == 0 and self.box is None and not self.scribbles


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Detections: boxes (N, 4) XYXY pixels, scores (N,) in [0, 1], a phrase for each.

    ``priors`` holds a coarse mask for each box, (N, h, w) logits over the whole image, where the
    detector is a dense one; it can be fed to a segmenter as ``Prompts.mask_input``.
    ``notes`` are sentences for the person ("'kidney' is not among ...").
    """

    boxes: FloatArray
    scores: FloatArray
    phrases: tuple[str, ...]
    priors: FloatArray | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an ultrasound picture that has one meaning and one scale, as the scanner says it.

    Attributes:
        kind: "B-mode", "colour" (flow over B-mode), "M-mode", "spectral", "trace" (ECG and the
            like) or "other".
        box: (x0, y0, x1, y1) XYXY pixels, half open, within the picture.
        spacing_mm: millimetres per pixel (row, column); None where an axis is no length.
        units: what a step along (row, column) is: "cm", "s", "cm/s", ..., "" where it is not said.
    """

    kind: str
    box: tuple[int, int, int, int]
    spacing_mm: tuple[float, float] | None = None
    units: tuple[str, str] = ("", "")

    @property
    def is_tissue(self) -> bool:
        """Whether it shows tissue in two dimensions, so that lengths can be measured in it."""
        return self.kind in ("B-mode", "colour")


@dataclass(frozen=True, slots=True, eq=False)
class FieldOfView:
    """The part of a picture that models look at: a region of the scanner's, or a sector.

    Attributes:
        box: (x0, y0, x1, y1) XYXY pixels, half open, within the picture.
        size_hw: (H, W) of the whole picture.
        shape: (h, w) bool over the box, where there is ultrasound in it; None where all of it is.
    """

    box: tuple[int, int, int, int]
    size_hw: tuple[int, int]
    shape: BoolArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ImageEmbedding:
    """An image as a segmenter's encoder sees it; immutable, usable from any thread.

    Attributes:
        image_id: of the image, or "" for one that has none.
        model_id: of the segmenter that made it; ``predict`` refuses another's.
        size_hw: (H, W) of what was encoded: the image, or its ``field``.
        features: tensors by name ("image_embed" (1, C, h, w), "high_res_0", "high_res_1").
        covered: which share of the encoder's square the image covers, as (rows, columns) from the
            top left; all of it where images are squashed to the square, less where they are padded.
        field: the part of a picture that was encoded alone, so that a segmenter knows nothing of
            the rest; ``segmentation.propose`` answers in pixels of the picture. None is all of it.
    """

    image_id: str
    model_id: str
    size_hw: tuple[int, int]
    features: dict[str, Any]
    covered: tuple[float, float] = (1.0, 1.0)
    field: FieldOfView | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Masks for one prompt, best first.

    Attributes:
        masks: (N, H, W) bool at the original image's size.
        iou_predictions: (N,) the model's own estimate of each mask's IoU.
        low_res_logits: (N, h, w) float32 over the segmenter's square (of which the image has the
            embedding's ``covered`` share), to feed back as ``Prompts.mask_input``.
        object_score: logit that the object is in the image at all (below 0: it is not).
    """

    masks: BoolArray
    iou_predictions: FloatArray
    low_res_logits: FloatArray
    object_score: float = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class FrameObjects:
    """The objects on one frame of a loop, as a propagator proposes them.

    Attributes:
        frame: index in the loop.
        masks: (H, W) bool by the number of the object; one that is not here is not in the frame.
        scores: in [0, 1] by the same numbers, how far the propagator trusts each.
    """

    frame: int
    masks: dict[int, BoolArray]
    scores: dict[int, float]


@dataclass(frozen=True, slots=True)
class LabelClass:
    """A class of a label map: ``class_id`` 1.. is its value there, ``color`` is "#rrggbb"."""

    class_id: int
    name: str
    color: str
