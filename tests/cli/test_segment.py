from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from napari_usgseg.io.datasets import read_splits
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_classes, read_labels
from napari_usgseg.metrics import dice
from napari_usgseg.pipeline.run_file import alone_in

SPLITS = Path(__file__).resolve().parents[2] / "benchmarks" / "splits.json"


def test_a_box_gives_a_label_map_of_each_images_size(usgseg, images, tmp_path, checkpoint):
    out = tmp_path / "out"
    outcome = usgseg("segment", images, "--box", "50,40,10,10", "--out", out, "--model", checkpoint)
    assert (outcome.code, outcome.err) == (0, "")
    assert "3 written, 0 failed" in outcome.out
    for path in images.iterdir():
        assert read_labels(out / path.name).shape == read_image(path).shape[:2]
    card = json.loads((out / "run.json").read_text())
    assert card["request"]["objects"][0]["box"] == [10, 10, 50, 40]
    assert card["request"]["segmenter"].startswith("nano-")
    assert card["request"]["grounder"] is None


def test_points_with_a_box_are_one_object_that_the_phrase_names(
    usgseg, images, tmp_path, checkpoint
):
    out = tmp_path / "out"
    outcome = usgseg(
        "segment", images / "scan 0.png", "--text", "cyst", "--box", "5,5,60,50",
        "--point", "30,30", "--point", "6,6,-", "--out", out, "--model", checkpoint,
    )  # fmt: skip
    assert outcome.code == 0
    (entry,) = json.loads((out / "run.json").read_text())["request"]["objects"]
    assert entry["points"] == [[30, 30, 1], [6, 6, 0]]
    assert [c.name for c in read_classes(out / "classes.json")] == ["cyst"]


def test_bad_files_among_good_ones_are_named_and_give_code_3(usgseg, images, tmp_path, checkpoint):
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    (images / "empty.png").write_bytes(b"")
    gone = images / "gone.png"
    out = tmp_path / "out"
    outcome = usgseg(
        "segment", images, gone, "--box", "10,10,50,40", "--out", out, "--model", checkpoint
    )
    assert outcome.code == 3
    assert len(outcome.err_lines) == 3
    for name in ("broken.png", "empty.png", "gone.png"):
        assert sum(name in line for line in outcome.err_lines) == 1
    assert sorted(path.name for path in out.glob("*.png")) == [
        "scan 0.png", "scan 1.png", "scan 2.png",
    ]  # fmt: skip


def test_a_dangling_link_is_named_and_a_cine_tiff_says_that_one_frame_was_done(
    usgseg, tmp_path, checkpoint
):
    folder = tmp_path / "in"
    folder.mkdir()
    frame = Image.new("L", (80, 60), 9)
    frame.save(folder / "cine.TIF", save_all=True, append_images=[frame] * 4)
    (folder / "link.png").symlink_to(tmp_path / "gone.png")
    words = ["--box", "10,10,50,40", "--out", tmp_path / "out", "--model", checkpoint]
    outcome = usgseg("segment", folder, *words)
    assert outcome.code == 3
    assert len(outcome.err_lines) == 1
    assert "link.png: a link to" in outcome.err
    assert "Only the first of its 5 frames was segmented" in outcome.out


def test_label_maps_do_not_go_among_the_images(usgseg, images, checkpoint):
    words = ["--box", "10,10,50,40", "--model", checkpoint, "--out"]
    before = sorted(images.iterdir())
    outcome = usgseg("segment", images, *words, images / ".." / images.name)
    assert outcome.code == 1
    assert len(outcome.err_lines) == 1
    assert "is the folder of the images" in outcome.err
    assert sorted(images.iterdir()) == before
    assert usgseg("segment", images, *words, images / "labels").code == 0


def test_a_file_in_the_way_of_the_folder_is_named_in_plain_words(
    usgseg, images, checkpoint, tmp_path
):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "sub"):
        words = ["--box", "10,10,50,40", "--model", checkpoint, "--out", out]
        outcome = usgseg("segment", images, *words)
        assert outcome.code == 1
        assert outcome.err.startswith(f"usgseg: {out}: part of the path is a file, not a folder")


def test_two_processes_do_not_write_into_one_folder(usgseg, images, checkpoint, tmp_path):
    out = tmp_path / "out"
    words = ["segment", images, "--box", "10,10,50,40", "--model", checkpoint, "--out", out]
    out.mkdir()
    with alone_in(out):
        outcome = usgseg(*words)
    assert outcome.code == 1
    assert len(outcome.err_lines) == 1
    assert "another usgseg writes label maps here now" in outcome.err
    assert list(out.iterdir()) == []
    assert usgseg(*words).code == 0
    assert not list(out.glob(".*")), "nothing but the results stays"


