"""How many labelled images does a prompt predictor need? A table and a plot, on held-out images.

    python benchmarks/ppn_study.py DATASET... --split benchmarks/splits.json --work runs/ppn-study \
        --out docs/ppn-study

For each data set a prompt predictor is trained with 5, 10 (three seeds), 20, 50 and all images of
the training side, and measured on the test side: alone (ppn) and with the true box (ppn+box).
Beside it: the true box, the text prompt, and a U-Net trained on the same images for as many
seconds of processor time (85 at least). Every step is one call of the command line and leaves a
JSON file in ``--work``; what is there is not done again, so the study can be stopped and goes on.
OUT.json, OUT.md and OUT.svg are written after every training, from what is there by then
(``--report``: and nothing is run).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

from ppn_plot import by_images, count_of, plot

PLAN: tuple[tuple[int | None, int], ...] = (
    (10, 0), (10, 1), (10, 2), (None, 0), (20, 0), (50, 0), (5, 0)
)  # fmt: skip
"""(images, seed) of each training, in the order in which all data sets get them."""

WAYS = ("ppn", "ppn+box", "unet")
LEAST_UNET_SECONDS = 85.0
"""A quiet machine trains a prompt predictor in half of this; a U-Net needs it to get anywhere."""
SMOKE_ONLY = 40
"""A data set with fewer images gets the trainings that it has images for, and no mean."""


def main() -> None:
    """Run what is missing, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--split", type=Path, default=Path("benchmarks/splits.json"))
    parser.add_argument("--side", default="test")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/ppn-study"))
    parser.add_argument("--model", default="nano")
    parser.add_argument("--counts", nargs="*", type=int, help="instead of 5 10 20 50 and all (0)")
    parser.add_argument("--limit", type=int, help="measure on so many images at most")
    parser.add_argument("--steps", type=int, help="of each training; for a trial")
    parser.add_argument("--no-unet", action="store_true")
    parser.add_argument("--report", action="store_true", help="run nothing, write what is there")
    given = parser.parse_args()
    counts = None if given.counts is None else {count or None for count in given.counts}
    plan = [(count, seed) for count, seed in PLAN if counts is None or count in counts]
    if not given.report:
        for folder in given.datasets:
            baselines(folder, given)
        for count, seed in plan:
            for folder in given.datasets:
                if count is None or count <= train_images(folder, given):
                    one_run(folder, work_of(folder, given), count, seed, given)
                    write([collected(each, plan, given) for each in given.datasets], given.out)
    write([collected(each, plan, given) for each in given.datasets], given.out)


def work_of(folder: Path, given: argparse.Namespace) -> Path:
    """Where the results of a data set are."""
    work = given.work / json.loads((folder / "dataset.json").read_text())["name"]
    work.mkdir(parents=True, exist_ok=True)
    return work


def train_images(folder: Path, given: argparse.Namespace) -> int:
    """How many images the training side has."""
    name = work_of(folder, given).name
    return len(json.loads(given.split.read_text())["datasets"][name]["train"])


