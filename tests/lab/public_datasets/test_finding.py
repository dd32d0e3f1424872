"""Images of an original folder meet the annotations and the rows of their own names."""

from __future__ import annotations

import dataclasses
import os
import unicodedata
from pathlib import Path

import pytest

from napari_usgseg.lab.public_datasets.finding import Findings, find_images
from napari_usgseg.lab.public_datasets.registry import Layout, MaskRule, TableRule, known_dataset

LAYOUT = Layout(
    image=(r"images/(?P<id>[^/]+)\.(?:png|jpg)",),
    files="images/1.png with masks/1.png",
    masks=(MaskRule(r"masks/(?P<id>[^/]+)\.(?:png|jpg)"),),
    group="{id}",
    table=TableRule(r"table\.csv", id="file", group="patient"),
)


def find(folder: Path, *names: str, rows: dict[str, str] | None = None) -> Findings:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    if rows is not None:
        lines = ["file,patient", *(f"{name},{patient}" for name, patient in rows.items())]
        (folder / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return find_images(dataclasses.replace(known_dataset("STU"), layout=LAYOUT), folder)


def masks(findings: Findings) -> dict[str, list[str]]:
    return {
        image.path.name: [path.name for _, paths in image.annotations for path in paths]
        for image in findings.images
    }


def test_hidden_files_are_neither_images_nor_annotations(tmp_path: Path) -> None:
    names = ("a.png", "._a.png", ".b.png", "__MACOSX/images/c.png")
    found = find(tmp_path, *(f"{part}/{name}" for part in ("images", "masks") for name in names))
    assert masks(found) == {"a.png": ["a.png"]}
    assert found.remarks == []


def test_umlauts_of_either_form_are_one_name(tmp_path: Path) -> None:
    composed = "Schilddr\u00fcse.png"
    parted = unicodedata.normalize("NFD", composed)
    found = find(tmp_path, f"images/{parted}", f"masks/{composed}", rows={composed: "p7"})
    assert masks(found) == {parted: [composed]}
    (image,) = found.images
    assert (image.item_id, image.group) == ("Schilddr\u00fcse", "p7")


def test_a_mask_in_another_case_is_found_where_no_image_has_that_case(tmp_path: Path) -> None:
    found = find(tmp_path, "images/a.png", "masks/A.png")
    assert masks(found) == {"a.png": ["A.png"]}
    assert found.remarks == []


def test_images_that_differ_in_case_keep_their_own_masks_and_ids(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    if (tmp_path / "X").exists():
        pytest.skip("this file system ignores case")
    names = ("images/a.png", "images/A.png", "masks/a.png", "masks/A.png", "images/b.png")
    found = find(tmp_path, *names, "masks/B.png", "masks/c.png", rows={"a": "p1", "A": "p2"})
    assert masks(found) == {"a.png": ["a.png"], "A.png": ["A.png"], "b.png": ["B.png"]}
    assert [remark.path for remark in found.remarks] == ["masks/c.png"]
    assert {image.path.name: image.group for image in found.images} == {
        "a.png": "p1", "A.png": "p2", "b.png": "b"
    }  # fmt: skip
    assert len({image.item_id.casefold() for image in found.images}) == 3


def test_a_mask_of_the_same_case_leaves_the_other_one_over(tmp_path: Path) -> None:
    found = find(tmp_path, "images/a.png", "masks/a.png", "masks/A.png")
    if len(os.listdir(tmp_path / "masks")) == 2:
        assert masks(found) == {"a.png": ["a.png"]}
        assert [(r.kind, r.path) for r in found.remarks] == [("missing", "masks/A.png")]


def test_a_row_with_the_whole_name_comes_first_and_an_unclear_one_is_left_out(
    tmp_path: Path,
) -> None:
    images = ("images/a.png", "images/b.png", "images/c.png")
    rows = {"a.jpg": "p1", "a.png": "p2", "B.PNG": "p3", "c.jpg": "p4", "c.tif": "p5"}
    found = find(tmp_path, *images, rows=rows)
    assert [image.group for image in found.images] == ["p2", "p3", "c"]


def test_names_that_cannot_be_a_files_are_made_safe_and_told(tmp_path: Path) -> None:
    odd = os.fsdecode(b"images/latin\xe9.png")
    try:
        found = find(tmp_path, "images/aux.png", odd, os.fsdecode(b"masks/\xe9.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    ids = sorted(image.item_id for image in found.images)
    assert ids[0].startswith("_aux~")
    assert ids[1] == "latin"
    assert [image.group for image in found.images] == ["aux", r"latin\xe9"]
    assert [remark.path for remark in found.remarks] == [r"masks/\xe9.png"]
