from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_usgseg.core.errors import LabelWriteError, PromptError
from napari_usgseg.core.types import Prompts, TextPrompt
from napari_usgseg.io.labels import read_classes, read_labels
from napari_usgseg.io.outputs import RECORD_FILE, OutputFolder
from napari_usgseg.io.reading import dicom, files
from napari_usgseg.segmentation import batch
from napari_usgseg.segmentation.batch import BatchRequest, segment_files
from tests.support.dicom import ENCODERS, region, write_dicom

CYST = BatchRequest(text=TextPrompt("Cyst. vessel"))


@pytest.fixture
def images(tmp_path) -> list[Path]:
    folder = tmp_path / "ein Ordner mit Ümlaut"
    folder.mkdir()
    paths = [folder / f"{name}.png" for name in ("a", "b", "c")]
    for path, width in zip(paths, (80, 81, 120), strict=True):
        Image.new("L", (width, 60)).save(path)
    return paths


@pytest.fixture
def detector(make_detector):
    return make_detector([("cyst", (0, 0, 9, 9), 0.9), ("vessel", (5, 5, 24, 24), 0.5)])


def _run(images, out, segmenter, detector, request=CYST):
    return list(segment_files(images, out, segmenter, detector, request))


def test_every_image_gets_a_label_map_of_its_size(images, tmp_path, plain_segmenter, detector):
    results = _run(images, tmp_path / "out", plain_segmenter, detector)
    assert [result.status for result in results] == ["done"] * 3
    assert [read_labels(result.label_path).shape for result in results] == [
        (60, 80), (60, 81), (60, 120),
    ]  # fmt: skip
    labels = read_labels(results[0].label_path)
    assert labels[7, 7] == 1, "the cyst has the higher score"
    assert labels[20, 20] == 2
    classes = read_classes(tmp_path / "out" / "classes.json")
    assert [(c.class_id, c.name) for c in classes] == [(1, "cyst"), (2, "vessel")]


def test_a_class_that_lies_wholly_under_another_is_told_of(
    images, tmp_path, plain_segmenter, make_detector
):
    detector = make_detector([("cyst", (0, 0, 30, 30), 0.9), ("vessel", (5, 5, 24, 24), 0.5)])
    (result,) = _run(images[:1], tmp_path / "out", plain_segmenter, detector)
    assert set(np.unique(read_labels(result.label_path))) == {0, 1}
    assert result.message == "'vessel' was found only under what scores better."


def test_one_bad_file_never_stops_the_others(images, tmp_path, plain_segmenter, detector):
    images[1].write_bytes(images[1].read_bytes()[:40])
    results = _run(images, tmp_path / "out", plain_segmenter, detector)
    assert [result.status for result in results] == ["done", "failed", "done"]
    assert results[1].message
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["a.png", "c.png"]
    card = json.loads((tmp_path / "out" / "run.json").read_text())
    assert card["files"]["b"]["status"] == "failed"
    assert card["files"]["b"]["message"] == results[1].message


def test_run_json_says_what_was_asked_of_which_models(images, tmp_path, plain_segmenter, detector):
    _run(images, tmp_path / "out", plain_segmenter, detector)
    card = json.loads((tmp_path / "out" / "run.json").read_text())
    assert card["request"]["text"] == "Cyst. vessel"
    assert card["request"]["segmenter"] == "plain-1"
    assert card["request"]["grounder"] == "detector-1"
    assert card["request"]["postprocess"]["keep"] == "prompted"
    assert card["versions"]["napari-usgseg"]
    assert card["seconds"] >= 0
    assert card["files"]["a"]["source"] == str(images[0].resolve())


def test_the_same_request_keeps_what_is_done_and_does_the_rest(
    images, tmp_path, plain_segmenter, detector
):
    out = tmp_path / "out"
    _run(images[:2], out, plain_segmenter, detector)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    results = _run(images, out, plain_segmenter, detector)
    assert [(r.status, r.objects) for r in results] == [("kept", 2), ("kept", 2), ("done", 2)]
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert set(json.loads((out / "run.json").read_text())["files"]) == {"a", "b", "c"}


