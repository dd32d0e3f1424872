r"""Propagation through loops: the first frame's true mask to all others, ours beside simple ways.

    python benchmarks/loops.py FRAMES.tif MASKS.tif [FRAMES.tif MASKS.tif ...] [--every 2] [--speed]

Frames are (T, H, W) grey, masks (T, H, W) with 1 where the object is. A row a way: mean Dice over
all other frames, the worst frame, the last, each the mean over the loops, then each loop's mean and
worst. Without files, phantom loops are made, three kinds in three motions. ``--speed`` prints
frames a second beside nano's embedding of each, and the memory after 30 and 600 frames.
``--suggest`` prints what labels of one, two and three further frames gain, chosen in several ways.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import tifffile

from napari_usgseg import load_segmenter
from napari_usgseg.core.geometry import mask_to_box
from napari_usgseg.core.metrics import dice, next_click
from napari_usgseg.core.types import Prompts
from napari_usgseg.phantoms.loop import MOTIONS, make_phantom_loop
from napari_usgseg.segmentation.propagation.flow import (
    DisFlow,
    FlowPropagator,
    composed,
    grey_of,
    moved_masks,
)
from napari_usgseg.segmentation.propagation.suggest import Looks, looks_of, suggested

KINDS = ("breast", "nerve", "thyroid")


@dataclass(frozen=True)
class Loop:
    """Frames (T, H, W, 3) and the object's true masks (T, H, W)."""

    name: str
    frames: np.ndarray
    truth: np.ndarray

    @cached_property
    def embeddings(self) -> list:
        """Of all frames."""
        return [SEGMENTER.embed(frame) for frame in self.frames]

    @cached_property
    def looks(self) -> Looks:
        """How unlike one another the frames look."""
        return looks_of(self.frames)

    def predict(self, index: int, prompts: Prompts) -> tuple[np.ndarray, np.ndarray]:
        """``nano``'s mask and low-resolution logits."""
        answer = SEGMENTER.predict(self.embeddings[index], prompts, multimask=False)
        return answer.masks[0], answer.low_res_logits[0]


SEGMENTER = load_segmenter("nano")


def copy(loop: Loop) -> Iterator[np.ndarray]:
    """The first mask on every frame."""
    yield from (loop.truth[0] for _ in loop.truth[1:])


def first_box(loop: Loop) -> Iterator[np.ndarray]:
    """``nano`` with the first frame's box on every frame."""
    box = mask_to_box(loop.truth[0])
    yield from (loop.predict(index, Prompts(box=box))[0] for index in range(1, len(loop.frames)))


def chained(with_box: bool, with_point: bool, with_mask: bool) -> Callable:
    """``nano`` with what the mask of the frame before gives."""

    def way(loop: Loop) -> Iterator[np.ndarray]:
        mask, logits = loop.truth[0], np.where(loop.truth[0], 8.0, -8.0).astype(np.float32)
        for index in range(1, len(loop.frames)):
            if mask.any():
                click = next_click(mask, np.zeros_like(mask))
                point = np.array([click[0]], np.float32) if with_point else np.zeros((0, 2))
                prompts = Prompts(
                    point_coords=point.astype(np.float32),
                    point_labels=np.ones(len(point), np.int32),
                    box=mask_to_box(mask) if with_box else None,
                    mask_input=logits if with_mask else None,
                )
                mask, logits = loop.predict(index, prompts)
            yield mask

    return way


def own_box(loop: Loop) -> Iterator[np.ndarray]:
    """``nano`` with each frame's own true box: a bound for boxes."""
    for index in range(1, len(loop.frames)):
        box = mask_to_box(loop.truth[index])
        yield loop.predict(index, Prompts(box=box))[0]


def flow_alone(direct: bool) -> Callable:
    """Flow straight to the first frame, or composed of the steps from frame to frame."""

    def way(loop: Loop) -> Iterator[np.ndarray]:
        flow = DisFlow()
        greys = [grey_of(frame) for frame in loop.frames]
        walked = np.zeros((*greys[0].shape, 2), np.float32)
        for before, current in pairwise(greys):
            walked = flow(current, greys[0]) if direct else composed(flow(current, before), walked)
            moved = moved_masks({1: loop.truth[0]}, walked, loop.truth.shape[1:])
            yield moved.get(1, np.zeros_like(loop.truth[0]))

    return way


def anchored(loop: Loop) -> Iterator[np.ndarray]:
    """What ships: `FlowPropagator`."""
    yield from _propagated(loop, [0])


