"""What may be imported where, proved in fresh processes."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import napari_usgseg

PROBE = """
import importlib, sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {walls!r}:
            raise ImportError("not allowed here: " + name)
sys.meta_path.insert(0, Wall())
for name in {modules!r}:
    importlib.import_module(name)
loaded = sorted(name for name in sys.modules if name in {absent!r})
assert not loaded, loaded
"""
WINDOWS = ("napari", "qtpy", "magicgui", "superqt", "PyQt5", "PyQt6", "PySide2", "PySide6")
HEAVY = ("torch", "transformers", "sam2", "timm", "peft", "torchvision")


def modules_below_gui() -> list[str]:
    walk = pkgutil.walk_packages(napari_usgseg.__path__, "napari_usgseg.")
    return [module.name for module in walk if not module.name.startswith("napari_usgseg.gui")]


def run(modules: list[str], walls: tuple[str, ...], absent: tuple[str, ...]) -> None:
    code = PROBE.format(modules=modules, walls=walls, absent=absent)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_everything_below_the_window_imports_without_napari_and_qt() -> None:
    modules = modules_below_gui()
    assert len(modules) > 15
    run(modules, walls=WINDOWS, absent=WINDOWS)


@pytest.mark.parametrize(
    "module",
    [
        "napari_usgseg",
        "napari_usgseg.cli.main",
        "napari_usgseg.annotation.session",
        "napari_usgseg.jobs.inference_process",
        "napari_usgseg.project.project",
    ],
)
def test_no_deep_learning_library_is_imported_before_it_is_used(module: str) -> None:
    run([module], walls=HEAVY, absent=HEAVY)


@pytest.mark.gui
def test_the_widget_module_imports_no_deep_learning_library() -> None:
    run(["napari_usgseg.gui.widget"], walls=HEAVY, absent=HEAVY)
