"""What very many frames cost, from seconds a frame that are measured here; makes docs/scale.md.

    python benchmarks/scale.py --out docs/scale.md

One thread each: (1) what a worker does for a frame; (2) what the machine that gave the command does
for a frame of a loop and for a still (reading headers, hashing, writing label maps and run.json),
with workers that answer at once; (3) what a chunk costs the scheduler.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
import torch

from napari_usgseg.core.types import Prompts, TextPrompt
from napari_usgseg.io.labels import write_image
from napari_usgseg.jobs.cluster import Cluster
from napari_usgseg.phantoms.phantom import make_phantom
from napari_usgseg.segmentation.batch import segment_files
from napari_usgseg.segmentation.request import (
    BatchRequest,
    Chunk,
    ChunkAnswer,
    FrameAnswer,
    ModelNames,
    Work,
)

FRAMES = 100_000_000
AT_ONCE = 16
BOX = BatchRequest(objects=(Prompts(box=np.array([150, 100, 400, 300], np.float32)),))
PHRASE = BatchRequest(text=TextPrompt("breast tumor"))
START, END = "<!-- measured -->", "<!-- end -->"


def stills(folder: Path, count: int) -> list[Path]:
    """Phantoms as PNG files, each of other bytes."""
    pictures = [make_phantom(seed).image for seed in range(min(count, 8))]
    paths = []
    for index in range(count):
        picture = pictures[index % 8].copy()
        picture[0, :3] = index % 256, index // 256, 7
        paths.append(folder / f"{index:05d}.png")
        write_image(paths[-1], picture)
    return paths


def of_a_worker(paths: list[Path], request: BatchRequest) -> float:
    """Seconds a frame: reading, models, cleaning, the PNG file; the first frames do not count."""
    work = Work(ModelNames(detector="nano").load(), request)
    work.answer(Chunk(paths[0], (0,)))
    seconds = [work.answer(Chunk(path, (0,))).seconds for path in paths]
    return float(np.median(seconds))


def of_the_coordinator(paths: list[Path], out: Path, frames: int) -> float:
    """Seconds a frame where every answer is there at once."""
    work = Work(ModelNames().load(), BOX)
    (answer,) = work.answer(Chunk(paths[0], (0,))).frames

    def at_once(chunk: Chunk) -> ChunkAnswer:
        return ChunkAnswer((FrameAnswer(answer.labels, objects=1),) * len(chunk.indices))

    def ahead(function, chunks):  # as a cluster takes them
        waiting = []
        for chunk in chunks:
            waiting.append(function(chunk))
            if len(waiting) == 64:
                yield waiting.pop(0)
        yield from waiting

    started = time.perf_counter()
    models = work.models
    results = list(
        segment_files(
            paths, out, models.segmenter, None, BOX, run=ahead, answer=at_once, at_once=AT_ONCE
        )
    )
    assert all(result.status == "done" for result in results), results
    return (time.perf_counter() - started) / frames


def nothing(chunk: Chunk) -> None:
    """What a worker has to do for the scheduler to be measured."""


def of_the_scheduler(count: int = 1500) -> float:
    """Seconds a chunk."""
    from distributed import LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as machines,
        Cluster(machines.scheduler_address) as cluster,
    ):
        started = time.perf_counter()
        for _ in cluster.map(nothing, [Chunk(Path("a.png"), (0,))] * count):
            pass
        return (time.perf_counter() - started) / count


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "scans").mkdir()
        paths = stills(place / "scans", 600)
        height, width = make_phantom(0).image.shape[:2]
        worker = {
            "a box (nano)": of_a_worker(paths[:16], BOX),
            "a phrase (nano, nano)": of_a_worker(paths[:16], PHRASE),
        }
        loop = place / "loop.tif"
        tifffile.imwrite(loop, np.zeros((800, height, width), np.uint8))
        frame = of_the_coordinator([loop], place / "loops", 800)
        few = of_the_coordinator(paths[:200], place / "few", 200)
        many = of_the_coordinator(paths, place / "many", 600)
    chunk = of_the_scheduler()
    lines = [
        f"Frames of {height} x {width} pixels, one thread, {os.cpu_count()} cores that other work "
        f"shared, {platform.machine()}, PyTorch {torch.__version__}.",
        "",
        "| who | for | milliseconds |",
        "|---|---|---|",
        *(f"| a worker's thread | a frame, {k} | {1000 * v:.0f} |" for k, v in worker.items()),
        f"| who gave the command | a frame of a loop | {1000 * frame:.2f} |",
        f"| who gave the command | a still, of 200 | {1000 * few:.2f} |",
        f"| who gave the command | a still, of 600 | {1000 * many:.2f} |",
        f"| the scheduler | a chunk (of up to {AT_ONCE} frames) | {1000 * chunk:.2f} |",
        "",
        f"So {FRAMES:.0e} frames are:".replace("e+0", "e"),
        "",
        "| asked with | hours of one core | days on 10 machines of 32 cores | on 100 |",
        "|---|---|---|---|",
    ]
    for asked, seconds in worker.items():
        hours = FRAMES * seconds / 3600
        days = hours / 24 / 32
        lines.append(f"| {asked} | {hours:,.0f} | {days / 10:.1f} | {days / 100:.2f} |")
    busy = min(worker.values()) / frame
    lines += [
        "",
        f"One command writes a frame of a loop in {1000 * frame:.2f} ms, {FRAMES:.0e} of them in "
        f"{FRAMES * frame / 86_400:.1f} days, so that it is the limit from about {busy:,.0f} "
        f"threads of workers on; the scheduler needs {FRAMES / AT_ONCE * chunk / 3600:,.0f} hours "
        "for them.".replace("e+0", "e"),
    ]
    text = "\n".join(lines).replace("1e+08", "1e8")
    print(text)
    if options.out is not None:
        page = options.out.read_text(encoding="utf-8")
        before, _, rest = page.partition(START)
        _, _, after = rest.partition(END)
        page = f"{before}{START}\n{text}\n{END}{after}"
        options.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
