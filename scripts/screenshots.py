"""Pictures of the real window for the README, on phantoms: ``scripts/screenshots.py [--out docs]``.

On another folder of images: ``--images FOLDER --phrase "breast tumor"``. Without a screen, run it
under ``xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX"``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from qtpy.QtWidgets import QApplication

from napari_usgseg.annotation.learners.training import TrainingPlan
from napari_usgseg.phantoms.loop import make_phantom_loop
from napari_usgseg.phantoms.phantom import write_phantom_dataset

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from own_settings import own_settings

TIMEOUT_S = 900.0
LEARNT_FROM = 5
LOSSES_SHOWN = 12
TUNING = TrainingPlan(steps=60, batch=1)
TUNING_SHOWN = 8


def wait(condition: Callable[[], bool]) -> None:
    """Let the window work until something is so."""
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        QApplication.processEvents()
        time.sleep(0.002)
        if time.monotonic() > end:
            raise TimeoutError("the window did not get there; see its status line")


def rest(seconds: float = 0.6) -> None:
    """Let everything be drawn."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--images", type=Path)
    parser.add_argument("--phrase")
    parser.add_argument("--theme", default="dark", choices=["dark", "light"])
    parser.add_argument("--font", type=int, help="points; napari's own where none are given")
    parser.add_argument("--window", default="1360x860", help="pixels, WIDTHxHEIGHT")
    parser.add_argument("--no-training", action="store_true", help="leave out what takes minutes")
    parser.add_argument("--loop", action="store_true", help="the picture of a loop alone")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    images, phrase = chosen.images, chosen.phrase
    with tempfile.TemporaryDirectory() as scratch:
        own_settings(Path(scratch) / "settings")
        if not chosen.loop:  # first: it has no recent folder to offer yet
            if images is None:
                images = write_phantoms(Path(scratch) / "phantoms")
                phrase = phrase or "breast tumor"
            take(images, Path(scratch) / "labels", phrase or "breast tumor", chosen)
        take_loop(write_loop(Path(scratch) / "loop"), chosen)


def write_phantoms(folder: Path) -> Path:
    """Some phantoms to label."""
    write_phantom_dataset(folder, 8, 1)
    return folder


def write_loop(folder: Path) -> Path:
    """A loop of a nodule that grows and shrinks."""
    loop = make_phantom_loop(2, 40, (240, 320), kind="breast", motion="beat")
    folder.mkdir()
    tifffile.imwrite(folder / "nodule.tif", loop.frames, photometric="minisblack")
    return folder


class Desk:
    """A window with the dock, and pictures of it.

    Args:
        chosen: theme, font and size of the window, and the folder of the pictures.
    """

    def __init__(self, chosen: argparse.Namespace) -> None:
        import napari
        from napari.settings import get_settings

        from napari_usgseg.gui.widget import UltrasoundWidget

        appearance = get_settings().appearance
        appearance.theme = chosen.theme
        if chosen.font:
            appearance.font_size = chosen.font
        self._out = chosen.out
        self.viewer = napari.Viewer(show=True)
        self.viewer.window._qt_window.resize(*map(int, chosen.window.split("x")))
        self.widget = UltrasoundWidget(self.viewer)
        self.viewer.window.add_dock_widget(
            self.widget, area="right", name="Ultrasound segmentation"
        )

    def idle(self) -> bool:
        """Nothing goes on, and all is drawn."""
        session, drawn = self.widget.session, not self.widget.bridge._dirty
        return drawn and not session.status.busy and not session.is_waiting

    def shoot(self, name: str) -> None:
        """Take a picture."""
        rest()
        path = self._out / f"{name}.png"
        self.viewer.screenshot(path=path, canvas_only=False, flash=False)

    def close(self) -> None:
        """Close the window."""
        self.widget.shut_down()
        self.viewer.close()


def take_loop(images: Path, chosen: argparse.Namespace) -> None:
    """A loop, propagated from two frames of which one was accepted."""
    desk = Desk(chosen)
    session = desk.widget.session
    session.navigation.open_folder(images)
    wait(lambda: session.loaded is not None and desk.idle())
    session.prompting.find("breast tumor")
    wait(desk.idle)
    session.editing.accept()
    wait(desk.idle)
    session.propagation.propagate()
    wait(lambda: not session.runs.is_running)
    session.loops.accept(range(1, 8))
    session.loops.go(24)
    wait(lambda: session.loaded is not None and desk.idle())
    session.prompting.drop(len(session.proposal.objects) - 1)  # a cyst, not a tumor
    wait(desk.idle)
    desk.shoot("9-loop")
    desk.close()


def take(images: Path, labels: Path, phrase: str, chosen: argparse.Namespace) -> None:
    """Go the person's way and take a picture at each step."""
    desk = Desk(chosen)
    widget, idle, shoot = desk.widget, desk.idle, desk.shoot
    session = widget.session
    shoot("1-start")
    session.navigation.open_folder(images, labels)
    wait(lambda: session.loaded is not None and idle())
    widget.find_panel.phrase.setText(phrase)
    widget.find_panel.find()
    wait(idle)
    shoot("2-found")
    height, width = session.labels.shape
    proposal = session.proposal
    if proposal.has_masks:
        mask = proposal.objects[0].proposal.mask
        row = round(float(np.nonzero(mask)[0].mean()))
        session.prompting.add_point(float(np.flatnonzero(mask[row]).max() - 3), row, positive=False)
    else:
        session.prompting.add_box((0.3 * width, 0.3 * height), (0.6 * width, 0.6 * height))
    wait(idle)
    shoot("3-corrected")
    session.editing.accept()
    wait(idle)
    shoot("4-accepted")
    session.editing.accept_and_next()
    wait(lambda: session.loaded is not None and idle())
    widget.folds.set_open("View")
    shoot("5-next")
    widget.folds.set_open("History")
    session.navigation.flag()
    wait(lambda: session.loaded is not None and idle())
    shoot("6-history")
    widget.folds.close_all()
    if not chosen.no_training:
        take_trainings(desk)
    desk.close()


def take_trainings(desk: Desk) -> None:
    """Take pictures of both trainings while they go on."""
    widget, idle, shoot = desk.widget, desk.idle, desk.shoot
    session = widget.session
    for _ in range(LEARNT_FROM):
        if not session.editing.accept_and_next():
            session.navigation.mark_empty()
        wait(lambda: session.loaded is not None and idle())
    widget.folds.set_open("Learn")
    session.prompt_predictor.train()
    wait(lambda: len(getattr(session.prompt_predictor.training, "losses", ())) > LOSSES_SHOWN)
    bottom = widget.scrolled.verticalScrollBar()
    bottom.setValue(bottom.maximum())  # the curves have come since the fold was opened
    shoot("7-learn")
    session.prompt_predictor.cancel()
    wait(lambda: session.prompt_predictor.training is None)
    widget.learning.setCurrentWidget(widget.tune)
    session.tuning.plan = TUNING
    session.tuning.train()
    wait(lambda: len(getattr(session.tuning.training, "losses", ())) >= TUNING_SHOWN)
    bottom.setValue(bottom.maximum())
    shoot("8-tune")
    session.tuning.cancel()
    wait(lambda: session.tuning.training is None)


if __name__ == "__main__":
    main()
