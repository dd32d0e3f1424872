"""``usgseg import``: labels of other programs become proposals of a project."""

from __future__ import annotations

import json
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.project.project import Project
from napari_usgseg.project.records import ImageState
from tests.support.labelling import accept_labels


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in "abc":
        Image.fromarray(np.full((30, 40), 90, np.uint8)).save(folder / f"{name}.png")
    with closing(Project(folder)) as store:
        accept_labels(store, store.records[2], np.ones((30, 40), np.uint8))
    return folder


@pytest.fixture
def theirs(tmp_path):
    """A folder of labelme files: two that are right, one of another image, one that is broken."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name, points in (("a", [[2, 2], [9, 9]]), ("c", [[1, 1], [3, 3]]), ("x", [[1, 1], [3, 3]])):
        shape = {"label": "cyst", "points": points, "shape_type": "rectangle"}
        content = {"shapes": [shape], "imagePath": f"{name}.png"}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_what_comes_in_what_stays_and_what_is_not_here_is_told(usgseg, images, theirs):
    done = usgseg("import", theirs, "--into", images)
    assert done.code == 0
    assert "labelme: 1 objects proposed on 1 images" in done.out
    assert "1 images were left as they are (accepted, set aside or begun): c" in done.err
    assert "1 images of the file are not here: x.png" in done.err
    with closing(Project(images, write=False)) as store:
        assert store.states() == {
            "a": ImageState.PROPOSED,
            "b": ImageState.UNTOUCHED,
            "c": ImageState.ACCEPTED,
        }


def test_a_file_that_is_broken_is_named_and_the_code_says_so(usgseg, images, theirs):
    (theirs / "b.json").write_text('{"shapes": [')
    done = usgseg("import", theirs, "--into", images)
    assert done.code == 3
    assert "b.json" in done.err
    assert "1 objects proposed on 1 images" in done.out


def test_the_boxes_of_a_detector_become_masks_of_a_model(usgseg, images, tmp_path):
    card = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "cyst"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 15]}],
    }
    path = tmp_path / "found.json"
    path.write_text(json.dumps(card))
    done = usgseg("import", path, "--into", images, "--model", "nano", "--annotator", "Ann")
    assert done.code == 0, done.err
    assert "made their masks" in done.err
    with closing(Project(images, annotator="Ann", write=False)) as store:
        (item,) = store.read_proposal("a").objects
        assert item.prompts.box.tolist() == [5, 5, 24, 19]
    with closing(Project(images, write=False)) as store:
        assert store.read_proposal("a").objects == ()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--format", "docx"), "no export format 'docx'"),
        (("--format", "coco"), "no COCO file here"),
        (("--into", "nowhere"), "no such folder"),
    ],
)
def test_a_wrong_request_is_one_line(usgseg, images, theirs, words, error):
    done = usgseg("import", theirs, "--into", images, *words)
    assert done.code == 1
    assert error in done.err
    assert len(done.err.strip().splitlines()) == 1
