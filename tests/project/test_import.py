"""What another program labelled comes in as proposals: corrected and accepted like a model's."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.core.errors import Cancelled, DatasetError, LabelWriteError
from napari_usgseg.core.types import LabelClass
from napari_usgseg.io.formats import FORMATS
from napari_usgseg.io.labels import read_labels
from napari_usgseg.project import exchange
from napari_usgseg.project.exchange import export_store, import_labels
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import ImageState
from tests.support.bench import Bench
from tests.support.labelling import accept_labels, keep_settings, label_path, set_classes, set_state
from tests.support.plain_models import PlainSegmenter

SIZE_HW = (30, 40)
CLASSES = (LabelClass(1, "cyst", "#e69f00"), LabelClass(2, "nerve", "#56b4e9"))


def images_in(folder: Path, names: str = "ab") -> Path:
    folder.mkdir()
    for index, name in enumerate(names):
        pixels = np.random.default_rng(index).integers(0, 256, SIZE_HW, np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def codes_of(index: int) -> np.ndarray:
    codes = np.zeros(SIZE_HW, np.uint16)
    codes[2:12, 3 + index : 15] = 1001
    codes[5:8, 6:9] = 0  # a hole
    codes[2:12, 20:30], codes[20:28, 5:35] = 1002, 2001
    return codes


@pytest.fixture
def labelled(tmp_path) -> Path:
    """A project with two accepted images, objects told apart."""
    folder = images_in(tmp_path / "first")
    with closing(Project(folder)) as store:
        set_classes(store, CLASSES)
        keep_settings(store, {"labelling": "instance"})
        for index, record in enumerate(store.records):
            accept_labels(store, record, codes_of(index))
    return folder


def exported(labelled: Path, format: str) -> Path:
    with closing(Project(labelled, write=False)) as store:
        return export_store(store, labelled.parent / f"out-{format}", format=format).whole()


@pytest.mark.parametrize("format", [name for name in FORMATS if "boxes" not in name])
def test_an_export_comes_back_into_other_images_and_is_accepted_as_it_was(
    labelled, tmp_path, format
):
    out = exported(labelled, format)
    folder = images_in(tmp_path / "second")
    with closing(Project(folder)) as store:
        report = import_labels(store, out)
        assert report.format == format.removesuffix("-polygons").removesuffix("-loops")
        assert report.imported == ("a", "b")
        assert (report.kept, report.unmatched, report.failures) == ((), (), ())
        assert set(store.states().values()) == {ImageState.PROPOSED}
        assert [(c.class_id, c.name) for c in store.classes()] == [(1, "cyst"), (2, "nerve")]
    bench = Bench(folder)  # as a person goes on with it
    bench.session.navigation.open_folder(folder)
    bench.session.editing.accept()
    bench.session.navigation.step(1)
    bench.session.editing.accept()
    bench.session.close()
    for index, name in enumerate("ab"):
        found = read_labels(folder / "usgseg" / "labels" / f"{name}.png")
        assert np.array_equal(
            found // 1000 if found.max() >= 1000 else found, codes_of(index) // 1000
        )
        if format not in ("nnunet", "png-color", "png-classes"):
            pairs = np.unique(np.stack([found.ravel(), codes_of(index).ravel()]), axis=1)
            assert pairs.shape[1] == 4  # every object is one object


def test_it_can_be_undone_image_by_image(labelled, tmp_path):
    folder = images_in(tmp_path / "second")
    with closing(Project(folder)) as store:
        import_labels(store, exported(labelled, "coco"))
        assert [step.name for step in store.steps().done] == ["import classes", "import", "import"]
    bench = Bench(folder)
    bench.session.navigation.open_folder(folder)
    bench.session.undo()
    bench.session.undo()
    bench.session.close()
    with closing(Project(folder, write=False)) as store:
        assert set(store.states().values()) == {ImageState.UNTOUCHED}


def test_what_a_person_decided_or_began_stays_as_it_is(labelled, tmp_path):
    out = exported(labelled, "coco")
    with closing(Project(labelled)) as store:
        before = [label_path(store, name).read_bytes() for name in "ab"]
        report = import_labels(store, out, replace_proposals=True)
        assert (report.imported, report.kept) == ((), ("a", "b"))
        assert [label_path(store, name).read_bytes() for name in "ab"] == before
    folder = images_in(tmp_path / "second")
    with closing(Project(folder)) as store:
        set_state(store, "a", ImageState.SKIPPED)
        assert import_labels(store, out).kept == ("a",)
        assert import_labels(store, out).kept == ("a", "b")  # it has the proposals of the first
        again = import_labels(store, out, replace_proposals=True)
        assert (again.imported, again.kept) == (("b",), ("a",))
        assert len(store.read_proposal("b").objects) == 3


def test_classes_are_known_by_their_names_and_new_ones_are_added(labelled, tmp_path):
    folder = images_in(tmp_path / "second")
    with closing(Project(folder)) as store:
        set_classes(store, (LabelClass(4, "Nerve", "#009e73"), LabelClass(1, "bone", "#f0e442")))
        import_labels(store, exported(labelled, "coco"))
        assert {c.class_id: c.name for c in store.classes()} == {1: "bone", 4: "Nerve", 5: "cyst"}
        found = {item.class_id for item in store.read_proposal("a").objects}
        assert found == {4, 5}


def test_a_project_with_a_label_for_each_class_says_that_objects_become_one(labelled, tmp_path):
    out = exported(labelled, "coco")
    folder = images_in(tmp_path / "second", "abc")
    with closing(Project(folder)) as store:
        accept_labels(store, store.records[2], np.ones(SIZE_HW, np.uint8))
        report = import_labels(store, out)
        assert any("several objects of a class become one" in note for note in report.notes)
        assert store.settings().get("labelling", "semantic") == "semantic"
    folder = images_in(tmp_path / "third")
    with closing(Project(folder)) as store:
        import_labels(store, out)
        assert store.settings()["labelling"] == "instance"


def coco(folder: Path, *annotations: dict, name: str = "a.png") -> Path:
    folder.mkdir()
    card = {
        "images": [{"id": 1, "file_name": name, "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "cyst"}],
        "annotations": [{"image_id": 1, "category_id": 1, **each} for each in annotations],
    }
    (folder / "instances.json").write_text(json.dumps(card))
    return folder


def test_a_box_is_its_own_mask_or_what_a_segmenter_makes_of_it(tmp_path):
    boxes = coco(tmp_path / "coco", {"bbox": [5, 4, 10, 8]}, {"bbox": [500, 4, 10, 8]})
    folder = images_in(tmp_path / "in")
    with closing(Project(folder)) as store:
        report = import_labels(store, boxes)
        (item,) = store.read_proposal("a").objects
        assert np.argwhere(item.proposal.mask).min(0).tolist() == [4, 5]
        assert item.proposal.mask.sum() == 80
        assert "1 objects have a box only; their boxes are the masks" in report.notes[0]
        assert "1 objects have no pixel in their image" in report.notes[1]
        segmenter = PlainSegmenter()
        report = import_labels(store, boxes, segmenter=segmenter, replace_proposals=True)
        (item,) = store.read_proposal("a").objects
        assert "plain-1 made their masks" in report.notes[0]
        assert item.prompts.box.tolist() == segmenter.asked[0].box.tolist() == [5, 4, 14, 11]


FOREIGN = Path(__file__).parent.parent / "io" / "foreign"


@pytest.mark.parametrize(
    "place", ["datumaro/voc_detection", "datumaro/yolo", "supervision/voc", "datumaro/cvat-boxes"]
)
def test_a_set_of_boxes_alone_becomes_proposals_and_is_said(tmp_path, place):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(FOREIGN / "scan.png", folder)
    with closing(Project(folder)) as store:
        report = import_labels(store, FOREIGN / place)
        assert report.objects == len(store.read_proposal("scan").objects) == 4
        assert any("4 objects have a box only" in note for note in report.remarks())
        for item in store.read_proposal("scan").objects:
            x0, y0, x1, y1 = np.rint(item.proposal.box)
            assert item.proposal.mask.sum() == (x1 - x0 + 1) * (y1 - y0 + 1)


def test_boxes_are_no_less_objects_where_the_file_does_not_tell_objects_apart(tmp_path):
    boxes = coco(tmp_path / "coco", {"bbox": [5, 4, 10, 8]}, {"bbox": [20, 4, 10, 8]})
    card = json.loads((boxes / "instances.json").read_text())
    card["info"] = {"labelling": "semantic"}
    (boxes / "instances.json").write_text(json.dumps(card))
    folder = images_in(tmp_path / "in")
    with closing(Project(folder)) as store:
        keep_settings(store, {"labelling": "instance"})
        report = import_labels(store, boxes)
        assert report.objects == 2
        found = store.read_proposal("a").objects
        assert [item.proposal.box.tolist() for item in found] == [[5, 4, 14, 11], [20, 4, 29, 11]]


def several(folder: Path, *counts: int) -> Path:
    """A COCO file of the images a, b, ... with so many boxes of one class in each."""
    folder.mkdir()
    images = [{"id": n, "file_name": f"{'abcdef'[n]}.png"} for n in range(len(counts))]
    boxes = [{"image_id": n, "category_id": 1, "bbox": [9 * k, 2, 6, 6]}
             for n, count in enumerate(counts) for k in range(count)]  # fmt: skip
    card = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cyst"}]}
    (folder / "instances.json").write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize("counts", [(1, 2, 3), (3, 2, 1), (1, 1, 2)])
def test_objects_are_told_apart_wherever_in_the_file_the_first_two_of_a_class_are(tmp_path, counts):
    folder = images_in(tmp_path / "in", "abc")
    with closing(Project(folder)) as store:
        report = import_labels(store, several(tmp_path / "coco", *counts))
        assert not any("become one" in note for note in report.notes)
        assert store.settings()["labelling"] == "instance"
        assert [len(store.read_proposal(name).objects) for name in "abc"] == list(counts)


def test_images_of_the_file_without_an_object_are_counted(tmp_path):
    folder = images_in(tmp_path / "in", "abc")
    with closing(Project(folder)) as store:
        report = import_labels(store, several(tmp_path / "coco", 0, 2, 0))
        assert (report.imported, report.empty) == (("b",), ("a", "c"))
        assert set(store.states().values()) == {ImageState.UNTOUCHED, ImageState.PROPOSED}
        assert import_labels(store, several(tmp_path / "none", 0, 0, 0)).empty == ("a", "c")


def test_large_masks_do_not_wait_for_one_another_in_memory(labelled, tmp_path, monkeypatch):
    out = exported(labelled, "coco")
    folder = images_in(tmp_path / "second")
    monkeypatch.setattr(exchange, "TOGETHER_PIXELS", SIZE_HW[0] * SIZE_HW[1])
    with closing(Project(folder)) as store:
        batches = []
        record = store.record
        monkeypatch.setattr(store, "record", lambda e: batches.append(len(e)) or record(e))
        assert import_labels(store, out).imported == ("a", "b")
        assert batches == [1, 2, 1]  # how it is labelled; classes and a; b


def test_of_two_that_overlap_the_one_on_top_is_accepted(tmp_path):
    shapes = [
        {"label": name, "points": points, "shape_type": "rectangle", "group_id": None}
        for name, points in (("under", [[2, 2], [20, 20]]), ("over", [[10, 10], [30, 25]]))
    ]
    content = {"shapes": shapes, "imagePath": "a.png", "imageHeight": 30, "imageWidth": 40}
    (tmp_path / "a.json").write_text(json.dumps(content))
    folder = images_in(tmp_path / "in", "a")
    with closing(Project(folder)) as store:
        report = import_labels(store, tmp_path / "a.json")
        assert "in 1 images objects overlap" in report.notes[0]
        names = {item.class_id: item.name for item in store.classes()}
        (first, second) = store.read_proposal("a").objects
        assert [names[each.class_id] for each in (first, second)] == ["over", "under"]
        assert (first.proposal.mask & second.proposal.mask).sum() == 11 * 11
    bench = Bench(folder)
    bench.session.navigation.open_folder(folder)
    bench.session.editing.accept()
    bench.session.close()
    found = read_labels(folder / "usgseg" / "labels" / "a.png")
    over = next(number for number, name in names.items() if name == "over")
    assert (found[10:26, 10:31] == over).all()


def test_one_file_that_is_broken_stops_no_other(labelled, tmp_path):
    out = exported(labelled, "labelme")
    (out / "a.json").write_text('{"shapes": [')
    folder = images_in(tmp_path / "second")
    with closing(Project(folder)) as store:
        report = import_labels(store, out)
        assert report.imported == ("b",)
        assert [failure.image_id for failure in report.failures] == ["a.json"]
        assert "is no JSON" in str(report.failures[0].error)


def test_a_file_of_other_images_changes_nothing(labelled, tmp_path):
    folder = images_in(tmp_path / "second", "xy")
    with (
        closing(Project(folder)) as store,
        pytest.raises(DatasetError, match=r"names no image that is here: it has a\.png"),
    ):
        import_labels(store, exported(labelled, "coco"))
    with closing(Project(folder)) as store:
        assert (store.classes(), store.steps().done) == ((), ())


def test_who_is_not_alone_or_stops_it_is_told(labelled, tmp_path):
    out = exported(labelled, "coco")
    with closing(Project(labelled, write=False)) as store, pytest.raises(LabelWriteError):
        import_labels(store, out)

    def stop(done: int, total: int) -> None:
        raise Cancelled

    folder = images_in(tmp_path / "second")
    with closing(Project(folder)) as store:
        with pytest.raises(Cancelled):
            import_labels(store, out, progress=stop)
        assert set(store.states().values()) == {ImageState.UNTOUCHED}
        assert import_labels(store, out).imported == ("a", "b")


def test_a_name_that_could_be_several_frames_is_said(tmp_path):
    import tifffile

    folder = tmp_path / "in"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", np.zeros((3, *SIZE_HW), np.uint8), photometric=1)
    with closing(Project(folder)) as store:
        report = import_labels(store, coco(tmp_path / "coco", {"bbox": [1, 1, 5, 5]}))
        assert "has 3 frames here" in str(report.failures[0].error)
        one = coco(tmp_path / "one", {"bbox": [1, 1, 5, 5]}, name="a_0001.png")
        assert import_labels(store, one).imported == ("a_0001",)


def test_the_slices_of_a_volume_are_the_frames_of_its_file(tmp_path):
    import nibabel
    import tifffile

    folder = tmp_path / "in"
    folder.mkdir()
    tifffile.imwrite(folder / "loop.tif", np.zeros((3, *SIZE_HW), np.uint8), photometric=1)
    values = np.zeros((40, 30, 3), np.uint8)
    values[5:9, 4:7, 1] = 2
    path = tmp_path / "loop_labels.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    with closing(Project(folder)) as store:
        report = import_labels(store, path)
        assert report.imported == ("loop_0001",)
        (item,) = store.read_proposal("loop_0001").objects
        assert item.proposal.box.tolist() == [5, 4, 8, 6]