def corrected(loop: Loop) -> Iterator[np.ndarray]:
    """What ships, once the worst frame is corrected; that frame counts as it was."""
    before = list(_propagated(loop, [0]))
    scores = [dice(mask, true) for mask, true in zip(before, loop.truth[1:], strict=True)]
    worst = int(np.argmin(scores))
    after = list(_propagated(loop, [0, worst + 1]))
    after[worst] = before[worst]
    yield from after


def _propagated(loop: Loop, keys: list[int]) -> Iterator[np.ndarray]:
    known = {key: {1: loop.truth[key]} for key in keys}
    frames = range(len(loop.frames))
    found = {one.frame: one.masks for one in FlowPropagator().propagate(loop.frames, known, frames)}
    empty = np.zeros_like(loop.truth[0])
    for index in frames[1:]:
        yield known[index][1] if index in known else found[index].get(1, empty)


WAYS: dict[str, Callable[[Loop], Iterator[np.ndarray]]] = {
    "copy the first mask": copy,
    "nano, the first frame's box": first_box,
    "nano, box of the frame before": chained(True, False, False),
    "nano, box and mask of the frame before": chained(True, False, True),
    "nano, point and mask of the frame before": chained(False, True, True),
    "nano, each frame's own true box": own_box,
    "flow, frame to frame": flow_alone(direct=False),
    "flow, straight to the first frame": flow_alone(direct=True),
    "flow, anchored (ships)": anchored,
    "the same, worst frame corrected": corrected,
}


def read_loops(paths: list[Path], every: int) -> list[Loop]:
    """Loops of files, or phantom loops where there are none."""
    pairs = zip(paths[::2], paths[1::2], strict=True)
    return [
        Loop(
            frames_file.stem,
            np.repeat(tifffile.imread(frames_file)[::every, ..., None], 3, axis=3),
            tifffile.imread(masks_file)[::every] == 1,
        )
        for frames_file, masks_file in pairs
    ] or [_phantom(kind, motion) for kind in KINDS for motion in MOTIONS]


def _phantom(kind: str, motion: str) -> Loop:
    made = make_phantom_loop(1, 40, (160, 208), kind, motion, period=60.0)
    sizes = np.bincount(made.instances[0][made.labels[0] == 1].ravel())
    truth = made.instances == sizes.argmax()
    return Loop(f"{kind}, {motion}", np.repeat(made.frames[..., None], 3, axis=3), truth)


def speed(loop: Loop) -> None:
    """Frames a second beside nano's embedding, and memory after 30 and 600 frames, printed.

    At the loop's own size and at a longer side of 256 pixels, as a window has it: with how unlike
    one another the frames look.
    """
    import cv2

    scale = 256 / max(loop.truth.shape[1:])
    size = round(scale * loop.truth.shape[2]), round(scale * loop.truth.shape[1])
    large = Loop(
        loop.name,
        np.stack([cv2.resize(frame, size) for frame in loop.frames]),
        np.stack([cv2.resize(m.astype(np.uint8), size) > 0 for m in loop.truth]),
    )
    for one in (loop, large):
        known = {0: {1: one.truth[0]}}
        ours, embedding = [], []
        for _ in range(3):  # in turn, for other programs may be at work
            begin = time.perf_counter()
            frames = range(len(one.frames))
            list(FlowPropagator().propagate(one.frames, known, frames))
            looks_of(one.frames)
            ours.append((time.perf_counter() - begin) / (len(one.frames) - 1))
            begin = time.perf_counter()
            for frame in one.frames[:5]:
                SEGMENTER.embed(frame)
            embedding.append((time.perf_counter() - begin) / 5)
        seconds, beside = np.median(ours), np.median(embedding)
        height, width = one.truth.shape[1:]
        print(
            f"{one.name}, {width} x {height}: {1 / seconds:.0f} frames a second, "
            f"{seconds / beside:.2f} of nano's embedding of a frame"
        )

    class Long:
        def __len__(self) -> int:
            return 601

        def __getitem__(self, frame: int) -> np.ndarray:
            return loop.frames[frame % len(loop.frames)]

    known = {0: {1: loop.truth[0]}}
    for found in FlowPropagator().propagate(Long(), known, range(601)):
        if found.frame in (30, 600):
            megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"most memory after {found.frame} frames: {megabytes:.1f} MB")


