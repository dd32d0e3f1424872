r"""A person's time for a loop, frame by frame and with Propagate, by the scripted annotator.

    python benchmarks/loops_per_hour.py [FRAMES.tif MASKS.tif ...] [--every 2] [--frames 100]
        [--goal 0.9] [--outline 0.95] [--give-up 5]

The images-per-hour benchmark (``images_per_hour.py``) for loops: the same person by the
Keystroke-Level Model, the same session as in the window. Frames are (T, H, W) grey, masks
(T, H, W) with 1 where the object is; without files, phantom loops are made.

Frame by frame, each frame is clicked until it reaches Dice ``goal``, or outlined, with help of
models or without. With Propagate the first frame is labelled so, or outlined to Dice ``outline``,
for its errors go to all others; Ctrl+L; the loop is played once, which takes its time (20 frames a
second); the frame that looks worst is opened by a click on the strip, labelled likewise and
accepted; Ctrl+L again, until every frame has the goal, or their mean; then all are accepted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from scripted_annotator import (
    CLICK,
    Aims,
    Desk,
    Method,
    Work,
    by_hand,
    by_prompts,
    roughly_by_hand,
)

from napari_usgseg.annotation.loops.propagation import as_accepted
from napari_usgseg.core.geometry import components
from napari_usgseg.core.metrics import dice
from napari_usgseg.core.types import BoolArray
from napari_usgseg.jobs.loaded_models import LoadedModels
from napari_usgseg.phantoms.loop import make_phantom_loop

RATE = 20.0
"""Frames a second at which a loop is played."""
MOST_ROUNDS = 30


@dataclass(frozen=True)
class Loop:
    """A loop's file in a folder of its own, and the object's true masks (T, H, W)."""

    folder: Path
    truth: BoolArray


@dataclass
class Result:
    """What a loop took: the person's seconds, frames that were labelled by hand, Dice after it."""

    seconds: float
    labelled: int
    clicks: int
    dices: list[float]


def frame_by_frame(desk: Desk, loop: Loop, method: Method, aims: Aims) -> Result:
    """Label each frame and go to the next."""
    session = desk.session
    for frame, truth in enumerate(loop.truth):
        session.loops.go(frame)
        desk.work.do("M")
        method(desk, list(components(truth)), aims)
        desk.accept()
    return _result(desk, loop, len(loop.truth))


def by_propagation(desk: Desk, loop: Loop, method: Method, aims: Aims, mean: bool) -> Result:
    """Label a frame, propagate, and correct the worst until all are good, or their mean."""
    labelled: list[int] = []
    worst = 0
    for _ in range(MOST_ROUNDS):
        desk.session.loops.go(worst)
        desk.work.do("M")
        if method is by_hand and desk.session.proposal.objects:
            desk.work.do("K")
            desk.session.prompting.clear_prompts()
        method(desk, list(components(loop.truth[worst])), aims)
        desk.accept()
        labelled.append(worst)
        desk.work.do("KK")  # Control-L
        desk.session.propagation.propagate()
        desk.work.watched += len(loop.truth) / RATE
        desk.work.do("KM")  # play, and see
        scores = _dices(desk, loop)
        worst = int(np.argmin([2.0 if n in labelled else s for n, s in enumerate(scores)]))
        reached = float(np.mean(scores)) if mean else scores[worst]
        if reached >= aims.goal or len(labelled) == len(scores):
            break
        desk.work.do(CLICK)  # on the strip
    desk.work.do("M" + CLICK)
    desk.session.loops.accept(range(len(loop.truth)))
    return _result(desk, loop, len(labelled))


def _dices(desk: Desk, loop: Loop) -> list[float]:
    """Of what would be accepted on each frame now."""
    session, settings = desk.session, desk.session.settings
    assert session.store is not None
    maps = [
        as_accepted(session.store, record, settings.labelling, settings.overwrite)
        for record in session.loops.frames
    ]
    return [dice(labels > 0, truth) for labels, truth in zip(maps, loop.truth, strict=True)]