def test_a_run_killed_between_two_files_goes_on(images, tmp_path, plain_segmenter, detector):
    out = tmp_path / "out"
    run = segment_files(images, out, plain_segmenter, detector, CYST)
    next(run)
    run.close()
    statuses = [r.status for r in _run(images, out, plain_segmenter, detector)]
    assert statuses == ["kept", "done", "done"]


def test_a_label_map_torn_off_while_it_was_written_is_done_again(
    images, tmp_path, plain_segmenter, detector
):
    out = tmp_path / "out"
    _run(images[:1], out, plain_segmenter, detector)
    card = json.loads((out / "run.json").read_text())
    card["files"]["a"]["status"] = "writing"
    (out / "run.json").write_text(json.dumps(card))
    assert _run(images[:1], out, plain_segmenter, detector)[0].status == "done"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_strangers_file_is_left_as_it_is(images, tmp_path, plain_segmenter, detector, overwrite):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.png").write_bytes(b"somebody's work")
    request = replace(CYST, overwrite=overwrite)
    results = _run(images, out, plain_segmenter, detector, request)
    assert [result.status for result in results] == ["done", "failed", "done"]
    assert "is not known to be of this program" in results[1].message
    assert "overwrite" not in results[1].message
    assert (out / "b.png").read_bytes() == b"somebody's work"


def test_overwriting_replaces_what_the_program_wrote_and_no_correction(
    images, tmp_path, plain_segmenter, detector
):
    out = tmp_path / "out"
    _run(images, out, plain_segmenter, detector, replace(CYST, overlay=True))
    Image.new("L", (81, 60), 1).save(out / "b.png")
    corrected = (out / "b.png").read_bytes()
    kept = _run(images, out, plain_segmenter, detector)
    assert [result.status for result in kept] == ["kept"] * 3
    request = BatchRequest(text=TextPrompt("cyst"), overlay=True, overwrite=True)
    results = _run(images, out, plain_segmenter, detector, request)
    assert [result.status for result in results] == ["done", "failed", "done"]
    assert (out / "b.png").read_bytes() == corrected
    assert [c.name for c in read_classes(out / "classes.json")] == ["cyst"]


def test_a_run_file_or_classes_of_a_person_end_the_request_before_the_work(
    images, tmp_path, plain_segmenter, detector
):
    theirs = {
        "run.json": ['{"my": "notes"}', "", "[1]", '{"schema": 2, "request": {}, "files": {}}'],
        "classes.json": ['{"my": "classes"}', "not even JSON"],
        ".lock": ["the key is under the mat"],
    }
    for name, contents in theirs.items():
        for index, content in enumerate(contents):
            out = tmp_path / f"{name}{index}"
            out.mkdir()
            (out / name).write_text(content)
            for overwrite in (False, True):
                with pytest.raises(LabelWriteError, match=name):
                    _run(images, out, plain_segmenter, detector, replace(CYST, overwrite=overwrite))
            assert (out / name).read_text() == content
            assert [path.name for path in out.iterdir()] == [name]


def test_a_project_is_not_written_into(images, tmp_path, plain_segmenter, detector):
    project = tmp_path / "usgseg"
    (project / "labels").mkdir(parents=True)
    (project / "project.sqlite").write_bytes(b"")
    for out in (project, project / "labels", project / "new"):
        with pytest.raises(LabelWriteError, match="project keeps its labels"):
            _run(images, out, plain_segmenter, detector)
    assert sorted(path.name for path in project.iterdir()) == ["labels", "project.sqlite"]


def _old(out: Path) -> None:
    """Make a run what older versions left: no hash of an image, no record of what was written."""
    card = json.loads((out / "run.json").read_text())
    for entry in card["files"].values():
        entry.pop("sha256", None)
    (out / "run.json").write_text(json.dumps(card, indent=1))
    (out / RECORD_FILE).unlink()


def test_a_run_of_an_older_version_goes_on_and_its_label_maps_are_a_persons(
    images, tmp_path, plain_segmenter, detector
):
    out = tmp_path / "out"
    _run(images[:2], out, plain_segmenter, detector)
    _old(out)
    before = {path: path.read_bytes() for path in out.glob("*.png")}
    statuses = [r.status for r in _run(images, out, plain_segmenter, detector)]
    assert statuses == ["kept", "kept", "done"]
    request = replace(CYST, overwrite=True)
    statuses = [r.status for r in _run(images, out, plain_segmenter, detector, request)]
    assert statuses == ["failed", "failed", "done"]
    assert {path: path.read_bytes() for path in before} == before


