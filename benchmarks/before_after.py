r"""Speed, memory and start-up of this tree beside an earlier commit, in one run.

    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" \
        python benchmarks/before_after.py 07c8e0a

Both take turns in fresh processes on the same inputs, and the median of their turns counts: what
another program takes from the machine, it takes from both. The window's figures are of each
commit's own ``benchmarks/soak.py``. A ratio above 1 is worse than before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "from napari_usgseg.cli.main import run; import sys; sys.exit(run())"
PHRASE = "breast tumor. kidney. nerve. fetal head. thyroid nodule"
MEGABYTE = 2**20
PREPARE = """
import sys
from pathlib import Path
sys.path.insert(0, "benchmarks")
from soak import write_images
from napari_usgseg.phantoms.phantom import write_phantom_dataset
scratch = Path(sys.argv[1])
write_phantom_dataset(scratch / "data", 16, 7)
write_images(scratch / "soak", int(sys.argv[2]))
"""


@dataclass(frozen=True)
class Tree:
    """A checkout whose code is measured."""

    name: str
    root: Path

    def run(self, *arguments: str) -> tuple[float, float, float]:
        """Seconds, processor seconds and most megabytes of a process with this tree's package."""
        environment = os.environ | {"PYTHONPATH": str(self.root / "src")}
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(arguments)}\n{said}")
        kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
        return seconds, usage.ru_utime + usage.ru_stime, kilobytes * 1024 / MEGABYTE

    def usgseg(self, *arguments: str) -> tuple[float, float, float]:
        """The same of a command of the command line."""
        return self.run("-c", COMMAND, *arguments)


def timed(name: str, run: Callable[[Tree, Path], tuple[float, float, float]]):
    """A measurement of one process: its seconds and its memory."""

    def measure(tree: Tree, scratch: Path) -> dict[str, float]:
        seconds, own, megabytes = run(tree, scratch)
        return {
            f"{name}, s": seconds,
            f"{name}, processor s": own,
            f"{name}, MB": megabytes,
        }

    return measure


def segment(tree: Tree, scratch: Path) -> tuple[float, float, float]:
    """Sixteen phantoms by phrase."""
    out = scratch / "out"
    shutil.rmtree(out, ignore_errors=True)
    images = scratch / "data" / "images"
    return tree.usgseg("segment", str(images), "--text", PHRASE, "--out", str(out))


def evaluate(tree: Tree, scratch: Path) -> tuple[float, float, float]:
    """The scores of the text prompt on the same phantoms."""
    return tree.usgseg("evaluate", str(scratch / "data"), "--prompt", "text")


def train(tree: Tree, scratch: Path) -> tuple[float, float, float]:
    """Sixty steps of a prompt predictor."""
    out = scratch / "ppn"
    shutil.rmtree(out, ignore_errors=True)
    data = str(scratch / "data")
    return tree.usgseg("train", "ppn", data, "--out", str(out), "--steps", "60")


def window(tree: Tree, scratch: Path) -> dict[str, float]:
    """A person at work in the window: find, two clicks, accept, image by image."""
    figures = scratch / "soak.json"
    soak = str(tree.root / "benchmarks" / "soak.py")
    count = str(len(list((scratch / "soak").glob("*.png"))))
    folder = str(scratch / "soak")
    tree.run(soak, "--images", count, "--folder", folder, "--json", str(figures))
    soak_of = json.loads(figures.read_text())
    median = statistics.median
    return {
        "window: an image, s": median(soak_of["seconds"]),
        "window: click to mask, ms": 1000 * median(soak_of["click_s"]),
        "window: processor time an image, s": median(soak_of["window_cpu_s"]),
        "worker: processor time an image, s": median(soak_of["worker_cpu_s"]),
        "window: memory at the end, MB": soak_of["window_mb"][-1],
        "worker: memory at the end, MB": soak_of["worker_mb"][-1],
        "window: longest gap of the event loop, ms": max(soak_of["longest_ms"]),
        "window: longest gap by its own work, ms": max(soak_of["longest_own_ms"]),
    }


MEASUREMENTS: dict[str, Callable[[Tree, Path], dict[str, float]]] = {
    "help": timed("`usgseg --help`", lambda tree, _: tree.usgseg("--help")),
    "library": timed("`import napari_usgseg`", lambda t, _: t.run("-c", "import napari_usgseg")),
    "dock": timed(
        "import of the dock widget",
        lambda tree, _: tree.run("-c", "import napari_usgseg.gui.widget"),
    ),
    "segment": timed("`usgseg segment`, 16 phantoms", segment),
    "evaluate": timed("`usgseg evaluate`, 16 phantoms", evaluate),
    "train": timed("`usgseg train ppn`, 60 steps", train),
    "window": window,
}


def check_out(commit: str, folder: Path) -> Tree:
    """The tree of a commit."""
    folder.mkdir()
    archive = folder.with_suffix(".tar")
    subprocess.run(["git", "archive", "-o", str(archive), commit], cwd=ROOT, check=True)
    subprocess.run(["tar", "-x", "-C", str(folder), "-f", str(archive)], check=True)
    return Tree(commit, folder)


def main() -> None:
    """Measure both in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit", help="the earlier commit")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=24, help="how many the window labels")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=[*MEASUREMENTS])
    parser.add_argument("--json", type=Path, help="where to write every figure")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        trees = (check_out(chosen.commit, scratch / "before"), Tree("today", ROOT))
        # in a process of its own: a child's peak memory is at least its parent's when it is born
        trees[1].run("-c", PREPARE, place, str(chosen.images))
        figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for turn in range(chosen.repeats):
            for name in chosen.only:
                # who goes first changes, so that neither always meets the warmer disk
                for tree in trees[:: -1 if turn % 2 else 1]:
                    for figure, value in MEASUREMENTS[name](tree, scratch).items():
                        figures[figure][tree.name].append(value)
                    print(f"turn {turn + 1}: {name}, {tree.name}", file=sys.stderr, flush=True)
    print(f"| median of {chosen.repeats} turns | {chosen.commit} | today | ratio |")
    print("|---|---:|---:|---:|")
    for figure, values in figures.items():
        before, after = (statistics.median(values[tree.name]) for tree in trees)
        print(f"| {figure} | {before:.3g} | {after:.3g} | {after / before:.2f} |")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
