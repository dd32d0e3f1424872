"""The wheel: everything a user needs is in it, and napari finds the plugin where it lies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LOOK = """
import json
from importlib.metadata import distribution
from npe2 import PluginManager
manager = PluginManager()
manager.discover()
manifest = manager.get_manifest("napari-usgseg")
import napari_usgseg
print(json.dumps({
    "module": napari_usgseg.__file__,
    "version": distribution("napari-usgseg").version,
    "widgets": [widget.display_name for widget in manifest.contributions.widgets],
    "weights": manifest.package_version,
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from this tree with the tools at hand."""
    out = tmp_path_factory.mktemp("dist")
    words = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_manifest_weights_and_no_pictures_of_patients(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    assert {
        "napari_usgseg/napari.yaml",
        "napari_usgseg/lab/public_datasets/registry.toml",
        "napari_usgseg/learning/phrases.toml",
        "napari_usgseg/weights/nano-segmenter.safetensors",
        "napari_usgseg/weights/nano-grounder/grounder.safetensors",
        "napari_usgseg/weights/nano-grounder/tokenizer.json",
        "napari_usgseg/weights/SHA256SUMS.json",
    } <= names
    assert not [name for name in names if name.endswith((".png", ".jpg", ".pt", ".pth", ".pkl"))]


def test_the_embedded_models_keep_their_size():
    weights = ROOT / "src" / "napari_usgseg" / "weights"

    def megabytes(path: Path) -> float:
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        return sum(file.stat().st_size for file in files) / 1e6

    assert megabytes(weights / "nano-segmenter.safetensors") <= 20
    assert megabytes(weights / "nano-grounder") <= 40
    assert megabytes(weights / "nano-dino") <= 40


def test_napari_finds_the_installed_plugin(wheel, tmp_path):
    site = tmp_path / "site"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, *install], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    look = subprocess.run(
        [sys.executable, "-c", LOOK], check=True, capture_output=True, text=True, env=environment
    )
    found = json.loads(look.stdout.strip().splitlines()[-1])
    assert Path(found["module"]).is_relative_to(site)
    assert found["widgets"] == ["Ultrasound segmentation"]