def test_an_older_label_map_of_another_size_is_not_kept(
    images, tmp_path, plain_segmenter, detector
):
    out = tmp_path / "out"
    _run(images, out, plain_segmenter, detector)
    _old(out)
    Image.new("L", (60, 80)).save(images[0])
    results = _run(images, out, plain_segmenter, detector)
    assert [result.status for result in results] == ["failed", "kept", "kept"]
    assert "replaced since; choose another folder" in results[0].message


@pytest.mark.parametrize("size", [(80, 60), (60, 80)])
def test_the_label_map_of_an_image_that_was_replaced_is_not_kept(
    images, tmp_path, plain_segmenter, detector, size
):
    out = tmp_path / "out"
    _run(images, out, plain_segmenter, detector)
    before = (out / "a.png").read_bytes()
    Image.new("L", size, 9).save(images[0])
    for _ in range(2):
        results = _run(images, out, plain_segmenter, detector)
        assert [result.status for result in results] == ["failed", "kept", "kept"]
        assert "replaced since; --overwrite makes it anew" in results[0].message
        assert (out / "a.png").read_bytes() == before
    request = replace(CYST, overwrite=True)
    results = _run(images, out, plain_segmenter, detector, request)
    assert [result.status for result in results] == ["done"] * 3
    assert read_labels(out / "a.png").shape == size[::-1]


def test_renamed_and_moved_images_keep_their_label_maps(
    images, tmp_path, plain_segmenter, detector
):
    for index, path in enumerate(images):
        Image.new("L", (80, 60), index).save(path)
    out = tmp_path / "out"
    first = _run(images, out, plain_segmenter, detector)
    moved = tmp_path / "elsewhere"
    images[0].parent.rename(moved)
    (moved / "a.png").rename(moved / "first.png")
    paths = [moved / "first.png", moved / "b.png", moved / "c.png"]
    results = _run(paths, out, plain_segmenter, detector)
    assert [result.status for result in results] == ["kept"] * 3
    assert [r.label_path for r in results] == [r.label_path for r in first]
    card = json.loads((out / "run.json").read_text())
    assert card["files"]["a"]["source"] == str(paths[0].resolve())


def test_an_image_in_the_place_of_one_that_was_renamed_is_not_taken_for_it(
    images, tmp_path, plain_segmenter, detector
):
    out = tmp_path / "out"
    _run(images[:1], out, plain_segmenter, detector)
    was = images[0].with_name("was.png")
    images[0].rename(was)
    Image.new("L", (33, 44), 3).save(images[0])
    for _ in range(2):
        results = _run([images[0], was], out, plain_segmenter, detector)
        assert [result.status for result in results] == ["failed", "kept"]
        assert "of another image, which had this name before" in results[0].message
    request = replace(CYST, overwrite=True)
    results = _run([images[0], was], out, plain_segmenter, detector, request)
    assert [result.label_path.name for result in results] == ["a.png", "was.png"]
    assert read_labels(out / "a.png").shape == (44, 33)


def test_ids_stay_when_other_files_join(images, tmp_path, plain_segmenter, detector):
    out = tmp_path / "out"
    _run(images[:1], out, plain_segmenter, detector)
    other = images[0].with_suffix(".bmp")
    Image.new("L", (30, 20), 7).save(other)
    results = _run([other, images[0]], out, plain_segmenter, detector)
    assert [(r.status, r.label_path.name) for r in results] == [
        ("done", "a.bmp.png"), ("kept", "a.png"),
    ]  # fmt: skip
    again = _run([images[0], other], out, plain_segmenter, detector)
    assert [r.status for r in again] == ["kept", "kept"]


