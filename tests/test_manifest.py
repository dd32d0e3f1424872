from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from npe2 import PluginManifest

import napari_usgseg

MANIFEST = Path(napari_usgseg.__file__).parent / "napari.yaml"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(MANIFEST)


def test_the_manifest_is_valid_and_named_like_the_distribution(manifest: PluginManifest) -> None:
    assert manifest.name == "napari-usgseg"
    assert set(manifest.categories) == {"Annotation", "Segmentation", "Image Processing"}


def test_the_manifest_at_the_root_is_the_one_in_the_package() -> None:
    root = Path(__file__).resolve().parent.parent / "napari.yaml"
    assert root.is_symlink()
    assert root.resolve() == MANIFEST.resolve()


def test_every_command_can_be_imported_and_begins_with_the_plugins_name(
    manifest: PluginManifest,
) -> None:
    commands = manifest.contributions.commands
    assert commands
    for command in commands:
        assert command.id.startswith("napari-usgseg.")
        module, _, name = command.python_name.partition(":")
        assert callable(getattr(import_module(module), name))


def test_every_contribution_points_at_a_command() -> None:
    content = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))["contributions"]
    known = {command["id"] for command in content["commands"]}
    kinds = ("widgets", "sample_data", "readers", "writers")
    used = {item["command"] for kind in kinds for item in content[kind]}
    assert used <= known


def test_npe2s_own_validation_agrees() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", str(MANIFEST)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sample_data_are_images_with_their_truth() -> None:
    from napari_usgseg.gui.opening import phantoms

    layers = phantoms()
    assert {kind for _, _, kind in layers} == {"image", "labels"}
    for (image, _, _), (labels, _, _) in zip(layers[::2], layers[1::2], strict=True):
        assert image.shape[:2] == labels.shape
        assert labels.any()
