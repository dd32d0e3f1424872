"""``usgseg propagate``: objects of the labelled frames of a loop on all its frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import DatasetError, ImageReadError, PromptError
from ..segmentation.propagation.reach import Direction, Reach
from .common import Device, ModelName, end_if_failed, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..io.images import Loop
    from ..io.labels import LabelMap

AREAS = "areas.csv"


def propagate(
    loop: Annotated[Path, typer.Argument(help="A loop: DICOM, video, multi-page TIFF, ...")],
    keyframe: Annotated[
        list[str],
        typer.Option(metavar="FRAME=LABELS", help="Label map of a frame, from 0; repeatable."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the label maps, areas.csv and run.json.")],
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--object",
            metavar="CLASS",
            help="Only this label: its number, or its name in a classes.json beside the keyframes; "
            "repeatable.",
        ),
    ] = None,
    reach: Annotated[
        int | None,
        typer.Option("--next", min=1, help="So many frames from a keyframe at most; else all."),
    ] = None,
    direction: Annotated[
        Direction, typer.Option(help="To the frames after a keyframe, before it, or both.")
    ] = Direction.BOTH,
    first: Annotated[int, typer.Option(min=0, help="First frame to be labelled.")] = 0,
    last: Annotated[int | None, typer.Option(min=0, help="Last one; else the loop's.")] = None,
    model: ModelName = "nano",
    overwrite: Annotated[
        bool, typer.Option(help="Replace what this program wrote, and nothing else.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Label the other frames of a loop from those that are labelled.

    Each label is one object. A SAM 2.1 remembers it (--model), with other segmenters it follows the
    tissue's motion. Frames between two labelled ones are reached from both; labelled frames stay as
    they are. OUT gets 0000.png, 0001.png, ..., areas.csv, and run.json with the agreement of both
    directions on each frame.
    """
    import json
    import time

    import numpy as np

    from ..io.images import Loop
    from ..io.labels import write_labels
    from ..io.outputs import OutputFolder
    from ..io.reading.files import open_frames
    from ..models.registry import load_segmenter
    from ..segmentation.batch import RUN_FILE, versions
    from ..segmentation.measuring import PictureScale
    from ..segmentation.propagation import propagator_for
    from ..segmentation.propagation.areas import NO_DIAGNOSIS, area_table, areas_on, beats

    given = [_place(text) for text in keyframe]
    places = dict(given)
    if len(places) < len(given):
        raise PromptError("--keyframe names a frame twice: give one label map for each frame")
    with open_frames(loop) as opened:
        if len(set(opened.sizes)) > 1:
            raise ImageReadError(loop, "its frames differ in size; expected a loop of one size")
        frames = Loop(opened)
        end = len(frames) - 1 if last is None else last
        if not first <= end < len(frames):
            raise PromptError(
                f"--first {first}, --last {end}: the loop has frames 0 to {len(frames) - 1}"
            )
        known = {
            frame: _only(_labels(path, frame, frames), path, only or ())
            for frame, path in places.items()
        }
        if only and not any(labels.any() for labels in known.values()):
            raise PromptError(f"--object {', '.join(only)}: no keyframe has such a label")
        kind = np.result_type(*known.values())
        within = Reach(reach, direction).frames(known, len(frames))
        wanted = [frame for frame in range(first, end + 1) if frame in within]
        folder = OutputFolder(out, reads=[loop, *places.values()], overwrite=overwrite)
        paths = {frame: out / f"{frame:04d}.png" for frame in (*wanted, *known)}
        folder.check(out / AREAS, out / RUN_FILE, *paths.values())
        started = time.perf_counter()
        propagator = propagator_for(load_segmenter(model, device=device))
        objects = {
            frame: {int(value): labels == value for value in _values(labels)}
            for frame, labels in known.items()
        }
        scale = PictureScale.of(opened.sizes[0], opened.about)
        areas = [
            one for frame, labels in known.items() for one in areas_on(frame, labels, {}, scale)
        ]
        for frame, labels in known.items():
            write_labels(paths[frame], labels, folder.write)
        agreement: dict[int, float | None] = {}
        with progress(len(set(wanted) - set(known)), "propagating") as step:
            for found in propagator.propagate(frames, objects, wanted):
                if found.frame in frames.broken:
                    step(f"frame {found.frame}: {frames.broken[found.frame]}")
                    continue
                labels = np.zeros(opened.sizes[0], kind)
                for value, mask in found.masks.items():
                    labels[mask] = value
                write_labels(paths[found.frame], labels, folder.write)
                areas += areas_on(found.frame, labels, found.scores, scale)
                agreement[found.frame] = min(found.scores.values(), default=None)
                step("")
        folder.write(out / AREAS, area_table(areas, opened.about.rate))
        card = {
            "schema": 1,
            "engine": propagator.model_id,
            "source": str(loop),
            "keyframes": {str(frame): str(path) for frame, path in places.items()},
            "versions": versions(),
            "seconds": round(time.perf_counter() - started, 3),
            "frames": [
                {"frame": frame, "agreement": None if score is None else round(score, 4)}
                for frame, score in sorted(agreement.items())
            ],
            "failed": {str(frame): cause for frame, cause in sorted(frames.broken.items())},
        }
        folder.write(out / RUN_FILE, (json.dumps(card, indent=1) + "\n").encode())
    typer.echo(
        f"{len(agreement)} frames labelled from {len(known)}, {len(frames.broken)} failed; in {out}"
    )
    for label, beat in beats(areas).items():
        typer.echo(f"label {label}: {beat}")
    typer.echo(NO_DIAGNOSIS)
    end_if_failed([f"{loop.name}: frame {n}: {cause}" for n, cause in frames.broken.items()])