@pytest.mark.parametrize("overlay", [False, True])
def test_label_maps_never_go_among_images(
    images, tmp_path, plain_segmenter, detector, overlay, monkeypatch
):
    folder = images[0].parent
    (tmp_path / "way").symlink_to(folder)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "l.png").symlink_to(images[0])
    monkeypatch.chdir(folder)
    request = replace(CYST, overlay=overlay, overwrite=True)
    ways = [folder, Path("."), tmp_path / "way", folder / ".." / folder.name]
    for out in ways:
        for sources in (images, [tmp_path / "links" / "l.png"]):
            with pytest.raises(LabelWriteError, match="is the folder of the images"):
                _run(sources, out, plain_segmenter, detector, request)
    assert sorted(folder.iterdir()) == images


def test_pictures_do_not_go_among_images_either(tmp_path, plain_segmenter, detector):
    folder = tmp_path / "out" / "overlays"
    folder.mkdir(parents=True)
    Image.new("L", (80, 60)).save(folder / "a.png")
    before = (folder / "a.png").read_bytes()
    request = replace(CYST, overlay=True, overwrite=True)
    with pytest.raises(LabelWriteError, match="is the folder of the images"):
        _run([folder / "a.png"], tmp_path / "out", plain_segmenter, detector, request)
    assert (folder / "a.png").read_bytes() == before


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


