"""Functions that a script calls; ``napari_usgseg`` gives them under its own name.

They are the same path that the window and ``usgseg segment`` take (``segmentation.propose``), so a
script gets the masks that a person would.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .core.errors import PromptError
from .core.types import BoolArray, FloatArray, ImageEmbedding, Prompts, Region, TextPrompt
from .effort.efforts import about_the_work
from .io.export import ExportReport
from .io.formats import DEFAULT_FORMAT, DEFAULT_ORGAN
from .io.images import to_rgb_uint8
from .models.interfaces import Detector, Segmenter
from .project.exchange import ImportReport, export_store
from .project.exchange import import_labels as take_labels
from .project.project import Project
from .segmentation.field_of_view import (
    embed_field,
    embed_fields,
    field_key,
    field_of,
    fields_of_view,
)
from .segmentation.postprocess import PostprocessSettings
from .segmentation.propose import Proposal, Proposals, propose_prompts, propose_text
from .segmentation.trace import BandHabit, measure_band, trace_mask


def segment_text(
    image: NDArray[Any],
    text: str,
    *,
    detector: Detector | None = None,
    segmenter: Segmenter | None = None,
    box_threshold: float | None = None,
    text_threshold: float | None = None,
    settings: PostprocessSettings | None = None,
    regions: Iterable[Region] = (),
) -> Proposals:
    """Find and segment everything in an image that a phrase names.

    The detector turns phrases into boxes, the segmenter each box into a mask, then that is cleaned:
    the method of GroundingDINO-US-SAM (arXiv 2506.23903), with SAM 2 as it is (arXiv 2408.00714,
    section 4). Thresholds are Grounding DINO's (arXiv 2303.05499, section 3).

    Args:
        image: (H, W, 3) RGB uint8, as ``read_image`` gives it; grey (H, W), alpha and other depths
            are made such by the same rule.
        text: one phrase, or several that are parted by full stops: "kidney. renal medulla."
        detector: of ``load_detector``; None takes the embedded one, loaded once.
        segmenter: of ``load_segmenter``; None takes the embedded one, loaded once.
        box_threshold: least score of a box, in [0, 1]; None takes the detector's own.
        text_threshold: least score of a word that gives a box its phrase, in [0, 1]; None takes the
            detector's own.
        settings: cleaning of the masks; None drops pieces outside the box and fills small holes.
        regions: of the picture, as ``read_regions`` gives them: those of tissue are searched, one
            by one, and nothing else is seen. Without any, all of the picture is.

    Returns:
        ``items``, best first, each with ``mask`` (H, W) bool, ``box`` (4,) XYXY in pixels,
        ``score`` in [0, 1] and ``phrase``; ``notes``, sentences about what was not found;
        ``embedding``, to hand to ``segment_prompts`` so that the image is not encoded again.

    Raises:
        PromptError: ``text`` holds no phrase, or a threshold is out of range.
        ImageReadError: ``image`` has another shape or type.
    """
    segmenter = segmenter or _nano_segmenter()
    prompt = TextPrompt(text, box_threshold, text_threshold)
    pixels = to_rgb_uint8(image)
    fields = fields_of_view(regions, pixels.shape[:2])
    return propose_text(
        segmenter,
        detector or _nano_detector(),
        pixels,
        prompt,
        settings or PostprocessSettings(),
        embed_fields(segmenter, pixels, fields),
    )


def segment_prompts(
    image: NDArray[Any],
    *,
    point_coords: ArrayLike | None = None,
    point_labels: ArrayLike | None = None,
    box: ArrayLike | None = None,
    previous: Proposal | None = None,
    segmenter: Segmenter | None = None,
    embedding: ImageEmbedding | None = None,
    settings: PostprocessSettings | None = None,
    regions: Iterable[Region] = (),
) -> Proposal:
    """Segment the one object that points and a box show, or correct its mask.

    One click is answered by the best of three masks, more prompts by one mask, as the authors of
    SAM advise (arXiv 2304.02643, section 3; SAM 2: arXiv 2408.00714, section 4). A correction
    changes what the newest points contradict and leaves the rest of the mask alone, after
    FocalClick's progressive merge (arXiv 2204.02574, section 3.3).

    Args:
        image: (H, W, 3) RGB uint8, as for ``segment_text``.
        point_coords: (N, 2) as (x, y) in pixels; the centre of the top-left pixel is (0, 0).
        point_labels: (N,) 1 on the object, 0 off it; None takes all to be on it.
        box: (4,) as (x0, y0, x1, y1) in pixels.
        previous: the mask to correct: what this function or ``segment_text`` gave before. Give all
            points of the object, not the new ones alone.
        segmenter: of ``load_segmenter``; None takes the embedded one, loaded once.
        embedding: of ``image`` by ``segmenter`` (``segmenter.embed(image)``, or the ``embedding``
            that ``segment_text`` gave), for many prompts on one image; None encodes the image.
        settings: cleaning of the mask, as for ``segment_text``.
        regions: as for ``segment_text``: the one that holds what is pointed at is seen alone.
            ``embedding`` is taken where it is of that one.

    Returns:
        ``mask`` (H, W) bool, ``box`` (4,) XYXY in pixels (the given one, else the mask's own, zeros
        where it is empty), ``score``: the segmenter's estimate of the mask's IoU in [0, 1].

    Raises:
        PromptError: there is neither a point nor a box, or one is malformed or outside the image;
            or ``previous`` is of another image's size.
        ModelError: ``embedding`` is another model's.
        ImageReadError: ``image`` has another shape or type.
    """
    segmenter = segmenter or _nano_segmenter()
    coords = _numbers([] if point_coords is None else point_coords, "point_coords")
    if coords.shape == (0,):
        coords = coords.reshape(0, 2)
    labels = np.ones(coords.shape[:1], np.float32)
    if point_labels is not None:
        labels = _numbers(point_labels, "point_labels")
        if not np.isin(labels, (0, 1)).all():
            raise PromptError(f"point_labels must be 1 or 0 each, got {labels.tolist()}")
    prompts = Prompts(
        point_coords=coords,
        point_labels=labels.astype(np.int32),
        box=None if box is None else _numbers(box, "box"),
        mask_input=None if previous is None else previous.low_res_logits,
    )
    pixels = to_rgb_uint8(image)
    field = field_of(fields_of_view(regions, pixels.shape[:2]), prompts)
    if embedding is None or field_key("", embedding.field) != field_key("", field):
        embedding = embed_field(segmenter, pixels, field)
    return propose_prompts(
        segmenter,
        embedding,
        prompts,
        settings or PostprocessSettings(),
        None if previous is None else previous.mask,
    )


def segment_trace(
    image: NDArray[Any],
    points: ArrayLike,
    width: float | None = None,
    *,
    dark: bool = False,
    like: Iterable[tuple[NDArray[Any], ArrayLike]] = (),
) -> BoolArray:
    """Segment a thin bright line, such as a bone's surface, from points along it; no model asked.

    The line is the path of least cost through the smoothed image (live wire: Mortensen and Barrett,
    SIGGRAPH 1995), moved to the middle of the band that is brightest.

    Args:
        image: (H, W, 3) RGB uint8, as for ``segment_text``.
        points: (N, 2) as (x, y) in pixels, N >= 2: both ends, and what it goes through in between;
            one outside of the image is moved to its edge.
        width: of the band, in pixels; None takes the median of ``like``.
        dark: the line is darker than what is around it, not brighter.
        like: images and masks (H, W) of bands of this kind that are right already; the new one lies
            as far beside the brightest line as they do. Masks that are no bands count for nothing.

    Returns:
        The mask (H, W) bool.

    Raises:
        PromptError: there are fewer than two points, one is no (x, y), or the width is not
            above 0, or more than the image's longer side; or there is none, and no band in
            ``like``.
        ImageReadError: ``image`` has another shape or type.
    """
    pixels = to_rgb_uint8(image)
    bands = (measure_band(to_rgb_uint8(seen), np.asarray(mask, bool)) for seen, mask in like)
    found = tuple(band for band in bands if band is not None)
    habit = BandHabit(found) if found else None
    if width is None and habit is None:
        raise PromptError("a trace without a width: give one, or bands that it is to be like")
    if width is None and habit is not None:
        width = habit.width
    assert width is not None
    return trace_mask(pixels, _numbers(points, "points"), width, dark, habit)


def export(
    project: Project | str | Path,
    folder: str | Path,
    *,
    name: str | None = None,
    organ: str = DEFAULT_ORGAN,
    target: str | None = None,
    groups: str | None = None,
    format: str = DEFAULT_FORMAT,
    licence: str = "",
    split: bool = True,
    black_text: bool = False,
    overwrite: bool = False,
) -> ExportReport:
    """Write the accepted images of a project as a data set, as ``usgseg export`` does.

    Args:
        project: an open project, or the folder of images that was labelled.
        folder: of the data set: new, or empty. ``usgseg evaluate`` and ``usgseg train`` read it.
        name: of the data set; None takes the folder's of the images.
        organ: what the images show.
        target: the phrase for class 1; None takes its name.
        groups: which images belong together (a patient, a loop), so that no split parts them:
            "folder", "prefix:_", a regular expression or a CSV, as for ``usgseg export --groups``.
        format: "png", or another name that ``usgseg export --help`` lists.
        licence: of the images, for the data card.
        split: part the patients into train, val and test, where the format has sides.
        black_text: what looks like burned-in text becomes black; ``<out>-check`` shows it.
        overwrite: replace an earlier export that nobody changed since.

    Returns:
        ``exported``, the ids of the images that are in it, and ``failures``, those that were left
        out and why; ``whole()`` raises where there are any.

    Raises:
        DatasetError: nothing is accepted yet, or the project cannot be read.
        LabelWriteError: ``folder`` holds anything else, or cannot be written.
        PromptError: ``groups`` is no rule, or there is no such format.
    """
    with _opened(project) as store:
        return export_store(
            store,
            folder,
            name=name,
            organ=organ,
            target=target,
            groups=groups,
            format=format,
            licence=licence,
            made=about_the_work(store),
            split=split,
            black_text=black_text,
            overwrite=overwrite,
        )


def import_labels(
    file: str | Path,
    project: Project | str | Path,
    *,
    format: str | None = None,
    segmenter: Segmenter | None = None,
    replace_proposals: bool = False,
) -> ImportReport:
    """Take another program's labels, or an export's, as proposals, as ``usgseg import`` does.

    Args:
        file: a file or a folder: COCO, YOLO, Pascal VOC, labelme, CVAT, NIfTI, nnU-Net,
            imagefolder, label maps.
        project: an open project, or the folder of images; images are found by id, path or name.
        format: its name; None finds it.
        segmenter: makes masks of objects that have a box only; None takes the box as the mask.
        replace_proposals: also replace what is proposed already; never what is accepted.

    Returns:
        ``imported``, ids of the images that have proposals now; ``kept``, those that were left as
        they are; ``unmatched``, what is not here; ``failures``; ``notes``, what the file or the
        project cannot hold.

    Raises:
        DatasetError: the file cannot be read, is of no known format, or names no image here.
        LabelWriteError: the project cannot be written, for somebody labels in it now.
        PromptError: there is no such format.
    """
    with _opened(project, write=True) as store:
        return take_labels(
            store,
            file,
            format=format,
            segmenter=segmenter,
            replace_proposals=replace_proposals,
        )


def _opened(
    project: Project | str | Path, *, write: bool = False
) -> AbstractContextManager[Project]:
    """An open project as it is, or one that is opened and closed afterwards."""
    if isinstance(project, Project):
        return nullcontext(project)
    return closing(Project(project, write=write))


def _numbers(given: ArrayLike, what: str) -> FloatArray:
    """What a script gave as an array of numbers.

    Raises:
        PromptError: it is none.
    """
    try:
        array = np.asarray(given)
        if array.dtype.kind in "biufO":  # not what NumPy would read as a number, such as "1"
            with np.errstate(over="ignore"):  # infinity is outside of every image
                return np.asarray(array, np.float32)
    except (TypeError, ValueError, OverflowError):
        pass
    raise PromptError(f"{what} must be numbers, all rows as long as each other, got {given!r}")


@cache
def _nano_segmenter() -> Segmenter:
    from .models.registry import load_segmenter

    return load_segmenter("nano")


@cache
def _nano_detector() -> Detector:
    from .models.registry import load_detector

    return load_detector("nano")
