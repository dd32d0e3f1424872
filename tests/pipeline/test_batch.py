from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.errors import LabelWriteError, PromptError
from napari_usgseg.io.labels import read_classes, read_labels
from napari_usgseg.pipeline.batch import BatchRequest, segment_files, unique_ids
from napari_usgseg.types import Prompts, TextPrompt

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


def test_a_strangers_file_is_left_as_it_is(images, tmp_path, plain_segmenter, detector):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.png").write_bytes(b"somebody's work")
    results = _run(images, out, plain_segmenter, detector)
    assert [result.status for result in results] == ["done", "failed", "done"]
    assert "overwrite" in results[1].message
    assert (out / "b.png").read_bytes() == b"somebody's work"


def test_overwriting_replaces_it(images, tmp_path, plain_segmenter, detector):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.png").write_bytes(b"somebody's work")
    request = BatchRequest(text=TextPrompt("cyst"), overwrite=True)
    results = _run(images, out, plain_segmenter, detector, request)
    assert [result.status for result in results] == ["done"] * 3
    assert read_labels(out / "b.png").shape == (60, 81)


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
    with pytest.raises(PromptError, match="a phrase, a box or a point"):
        _run(images, tmp_path / "out", plain_segmenter, None, BatchRequest())


def test_files_of_one_stem_get_names_of_their_own():
    paths = [Path("x/a.png"), Path("y/a.png"), Path("x/a.jpg"), Path("x/B.png"), Path("x/c.png")]
    ids = unique_ids(paths)
    assert ids == ["x-a-png", "y-a-png", "a-jpg", "B", "c"]
    assert unique_ids(paths[::-1]) == ids[::-1]


def test_a_file_named_twice_is_refused():
    with pytest.raises(PromptError, match="named twice"):
        unique_ids([Path("x/a.png"), Path("x/a.png")])