PLACES = ("in", "in/deep", "out", "out/overlays", "both")
OVERLAPS = st.fixed_dictionaries(
    {
        "inputs": st.lists(
            st.tuples(st.sampled_from(PLACES), st.sampled_from(["a.png", "A.png", "run.png"])),
            min_size=1, max_size=4, unique=True,
        ),
        "out": st.sampled_from([*PLACES, "in/../out", "way/out", "IN", "new"]),
        "linked": st.sampled_from(["", "symlink", "hard link"]),
        "in_the_way": st.sampled_from(
            ["a.png", "run.json", "overlays/a.png", "classes.json", RECORD_FILE, ".lock"]
        ),
        "overlay": st.booleans(),
        "overwrite": st.booleans(),
    }
)  # fmt: skip


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(OVERLAPS)
def test_whatever_overlaps_all_inputs_stay_byte_for_byte(
    tmp_path_factory, plain_segmenter, make_detector, case
):
    root = tmp_path_factory.mktemp("overlap")
    (root / "way").symlink_to(root)
    (root / "in").mkdir()
    sources = []
    for index, (place, name) in enumerate(case["inputs"]):
        path = root / place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            Image.new("L", (40 + index, 30), index).save(path)
        sources.append(path)
    out = root / case["out"]
    target = out / case["in_the_way"]
    if case["linked"] and not os.path.lexists(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if case["linked"] == "symlink":
            target.symlink_to(sources[0])
        else:
            os.link(sources[0], target)
    before = _bytes(root)
    request = replace(CYST, overlay=case["overlay"], overwrite=case["overwrite"])
    detector = make_detector([("cyst", (0, 0, 9, 9), 0.9)])
    for _ in range(2):
        with contextlib.suppress(LabelWriteError):
            list(segment_files(sources, out, plain_segmenter, detector, request))
    assert {name: _bytes(root).get(name) for name in before} == before


def test_another_request_does_not_mix_into_the_same_folder(
    images, tmp_path, plain_segmenter, detector
):
    _run(images[:1], tmp_path / "out", plain_segmenter, detector)
    other = BatchRequest(text=TextPrompt("vessel"))
    with pytest.raises(LabelWriteError, match=r"'Cyst\. vessel'"):
        _run(images, tmp_path / "out", plain_segmenter, detector, other)


def test_an_overlay_is_drawn_where_it_is_asked_for(images, tmp_path, plain_segmenter, detector):
    request = BatchRequest(text=TextPrompt("cyst"), overlay=True)
    _run(images[:1], tmp_path / "out", plain_segmenter, detector, request)
    drawn = np.asarray(Image.open(tmp_path / "out" / "overlays" / "a.png"))
    assert drawn.shape == (60, 80, 3)
    assert drawn[5, 5].any()
    assert not drawn[50, 50].any()


def test_boxes_need_no_detector_and_each_is_an_object(images, tmp_path, plain_segmenter):
    boxes = [np.array(box, np.float32) for box in ((0, 0, 9, 9), (30, 30, 39, 39))]
    request = BatchRequest(objects=tuple(Prompts(box=box) for box in boxes))
    results = _run(images[:1], tmp_path / "out", plain_segmenter, None, request)
    assert results[0].objects == 2
    assert read_labels(results[0].label_path).sum() == 200
    assert read_classes(tmp_path / "out" / "classes.json")[0].name == "object"


def test_an_empty_request_is_refused(images, tmp_path, plain_segmenter):
    with pytest.raises(PromptError, match="a phrase, a box, a point or a trace"):
        _run(images, tmp_path / "out", plain_segmenter, None, BatchRequest())


def test_phrases_name_boxes_first_to_first_or_one_names_all(images, tmp_path, plain_segmenter):
    boxes = ((0, 0, 9, 9), (30, 30, 39, 39), (50, 50, 59, 59))
    objects = tuple(Prompts(box=np.array(box, np.float32)) for box in boxes)
    for text, values in (
        ("nerve. cyst. wall", [1, 2, 3]),
        ("nerve, cyst, nerve", [1, 2, 1]),
        ("nerve", [1, 1, 1]),
    ):
        request = BatchRequest(text=TextPrompt(text), objects=objects)
        (result,) = _run(images[:1], tmp_path / text, plain_segmenter, None, request)
        labels = read_labels(result.label_path)
        assert [labels[int(y), int(x)] for x, y, *_ in boxes] == values
        assert [c.name for c in read_classes(tmp_path / text / "classes.json")] == [
            "nerve", "cyst", "wall",
        ][: max(values)]  # fmt: skip


@pytest.mark.parametrize("text", ["nerve. cyst", "a, b, c, d"])
def test_another_number_of_phrases_than_boxes_is_refused(text):
    objects = tuple(Prompts(box=np.array(box, np.float32)) for box in ((0, 0, 9, 9),) * 3)
    with pytest.raises(PromptError, match=r"phrases for 3 boxes: give one phrase for all"):
        BatchRequest(text=TextPrompt(text), objects=objects)


@pytest.mark.parametrize("text", ["", "?", "。", " -- "])
def test_a_request_for_signs_is_refused(text):
    with pytest.raises(PromptError, match="is empty"):
        BatchRequest(text=TextPrompt(text))


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        (Prompts(box=np.array([10, 10, 10, 40], np.float32)), "box 10,10,10,40 has no area"),
        (Prompts(box=np.array([10, 40, 30, 40], np.float32)), "has no area"),
        (Prompts(box=np.array([90, 10, 99, 40], np.float32)), "outside the image of 80 x 60"),
        (Prompts(box=np.array([-30, -30, -1, 40], np.float32)), "outside the image of 80 x 60"),
        (Prompts(box=np.array([-30, -30, 0, 40], np.float32)), "outside the image of 80 x 60"),
        (Prompts(np.array([[80, 3]], np.float32), np.ones(1, np.int32)), "point 80,3 is outside"),
    ],
)
def test_a_box_or_point_that_shows_nothing_is_named_for_its_image(
    images, tmp_path, plain_segmenter, prompts, words
):
    fine = Prompts(box=np.array([0, 0, 9, 9], np.float32))
    request = BatchRequest(objects=(fine, prompts))
    results = _run(images, tmp_path / "out", plain_segmenter, None, request)
    assert results[0].status == "failed"
    assert words in results[0].message
    assert not (tmp_path / "out" / "a.png").exists()
    wide = results[2]
    assert wide.status == (
        "done" if prompts.point_coords.size or prompts.box[0] == 90 else "failed"
    )


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(-20, 100), min_size=4, max_size=4))
def test_no_box_makes_an_object_that_it_does_not_show(tmp_path_factory, plain_segmenter, box):
    folder = tmp_path_factory.mktemp("box")
    Image.new("L", (80, 60)).save(folder / "a.png")
    x0, y0, x1, y1 = min(box[::2]), min(box[1::2]), max(box[::2]), max(box[1::2])
    request = BatchRequest(objects=(Prompts(box=np.array([x0, y0, x1, y1], np.float32)),))
    (result,) = _run([folder / "a.png"], folder / "out", plain_segmenter, None, request)
    shown = x0 < x1 and y0 < y1 and x0 < 79 and y0 < 59 and x1 > 0 and y1 > 0
    assert result.status == ("done" if shown else "failed")


# Loops


LOOP = np.random.default_rng(0).integers(0, 255, (6, 40, 50), np.uint8)
J2K = "1.2.840.10008.1.2.4.90"