def baselines(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """What is measured without training."""
    work = work_of(folder, given)
    return {
        prompt: evaluated(folder, prompt, work / f"{prompt}.json", given)
        for prompt in ("box", "text")
    }


def collected(
    folder: Path, plan: list[tuple[int | None, int]], given: argparse.Namespace
) -> dict[str, Any]:
    """Everything about one data set that is finished."""
    work = work_of(folder, given)
    result: dict[str, Any] = {"name": work.name, "train_images": train_images(folder, given)}
    for prompt in ("box", "text"):
        if (work / f"{prompt}.json").exists():
            result[prompt] = evaluated(folder, prompt, work / f"{prompt}.json", given)
    done = [(c, s) for c, s in plan if (run_folder(work, c, s) / "run.json").exists()]
    result["runs"] = [
        json.loads((run_folder(work, c, s) / "run.json").read_text()) for c, s in done
    ]
    return result


def run_folder(work: Path, count: int | None, seed: int) -> Path:
    """Where a training and its scores are."""
    return work / f"{count or 'all'}-{seed}"


def one_run(
    folder: Path, work: Path, count: int | None, seed: int, given: argparse.Namespace
) -> dict[str, Any]:
    """Train and measure the prompt predictor, and the U-Net on the same images."""
    out = run_folder(work, count, seed)
    if (out / "run.json").exists():
        return json.loads((out / "run.json").read_text())
    cost_file = out / "cost.json"
    if not cost_file.exists():
        words = ["train", "ppn", folder, "--out", out, "--seed", seed, "--splits", given.split]
        words += ["--model", given.model, "--resume"]
        words += ["--steps", given.steps] if given.steps else []
        cost = timed([*usgseg(), *words, *(["--images", count] if count else [])])
        cost_file.write_text(json.dumps(cost))
    cost = json.loads(cost_file.read_text())
    ids = json.loads((out / "ppn.json").read_text())["images"]
    run = {"images": len(ids), "all": count is None, "seed": seed, **cost}
    for way in ("ppn", "ppn+box"):
        run[way] = evaluated(folder, way, out / f"score-{way}.json", given, "--ppn", out)
    if not given.no_unet:
        unet = out / "score-unet.json"
        if not unet.exists():
            (out / "ids.json").write_text(json.dumps(ids))
            script = Path(__file__).with_name("unet.py")
            seconds = max(cost["cpu_seconds"], LEAST_UNET_SECONDS)
            words = [folder, "--ids", out / "ids.json", "--seconds", seconds]
            words += ["--split", given.split, "--side", given.side, "--seed", seed, "--json", unet]
            timed([sys.executable, script, *words])
        run["unet"] = json.loads(unet.read_text())
    (out / "run.json").write_text(json.dumps(run))
    print(f"{work.name} {len(ids)} images, seed {seed}: " + ", ".join(
        f"{way} {run[way]['dice']:.3f}" for way in WAYS if way in run
    ), flush=True)  # fmt: skip
    return run


def evaluated(
    folder: Path, prompt: str, report: Path, given: argparse.Namespace, *words: Any
) -> dict[str, float]:
    """Dice and IoU of ``usgseg evaluate``."""
    if not report.exists():
        asked = ["evaluate", folder, "--prompt", prompt, "--split", given.split]
        asked += ["--side", given.side, "--model", given.model, "--json", report, *words]
        timed([*usgseg(), *asked, *(["--limit", given.limit] if given.limit else [])])
    (entry,) = json.loads(report.read_text())["datasets"].values()
    return {key: entry[key] for key in ("dice", "iou", "images", "seconds_per_image")}


def usgseg() -> list[str]:
    """The command line, in the Python that runs this."""
    return [sys.executable, "-m", "napari_usgseg.cli"]


def timed(words: list[Any]) -> dict[str, float]:
    """Run a command: wall and processor seconds, and the most memory that it held, in megabytes."""
    started = time.monotonic()
    child = subprocess.Popen([str(word) for word in words])
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"failed ({child.returncode}): {' '.join(map(str, words))}")
    scale = 1024**2 if sys.platform == "darwin" else 1024
    return {
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "megabytes": round(usage.ru_maxrss / scale),
    }


def write(results: list[dict[str, Any]], out: Path) -> None:
    """The report: JSON, a Markdown table, an SVG plot."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    lines = [
        "# Prompt predictor: Dice by number of labelled images",
        "",
        "Made by `benchmarks/ppn_study.py`; images of the test side, never trained on. `ppn` looks "
        "alone, `ppn+box` is given each object's true box. U-Net: the same images, the same "
        "processor time (85 s at least). Ten images: mean of the seeds that are finished. "
        "A dash: not measured (yet).",
        "",
        "| set | images | seeds | ppn Dice / IoU | ppn+box | U-Net | box | text | CPU s | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        lines += [_row(result, runs) for runs in sorted(by_images(result).values(), key=count_of)]
    large = [r for r in results if r["train_images"] >= SMOKE_ONLY]
    for key in ("10", "all"):
        measured = [r for r in large if key in by_images(r)]
        if measured:
            runs = [by_images(r)[key] for r in measured]
            cells = [_mean(runs, way) for way in WAYS]
            alone = [_over(measured, prompt) for prompt in ("box", "text")]
            lines.append(
                f"| **mean of {len(runs)}** | {key} | | {' | '.join(cells)} | "
                f"{' | '.join(alone)} | | |"
            )
    lines += ["", f"![Dice by number of images]({out.with_suffix('.svg').name})", ""]
    out.with_suffix(".md").write_text("\n".join(lines))
    out.with_suffix(".svg").write_text(plot(results))
    print("\n".join(lines))


def _row(result: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    images = f"{runs[0]['images']}" + (" (all)" if runs[0]["all"] else "")
    cells = [
        result["name"],
        images,
        f"{len(runs)}",
        f"{mean(r['ppn']['dice'] for r in runs):.3f} / {mean(r['ppn']['iou'] for r in runs):.3f}",
        f"{mean(r['ppn+box']['dice'] for r in runs):.3f}",
        f"{mean(r['unet']['dice'] for r in runs):.3f}" if "unet" in runs[0] else "-",
        _over([result], "box"),
        _over([result], "text"),
        f"{mean(r['cpu_seconds'] for r in runs):.0f}",
        f"{max(r['megabytes'] for r in runs)}",
    ]
    return "| " + " | ".join(cells) + " |"


def _over(results: list[dict[str, Any]], prompt: str) -> str:
    if any(prompt not in result for result in results):
        return "-"
    return f"{mean(result[prompt]['dice'] for result in results):.3f}"


def _mean(groups: list[list[dict[str, Any]]], way: str) -> str:
    if any(way not in run for runs in groups for run in runs):
        return "-"
    return f"{mean(mean(run[way]['dice'] for run in runs) for runs in groups):.3f}"


if __name__ == "__main__":
    main()
