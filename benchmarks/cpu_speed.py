"""SAM 2.1 tiny on a CPU: the sam2 package beside what could make it faster.

    pip install onnx onnxruntime openvino nncf
    python benchmarks/cpu_speed.py [--repeats 7] [--threads 2] [--compile] [--only openvino]

Prints Markdown. The weights are random: how long an operation takes does not depend on them, and
the rounding errors of float32 hardly; the errors of int8 and bfloat16 do, so theirs are no
judgement on the real model. All ways take turns in every round, and a speed is the median over
the rounds of the package's seconds over the way's own, so that whatever else the machine does falls
on all of them. Libraries that are not installed are left out.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cpu_ways import decoders, encoders
from sam2.sam2_image_predictor import SAM2ImagePredictor
from torch import Tensor

from napari_usgseg.core.types import ImageEmbedding, Prompts
from napari_usgseg.models.sam import openvino as sam2_openvino
from napari_usgseg.models.sam.sam import SamSegmenter
from napari_usgseg.models.sam.sam2 import SAM2_VARIANTS, Sam2Net, build_sam2

MODEL = "sam2.1-hiera-tiny"
SIZE_HW = (480, 640)
CLICK = Prompts(np.array([[300.0, 200.0]], np.float32), np.ones(1, np.int32))
CLICKS_PER_ROUND = 5
PEER = "sam2 package"
FEATURES = ("image_embed", "high_res_0", "high_res_1")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to compute something; ``result`` gives what is compared with the package's."""

    run: Callable[[], object]
    result: Callable[[], list[Tensor]] | None = None


@contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    """So many threads for torch inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def take_turns(ways: dict[str, Way], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(seconds, seconds of processor) of every way in every round, after one to warm up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in list(ways.items())[:: -1 if turn % 2 else 1]:
            start, busy = time.perf_counter(), time.process_time()
            way.run()
            spent = time.perf_counter() - start, time.process_time() - busy
            if turn:
                times[name].append(spent)
        print(f"round {turn} of {rounds}", file=sys.stderr)
    return times


def table(task: str, ways: dict[str, Way], rounds: int) -> None:
    """Measure and print."""
    expected = ways[PEER].result
    times = take_turns(ways, rounds)
    print(f"\n| {task} | seconds | processor seconds | times the package's speed | largest error |")
    print("|---|---|---|---|---|")
    for name, way in ways.items():
        seconds, busy = (statistics.median(column) for column in zip(*times[name], strict=True))
        pairs = zip(times[PEER], times[name], strict=True)
        speed = statistics.median(peer[0] / own[0] for peer, own in pairs)
        error = "-"
        if way.result is not None and expected is not None and name != PEER:
            both = zip(way.result(), expected(), strict=True)
            error = f"{max(sam2_openvino.relative_error(a, b) for a, b in both):.1e}"
        print(f"| {name} | {seconds:.3g} | {busy:.3g} | {speed:.2f} | {error} |", flush=True)


def embed_way(net: Any, image: np.ndarray) -> Way:
    """An image to its embedding."""
    segmenter = SamSegmenter(net, "random")

    def result() -> list[Tensor]:
        features = segmenter.embed(image).features
        return [features[name] for name in FEATURES]

    return Way(lambda: segmenter.embed(image), result)


def click_way(net: Sam2Net, embedding: ImageEmbedding) -> Way:
    """A click to three masks."""
    segmenter = SamSegmenter(net, embedding.model_id)

    def click() -> list[Tensor]:
        found = segmenter.predict(embedding, CLICK, multimask=True)
        return [torch.from_numpy(found.low_res_logits)]

    return Way(click, click)


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="torch.compile too: minutes")
    parser.add_argument("--only", default="", help="ways with this in their name, and the package")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    base = build_sam2(SAM2_VARIANTS[MODEL]).eval()
    peer = SAM2ImagePredictor(copy.deepcopy(base))
    net = Sam2Net(base).eval()
    image = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), np.uint8)

    def peer_features() -> list[Tensor]:
        return [peer._features["image_embed"], *peer._features["high_res_feats"]]

    def peer_click() -> list[Tensor]:
        _, iou, logits = peer.predict(CLICK.point_coords, CLICK.point_labels)
        return [torch.from_numpy(logits[np.argsort(-iou, kind="stable")])]

    def alone() -> None:
        with threads_of_torch(1):
            peer.set_image(image)

    def chosen(ways: dict[str, Way]) -> dict[str, Way]:
        return {name: way for name, way in ways.items() if name == PEER or given.only in name}

    print(f"{MODEL}, random weights, {given.threads} threads, {given.repeats} rounds; {versions()}")
    with tempfile.TemporaryDirectory() as folder:
        nets = encoders(net, given.threads, Path(folder), given.compile)
        ways = {PEER: Way(lambda: peer.set_image(image), peer_features)}
        if given.threads > 1:
            ways[f"{PEER}, 1 thread"] = Way(alone)
        ways |= {name: embed_way(variant, image) for name, variant in nets.items()}
        table("image to embedding", chosen(ways), given.repeats)
        embedding = SamSegmenter(net, "random").embed(image)
        nets = decoders(net, embedding, given.threads, Path(folder))
        ways = {PEER: Way(peer_click, peer_click)}
        ways |= {name: click_way(variant, embedding) for name, variant in nets.items()}
        table("click to three masks", chosen(ways), given.repeats * CLICKS_PER_ROUND)


def versions() -> str:
    """What was measured with."""
    from importlib.metadata import PackageNotFoundError, version

    found = [f"Python {platform.python_version()}"]
    for name in ("torch", "sam2", "onnxruntime", "openvino", "nncf"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


if __name__ == "__main__":
    main()
