"""A thousand images in a real window: does any of them cost more than the first?

    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" python benchmarks/soak.py

For every image: open, find the phrase, click twice, accept and go on; all of it through the dock
widget in a real napari viewer, with the worker process and the files on disk. It measures the
resident memory of both processes after each image, the time each image takes, and every gap of the
window's event loop; and prints a table. ``--background sam2.1-tiny-random`` keeps the worker
embedding with SAM 2.1 tiny's real shape (random weights: how long it takes is real, what it finds
is not) while the person works with ``--model``; ``--model sam2.1-tiny-random`` has the person work
with it. ``--json FILE`` keeps every figure.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parent))
from own_settings import own_settings
from soak_report import LIMIT_MS, Soak, table
from watchdog import Watchdog

SIZE_HW = (480, 640)
KINDS = 25
"""So many different phantoms; every image differs from all others in its noise."""
PHRASE = "breast tumor"
CLICKS = ((0.5, 0.5), (0.52, 0.54))
"""XY, as shares of the image's size."""
RANDOM_TINY = "sam2.1-tiny-random"
TIMEOUT_S = 600.0
MEGABYTE = 2**20


def write_images(folder: Path, count: int, size_hw: tuple[int, int] = SIZE_HW) -> Path:
    """``count`` phantoms of a few kinds, each with noise of its own, so that no two are equal."""
    from napari_usgseg.io.atomic import write_over
    from napari_usgseg.io.labels import write_png
    from napari_usgseg.phantoms.phantom import make_phantom

    phantoms = [make_phantom(seed, size_hw).image[..., 0] for seed in range(min(KINDS, count))]
    for index in range(count):
        rng = np.random.default_rng(index)
        noise = rng.integers(-6, 7, size_hw, np.int16)
        pixels = np.clip(phantoms[index % len(phantoms)] + noise, 0, 255).astype(np.uint8)
        write_png(folder / f"{index:04d}.png", pixels, write_over)
    return folder


def write_random_tiny(folder: Path) -> Path:
    """A checkpoint of SAM 2.1 tiny in the official format, with random weights.

    It is written by another process, for torch is not to be in the window's.
    """
    path = folder / "sam2.1_hiera_tiny_random.pt"
    writer = multiprocessing.get_context("spawn").Process(target=_write_random_tiny, args=(path,))
    writer.start()
    writer.join()
    return path


def _write_random_tiny(path: Path) -> None:
    import torch

    from napari_usgseg.models.sam.sam2 import SAM2_VARIANTS, build_sam2

    torch.manual_seed(0)
    torch.save({"model": build_sam2(SAM2_VARIANTS["sam2.1-hiera-tiny"]).state_dict()}, path)


def slowdown() -> float:
    """How many times longer than its own processor time a short piece of work takes just now."""
    wall, own = time.perf_counter(), time.thread_time()
    while time.thread_time() - own < 0.005:
        pass
    return (time.perf_counter() - wall) / (time.thread_time() - own)


