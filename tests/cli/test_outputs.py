"""Every command that writes, told to write where something is that it did not write."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.cli.main import run
from napari_usgseg.core.types import LabelClass
from napari_usgseg.phantoms.phantom import write_phantom_dataset
from napari_usgseg.project.project import Project
from tests.support.labelling import accept_labels, set_classes

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def make_scene(root: Path) -> Path:
    """A data set whose images were labelled in the window, two reports, an adapter, and links."""
    data = write_phantom_dataset(root / "data", 2, 0, size_hw=(64, 80))
    (data / ".usgseg-written.jsonl").unlink()  # as if a person had made it
    store = Project(data / "images")
    set_classes(store, (LabelClass(1, "cyst", "#e69f00"),))
    for record in store.records:
        accept_labels(store, record, np.ones(record.size_hw, np.uint8))
    store.close()
    for name in ("a.json", "b.json", *ADAPTER, "model.pth", "index.html", "tables.md"):
        (data / name).write_text("{}")
    (data / "worst.png").write_bytes((data / "images" / "breast-00000.png").read_bytes())
    stu = root / "STU" / "Hospital"
    stu.mkdir(parents=True)
    for name in ("Test_Image_1.png", "mask_1.png"):
        Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(stu / name)
    links = root / "links"
    links.mkdir()
    (links / "images").symlink_to(data / "images", target_is_directory=True)
    (links / "report.json").symlink_to(data / "a.json")
    os.link(data / "images" / "breast-00001.png", links / "hard.json")
    return root


def content(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in (".sqlite-wal", ".sqlite-shm")
    }


IMAGE = "data/images/breast-00000.png"
COMMANDS = {
    "segment a folder": ("segment", "data/images", "--box", "9,9,40,40", "--out"),
    "segment files": ("segment", IMAGE, "--box", "9,9,40,40", "--overwrite", "--out"),
    "segment with overlays": (
        "segment", "data/images", "--box", "9,9,40,40", "--overlay", "--overwrite", "--out",
    ),
    "evaluate": ("evaluate", "data", "--prompt", "box", "--limit", "1", "--out"),
    "evaluate to a file": ("evaluate", "data", "--prompt", "box", "--limit", "1", "--json"),
    "compare": ("evaluate", "--compare", "data/a.json", "data/b.json", "--out"),
    "compare to a file": ("evaluate", "--compare", "data/a.json", "data/b.json", "--json"),
    "ablate": ("ablate", "data", "--vary", "sentence", "--limit", "1", "--out"),
    "benchmark": ("benchmark", "--repeats", "1", "--json"),
    "demo": ("demo", "--count", "1", "--overwrite", "--out"),
    "demo to a file": ("demo", "--count", "1", "--out", "new-demo", "--json"),
    "report": ("report", "data/images", "--out"),
    "export": ("export", "data/images", "--overwrite", "--out"),
    "export of all annotators": (
        "export", "data/images", "--annotator", "all", "--overwrite", "--out",
    ),
    "prepare": ("datasets", "prepare", "STU", "STU", "--overwrite", "--out"),
    "convert to png": ("datasets", "convert", "data", "--to", "png", "--overwrite", "--out"),
    "convert to csv": ("datasets", "convert", "data", "--to", "csv", "--overwrite", "--out"),
    "convert to sam2rad": (
        "datasets", "convert", "data", "--to", "sam2rad", "--overwrite", "--out",
    ),
    "train ppn": ("train", "ppn", "data", "--steps", "1", "--out"),
    "resume ppn": ("train", "ppn", "data", "--steps", "1", "--resume", "--out"),
    "train lora": ("train", "lora", "data", "--steps", "1", "--out"),
    "train nano-segmenter": (
        "train", "nano-segmenter", "data", "--splits", "data/a.json", "--steps", "1", "--out",
    ),
    "train nano-detector": (
        "train", "nano-detector", "data", "--splits", "data/a.json", "--steps", "1", "--out",
    ),
    "train nano-dino": (
        "train", "nano-dino", "data", "--splits", "data/a.json", "--steps", "1", "--out",
    ),
    "merge-lora": ("models", "merge-lora", "data", "--detector", "nano", "--out"),
    "import-lora": ("models", "import-lora", "data/model.pth", "--out"),
}  # fmt: skip
FILES = (IMAGE, "data/masks/breast-00000.png", "data/dataset.json", "data/a.json",
         "data/images/usgseg/project.sqlite", "links/report.json", "links/hard.json")  # fmt: skip
FOLDERS = ("data", "data/images", "data/masks", "data/images/usgseg", "data/images/usgseg/labels",
           "data/images/usgseg/new", "links/images", "STU", "STU/Hospital")  # fmt: skip
TO_A_FILE = tuple(name for name in COMMANDS if COMMANDS[name][-1] == "--json")


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def given(scene) -> dict[str, bytes]:
    """What a person had before the first command."""
    return content(scene)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_changes_a_file_that_it_did_not_write(scene, given, name, monkeypatch, capsys):
    monkeypatch.chdir(scene)
    in_project = {path for path in given if path.startswith("data/images/usgseg/")}
    for target in FILES if name in TO_A_FILE else (*FILES, *FOLDERS):
        code = run([*COMMANDS[name], target])
        words = capsys.readouterr().err
        after = content(scene)
        assert [path for path in given if after.get(path) != given[path]] == [], target
        assert {p for p in after if p.startswith("data/images/usgseg/")} == in_project, target
        if name in TO_A_FILE or target in FILES or "usgseg" in target:
            assert code == 1, (target, words)
            assert words.startswith("usgseg: "), target
            assert "Traceback" not in words, target
        assert "overwrite it" not in words, target
        assert code in (0, 1, 3), (target, words)


def test_a_report_of_an_earlier_run_is_replaced_and_never_the_one_that_is_compared(
    usgseg, scene, tmp_path, checkpoint
):
    words = ["evaluate", scene / "data", "--prompt", "box", "--model", checkpoint, "--per-image"]
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    for _ in range(2):
        assert usgseg(*words, "--json", first).code == 0
    assert usgseg(*words, "--json", second, "--seed", 1).code == 0
    before = first.read_bytes(), second.read_bytes()
    refused = usgseg("evaluate", "--compare", first, second, "--json", second)
    assert (refused.code, "is read by this command" in refused.err) == (1, True)
    assert (first.read_bytes(), second.read_bytes()) == before
    first.write_bytes(first.read_bytes() + b"\n")  # by hand
    refused = usgseg(*words, "--json", first)
    assert (refused.code, "left as it is" in refused.err) == (1, True)
