"""A person in front of a real napari viewer with the dock widget, with real mouse and keys."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import napari_usgseg
from napari_usgseg.gui.canvas.layers import step_of
from napari_usgseg.jobs.inference_process import InferenceProcess
from napari_usgseg.phantoms.phantom import write_phantom_dataset

WAIT_MS = 180_000
DOCK = "Ultrasound segmentation"
TRAINING_MS = 400_000
"""A training gives way to everything else on the machine."""
HEADS = 12
MANIFEST = Path(napari_usgseg.__file__).parent / "napari.yaml"


@cache
def _preferences_model() -> Any:
    """The class of the plugin's preferences, made from its manifest once for all tests."""
    from napari.settings import _plugin_config_generator
    from npe2 import PluginManager, PluginManifest

    manager = PluginManager()
    manager.register(PluginManifest.from_file(MANIFEST))
    return _plugin_config_generator.plugin_configuration_generator(manager)["napari-usgseg"]


@pytest.fixture(autouse=True)
def own_preferences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object | None]:
    """Preferences of the test's own: those of the person who runs it are neither read nor written.

    None where napari has no preferences for plugins.
    """
    import napari.settings
    from qtpy.QtCore import QSettings

    from napari_usgseg.gui import preferences

    user = QSettings.Scope.UserScope
    QSettings.setPath(QSettings.Format.IniFormat, user, str(tmp_path / "window"))
    if not hasattr(napari.settings, "get_plugin_settings"):
        yield None
        return
    made = _preferences_model()(config_path=tmp_path / "napari-usgseg.yaml")
    monkeypatch.setattr(napari.settings, "get_plugin_settings", lambda _: made)
    preferences._section.cache_clear()
    yield made
    preferences._section.cache_clear()


@pytest.fixture(scope="session")
def phantom_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four phantoms with their truth; never written to."""
    folder = tmp_path_factory.mktemp("phantoms") / "set"
    write_phantom_dataset(folder, 4, 0)
    return folder


@pytest.fixture
def phantom_folder(phantom_set: Path, tmp_path: Path) -> Path:
    """A fresh folder with the phantoms' images."""
    folder = tmp_path / "wrist 2026"
    folder.mkdir()
    for file in sorted((phantom_set / "images").glob("*.png")):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def truth(phantom_set: Path) -> Callable[[str], np.ndarray]:
    """The true label map of a phantom by its id."""
    return lambda image_id: np.asarray(Image.open(phantom_set / "masks" / f"{image_id}.png"))


@pytest.fixture
def no_giving_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings take their share of the machine, so that nobody waits for minutes."""
    monkeypatch.setenv("USGSEG_TRAINING_NICE", "0")


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small phantoms of fetal heads with their truth; never written to."""
    folder = tmp_path_factory.mktemp("heads") / "set"
    write_phantom_dataset(folder, HEADS, 40, "fetal-head", (96, 128))
    return folder


@pytest.fixture
def heads_folder(heads: Path, tmp_path: Path) -> Path:
    """A fresh folder with the heads' images."""
    copy = tmp_path / "heads 2026"
    shutil.copytree(heads / "images", copy)
    return copy


