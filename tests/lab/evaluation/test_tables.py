from __future__ import annotations

import csv
import json

from napari_usgseg.io.outputs import OutputFolder
from napari_usgseg.lab.evaluation.report import grouped_rows, tables_markdown, write_tables

ORGANS = {"busi": "a card's own word", "Luminous": "x", "mine": "ankle", "AUL": "y"}


def entry(dice: float) -> dict:
    return {
        "images": 4, "dice": dice, "iou": dice - 0.1, "hd95_px": 12.0, "seconds_per_image": 0.5,
        "ci95": {"dice": [dice - 0.05, dice + 0.05]}, "detection_rate": 0.75,
    }  # fmt: skip


REPORT = {
    "prompt": "text",
    "segmenter": "nano",
    "grounder": "nano",
    "datasets": {
        "mine": entry(0.4),
        "Luminous": entry(0.5),
        "busi": entry(0.8),
        "AUL": entry(0.6),
    },
}


def words(text: str) -> str:
    """A text without the blanks that line up its columns."""
    return " ".join(text.split())


def test_data_sets_stand_where_the_paper_has_them_by_organ():
    rows = grouped_rows(REPORT, ORGANS)
    names = {part: [row["dataset"] for row in found] for part, found in rows.items()}
    assert names == {"seen": ["busi", "AUL"], "unseen": ["Luminous"], "others": ["mine"]}
    assert [row["organ"] for row in rows["seen"]] == ["breast", "liver"]
    assert rows["others"][0]["organ"] == "ankle"


def test_means_are_over_data_sets():
    text = words(tables_markdown(REPORT, ORGANS))
    assert "| mean | of 2 | 8 | 0.700 |" in text
    assert text.index("seen in training") < text.index("Unseen") < text.index("Other")
    assert "0.750 to 0.850" in text


def test_tables_are_written_as_markdown_and_csv(tmp_path):
    files = write_tables(REPORT, ORGANS, OutputFolder(tmp_path / "out", overwrite=True))
    assert {f.name for f in files} == {
        "tables.md", "tables.json", "seen.csv", "unseen.csv", "others.csv",
    }  # fmt: skip
    kept = json.loads((tmp_path / "out" / "tables.json").read_text())
    assert kept == {"schema": 1, **grouped_rows(REPORT, ORGANS)}
    with (tmp_path / "out" / "seen.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["dataset"] for row in rows] == ["busi", "AUL"]
    assert rows[0]["dice"] == "0.8"
    assert rows[0]["hd95_mm"] == ""


def test_what_a_model_was_trained_on_decides_where_that_is_known(tmp_path):
    report = REPORT | {"trained_on": ["busi", "mine"]}
    rows = grouped_rows(report, ORGANS)
    names = {part: [row["dataset"] for row in found] for part, found in rows.items()}
    assert names == {"seen": ["mine", "busi"], "unseen": ["Luminous", "AUL"], "others": []}
    papers = {row["dataset"]: row["paper"] for row in (*rows["seen"], *rows["unseen"])}
    assert papers == {"mine": None, "busi": "seen", "AUL": "seen", "Luminous": "unseen"}
    folder = OutputFolder(tmp_path, overwrite=True)
    write_tables(REPORT, ORGANS, folder)
    write_tables(report, ORGANS, folder)
    assert not (tmp_path / "others.csv").exists(), "of the earlier report"


def test_an_organ_of_several_data_sets_has_a_row_of_its_own():
    datasets = {"busi": entry(0.8), "STU": entry(0.6), "AUL": entry(0.1)}
    text = words(tables_markdown(REPORT | {"datasets": datasets}, ORGANS))
    assert "| breast, mean | of 2 | 8 | 0.700 |" in text
    assert "| mean | of 3 | 12 | 0.500 |" in text
    assert "liver, mean" not in text


BY_CLASS = {
    "prompt": "box",
    "segmenter": "nano",
    "grounder": None,
    "datasets": {
        "busi": entry(0.8),
        "hip": entry(0.6) | {
            "classes": {
                "1": {"name": "ilium", "images": 2, "dice": 0.3, "iou": 0.2, "hd95_px": 9.0,
                      "ci95": {"dice": [0.2, 0.4]}},
                "2": {"name": "femoral head", "images": 1, "dice": 0.9, "iou": 0.8, "hd95_px": 2.0},
                "3": {"name": "os ischium", "images": 0},
            },
            "per_image": [
                {"id": "a", "classes": {"1": {"dice": 0.2}, "2": {"dice": 0.9}}},
                {"id": "b", "classes": {"1": {"dice": 0.4}}},
            ],
        },
    },
}  # fmt: skip


def test_each_class_stands_in_the_tables_and_in_the_plot_by_itself(tmp_path):
    organs = ORGANS | {"hip": "hip"}
    files = write_tables(BY_CLASS, organs, OutputFolder(tmp_path / "out", overwrite=True))
    assert {"classes.csv", "classes.svg"} <= {file.name for file in files}
    text = words(tables_markdown(BY_CLASS, organs))
    assert "| hip | 1 ilium | 2 | 0.300 | 0.200 to 0.400 | 0.200 | 9.0 |" in text
    assert "| hip | 3 os ischium | 0 | - | - | - | - |" in text
    with (tmp_path / "out" / "classes.csv").open() as file:
        assert [row["dice"] for row in csv.DictReader(file)] == ["0.3", "0.9", ""]
    plot = (tmp_path / "out" / "classes.svg").read_text()
    assert "hip: femoral head" in plot
    assert "busi" not in plot


def test_tables_of_classes_go_where_no_data_set_has_several(tmp_path):
    folder = OutputFolder(tmp_path / "out", overwrite=True)
    write_tables(BY_CLASS, ORGANS | {"hip": "hip"}, folder)
    write_tables(REPORT, ORGANS, folder)
    assert not [path for path in (tmp_path / "out").iterdir() if "classes" in path.name]