def _place(text: str) -> tuple[int, Path]:
    number, found, path = text.partition("=")
    if not found or not number.strip().isdecimal() or not path:
        raise PromptError(f"--keyframe {text!r}: expected FRAME=LABELS, such as 0=first.png")
    return int(number), Path(path)


def _labels(path: Path, frame: int, frames: Loop) -> LabelMap:
    from ..io.datasets import check_same_size
    from ..io.labels import read_labels

    if frame >= len(frames):
        raise PromptError(f"--keyframe {frame}: the loop has frames 0 to {len(frames) - 1}")
    labels = read_labels(path)
    check_same_size(path, labels, frames[frame].shape[:2])
    if frame in frames.broken:
        raise PromptError(
            f"--keyframe {frame}: the frame cannot be read ({frames.broken[frame]}); label another"
        )
    return labels


def _only(labels: LabelMap, path: Path, wanted: Sequence[str]) -> LabelMap:
    """The labels that were asked for, by number or by name; all where none was."""
    import numpy as np

    from ..io.labels import CLASSES_FILE, read_classes

    if not wanted:
        return labels
    numbers = {int(one) for one in wanted if one.strip().isdecimal()}
    names = {one.strip().casefold() for one in wanted if not one.strip().isdecimal()}
    if names:
        try:
            classes = read_classes(path.parent / CLASSES_FILE)
        except DatasetError as error:
            raise PromptError(
                f"--object {sorted(names)[0]!r}: a name needs a {CLASSES_FILE} beside {path} "
                f"({error}); give the label's number instead"
            ) from error
        found = {one.name.casefold(): one.class_id for one in classes}
        if missing := sorted(names - set(found)):
            raise PromptError(
                f"--object {missing[0]!r}: {path.parent / CLASSES_FILE} has {', '.join(found)}"
            )
        numbers |= {found[name] for name in names}
    kept = labels.copy()
    kept[~np.isin(labels, sorted(numbers))] = 0
    return kept


def _values(labels: LabelMap) -> list[int]:
    from ..io.labels import values_in

    return [value for value in values_in(labels) if value]
