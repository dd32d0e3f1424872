"""The public face: what ``import napari_usgseg as us`` gives a script, with the embedded models."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import napari_usgseg as us
from napari_usgseg.core.errors import (
    DatasetError,
    ImageReadError,
    LabelWriteError,
    ModelError,
    PromptError,
)
from napari_usgseg.core.metrics import dice
from napari_usgseg.core.types import LabelClass
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.labels import write_png
from napari_usgseg.phantoms.phantom import Phantom, make_phantom
from tests.support.dicom import region, write_dicom
from tests.support.labelling import accept_labels, set_classes

ROOT = Path(__file__).resolve().parent.parent
SQLITES_OWN = ("-shm", "-wal")


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """A nerve that the embedded detector finds."""
    return make_phantom(3)


@pytest.fixture(scope="module")
def found(phantom):
    return us.segment_text(phantom.image, phantom.phrase)


@pytest.fixture
def labelled(tmp_path, phantom) -> Path:
    """A folder of two images, one of them with an accepted label map."""
    folder = tmp_path / "scans"
    for name in ("a", "b"):
        write_png(folder / f"{name}.png", phantom.image)
    with closing(us.Project(folder)) as project:
        set_classes(project, (LabelClass(1, phantom.phrase, "#ff0000"),))
        accept_labels(project, project.records[0], (phantom.labels == 1).astype(np.uint8))
    return folder


def test_every_name_is_there_documented_and_listed():
    assert set(us.__all__) == {
        "Project", "export", "import_labels", "load_detector", "load_segmenter", "read_image",
        "read_regions", "segment_prompts", "segment_text", "segment_trace",
    }  # fmt: skip
    for name in us.__all__:
        thing = getattr(us, name)
        assert callable(thing)
        assert "Raises:" in thing.__doc__, name
        assert name in dir(us)


def test_a_name_that_is_not_there_is_none():
    with pytest.raises(AttributeError, match="segment_dreams"):
        us.segment_dreams  # noqa: B018


def test_the_package_alone_imports_nothing():
    code = "import sys, napari_usgseg; assert not {'numpy', 'torch', 'typer'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_type_checker_sees_the_signatures_and_no_other_name(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import napari_usgseg as us\n"
        "reveal_type(us.segment_text)\n"
        "us.load_segmenter(name=1)\n"
        "us.segment_dreams\n"
    )
    # the project's own settings and cache, which a run of mypy before this has filled
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(script)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": str(ROOT / "src")},
    )
    assert "-> napari_usgseg.segmentation.propose.Proposals" in done.stdout, done.stdout
    assert 'Argument "name" to "load_segmenter" has incompatible type "int"' in done.stdout
    assert 'Module has no attribute "segment_dreams"' in done.stdout


def test_a_phrase_gives_masks_boxes_and_scores(phantom, found):
    best = found.items[0]
    assert best.mask.shape == phantom.image.shape[:2]
    assert best.mask.dtype == bool
    assert best.box.shape == (4,)
    x0, y0, x1, y1 = best.box
    assert 0 <= x0 < x1 < phantom.image.shape[1]
    assert 0 <= y0 < y1 < phantom.image.shape[0]
    assert 0 < best.score <= 1
    assert best.phrase == phantom.phrase
    assert dice(best.mask, phantom.labels == 1) > 0.85


def test_of_a_picture_with_regions_the_one_that_is_pointed_at_is_seen_alone(phantom, tmp_path):
    height, width = phantom.image.shape[:2]
    screen = np.zeros((1, height, 2 * width), np.uint8)
    screen[0, :, :width], screen[0, :, width:] = 180, phantom.image[..., 0]
    boxes = [(x, 0, x + width - 1, height - 1) for x in (0, width)]
    path = write_dicom(
        tmp_path / "dual", screen, SequenceOfUltrasoundRegions=[region(box) for box in boxes]
    )
    image, regions = us.read_image(path), us.read_regions(path)
    found = us.segment_text(image, phantom.phrase, regions=regions)
    truth = np.pad(phantom.labels == 1, ((0, 0), (width, 0)))
    assert dice(found.items[0].mask, truth) > 0.85
    y, x = np.argwhere(truth)[truth.sum() // 2]
    click = us.segment_prompts(image, point_coords=[(x, y)], regions=regions)
    alone = us.segment_prompts(phantom.image, point_coords=[(x - width, y)])
    np.testing.assert_array_equal(click.mask[:, width:], alone.mask)
    assert not click.mask[:, :width].any()


def test_what_was_not_found_is_said(phantom):
    nothing = us.segment_text(phantom.image, phantom.phrase, box_threshold=1.0)
    assert nothing.items == ()
    assert phantom.phrase in " ".join(nothing.notes)


def test_grey_images_and_models_by_name_give_the_same(phantom, found):
    again = us.segment_text(
        phantom.image[..., 0],
        phantom.phrase,
        detector=us.load_detector("nano"),
        segmenter=us.load_segmenter("nano"),
    )
    np.testing.assert_array_equal(again.items[0].mask, found.items[0].mask)


def test_a_box_and_points_give_a_mask_and_a_further_point_corrects_it(phantom, found):
    truth = phantom.labels == 1
    rows, columns = np.nonzero(truth)
    box = [columns.min(), rows.min(), columns.max(), rows.max()]
    inside = us.segment_prompts(phantom.image, box=box, embedding=found.embedding)
    np.testing.assert_array_equal(inside.box, box)
    assert 0 <= inside.score <= 1
    assert dice(inside.mask, truth) > 0.85

    wrong = np.argwhere(inside.mask & ~truth)[0]
    corrected = us.segment_prompts(
        phantom.image,
        point_coords=[wrong[::-1]],
        point_labels=[0],
        box=box,
        previous=inside,
        embedding=found.embedding,
    )
    assert not corrected.mask[tuple(wrong)]
    assert dice(corrected.mask, inside.mask) > 0.8

    y, x = (round(values.mean()) for values in (rows, columns))
    click = us.segment_prompts(phantom.image, point_coords=[(x, y)])
    assert click.mask[y, x]


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ({}, "nothing to go by"),
        ({"point_coords": [(5, 5)], "point_labels": [1, 0]}, "label"),
        ({"point_coords": [(-50, 5)]}, "outside"),
        ({"point_coords": 5}, "points must be"),
        ({"point_coords": [("a", "b")]}, "point_coords must be numbers"),
        ({"point_coords": [("1", "2")]}, "point_coords must be numbers"),
        ({"point_coords": [(1, 2), (3,)]}, "point_coords must be numbers"),
        ({"point_coords": [(1e300, 5)]}, "outside"),
        ({"point_coords": [(10**400, 5)]}, "point_coords must be numbers"),
        ({"point_coords": []}, "nothing to go by"),
        ({"point_coords": [(5, 5)], "point_labels": [0.7]}, "point_labels must be 1 or 0"),
        ({"point_coords": [(5, 5)], "point_labels": [2]}, "point_labels must be 1 or 0"),
        ({"point_coords": [(5, 5)], "point_labels": [float("nan")]}, "point_labels must be 1 or 0"),
        ({"point_coords": [(5, 5)], "point_labels": ["on"]}, "point_labels must be numbers"),
        ({"point_labels": [1]}, "label"),
        ({"box": [1, 2, 3]}, "box"),
        ({"box": [1, 2, 3, 1j]}, "box must be numbers"),
        ({"box": "1,2,3,4"}, "box must be numbers"),
    ],
)
def test_prompts_that_cannot_be_used_are_named(phantom, found, prompts, words):
    with pytest.raises(PromptError, match=words):
        us.segment_prompts(phantom.image, embedding=found.embedding, **prompts)


def test_a_box_with_no_points_in_a_list_is_a_box_alone(phantom, found):
    box = found.items[0].box
    alone = us.segment_prompts(phantom.image, box=box, embedding=found.embedding)
    both = us.segment_prompts(
        phantom.image, box=box, point_coords=[], point_labels=[], embedding=found.embedding
    )
    np.testing.assert_array_equal(both.mask, alone.mask)


def test_a_mask_of_another_image_is_no_previous_one(phantom, found):
    with pytest.raises(PromptError, match="previous mask"):
        us.segment_prompts(phantom.image[:-9], point_coords=[(5, 5)], previous=found.items[0])


@pytest.mark.parametrize("name", ["box_threshold", "text_threshold"])
@pytest.mark.parametrize("value", [2, -1, float("nan")])
def test_a_threshold_out_of_range_is_refused(phantom, name, value):
    with pytest.raises(PromptError, match=f"{name} must be between 0 and 1"):
        us.segment_text(phantom.image, phantom.phrase, **{name: value})


def test_other_faults_are_of_the_one_tree(phantom, tmp_path):
    with pytest.raises(PromptError):
        us.segment_text(phantom.image, " . ")
    with pytest.raises(ImageReadError):
        us.segment_text(np.zeros((3, 4, 5, 6)), "cyst")
    with pytest.raises(ImageReadError):
        us.read_image(tmp_path / "none.png")
    with pytest.raises(ModelError):
        us.load_segmenter("sam-nine")


def test_a_project_shows_what_is_accepted_and_writes_nothing(labelled, phantom):
    def files() -> dict[Path, bytes]:
        found = (path for path in labelled.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in found if path.suffix[-4:] not in SQLITES_OWN}

    before = files()
    with closing(us.Project(labelled, write=False)) as project:
        assert [item.name for item in project.classes()] == [phantom.phrase]
        first, second = project.records
        np.testing.assert_array_equal(project.read_labels(first), phantom.labels == 1)
        assert project.read_labels(second) is None
    assert files() == before


def test_an_export_is_a_data_set(labelled, phantom, tmp_path):
    report = us.export(labelled, tmp_path / "out", organ="arm")
    assert report.exported == ("a",)
    assert report.whole() == tmp_path / "out"
    dataset = read_dataset(tmp_path / "out")
    assert (dataset.organ, dataset.target) == ("arm", phantom.phrase)
    with pytest.raises(LabelWriteError):
        us.export(labelled, tmp_path / "out")
    with closing(us.Project(labelled, write=False)) as project:
        us.export(project, tmp_path / "out", overwrite=True)
        with pytest.raises(PromptError, match="png"):
            us.export(project, tmp_path / "other", format="clay")


def test_nothing_accepted_is_said(tmp_path, phantom):
    write_png(tmp_path / "scans" / "a.png", phantom.image)
    with pytest.raises(DatasetError, match="nothing"):
        us.export(tmp_path / "scans", tmp_path / "out")


def test_a_bright_line_is_segmented_from_points_along_it():
    image = np.zeros((60, 90), np.uint8)
    image[28:33, 10:80] = 220
    mask = us.segment_trace(image, [(10, 30), (79, 30)], 5)
    assert dice(mask, image > 0) > 0.9
    with pytest.raises(PromptError, match="one at each end"):
        us.segment_trace(image, [(10, 30)], 5)
    with pytest.raises(PromptError, match="without a width"):
        us.segment_trace(image, [(10, 30), (79, 30)])
    above = np.zeros(image.shape, bool)
    above[22:30, 10:80] = True
    found = us.segment_trace(image, [(10, 30), (79, 30)], like=[(image, above)])
    assert dice(found, above) > 0.85


@pytest.mark.parametrize(
    ("points", "width", "words"),
    [
        ([1, 2, 3], 5, r"finite \(N, 2\)"),
        ([1, 2, 3, 4], 5, r"finite \(N, 2\)"),
        ([(1, 2, 3), (4, 5, 6)], 5, r"finite \(N, 2\)"),
        ([(1, 2), (float("nan"), 6)], 5, r"finite \(N, 2\)"),
        ([(1, 2), (float("inf"), 6)], 5, r"finite \(N, 2\)"),
        ([(1, 2), (40, 6)], 1e9, "pixels wide"),
        ([(1, 2), (40, 6)], float("inf"), "pixels wide"),
    ],
)
def test_a_trace_that_cannot_be_drawn_is_refused(points, width, words):
    with pytest.raises(PromptError, match=words):
        us.segment_trace(np.zeros((60, 90), np.uint8), points, width)


@pytest.mark.parametrize("shape", [(), (5,), (2, 2, 2, 2)])
def test_what_is_no_image_is_refused_by_every_way_in(shape, found):
    array = np.zeros(shape, np.uint8)
    for embedding in (None, found.embedding):
        with pytest.raises(ImageReadError, match="is no image"):
            us.segment_prompts(array, point_coords=[(1, 1)], embedding=embedding)
    with pytest.raises(ImageReadError, match="is no image"):
        us.segment_text(array, "nerve")
    with pytest.raises(ImageReadError, match="is no image"):
        us.segment_trace(array, [(1, 1), (2, 2)], 3)
