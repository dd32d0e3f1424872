from __future__ import annotations

import json

import pytest

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.lab.evaluation.compare import compare_reports, comparison_markdown


def report_file(path, scores, dataset="busi", name="nano"):
    images = [
        {"id": key, "group": key[0], "dice": dice, "iou": dice / 2, "hd95_px": 10 - dice}
        for key, dice in scores.items()
    ]
    content = {
        "schema": 1, "prompt": "text", "segmenter": name, "grounder": None,
        "datasets": {dataset: {"per_image": images} if scores else {}},
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path


def test_only_images_of_both_reports_are_compared(tmp_path):
    first = report_file(tmp_path / "a.json", {"a1": 0.5, "b1": 0.6, "c1": 0.1})
    second = report_file(tmp_path / "b.json", {"a1": 0.7, "b1": 0.7, "d1": 0.9}, name="other")
    found = compare_reports(first, second)
    dice = found["datasets"]["busi"]["dice"]
    assert dice["images"] == 2
    assert dice["difference"] == pytest.approx(0.15)
    assert (dice["greater"], dice["less"]) == (2, 0)
    assert found["datasets"]["busi"]["hd95_px"]["less"] == 2
    assert found["unpaired"] == {"busi": ["c1", "d1"]}
    text = comparison_markdown(found)
    assert "+0.150" in text
    assert "other" in text


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.write_text("{"), "not a report"),
        (lambda path: path.write_text('{"schema": 2, "datasets": {}}'), "not a report"),
        (lambda path: report_file(path, {}), "--per-image"),
        (lambda path: report_file(path, {"z9": 0.1}), "no image in common"),
        (lambda path: report_file(path, {"a1": 0.1}, dataset="hc18"), "no image in common"),
    ],
    ids=["torn", "of a later kind", "without images", "of other images", "of another set"],
)
def test_what_cannot_be_compared_is_named_with_the_cure(tmp_path, write, words):
    first = report_file(tmp_path / "a.json", {"a1": 0.5})
    second = tmp_path / "b.json"
    write(second)
    with pytest.raises(DatasetError, match=words):
        compare_reports(first, second)


def test_ids_and_groups_may_be_numbers_and_an_image_counts_once(tmp_path):
    path = tmp_path / "a.json"
    scores = {"dice": 0.5, "iou": 0.4, "hd95_px": 2.0}
    images = [{"id": 1, **scores}, {"id": "2", "group": 7, **scores}, {"id": 1, **scores}]
    content = {
        "schema": 1, "prompt": "box", "segmenter": "nano", "grounder": None,
        "datasets": {"busi": {"per_image": images}},
    }  # fmt: skip
    path.write_text(json.dumps(content))
    assert compare_reports(path, path)["datasets"]["busi"]["dice"]["images"] == 2