def _result(desk: Desk, loop: Loop, labelled: int) -> Result:
    return Result(desk.work.human, labelled, desk.work.clicks, _dices(desk, loop))


WAYS = {
    "frame by frame, clicks": lambda d, loop, aims: frame_by_frame(d, loop, by_prompts, aims),
    "frame by frame, rough polygons": lambda d, loop, aims: frame_by_frame(
        d, loop, roughly_by_hand, aims
    ),
} | {
    f"Propagate from {keyframes}, until {until} has it": partial(
        lambda desk, loop, aims, method, mean: by_propagation(desk, loop, method, aims, mean),
        method=method,
        mean=until == "the mean",
    )
    for keyframes, method in (("clicked frames", by_prompts), ("outlined frames", by_hand))
    for until in ("every frame", "the mean")
}


def measure(way: str, loop: Loop, models: LoadedModels, aims: Aims) -> Result:
    """Label a loop by a way, in a new project."""
    desk = Desk(models)
    desk.with_models = "polygons" not in way
    with tempfile.TemporaryDirectory() as labels:
        desk.session.navigation.open_folder(loop.folder, labels)
        desk.work = Work()
        result = WAYS[way](desk, loop, aims)
        desk.close()
    print(f"{way}: {loop.folder.name}, {result.seconds:.0f} s", file=sys.stderr, flush=True)
    return result


def read(paths: list[Path], every: int, count: int, place: Path) -> list[Loop]:
    """Loops of files, or phantom loops where there are none."""
    found = {
        frames.stem: (tifffile.imread(frames)[::every], tifffile.imread(masks)[::every] == 1)
        for frames, masks in zip(paths[::2], paths[1::2], strict=True)
    } or {f"phantom-{kind}": _phantom(kind, count) for kind in ("breast", "nerve", "thyroid")}
    loops = []
    for name, (frames, truth) in found.items():
        (place / name).mkdir()
        tifffile.imwrite(place / name / "loop.tif", frames[:count], photometric="minisblack")
        loops.append(Loop(place / name, truth[:count]))
    return loops


def _phantom(kind: str, count: int) -> tuple[np.ndarray, BoolArray]:
    made = make_phantom_loop(1, count, (160, 208), kind, "beat", period=30.0)
    sizes = np.bincount(made.instances[0][made.labels[0] == 1].ravel())
    return made.frames, made.instances == sizes.argmax()


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every n-th frame")
    parser.add_argument("--frames", type=int, default=100, help="frames of a loop at most")
    parser.add_argument("--goal", type=float, default=0.9, help="least Dice")
    parser.add_argument("--outline", type=float, default=0.95, help="least Dice of an outline")
    parser.add_argument("--give-up", type=int, default=5, help="clicks on one object")
    parser.add_argument("--way", nargs="*", choices=list(WAYS), default=list(WAYS))
    arguments = parser.parse_args()
    aims = Aims(arguments.goal, arguments.outline, arguments.give_up)
    models = LoadedModels()
    print("| way | a person's seconds | of the first | frames by hand | clicks | mean | worst |")
    print("|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as scratch:
        loops = read(arguments.files, arguments.every, arguments.frames, Path(scratch))
        first = 0.0
        for way in arguments.way:
            results = [measure(way, loop, models, aims) for loop in loops]
            seconds = float(np.mean([one.seconds for one in results]))
            first = first or seconds
            print(
                f"| {way} | {seconds:.0f} | 1/{first / seconds:.1f} "
                f"| {np.mean([one.labelled for one in results]):.1f} "
                f"| {np.mean([one.clicks for one in results]):.0f} "
                f"| {np.mean([np.mean(one.dices) for one in results]):.3f} "
                f"| {np.mean([min(one.dices) for one in results]):.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