class Person:
    """Does with the window what a person does."""

    def __init__(self, viewer, qtbot, inference=None) -> None:
        from napari_usgseg.gui.widget import UltrasoundWidget

        self.viewer = viewer
        self.qtbot = qtbot
        self.widget = UltrasoundWidget(viewer, inference)
        viewer.window.add_dock_widget(self.widget, area="right", name=DOCK)
        self.session = self.widget.session
        self.notes: list[tuple[str, str]] = []
        self.session.notified.connect(lambda level, text: self.notes.append((level, text)))

    def wait(self, condition: Callable[[], bool]) -> None:
        self.qtbot.waitUntil(condition, timeout=WAIT_MS)

    def settle(self) -> None:
        """Wait until nothing is going on and all is drawn."""
        session = self.session

        def done() -> bool:
            return not session.status.busy and not self.widget.bridge._dirty

        self.wait(done)

    def open(self, folder: Path) -> None:
        self.widget.open_folder(folder)
        self.wait(lambda: self.session.loaded is not None)
        self.settle()

    def wait_for_training(self, condition: Callable[[], object]) -> None:
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=TRAINING_MS)

    def wait_until_it_learns(self, learner) -> None:
        """Wait for the first steps of a training that has begun."""
        self.wait_for_training(lambda: learner.training is None or learner.training.losses)
        assert learner.training is not None, learner.verdict

    def labels_by_hand(self, folder: Path, data_set: Path, count: int) -> Person:
        """Open a folder, paint the truth of its first images on the labels, and accept them."""
        from qtpy.QtCore import Qt

        self.open(folder)
        for _ in range(count):
            name = self.session.record.image_id
            truth = np.asarray(Image.open(data_set / "masks" / f"{name}.png"))
            layer = self.layer("labels")
            with layer.block_history():
                layer.data_setitem(np.nonzero(truth == 1), 1)
            self.press(Qt.Key.Key_G)
            self.wait(lambda before=name: self.session.record.image_id != before)
            self.wait(lambda: self.session.loaded is not None)
            self.settle()
        self.wait(lambda: sum(self.session.prompt_predictor.counts.values()) == count)
        return self

    def layer(self, role: str):
        return self.widget.bridge.find(role)

    def canvas_point(self, x: float, y: float):
        """Where a pixel of the image is on the canvas."""
        from qtpy.QtCore import QPoint

        canvas = self.viewer.window._qt_viewer.canvas
        labels = self.layer("labels")
        at = (np.array([x, y]) + 0.5) / step_of(labels)
        at = canvas.layer_to_visual[labels].node.get_transform("visual", "canvas").map(at)
        return QPoint(round(at[0] / at[3]), round(at[1] / at[3]))

    def pointed(self, x: float, y: float) -> tuple[float, float]:
        """XY of the image under the whole screen pixel at which a mouse that means (x, y) is."""
        at, labels = self.canvas_point(x, y), self.layer("labels")
        node = self.viewer.window._qt_viewer.canvas.layer_to_visual[labels].node
        there = node.get_transform("canvas", "visual").map([at.x(), at.y()])
        x, y = there[:2] / there[3] * step_of(labels) - 0.5
        return float(x), float(y)

    def click(self, x: float, y: float, shift: bool = False, alt: bool = False) -> None:
        """Click on the canvas with the mouse, at XY pixels of the image."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        native = self.viewer.window._qt_viewer.canvas.native
        held = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
        held = Qt.KeyboardModifier.AltModifier if alt else held
        QTest.mouseClick(native, Qt.MouseButton.LeftButton, held, self.canvas_point(x, y))

    def drag(
        self,
        *corners: tuple[float, float],
        shift: bool = False,
        seen: Callable[[], object] | None = None,
    ) -> None:
        """Press at the first XY, move along the others, release at the last.

        ``seen`` looks at what is shown before the release.
        """
        from qtpy.QtCore import QEvent, QPointF, Qt
        from qtpy.QtGui import QMouseEvent
        from qtpy.QtWidgets import QApplication

        native = self.viewer.window._qt_viewer.canvas.native
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        kinds = [QEvent.Type.MouseButtonPress, *[QEvent.Type.MouseMove] * (len(corners) - 1)]
        steps = [*zip(kinds, corners, strict=True), (QEvent.Type.MouseButtonRelease, corners[-1])]
        keys = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
        for kind, (x, y) in steps:
            if kind is QEvent.Type.MouseButtonRelease and seen is not None:
                seen()
            at = QPointF(self.canvas_point(x, y))
            button = none if kind is QEvent.Type.MouseMove else left
            held = none if kind is QEvent.Type.MouseButtonRelease else left
            event = QMouseEvent(
                kind,
                at,
                QPointF(native.mapToGlobal(at.toPoint())),
                button,
                held,
                keys,
            )
            QApplication.sendEvent(native, event)
            QApplication.processEvents()

    def press(self, key, modifier=None) -> None:
        """Press a key on the canvas."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        native = self.viewer.window._qt_viewer.canvas.native
        held = Qt.KeyboardModifier.NoModifier if modifier is None else modifier
        QTest.keyClick(native, key, held)


@pytest.fixture(scope="session")
def inference(qapp) -> Iterator[InferenceProcess]:
    """One inference process for all tests, for it takes seconds to start."""
    worker = InferenceProcess()
    yield worker
    worker.close()


@pytest.fixture
def employ(window, viewer, qtbot, inference) -> Iterator[Callable[..., Person]]:
    """Puts a person in front of an empty viewer, with a worker process lent or of their own.

    Whoever sat there before has closed the dock.
    """

    people: list[Person] = []

    def make(lent: InferenceProcess | None = None) -> Person:
        if people:
            window.tidy()
        people.append(Person(window.viewer(), qtbot, lent))
        return people[-1]

    yield make
    window.undock()
    qtbot.waitUntil(lambda: inference.is_idle, timeout=WAIT_MS)


@pytest.fixture
def person(employ, inference) -> Person:
    """A person in front of an empty viewer with the dock widget."""
    return employ(inference)


@pytest.fixture
def at_work(person: Person, phantom_folder: Path) -> Person:
    """The same with a folder of phantoms open."""
    person.open(phantom_folder)
    return person


def report(text: str) -> None:
    """Show a figure in the test's output (``pytest -s``, or with a failure)."""
    sys.stdout.write(f"{text}\n")


CONTROL = """
import sys, threading, time
wall = own = 0.0
done = []
threading.Thread(target=lambda: (sys.stdin.read(), done.append(1)), daemon=True).start()
while not done:
    time.sleep(0.04)
    start, begun = time.perf_counter(), time.thread_time()
    while time.thread_time() - begun < 0.01:
        pass
    wall, own = wall + time.perf_counter() - start, own + time.thread_time() - begun
print(wall / own if own else 1.0)
"""


@pytest.fixture
def slowdown() -> Iterator[Callable[[], float]]:
    """How many times longer than its own processor time a piece of work takes on this machine.

    1.0 on an idle machine, where the limit is the limit; more while other programs take their
    share of the processors, and then the limit is stretched by as much.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield lambda: max(1.0, float(process.communicate()[0]))
    process.kill()
    process.communicate()