class Script:
    """A person who does the same with every image."""

    def __init__(self, viewer: Any, widget: Any, model: str = "nano", background: str = "") -> None:
        self.viewer, self.widget, self.session = viewer, widget, widget.session
        self.session.set_settings(
            replace(self.session.settings, segmenter=model, phrase=PHRASE, find_on_open=False)
        )
        self.result = Soak(model, background)
        self.watchdog = Watchdog(LIMIT_MS)
        self._background = background
        self._embedding = False
        self._own = psutil.Process()

    def wait(self, condition: Callable[[], bool]) -> None:
        """Let the window work until something is so."""
        from qtpy.QtCore import QEventLoop, QTimer
        from qtpy.QtWidgets import QApplication

        end = time.monotonic() + TIMEOUT_S
        loop = QEventLoop()
        timer = QTimer()
        timer.timeout.connect(loop.quit)
        timer.start(2)
        while not condition():
            loop.exec()
            if time.monotonic() > end:
                raise TimeoutError(f"stuck while: {self.watchdog.step}; {self.session.status.text}")
        QApplication.sendPostedEvents()

    def idle(self) -> bool:
        """True where nothing goes on that a person would wait for, and all is drawn."""
        session = self.session
        return not session.status.busy and not session.is_waiting and not self.widget.bridge._dirty

    def run(
        self, folder: Path, labels: Path, progress: Callable[[int, int], None] = lambda *_: None
    ) -> Soak:
        """Label every image of ``folder``, keeping the labels in ``labels``."""
        self.watchdog.step = "open the folder"
        self.session.navigation.open_folder(folder, labels)
        self.wait(lambda: self.session.loaded is not None and self.idle())
        self.warm_up()
        count = len(self.session.image_queue.records)
        self.watchdog.start()
        for index in range(count):
            self.label(index, last=index == count - 1)
            progress(index + 1, count)
        self.watchdog.stop()
        return self.result

    def warm_up(self) -> None:
        """What is built at its first use only: napari's visuals, the models."""
        session, (height, width) = self.session, self.session.labels.shape
        session.prompting.find(PHRASE)
        self.wait(self.idle)
        session.prompting.add_point(width / 2, height / 2)
        self.wait(self.idle)
        session.prompting.clear_prompts()
        self.wait(self.idle)

    def label(self, index: int, last: bool) -> None:
        """Find, click twice, accept; then the next image."""
        session, result = self.session, self.result
        busy, begin = slowdown(), time.perf_counter()
        window_s, worker_s = spent(self._own), spent(self._worker())
        height, width = session.labels.shape
        self._embed_behind()
        self.watchdog.longest = self.watchdog.longest_own = 0.0
        self.watchdog.step = f"image {index}: find"
        session.prompting.find()
        self.wait(self.idle)
        clicked = time.perf_counter()
        for x, y in CLICKS:
            self.watchdog.step = f"image {index}: click"
            session.prompting.add_point(x * width, y * height)
            self.wait(self.idle)
        result.click_s.append((time.perf_counter() - clicked) / len(CLICKS))
        self.watchdog.step = f"image {index}: accept and next"
        here = session.record
        if last:
            session.editing.accept()
        else:
            session.editing.accept_and_next()
        self.wait(
            lambda: (
                (last or session.record is not here) and session.loaded is not None and self.idle()
            )
        )
        result.seconds.append(time.perf_counter() - begin)
        result.window_cpu_s.append(spent(self._own) - window_s)
        result.worker_cpu_s.append(spent(self._worker()) - worker_s)
        result.busy.append((busy + slowdown()) / 2)
        result.longest_ms.append(self.watchdog.longest)
        result.longest_own_ms.append(self.watchdog.longest_own)
        result.window_mb.append(self._own.memory_info().rss / MEGABYTE)
        result.worker_mb.append(self._worker().memory_info().rss / MEGABYTE)
        result.gaps += [
            (index, gap.milliseconds, gap.own_ms, gap.step, gap.stack) for gap in self.watchdog.gaps
        ]
        self.watchdog.gaps.clear()

    def _worker(self) -> psutil.Process:
        return psutil.Process(self.widget.workers.inference.process_id)

    def _embed_behind(self) -> None:
        """Have the worker embed this image with the other model, if it is done with the last."""
        from napari_usgseg.jobs import Lane
        from napari_usgseg.jobs.inference import embed
        from napari_usgseg.jobs.loaded_models import ImageSource

        if self._background and not self._embedding and self.session.loaded is not None:
            loaded = self.session.loaded
            self._embedding = True
            self.session.ask(
                embed,
                ImageSource(loaded.key, loaded.pixels),
                self._background,
                lane=Lane.PREFETCH,
                done=self._embedded,
                failed=self._failed,
            )

    def _embedded(self, _: str) -> None:
        self._embedding = False
        self.result.background_embeddings += 1

    def _failed(self, error: str) -> None:
        raise RuntimeError(error)


def spent(process: psutil.Process) -> float:
    """Seconds of processor time that a process has used."""
    times = process.cpu_times()
    return times.user + times.system


def in_front_of_a_window(model: str, background: str, inference: Any = None) -> Script:
    """A script in front of a new viewer with the dock widget, and a worker of another kind."""
    import napari

    from napari_usgseg.gui.widget import UltrasoundWidget

    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(1300, 860)
    widget = UltrasoundWidget(viewer, inference)
    viewer.window.add_dock_widget(widget, area="right", name="Ultrasound segmentation")
    return Script(viewer, widget, model, background)


def say(done: int, total: int) -> None:
    """Progress, now and then."""
    if done % 50 == 0:
        print(f"{done} of {total}", file=sys.stderr, flush=True)


def main() -> None:
    """Make the images, label them, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--model", default="nano", help=f"a segmenter, or {RANDOM_TINY}")
    parser.add_argument("--background", default="", help="a segmenter that embeds all the while")
    parser.add_argument("--folder", type=Path, help="keep the images here (made once)")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        own_settings(Path(scratch) / "settings")
        folder = chosen.folder or Path(scratch) / "images"
        if not folder.is_dir():
            write_images(folder, chosen.images)
        names = {name: name for name in (chosen.model, chosen.background)}
        if RANDOM_TINY in names:
            names[RANDOM_TINY] = str(write_random_tiny(Path(scratch)))
        script = in_front_of_a_window(names[chosen.model], names[chosen.background])
        result = script.run(folder, Path(scratch) / "labels", say)
        script.widget.shut_down()
        script.viewer.close()
        result.model, result.background = chosen.model, chosen.background
        if chosen.json:
            chosen.json.write_text(json.dumps(asdict(result)) + "\n")
        print(table(result))


if __name__ == "__main__":
    main()