LABELS, DRAWS = 3, 8
"""Further labels that are given, and how often frames are drawn at random."""


def suggest(loops: list[Loop]) -> None:
    """What further labels gain on the frames that have none, by who chooses the next, printed."""
    print(
        "| the next frame to label | " + " | ".join(f"after {n + 1}" for n in range(LABELS)), end=""
    )
    print(" | each loop, after 1 |\n" + "|---" * (LABELS + 2) + "|")
    chosen: dict[str, Callable] = {
        "suggested (ships)": lambda loop, keys, scores, dices: suggested(
            loop.looks, keys, range(len(loop.truth)), 1
        )[0],
        "least sure": lambda loop, keys, scores, dices: int(np.argmin(scores)),
        "worst, which only the truth tells": lambda loop, keys, scores, dices: int(
            np.argmin(dices)
        ),
    }
    for name, choose in chosen.items():
        _print_gains(name, np.array([_gains(loop, choose) for loop in loops]))
    random = np.random.default_rng(0)

    def draw(loop: Loop, keys: list, scores: list, dices: list) -> int:
        return int(random.choice([n for n in range(len(loop.truth)) if n not in keys]))

    gains = np.array([[_gains(loop, draw) for _ in range(DRAWS)] for loop in loops]).mean(axis=1)
    _print_gains(f"at random, mean of {DRAWS}", gains)


def _print_gains(name: str, gains: np.ndarray) -> None:
    means = " | ".join(f"{gain:+.4f}" for gain in gains.mean(axis=0))
    print(f"| {name} | {means} | {', '.join(f'{g[0]:+.4f}' for g in gains)} |", flush=True)


def _gains(loop: Loop, choose: Callable) -> list[float]:
    """Mean Dice after each further label, less that of the first one alone.

    A frame that was labelled counts as it was before: only what the others gain is a gain.
    """
    keys, counted, means = [0], {0: 1.0}, []
    for _ in range(LABELS + 1):
        known = {key: {1: loop.truth[key]} for key in keys}
        frames, empty = range(len(loop.frames)), np.zeros_like(loop.truth[0])
        scores, dices = ([2.0] * len(frames) for _ in range(2))
        for one in FlowPropagator().propagate(loop.frames, known, frames):
            scores[one.frame] = one.scores.get(1, 0.0)
            dices[one.frame] = dice(one.masks.get(1, empty), loop.truth[one.frame])
        means.append(float(np.mean([counted.get(n, dices[n]) for n in frames[1:]])))
        chosen = choose(loop, keys, scores, dices)
        counted[chosen] = dices[chosen]
        keys = sorted([*keys, chosen])
    return [mean - means[0] for mean in means[1:]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every n-th frame")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--suggest", action="store_true", help="which frame to label next")
    parser.add_argument("--way", nargs="*", choices=list(WAYS), default=list(WAYS))
    arguments = parser.parse_args()
    loops = read_loops(arguments.files, arguments.every)
    if arguments.speed:
        speed(loops[0])
        return
    if arguments.suggest:
        suggest(loops)
        return
    print("| way | mean | worst | last | each loop: mean (worst) |\n|---|---|---|---|---|")
    for name in arguments.way:
        way, rows = WAYS[name], []
        for loop in loops:
            scores = [dice(m, t) for m, t in zip(way(loop), loop.truth[1:], strict=True)]
            rows.append((np.mean(scores), np.min(scores), scores[-1]))
        mean, worst, last = np.mean(rows, axis=0)
        each = ", ".join(f"{row[0]:.3f} ({row[1]:.3f})" for row in rows)
        print(f"| {name} | {mean:.3f} | {worst:.3f} | {last:.3f} | {each} |", flush=True)
    print(
        "\nCorrelation of the score with Dice over the frames of each loop, of the way that ships:"
    )
    print(", ".join(f"{correlation(loop):.2f}" for loop in loops))


def correlation(loop: Loop) -> float:
    """Of the propagator's score with the Dice of the frame; an object that is not found has 0."""
    known = {0: {1: loop.truth[0]}}
    found = list(FlowPropagator().propagate(loop.frames, known, range(len(loop.frames))))
    scores = [one.scores.get(1, 0.0) for one in found]
    empty = np.zeros_like(loop.truth[0])
    dices = [dice(one.masks.get(1, empty), loop.truth[one.frame]) for one in found]
    return float(np.corrcoef(scores, dices)[0, 1])


if __name__ == "__main__":
    main()