def loop(path: Path, broken: tuple[int, ...] = (), **attributes: object) -> Path:
    """A DICOM loop of six frames, some of which cannot be decoded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coded = [ENCODERS[J2K](frame) for frame in LOOP]
    for index in broken:
        coded[index] = coded[index][:60] + bytes(len(coded[index]) - 60)
    return write_dicom(path, LOOP, syntax=J2K, coded=coded, **attributes)


def maps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.glob("*.png"))}


@pytest.mark.parametrize("broken", [(0,), (0, 1), (3,), (5,)])
def test_a_loop_with_broken_frames_is_kept_and_said_again(
    tmp_path, plain_segmenter, detector, broken
):
    path, out = loop(tmp_path / "a" / "x.dcm", broken), tmp_path / "out"
    (first,) = _run([path], out, plain_segmenter, detector)
    before = maps(out / "x")
    assert len(before) == 6 - len(broken)
    assert (first.status, first.objects) == ("failed", 2 * len(before))
    assert first.label_path.is_file()
    (again,) = _run([path], out, plain_segmenter, detector)
    assert (again.status, again.objects) == (first.status, first.objects)
    assert again.message == first.message
    assert f"frame {broken[0]} is truncated or damaged" in again.message
    assert maps(out / "x") == before
    entry = json.loads((out / "run.json").read_text())["files"]["x"]
    assert entry["objects"] == first.objects
    counts = entry["frames"].split()
    assert [i for i, count in enumerate(counts) if count == "-"] == list(broken)


@pytest.mark.parametrize("done", [1, 4])
@pytest.mark.parametrize("saved", [True, False])
def test_a_loop_that_was_interrupted_goes_on_and_counts_all_its_objects(
    tmp_path, plain_segmenter, detector, monkeypatch, done, saved
):
    path, out = loop(tmp_path / "a" / "x.dcm"), tmp_path / "out"
    monkeypatch.setattr(batch, "SECONDS_BETWEEN", -1 if saved else 1e9)
    real = OutputFolder.write

    def killed(folder, label_path, data):
        if label_path.name == f"{done:04d}.png":
            raise KeyboardInterrupt
        real(folder, label_path, data)

    monkeypatch.setattr(OutputFolder, "write", killed)
    run = segment_files([path], out, plain_segmenter, detector, CYST)
    with pytest.raises(KeyboardInterrupt):
        next(run)
    monkeypatch.setattr(OutputFolder, "write", real)
    before = maps(out / "x")
    assert len(before) == done
    if not saved:  # killed, so that nothing was saved at the end
        card = json.loads((out / "run.json").read_text())
        card["files"]["x"]["frames"] = "- - - - - -"
        (out / "run.json").write_text(json.dumps(card))
    (result,) = _run([path], out, plain_segmenter, detector)
    assert (result.status, result.objects) == ("done", 12)
    kept = {name for name, when in maps(out / "x").items() if before.get(name) == when}
    assert kept == (set(before) if saved else set())
    (again,) = _run([path], out, plain_segmenter, detector)
    assert (again.status, again.objects) == ("kept", 12)


def test_label_maps_of_a_loop_that_went_missing_are_made_again_and_no_other(
    tmp_path, plain_segmenter, detector
):
    path, out = loop(tmp_path / "a" / "x.dcm"), tmp_path / "out"
    _run([path], out, plain_segmenter, detector)
    before = maps(out / "x")
    for name in ("0000.png", "0004.png"):
        (out / "x" / name).unlink()
    (result,) = _run([path], out, plain_segmenter, detector)
    assert (result.status, result.objects) == ("done", 12)
    after = maps(out / "x")
    assert set(after) == set(before)
    assert [name for name in before if after[name] != before[name]] == ["0000.png", "0004.png"]


def test_a_loop_is_looked_up_once_and_not_for_each_frame(
    tmp_path, plain_segmenter, detector, monkeypatch
):
    path = loop(tmp_path / "a" / "x.dcm", PatientName="Doe^Jane")
    read, saved = [], []
    identity_of, save = dicom.identity_of, batch.RunFile.save
    monkeypatch.setattr(dicom, "identity_of", lambda p: read.append(p) or identity_of(p))
    monkeypatch.setattr(batch.RunFile, "save", lambda run: saved.append(run) or save(run))
    _run([path], tmp_path / "out", plain_segmenter, detector)
    assert read == [path]
    assert len(saved) == 3  # at the start, before the first label map, at the end


# Who a patient is


@pytest.mark.parametrize("whole", [True, False])
def test_a_name_two_folders_up_reaches_nothing_that_is_written(
    tmp_path, plain_segmenter, detector, whole
):
    folder = tmp_path / "Doe_Jane" / "2024" / "left"
    path = loop(folder / "x.dcm", PatientName="Doe^Jane", PatientID="MRN123")
    if not whole:
        data = path.read_bytes()
        path.write_bytes(data[:200] + bytes(200) + data[400:])
    groups = {path: "Doe_Jane/2024/left"}
    out = tmp_path / "out"
    (result,) = segment_files([path], out, plain_segmenter, detector, CYST, groups=groups)
    assert result.status == ("done" if whole else "failed")
    written = [p for p in out.rglob("*") if p.is_file()]
    assert any("image-" in str(p) for p in written) is whole
    for file in written:
        assert "doe" not in str(file.relative_to(out)).casefold()
        assert b"doe" not in file.read_bytes().lower()
        assert b"mrn123" not in file.read_bytes().lower()


def test_what_the_system_says_of_a_file_is_kept_without_its_path(
    images, tmp_path, plain_segmenter, detector, monkeypatch
):
    def lost(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(files, "open_frames", lost)
    results = _run(images[:1], tmp_path / "out", plain_segmenter, detector)
    assert results[0].message == "Input/output error"


# Regions


@pytest.mark.parametrize(("cropped", "places"), [(True, [5, 45]), (False, [5])])
def test_each_region_of_tissue_is_segmented_by_itself_where_that_is_wanted(
    tmp_path, plain_segmenter, make_detector, cropped, places
):
    regions = [region((x, 0, x + 39, 39)) for x in (0, 40)] + [region((0, 40, 79, 59), kind=3)]
    screen = np.full((1, 60, 80), 90, np.uint8)
    (tmp_path / "a").mkdir()
    path = write_dicom(tmp_path / "a" / "x.dcm", screen, SequenceOfUltrasoundRegions=regions)
    detector = make_detector([("cyst", (5, 7, 14, 12), 0.9)])
    out = tmp_path / "out"
    request = BatchRequest(text=TextPrompt("cyst"), crop_to_regions=cropped)
    (result,) = _run([path], out, plain_segmenter, detector, request)
    assert (result.status, result.objects) == ("done", len(places))
    labels = read_labels(result.label_path)
    expected = np.zeros((60, 80), np.uint8)
    for x in places:
        expected[7:13, x : x + 10] = 1
    np.testing.assert_array_equal(labels, expected)
    asked = json.loads((out / "run.json").read_text())["request"]
    assert asked.get("whole_picture", False) is not cropped
    other = replace(request, crop_to_regions=not cropped)
    with pytest.raises(LabelWriteError, match="another"):
        _run([path], out, plain_segmenter, detector, other)


def test_a_box_in_a_region_is_segmented_in_it(tmp_path, plain_segmenter):
    regions = [region((x, 0, x + 39, 59)) for x in (0, 40)]
    (tmp_path / "a").mkdir()
    path = write_dicom(
        tmp_path / "a" / "x.dcm", np.zeros((1, 60, 80), np.uint8),
        SequenceOfUltrasoundRegions=regions,
    )  # fmt: skip
    boxes = [Prompts(box=np.array(box, np.float32)) for box in ((42, 5, 60, 20), (2, 5, 9, 9))]
    (result,) = _run(
        [path], tmp_path / "out", plain_segmenter, None, BatchRequest(objects=tuple(boxes))
    )
    asked = [tuple(prompts.box) for prompts in plain_segmenter.asked]
    assert asked == [(2, 5, 20, 20), (2, 5, 9, 9)], "in pixels of the region"
    labels = read_labels(result.label_path)
    assert labels[5:21, 42:61].all()
    assert labels[5:10, 2:10].all()
    assert (labels > 0).sum() == 16 * 19 + 5 * 8
