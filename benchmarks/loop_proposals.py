r"""Models that look at each frame of a loop by itself, as they are and smoothed over time.

    python benchmarks/loop_proposals.py FRAMES.tif MASKS.tif [...] --out FOLDER [--every 2]
        [--phrase "left ventricle"]

Frames are (T, H, W) grey, masks (T, H, W) with 1 where the object is. For each loop a prompt
predictor is taught from ten frames of the others (kept in FOLDER, so that a second call is quick);
then it, and the detector with a phrase, propose on every frame. A row a way: mean Dice over all
frames, the worst frame, each the mean over the loops, then each loop's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from napari_usgseg import load_detector, load_segmenter
from napari_usgseg.core.metrics import dice
from napari_usgseg.core.types import TextPrompt
from napari_usgseg.learning.labelled import LabelledImage
from napari_usgseg.learning.ppn import PpnSettings, train_ppn
from napari_usgseg.segmentation.postprocess import PostprocessSettings
from napari_usgseg.segmentation.propagation.smoothing import Found, smoothed
from napari_usgseg.segmentation.propose import propose_auto, propose_text

TAUGHT = 10
CLEANING = PostprocessSettings()


def teach(name: str, loops: dict[str, tuple[np.ndarray, np.ndarray]], out: Path) -> Callable:
    """The prompt predictor from ten frames of all loops but one."""
    others = [other for other in loops if other != name]
    images = []
    for n in range(TAUGHT):
        other = others[n % len(others)]
        frames, masks = loops[other]
        at = int((n // len(others) + 0.5) * len(frames) / (TAUGHT // len(others) + 1))
        image_id = f"{other}_{at:04d}"
        images.append(LabelledImage(image_id, other, frames[at], masks[at].astype(np.uint8)))
    settings = PpnSettings.for_images(TAUGHT)
    segmenter = load_segmenter()
    ppn = train_ppn(images, {1: "left ventricle"}, segmenter, out / name, settings, resume=True)
    return lambda frame: propose_auto(ppn, segmenter.embed(frame), CLEANING).items


def by_phrase(phrase: str) -> Callable:
    """The detector and the segmenter."""
    segmenter, detector = load_segmenter(), load_detector()
    prompt = TextPrompt(phrase)
    return lambda frame: propose_text(segmenter, detector, frame, prompt, CLEANING).items


def scores_of(found: list[Found], truth: np.ndarray) -> tuple[float, float]:
    """Mean Dice and the worst frame's; all that is proposed is taken together."""
    dices = []
    for items, mask in zip(found, truth, strict=True):
        whole = np.any([item.mask for item in items], axis=0) if items else np.zeros_like(mask)
        dices.append(dice(whole, mask))
    return float(np.mean(dices)), float(np.min(dices))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="look at every n-th frame")
    parser.add_argument("--phrase", default="left ventricle")
    arguments = parser.parse_args()
    loops = {
        frames.stem: (
            np.repeat(tifffile.imread(frames)[..., None], 3, axis=3),
            tifffile.imread(masks) == 1,
        )
        for frames, masks in zip(arguments.files[::2], arguments.files[1::2], strict=True)
    }
    rows: dict[str, list[tuple[float, float]]] = {}
    for name, (frames, truth) in loops.items():
        frames, truth = frames[:: arguments.every], truth[:: arguments.every]
        ways = {
            "prompt predictor": teach(name, loops, arguments.out),
            f"phrase '{arguments.phrase}'": by_phrase(arguments.phrase),
        }
        for way, propose in ways.items():
            found = [propose(frame) for frame in frames]
            rows.setdefault(f"{way}, each frame by itself", []).append(scores_of(found, truth))
            given = ((n, frame, found[n], None) for n, frame in enumerate(frames))
            after = [items for _, items, _ in smoothed(given)]
            rows.setdefault(f"{way}, smoothed (ships)", []).append(scores_of(after, truth))
    print("| way | mean | worst | each loop: mean (worst) |\n|---|---|---|---|")
    for way, scores in rows.items():
        mean, worst = np.mean(scores, axis=0)
        each = ", ".join(f"{m:.3f} ({w:.3f})" for m, w in scores)
        print(f"| {way} | {mean:.3f} | {worst:.3f} | {each} |")


if __name__ == "__main__":
    main()
