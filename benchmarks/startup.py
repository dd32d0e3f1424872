"""What the plugin adds to napari's start, and how long its widget takes to open.

    xvfb-run -a -s "-screen 0 1400x900x24 +extension GLX" python benchmarks/startup.py

Each figure is from fresh processes that take turns with and without the plugin; medians. Beside
the seconds on the clock stand the processor seconds, which other programs change less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

START = """
import json, sys, time
wall, own = time.perf_counter(), time.process_time()
if sys.argv[1] == "without":
    from importlib import metadata
    every = metadata.distributions
    metadata.distributions = lambda **kind: (
        found for found in every(**kind) if found.metadata["Name"] != "napari-usgseg"
    )
import napari
from napari.plugins import _initialize_plugins
_initialize_plugins()
from npe2 import PluginManager
there = any(found.name == "napari-usgseg" for found in PluginManager.instance().iter_manifests())
wall, own = time.perf_counter() - wall, time.process_time() - own
alone = 0.0
if there:
    from npe2 import PluginManifest
    alone = time.process_time()
    PluginManager().register(PluginManifest.from_distribution("napari-usgseg"))
    alone = time.process_time() - alone
print(json.dumps({
    "wall": wall, "own": own, "alone": alone, "there": there,
    "modules": sorted(name for name in sys.modules if name.startswith("napari_usgseg")),
}))
"""

OPEN = """
import json, sys, time
from pathlib import Path
from own_settings import own_settings
own_settings(Path(sys.argv[1]))
import napari
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer(show=True)
viewer.window._qt_window.resize(1300, 860)
end = time.monotonic() + 2
while time.monotonic() < end:
    QApplication.processEvents()
wall, own = time.perf_counter(), time.process_time()
dock, widget = viewer.window.add_plugin_dock_widget("napari-usgseg", "Ultrasound segmentation")
made = time.perf_counter() - wall
QApplication.processEvents()
painted, painted_own = time.perf_counter() - wall, time.process_time() - own
assert widget.isVisible()
session = widget.session
while not session.jobs.awaits("warm", "warm text"):
    QApplication.processEvents()
while session.jobs.awaits("warm", "warm text"):
    QApplication.processEvents()
    time.sleep(0.002)
print(json.dumps({
    "made": made, "painted": painted, "own": painted_own,
    "models": time.perf_counter() - wall, "error": session.failure,
    "torch": "torch" in sys.modules,
}))
widget.shut_down()
viewer.close()
"""


def run(code: str, environment: dict[str, str], *arguments: str) -> dict:
    """What a fresh process prints as its last line."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def installed(scratch: Path) -> dict[str, str]:
    """An environment with settings of its own in which the plugin is installed, as by ``pip``."""
    environment = dict(os.environ, NAPARI_CONFIG=str(scratch / "napari" / "settings.yaml"))
    paths = [str(Path(__file__).parent), environment.get("PYTHONPATH", "")]
    try:
        metadata.distribution("napari-usgseg")
    except metadata.PackageNotFoundError:
        folder = scratch / "napari_usgseg-0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: napari-usgseg\nVersion: 0\n", encoding="utf-8"
        )
        (folder / "entry_points.txt").write_text(
            "[napari.manifest]\nnapari-usgseg = napari_usgseg:napari.yaml\n", encoding="utf-8"
        )
        paths.insert(0, str(scratch))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environment


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repeats", nargs="?", type=int, default=7)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as scratch:
        environment = installed(Path(scratch))
        starts: dict[str, list[dict]] = {"without": [], "with": []}
        for turn in range(repeats + 1):
            for name in list(starts)[:: -1 if turn % 2 else 1]:
                found = run(START, environment, name)
                assert found["there"] == (name == "with"), found
                if turn:
                    starts[name].append(found)
        print_starts(starts)
        opens = range(max(1, repeats // 2) + 1)
        print_opens([run(OPEN, environment, f"{scratch}/{turn}") for turn in opens][1:])


def median(rows: list[dict], key: str) -> float:
    """The middle of some runs."""
    return statistics.median(row[key] for row in rows)


def print_starts(starts: dict[str, list[dict]]) -> None:
    """What the plugin adds to napari's start."""
    print("| import napari and find plugins | on the clock | processor |")
    print("| --- | ---: | ---: |")
    for name, rows in starts.items():
        print(f"| {name} it, s | {median(rows, 'wall'):.3f} | {median(rows, 'own'):.3f} |")
    more = [
        1000 * (median(starts["with"], key) - median(starts["without"], key))
        for key in ("wall", "own")
    ]
    print(f"| it adds, ms (goal: 50) | {more[0]:.0f} | {more[1]:.0f} |")
    alone = 1000 * median(starts["with"], "alone")
    print(f"| reading and indexing its manifest once more, ms | | {alone:.1f} |")
    print(f"\nmodules of the plugin that are loaded then: {starts['with'][0]['modules']}")


def print_opens(opens: list[dict]) -> None:
    """How long the widget takes."""
    print("\n| opening the widget, s | |\n| --- | ---: |")
    for key, words in (
        ("made", "built"),
        ("painted", "on the screen (goal: 1)"),
        ("own", "the same in processor seconds"),
        ("models", "models loaded behind it"),
    ):
        print(f"| {words} | {median(opens, key):.3f} |")
    print(f"\ntorch in napari's process: {any(row['torch'] for row in opens)}")


if __name__ == "__main__":
    main()