def test_nothing_is_overwritten_unless_told_to(usgseg, images, tmp_path, checkpoint):
    out = tmp_path / "out"
    out.mkdir()
    theirs = out / "scan 1.png"
    theirs.write_bytes(b"somebody's work")
    words = ["segment", images, "--box", "10,10,50,40", "--out", out, "--model", checkpoint]
    first = usgseg(*words)
    assert first.code == 3
    assert "scan 1.png" in first.err
    assert theirs.read_bytes() == b"somebody's work"

    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    second = usgseg(*words)
    assert "0 written, 2 kept, 1 failed" in second.out
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.png")} == stamps

    third = usgseg(*words, "--overwrite")
    assert (third.code, third.err) == (0, "")
    assert read_labels(theirs).shape == (60, 101)


def test_another_prompt_into_the_same_folder_is_a_wrong_request(
    usgseg, images, tmp_path, checkpoint
):
    words = ["segment", images, "--out", tmp_path / "out", "--model", checkpoint]
    assert usgseg(*words, "--box", "10,10,50,40").code == 0
    outcome = usgseg(*words, "--box", "20,20,50,40")
    assert outcome.code == 1
    assert "another request" in outcome.err


def test_the_cleaning_switches_reach_the_masks(usgseg, images, tmp_path, checkpoint):
    image = images / "scan 0.png"
    areas = {}
    for name, switches in {"plain": [], "grown": ["--dilation", "5"]}.items():
        words = ["--box", "20,20,40,40", "--model", checkpoint, "--keep", "all", *switches]
        assert usgseg("segment", image, "--out", tmp_path / name, *words).code == 0
        areas[name] = int((read_labels(tmp_path / name / image.name) > 0).sum())
    assert areas["plain"] < areas["grown"]
    outcome = usgseg(
        "segment", image, "--box", "1,1,9,9", "--out", tmp_path / "x", "--keep", "some"
    )
    assert outcome.code == 1
    assert "prompted, largest, all" in outcome.err


def test_a_phrase_finds_the_heads_of_held_out_patients(usgseg, data_folder, tmp_path):
    folder = data_folder / "hc18"
    held_out = read_splits(SPLITS)["hc18"].test
    names = [f"{item}.png" for item in held_out[:: len(held_out) // 6]]
    sources = [folder / "images" / name for name in names]
    outcome = usgseg("segment", *sources, "--text", "fetal head", "--out", tmp_path, "--overlay")
    assert outcome.code == 0, outcome.err
    scores = []
    for name in names:
        labels = read_labels(tmp_path / name)
        scores.append(dice(read_labels(folder / "masks" / name) == 1, labels == 1))
        with Image.open(tmp_path / "overlays" / name) as overlay:
            assert overlay.size == labels.shape[::-1]
    assert sum(scores) / len(scores) > 0.85, dict(zip(names, scores, strict=True))


def test_one_sentence_of_two_phrases_gives_one_label_map_with_a_label_for_each(
    usgseg, data_folder, tmp_path
):
    folder = data_folder / "usgra"
    names = [f"{item}.png" for item in read_splits(SPLITS)["usgra"].test[:6]]
    sources = [folder / "images" / name for name in names]
    outcome = usgseg("segment", *sources, "--text", "Blood vessel . nerve", "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    classes = {item.name: item.class_id for item in read_classes(tmp_path / "classes.json")}
    assert classes == {"blood vessel": 1, "nerve": 2}, "in the order of the sentence"
    truth_of = {"nerve": 1, "blood vessel": 2}
    own: list[float] = []
    other: list[float] = []
    for name in names:
        labels, truth = read_labels(tmp_path / name), read_labels(folder / "masks" / name)
        assert set(labels.ravel()) <= {0, 1, 2}
        for phrase, value in truth_of.items():
            own.append(dice(truth == value, labels == classes[phrase]))
            other.append(dice(truth == value, labels == 3 - classes[phrase]))
    assert sum(own) / len(own) > 0.5
    assert sum(other) / len(other) < 0.2, "no phrase has the other's label"


@pytest.mark.parametrize("phrase", ["fetal head", "zebra crossing"])
def test_a_phrase_that_is_not_there_leaves_an_empty_map_and_says_so(
    usgseg, data_folder, tmp_path, phrase
):
    source = data_folder / "busi" / "images" / "benign_001.png"
    outcome = usgseg("segment", source, "--text", phrase, "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    assert not read_labels(tmp_path / source.name).any()
    assert f"'{phrase}'" in outcome.out
