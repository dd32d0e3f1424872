"""Every writer of data sets, told to write where something is that it reads or did not write."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.cli.main import run
from napari_usgseg.core.errors import UsgsegError
from napari_usgseg.core.types import ImageRecord, LabelClass
from napari_usgseg.io.datasets import read_dataset, read_pair
from napari_usgseg.io.export import export_images
from napari_usgseg.lab.public_datasets.conversions import COLUMNS
from napari_usgseg.phantoms.phantom import write_phantom_dataset
from napari_usgseg.project.project import Project
from tests.support.labelling import accept_labels, set_classes

CYST = LabelClass(1, "cyst", "#e69f00")


def content(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in (".sqlite-wal", ".sqlite-shm")
    }


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A data set that a person made, its images labelled in the window, and other sources."""
    root = tmp_path / "scene"
    data = write_phantom_dataset(root / "data", 3, 0, size_hw=(40, 48))
    (data / ".usgseg-written.jsonl").unlink()
    for annotator in ("", "Ann"):
        store = Project(data / "images", annotator=annotator)
        set_classes(store, (CYST,))
        for record in store.records:
            accept_labels(store, record, np.ones(record.size_hw, np.uint8))
        store.close()
    rows = "".join(f"{record.image_id},P1\n" for record in store.records)
    (data / "groups.csv").write_text(f"image,group\n{rows}", encoding="utf-8")
    pixels = np.eye(40, dtype=np.uint8) * 255
    for name in ("Test_Image_1.png", "mask_1.png"):
        (root / "STU").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / "STU" / name)
    (root / "csv" / "train").mkdir(parents=True)
    Image.fromarray(pixels).save(root / "csv" / "train" / "a.png")
    with (root / "csv" / "train.CSV").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, ["cyst", 4, 4, 9, 9, "a.png", 40, 40, "set"]])
    own = write_phantom_dataset(root / "own", 2, 1, size_hw=(40, 48))  # with its record
    assert (own / ".usgseg-written.jsonl").is_file()
    return root


def export_own(root: Path, out: Path, overwrite: bool) -> None:
    """The images of a data set that the program wrote itself, exported once more."""
    items = {item.item_id: item for item in read_dataset(root / "own").items}
    records = [ImageRecord(key, item.image_path, None, (40, 48)) for key, item in items.items()]
    reads = [item.mask_path for item in items.values()]
    about = {"name": "own", "organ": "o", "target": "cyst", "classes": [CYST]}
    export_images(
        records, lambda record: read_pair(items[record.image_id]), out, reads=reads, **about,
        overwrite=overwrite,
    )  # fmt: skip


def command(*words: str) -> Callable[[Path, Path, bool], None]:
    """A command line; "{}" is the scene's folder."""

    def call(root: Path, out: Path, overwrite: bool) -> None:
        flags = ["--overwrite"] if overwrite else []
        code = run([*(word.format(root) for word in words), "--out", str(out), *flags])
        assert code in (0, 1, 3)

    return call


def attempt(
    write: Callable[[Path, Path, bool], None], root: Path, out: Path, overwrite: bool
) -> None:
    with contextlib.suppress(UsgsegError):  # a command line tells it by its code
        write(root, out, overwrite)


WRITERS = {
    "export": (command("export", "{}/data/images"), "data/images"),
    "export all": (command("export", "{}/data/images", "--annotator", "all"), "data/images"),
    "export by groups": (
        command("export", "{}/data/images", "--groups", "{}/data/groups.csv"), "data/images",
    ),
    "export own": (export_own, "own"),
    "convert to png": (command("datasets", "convert", "{}/data", "--to", "png"), "data"),
    "convert to csv": (command("datasets", "convert", "{}/data", "--to", "csv"), "data"),
    "convert to sam2rad": (command("datasets", "convert", "{}/data", "--to", "sam2rad"), "data"),
    "convert own to png": (command("datasets", "convert", "{}/own", "--to", "png"), "own"),
    "convert own to csv": (command("datasets", "convert", "{}/own", "--to", "csv"), "own"),
    "convert own to sam2rad": (command("datasets", "convert", "{}/own", "--to", "sam2rad"), "own"),
    "convert from csv": (command("datasets", "convert", "{}/csv", "--to", "png"), "csv"),
    "prepare": (command("datasets", "prepare", "STU", "{}/STU"), "STU"),
}  # fmt: skip


def overlaps(root: Path, source: Path) -> dict[str, Path]:
    """Places that have to do with the source, or hold what the program did not write."""
    links = root / "links"
    for name in ("hard/images", "hard/train", "soft", "foreign", "hidden"):
        (links / name).mkdir(parents=True)
    (links / "source").symlink_to(source, target_is_directory=True)
    for image in [path for path in source.rglob("*.png") if "usgseg" not in path.parts]:
        os.link(image, links / "hard" / "images" / image.name)
        os.link(image, links / "hard" / "train" / image.name) if image.parent == source else None
        if not (links / "soft" / image.name).exists():
            (links / "soft" / image.name).symlink_to(image)
        break
    (links / "foreign" / "scan.png").write_bytes(b"mine")
    (links / "hidden" / ".notes").write_bytes(b"mine")
    return {
        "itself": source,
        "its parent": source.parent,
        "its images": source / "images",
        "its masks": source / "masks",
        "a new folder in it": source / "new" / "set",
        "with dots": source / ".." / source.name,
        "a link to it": links / "source",
        "a link to it, deeper": links / "source" / "images",
        "a file of it": next(path for path in source.rglob("*.png")),
        "a hard link to an image": links / "hard",
        "a link to an image": links / "soft",
        "a project": root / "data" / "images" / "usgseg",
        "a new folder in a project": root / "data" / "images" / "usgseg" / "labels" / "new",
        "something else": links / "foreign",
        "something hidden": links / "hidden",
        "a file": links / "foreign" / "scan.png",
        "all of it": root,
    }


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", WRITERS)
def test_no_writer_changes_a_file_that_was_there(scene, name, overwrite, capsys):
    write, source = WRITERS[name]
    places = overlaps(scene, scene / source)
    before = content(scene)
    for where, out in places.items():
        is_new, known = not out.exists(), set(content(scene))
        attempt(write, scene, out, overwrite)
        after = content(scene)
        assert {path for path in before if after.get(path) != before[path]} == set(), where
        words = capsys.readouterr().err
        assert "Traceback" not in words, where
        assert "exists already" not in words, where
        if not is_new or "project" in where:
            assert set(after) == known, where


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "prepare"])
def test_a_result_is_replaced_by_the_same_one_and_what_a_person_changed_is_not(scene, name):
    write, _ = WRITERS[name]
    out = scene / "out"
    write(scene, out, False)
    first = content(out)
    assert any(path.endswith(".png") for path in first)
    attempt(write, scene, out, False)
    assert content(out) == first
    write(scene, out, True)
    assert content(out) == first
    changed = next(path for path in sorted(out.rglob("*.png")))
    changed.write_bytes(changed.read_bytes() + b"by hand")
    second = content(out)
    attempt(write, scene, out, True)
    assert content(out) == second
