"""The models in a thread of napari's process, or in a process of their own?

    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" python benchmarks/thread_or_process.py

The same window, script and engine (with its three lanes) twice, each in a fresh process: first
while the models load, then over some images while SAM 2.1 tiny's real shape embeds behind. Prints
the gaps of the event loop and the time from a click to its mask on the screen.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from soak import RANDOM_TINY, Script, in_front_of_a_window, write_images, write_random_tiny
from soak_report import LIMIT_MS

KINDS = ("process", "thread")


class InferenceThreads:
    """The loaded models and their lanes in threads of this process, for an InferenceProcess."""

    def __init__(self) -> None:
        from napari_usgseg.jobs import Lane
        from napari_usgseg.jobs.inference_process import LaneThread
        from napari_usgseg.jobs.loaded_models import LoadedModels

        models = LoadedModels()
        self._waiting: dict[int, tuple[Any, Any]] = {}
        self._lanes = {
            lane: LaneThread(lane, models, self._answer)
            for lane in (Lane.CLICKS, Lane.PHRASES, Lane.PREFETCH)
        }
        for lane in self._lanes.values():
            lane.start()

    def submit(self, job: Any, answer: Any) -> None:
        """Queue a job in its lane."""
        from napari_usgseg.jobs import Scope

        self._waiting[job.number] = job, answer
        urgent = job.scope is Scope.PROPOSAL
        self._lanes[job.lane].put((job.number, job.function, job.args, job.lane, urgent))

    def cancel(self, job: Any) -> None:
        """Drop a job that waits."""
        self._lanes[job.lane].cancel(job.number)

    def _answer(self, number: int, word: Any) -> None:
        """From a lane: its job's outcome, or that it was dropped."""
        from napari_usgseg.jobs import Outcome

        _, answer = self._waiting.pop(number)
        if isinstance(word, Outcome):
            answer(word)

    @property
    def process_id(self) -> int:
        """Of this process."""
        return os.getpid()


def measure(kind: str, images: Path, labels: Path, background: str) -> dict[str, Any]:
    """One kind of worker: gaps while models load, gaps and clicks while a person works."""
    if kind == "thread":  # triton ends the process beside a software OpenGL driver's LLVM
        sys.modules["triton"] = None  # type: ignore[assignment]
    worker = None if kind == "process" else InferenceThreads()
    script = in_front_of_a_window("nano", background, worker)
    jobs = script.session.jobs
    script.watchdog.start()
    script.wait(lambda: jobs.awaits("warm", "warm text"))
    script.wait(lambda: not jobs.awaits("warm", "warm text"))
    loading = {"loading_ms": script.watchdog.stop(), "loading_own_ms": script.watchdog.longest_own}
    script.watchdog.gaps.clear()
    result = script.run(images, labels)
    found = loading | {
        "working_ms": max(result.longest_ms),
        "working_own_ms": max(result.longest_own_ms),
        "gaps": len(result.gaps),
        "median_longest_ms": statistics.median(result.longest_ms),
        "click_s": statistics.median(result.click_s),
        "image_s": statistics.median(result.seconds),
        "busy": statistics.median(result.busy),
        "behind": result.background_embeddings,
    }
    leave(script)
    return found


def leave(script: Script) -> None:
    """Close the window."""
    script.widget.shut_down()
    script.viewer.close()


ROWS = {
    "loading_ms": "longest gap while the models load, ms",
    "loading_own_ms": "most processor time of the main thread in one of them, ms",
    "working_ms": "longest gap at work, ms",
    "working_own_ms": "most processor time of the main thread in one of them, ms",
    "median_longest_ms": "longest gap of an image, median, ms",
    "gaps": f"gaps above {LIMIT_MS:.0f} ms at work",
    "click_s": "from a click to its mask, median, s",
    "image_s": "an image, median, s",
    "behind": "embeddings of SAM 2.1 tiny behind it",
    "busy": "machine busy by",
}


def main() -> None:
    """Measure both, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.kind:
        tiny = next(chosen.scratch.glob("*.pt"))
        found = measure(
            chosen.kind, chosen.scratch / "images", chosen.scratch / chosen.kind, str(tiny)
        )
        print(json.dumps(found), flush=True)
        os._exit(0)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_images(scratch / "images", chosen.images)
        write_random_tiny(scratch)
        found = {}
        for kind in KINDS:
            command = [sys.executable, __file__, "--kind", kind, "--scratch", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{kind}: ended with {done.returncode}\n{done.stderr[-2000:]}")
                continue
            found[kind] = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{chosen.images} images, nano, {RANDOM_TINY} behind it\n")
    print(f"| | {' | '.join(found)} |\n| --- |{' ---: |' * len(found)}")
    for key, words in ROWS.items():
        values = [f"{row[key]:.3f}" if key.endswith("_s") else f"{row[key]:.1f}"
                  for row in found.values()]  # fmt: skip
        print(f"| {words} | {' | '.join(values)} |")


if __name__ == "__main__":
    main()
