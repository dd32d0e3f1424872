from __future__ import annotations

import csv

from napari_usgseg.pipeline.tables import grouped_rows, tables_markdown, write_tables

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


def test_data_sets_stand_where_the_paper_has_them_by_organ():
    rows = grouped_rows(REPORT, ORGANS)
    names = {part: [row["dataset"] for row in found] for part, found in rows.items()}
    assert names == {"seen": ["busi", "AUL"], "unseen": ["Luminous"], "others": ["mine"]}
    assert [row["organ"] for row in rows["seen"]] == ["breast", "liver"]
    assert rows["others"][0]["organ"] == "ankle"


def test_means_are_over_data_sets():
    text = tables_markdown(REPORT, ORGANS)
    assert "| mean | of 2 | 8 | 0.700 |" in text
    assert text.index("seen in tuning") < text.index("Unseen") < text.index("Other")
    assert "0.750 to 0.850" in text


def test_tables_are_written_as_markdown_and_csv(tmp_path):
    files = write_tables(REPORT, ORGANS, tmp_path / "out")
    assert sorted(f.name for f in files) == ["others.csv", "seen.csv", "tables.md", "unseen.csv"]
    with (tmp_path / "out" / "seen.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["dataset"] for row in rows] == ["busi", "AUL"]
    assert rows[0]["dice"] == "0.8"
    assert rows[0]["hd95_mm"] == ""
