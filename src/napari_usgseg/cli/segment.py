"""``usgseg segment``: images or folders of them to PNG label maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import PromptError, readable
from .common import (
    Adapter,
    BoxThreshold,
    DetectorName,
    Device,
    ModelName,
    Scheduler,
    TextThreshold,
    end_if_failed,
    machines,
    parse_box,
    parse_point,
    parse_trace,
    progress,
)

if TYPE_CHECKING:
    from ..core.types import Prompts
    from ..io.search import FoundImages
    from ..segmentation.trace import TracePrompt

TO_SEARCH = "--recursive searches them too"
AT_ONCE = 16
"""Frames of a loop that go to another machine together."""


def segment(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Images or folders of images.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the label maps.")],
    text: Annotated[
        str | None, typer.Option(help='What to look for: "breast tumor", "kidney, renal medulla".')
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="An object's box in pixels; repeatable."),
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y[,-]", help="A pixel on the object, with ,- off it; repeatable."),
    ] = None,
    trace: Annotated[
        list[str] | None,
        typer.Option(
            metavar='"X,Y X,Y ..."',
            help="Points along a thin bright line (bone, fascia), both ends at least; repeatable.",
        ),
    ] = None,
    width: Annotated[
        float | None, typer.Option(min=1, help="Of the bands along traces, in pixels.")
    ] = None,
    dark: Annotated[bool, typer.Option(help="Traces follow dark lines, not bright ones.")] = False,
    ppn: Annotated[
        Path | None,
        typer.Option(help="Folder of a prompt predictor: its classes, without any prompt."),
    ] = None,
    model: ModelName = "nano",
    detector: DetectorName = "nano",
    adapter: Adapter = None,
    box_threshold: BoxThreshold = None,
    text_threshold: TextThreshold = None,
    overlay: Annotated[bool, typer.Option(help="Also draw the labels over the images.")] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Replace what this program wrote, and nothing else.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option(help="Search the folders in a folder as well.")
    ] = False,
    whole_picture: Annotated[
        bool,
        typer.Option(help="Show models all of a DICOM picture, not its regions of tissue alone."),
    ] = False,
    device: Device = "auto",
    scheduler: Scheduler = None,
    cleaning: Annotated[bool, typer.Option(help="Clean the masks at all.")] = True,
    keep: Annotated[
        str | None, typer.Option(help="Pieces to keep: prompted (the default), largest or all.")
    ] = None,
    min_area: Annotated[int | None, typer.Option(help="Drop pieces with fewer pixels.")] = None,
    fill_holes: Annotated[
        float | None, typer.Option(help="Fill holes up to this fraction of the area; 1 fills all.")
    ] = None,
    opening: Annotated[int | None, typer.Option(help="Cut off spurs: radius in pixels.")] = None,
    closing: Annotated[int | None, typer.Option(help="Bridge gaps: radius in pixels.")] = None,
    smoothing: Annotated[
        float | None, typer.Option(help="Round the border: deviation in pixels.")
    ] = None,
    dilation: Annotated[int | None, typer.Option(help="Grow the result by so many pixels.")] = None,
) -> None:
    """Find what a phrase names, what boxes and points show, or what a PPN has learned, as PNGs.

    A box, points or a trace say where the object is; --text then only names it: one phrase all of
    them, several each its own, first to first (traces come last). The same request goes on where
    an earlier one was interrupted.
    """
    from ..core.types import TextPrompt
    from ..models.grounding.phrases import wanted_phrases
    from ..segmentation.batch import check_place, segment_files
    from ..segmentation.postprocess import PostprocessSettings
    from ..segmentation.request import BatchRequest, ModelNames, WorkElsewhere

    several = text is not None and len(wanted_phrases(text, "--text")) > 1
    boxes, points = [parse_box(b) for b in box or ()], [parse_point(p) for p in point or ()]
    objects: tuple[Prompts | TracePrompt, ...] = (
        *_objects(boxes, points, several),
        *_traces(trace or (), width, dark),
    )
    if text is None and not objects and ppn is None:
        raise PromptError("nothing to look for: give --text, --box, --point, --trace or --ppn")
    if ppn is not None and (text is not None or objects):
        raise PromptError("--ppn needs no prompt: leave --text, --box, --point and --trace out")
    found = _find_images(inputs, recursive)
    steps: dict[str, Any] = {
        "keep": keep,
        "min_area": min_area,
        "fill_holes": fill_holes,
        "opening": opening,
        "closing": closing,
        "smoothing": smoothing,
        "dilation": dilation,
    }
    request = BatchRequest(
        text=TextPrompt(text, box_threshold, text_threshold) if text is not None else None,
        objects=objects,
        settings=PostprocessSettings(
            enabled=cleaning, **{name: value for name, value in steps.items() if value is not None}
        ),
        overlay=overlay,
        overwrite=overwrite,
        crop_to_regions=not whole_picture,
    )
    check_place(out, found.files, found.folders, overlay=overlay)
    names = ModelNames(model, None if objects else detector, adapter, ppn, device).placed()
    models = names.load()
    counts = dict.fromkeys(("done", "kept", "failed"), 0)
    failed = [str(error) for error in found.problems]
    with machines(scheduler) as run, progress(len(found.files), "segmenting") as step:
        for result in segment_files(
            found.files,
            out,
            models.segmenter,
            models.detector,
            request,
            models.auto,
            groups=found.groups,
            searched=found.folders,
            reads=_model_files(model, detector, adapter, ppn),
            run=run,
            answer=WorkElsewhere(names, models.ids, request) if scheduler else None,
            at_once=AT_ONCE if scheduler else 1,
        ):
            counts[result.status] += 1
            name = readable(result.source)
            if result.status == "failed":
                failed.append(f"{name}: {result.message}")
                step("")
                continue
            plural = "" if result.objects == 1 else "s"
            outcome = f"{result.objects} object{plural}, {result.seconds:.2f} s"
            if result.status == "kept":
                outcome = "kept from an earlier run"
            step(f"{name}: {outcome}. {result.message}".rstrip())
    for line in found.left_out.sentences(TO_SEARCH):
        typer.echo(line)
    kept = f", {counts['kept']} kept" if counts["kept"] else ""
    where = readable(out)
    typer.echo(f"{counts['done']} written{kept}, {len(failed)} failed; label maps are in {where}")
    end_if_failed(failed)


def _objects(
    boxes: Sequence[tuple[float, float, float, float]],
    points: Sequence[tuple[float, float, int]],
    several: bool,
) -> tuple[Prompts, ...]:
    """Each box is an object; points belong to the only box, or are an object of their own.

    Where there are ``several`` phrases and no box, each point is an object of its own.
    """
    import numpy as np

    from ..core.types import Prompts

    if points and len(boxes) > 1:
        raise PromptError("--point with several --box: give one box, or the points alone")
    if points and not boxes and not any(label for _, _, label in points):
        raise PromptError("only points off the object: give one on it, or a --box")
    coords = np.array([point[:2] for point in points], np.float32).reshape(-1, 2)
    labels = np.array([point[2] for point in points], np.int32)
    if boxes:
        return tuple(Prompts(coords, labels, np.array(box, np.float32)) for box in boxes)
    if points and several:
        if not labels.all():
            raise PromptError(
                "a --point off the object with several phrases: it is not clear of which; give one "
                "phrase"
            )
        return tuple(Prompts(coords[i : i + 1], labels[i : i + 1]) for i in range(len(points)))
    return (Prompts(coords, labels),) if points else ()


def _traces(given: Sequence[str], width: float | None, dark: bool) -> tuple[TracePrompt, ...]:
    """Each trace is an object; all are of one width."""
    from ..segmentation.trace import TracePrompt

    if not given:
        if width is not None or dark:
            raise PromptError("--width and --dark are of a --trace: give its points too")
        return ()
    if width is None:
        raise PromptError("--trace without --width: say how many pixels wide the band is")
    return tuple(TracePrompt(parse_trace(text), width, dark) for text in given)


def _find_images(inputs: Sequence[Path], recursive: bool) -> FoundImages:
    """All images of the inputs; an input or a link's file that does not exist is a failure.

    Raises:
        PromptError: there is no image at all.
    """
    from ..io.reading.files import READ
    from ..io.search import search_images

    found = search_images(inputs, recursive=recursive)
    if not found.files:
        here = ", ".join(readable(path) for path in inputs)
        said = " ".join(found.left_out.sentences(TO_SEARCH))
        raise PromptError(
            str(found.problems[0])
            if found.problems
            else f"no image in {here}; expected {READ}. {said}".rstrip(". ")
        )
    return found


def _model_files(*models: object) -> list[Path]:
    """The files of models that are named by their place."""
    places = [Path(str(model)) for model in models if model is not None]
    folders = [place for place in places if place.is_dir()]
    inside = [file for folder in folders for file in folder.iterdir() if file.is_file()]
    return [*(place for place in places if place.is_file()), *inside]
