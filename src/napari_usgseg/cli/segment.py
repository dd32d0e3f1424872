"""``usgseg segment``: images or folders of them to PNG label maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ImageReadError, PromptError
from .cleaning import (
    Cleaning,
    Closing,
    Dilation,
    FillHoles,
    Keep,
    MinArea,
    Opening,
    Smoothing,
    read_settings,
)
from .common import EXIT_SOME_FAILED, parse_box, parse_point, progress

if TYPE_CHECKING:
    from ..types import Prompts


def segment(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Images or folders of images.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the label maps.")],
    text: Annotated[
        str | None, typer.Option(help='What to look for: "breast tumor", "kidney. renal medulla."')
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="An object's box in pixels; repeatable."),
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y[,-]", help="A pixel on the object, with ,- off it; repeatable."),
    ] = None,
    ppn: Annotated[
        Path | None,
        typer.Option(help="Folder of a prompt predictor: its classes, without any prompt."),
    ] = None,
    model: Annotated[str, typer.Option(help="Segmenter: a name or a checkpoint.")] = "nano",
    grounder: Annotated[str, typer.Option(help="Detector: a name or a folder.")] = "nano",
    adapter: Annotated[
        Path | None, typer.Option(help="LoRA adapter folder on top of the grounder.")
    ] = None,
    box_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least score of a box.")
    ] = None,
    text_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least score of a token.")
    ] = None,
    overlay: Annotated[bool, typer.Option(help="Also draw the labels over the images.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace files that are there.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    cleaning: Cleaning = True,
    keep: Keep = None,
    min_area: MinArea = None,
    fill_holes: FillHoles = None,
    opening: Opening = None,
    closing: Closing = None,
    smoothing: Smoothing = None,
    dilation: Dilation = None,
) -> None:
    """Find what a phrase names, what boxes and points show, or what a PPN has learned, as PNGs.

    A box or points say where the object is; --text then only names it. The same request goes on
    where an earlier one was interrupted.
    """
    from ..pipeline.batch import BatchRequest, segment_files
    from ..types import TextPrompt

    objects = _objects([parse_box(b) for b in box or ()], [parse_point(p) for p in point or ()])
    if text is None and not objects and ppn is None:
        raise PromptError("nothing to look for: give --text, --box, --point or --ppn")
    if ppn is not None and (text is not None or objects):
        raise PromptError("--ppn needs no prompt: leave --text, --box and --point out")
    if text is not None and not text.strip(" ."):
        raise PromptError('--text is empty: expected a phrase such as "breast tumor"')
    if any(path.is_dir() and path.resolve() == out.resolve() for path in inputs):
        raise PromptError(
            f"--out {out} is the folder of the images: label maps there would be taken for images "
            f"next time; choose another, such as {out / 'labels'}"
        )
    files, missing = _find_images(inputs)
    request = BatchRequest(
        text=TextPrompt(text, box_threshold, text_threshold) if text is not None else None,
        objects=objects,
        settings=read_settings(
            enabled=cleaning,
            keep=keep,
            min_area=min_area,
            fill_holes=fill_holes,
            opening=opening,
            closing=closing,
            smoothing=smoothing,
            dilation=dilation,
        ),
        overlay=overlay,
        overwrite=overwrite,
    )
    from ..models.registry import load_detector, load_segmenter

    segmenter = load_segmenter(model, device=device)
    auto, detector = None, None
    if ppn is not None:
        from ..models.ppn_model import load_ppn

        auto = load_ppn(ppn, segmenter)
    elif not objects:
        detector = load_detector(grounder, adapter=adapter, device=device)
    counts = dict.fromkeys(("done", "kept", "failed"), 0)
    failed = [str(error) for error in missing]
    with progress(len(files), "segmenting") as step:
        for result in segment_files(files, out, segmenter, detector, request, auto):
            counts[result.status] += 1
            if result.status == "failed":
                failed.append(f"{result.source}: {result.message}")
                step("")
            else:
                found = (
                    "kept from an earlier run"
                    if result.status == "kept"
                    else (
                        f"{result.objects} object{'' if result.objects == 1 else 's'}, "
                        f"{result.seconds:.2f} s"
                    )
                )
                step(" ".join(filter(None, (f"{result.source}: {found}.", result.message))))
    for line in failed:
        typer.echo(f"usgseg: {line}", err=True)
    kept = f", {counts['kept']} kept" if counts["kept"] else ""
    typer.echo(f"{counts['done']} written{kept}, {len(failed)} failed; label maps are in {out}")
    if failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def _objects(
    boxes: Sequence[tuple[float, float, float, float]],
    points: Sequence[tuple[float, float, int]],
) -> tuple[Prompts, ...]:
    """Each box is an object; points belong to the only box, or are an object of their own."""
    import numpy as np

    from ..types import Prompts

    if points and len(boxes) > 1:
        raise PromptError("--point with several --box: give one box, or the points alone")
    if points and not boxes and not any(label for _, _, label in points):
        raise PromptError("only points off the object: give one on it, or a --box")
    coords = np.array([point[:2] for point in points], np.float32).reshape(-1, 2)
    labels = np.array([point[2] for point in points], np.int32)
    if points and not boxes:
        return (Prompts(coords, labels),)
    return tuple(Prompts(coords, labels, np.array(box, np.float32)) for box in boxes)


def _find_images(inputs: Sequence[Path]) -> tuple[list[Path], list[ImageReadError]]:
    """All images of the inputs; an input or a link's file that does not exist is a failure.

    Raises:
        PromptError: there is no image at all.
    """
    from ..io.datasets import IMAGE_SUFFIXES
    from ..io.images import image_files

    here = [path for path in inputs if path.exists()]
    gone = [path for path in inputs if path not in here]
    missing = [ImageReadError(path, "no such file or folder") for path in gone]
    inside = (file for path in here if path.is_dir() for file in sorted(path.iterdir()))
    missing += [
        ImageReadError(file, f"a link to {file.readlink()}, which is not there; mend or remove it")
        for file in inside
        if file.is_symlink() and not file.exists() and file.suffix.lower() in IMAGE_SUFFIXES
    ]
    files = list(image_files(here))
    if not files:
        raise PromptError(
            str(missing[0])
            if missing
            else f"no image in {', '.join(map(str, here))}; expected PNG, JPEG, BMP or TIFF files"
        )
    return files, missing
