"""Masks as people make them, through every command that reads them; what is odd is told once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from napari_usgseg.io.datasets import read_dataset, read_pair
from napari_usgseg.io.labels import read_labels
from napari_usgseg.io.masks import IN_ALPHA, RESCALED, SOFT

CASES = Path(__file__).parents[1] / "cases"
SIZE = (96, 128)


def data_set(folder, count, mask):
    """A data set of images with a disk each, whose masks are what ``mask`` makes of it."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    items = []
    for number in range(count):
        disk = np.hypot(rows - 45, columns - 60 - 3 * number) < 20
        image = rng.integers(90, 160, SIZE, np.uint8) - np.uint8(80) * disk
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        mask(Image.fromarray(np.uint8(255) * disk)).save(folder / "masks" / f"{number}.png")
        items.append({"id": str(number), "group": str(number)})
    card = {"name": "d", "organ": "o", "target": "nerve", "labels": {"1": "nerve"}, "items": items}
    (folder / "dataset.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def soft(mask):
    return mask.filter(ImageFilter.GaussianBlur(0.8))


def in_alpha(mask):
    image = Image.new("RGBA", mask.size, (255, 0, 0, 0))
    image.putalpha(mask)
    return image


def twice(mask):
    return mask.resize((2 * mask.width, 2 * mask.height), Image.Resampling.NEAREST)


def grey(mask):
    return Image.fromarray(np.asarray(mask) // 4)


KINDS = {SOFT: soft, IN_ALPHA: in_alpha, RESCALED: twice}


@pytest.mark.parametrize("text", KINDS)
@pytest.mark.parametrize("prompt", ["box", "text"])
def test_evaluate_sees_the_same_truth_and_says_once_what_is_odd(usgseg, tmp_path, text, prompt):
    plain = data_set(tmp_path / "plain", 3, lambda mask: mask)
    odd = data_set(tmp_path / "odd", 3, KINDS[text])
    outcomes = [usgseg("evaluate", folder, "--prompt", prompt) for folder in (plain, odd)]
    figures = [outcome.out.split("HD95")[0] for outcome in outcomes]
    assert figures[0] == figures[1]
    assert outcomes[0].err == ""
    first = odd / "masks"
    assert len(outcomes[1].err.splitlines()) == 1
    assert f"note: {text} (3 files, the first {first}" in outcomes[1].err


@pytest.mark.parametrize("text", KINDS)
@pytest.mark.parametrize("to", ["png", "sam2rad", "csv"])
def test_convert_writes_the_same_truth(usgseg, tmp_path, text, to):
    plain = data_set(tmp_path / "plain", 4, lambda mask: mask)
    odd = data_set(tmp_path / "odd", 4, KINDS[text])
    for folder in (plain, odd):
        outcome = usgseg(
            "datasets", "convert", folder, "--to", to, "--out", tmp_path / f"{folder.name} out"
        )
        assert outcome.code == 0
    assert f"note: {text} (4 files" in outcome.err
    written = [
        {
            path.relative_to(tmp_path / f"{name} out"): path.read_bytes()
            for path in sorted((tmp_path / f"{name} out").rglob("*"))
            if path.suffix in (".png", ".CSV")
        }
        for name in ("plain", "odd")
    ]
    assert written[0] == written[1]
    assert written[0]


def test_train_learns_from_the_same_truth(usgseg, tmp_path):
    odd = data_set(tmp_path / "odd", 4, soft)
    outcome = usgseg("train", "ppn", odd, "--out", tmp_path / "ppn", "--steps", "1")
    assert outcome.code == 0
    assert f"note: {SOFT} (4 files" in outcome.err


@pytest.mark.parametrize("command", ["evaluate", "convert", "train"])
def test_values_that_are_no_label_are_named(usgseg, tmp_path, command):
    folder = data_set(tmp_path / "d", 3, grey)
    arguments = {
        "evaluate": ("evaluate", folder, "--prompt", "box"),
        "convert": ("datasets", "convert", folder, "--to", "png", "--out", tmp_path / "o"),
        "train": ("train", "ppn", folder, "--out", tmp_path / "p", "--steps", "1"),
    }[command]
    outcome = usgseg(*arguments)
    assert outcome.code in (1, 3)
    assert "holds the values 63 (1245 pixels), which are none" in outcome.err


def test_an_image_whose_alpha_hides_it_is_told_by_segment(usgseg, tmp_path):
    shutil.copy(CASES / "08-alpha-of-zeros-bmp" / "in" / "a.bmp", tmp_path / "a.bmp")
    outcome = usgseg("segment", tmp_path / "a.bmp", "--point", "5,5", "--out", tmp_path / "o")
    assert outcome.code == 0
    assert "alpha hides the whole picture and was ignored" in outcome.out + outcome.err


def test_case_40(usgseg, tmp_path):
    folder = CASES / "40-masks-of-another-scale" / "in"
    outcome = usgseg("datasets", "prepare", "STU", folder, "--out", tmp_path / "out")
    assert outcome.code == 0
    assert f"usgseg: odd: {RESCALED} (2 files, the first Hospital/mask_1.png)" in outcome.err
    dataset = read_dataset(tmp_path / "out")
    assert len(dataset.items) == 3
    for item in dataset.items:
        image, labels = read_pair(item)
        assert image.shape[:2] == labels.shape == (128, 128)
        assert labels.any()


def test_case_40_with_another_shape_is_refused_by_name(usgseg, tmp_path):
    shutil.copytree(CASES / "40-masks-of-another-scale" / "in", tmp_path / "in")
    hospital = tmp_path / "in" / "Hospital"
    Image.open(hospital / "mask_2.png").resize((512, 420)).save(hospital / "mask_2.png")
    outcome = usgseg("datasets", "prepare", "STU", tmp_path / "in", "--out", tmp_path / "out")
    assert outcome.code == 3
    assert "mask_2.png: is 512x420 pixels, its image 128x128" in outcome.err
    assert len(read_dataset(tmp_path / "out").items) == 2


def test_case_41(usgseg, tmp_path):
    folder = CASES / "41-annotation-already-filled" / "in"
    outcome = usgseg("datasets", "prepare", "HC18", folder, "--out", tmp_path / "out")
    assert (outcome.code, outcome.err) == (0, "")
    for item in read_dataset(tmp_path / "out").items:
        drawn = folder / "training_set" / f"{item.item_id}_Annotation.png"
        with Image.open(drawn) as image:
            line = np.asarray(image.convert("L")) > 0
        labels = read_labels(item.mask_path) > 0
        assert labels[line].all()
        assert labels.sum() == line.sum() or labels.sum() > 2 * line.sum()


def test_what_is_odd_of_many_files_is_said_once(usgseg, tmp_path):
    shutil.copytree(CASES / "41-annotation-already-filled" / "in", tmp_path / "in")
    for path in (tmp_path / "in" / "training_set").glob("*_Annotation.png"):
        with Image.open(path) as image:
            pixels = np.array(image.convert("L"))
        filled = np.flatnonzero(pixels.any(1))
        pixels[:] = 0
        pixels[filled[0] : filled[-1], 40:44] = 255
        pixels[filled[-1], 40:160] = 255
        Image.fromarray(pixels).save(path)
    outcome = usgseg("datasets", "prepare", "HC18", tmp_path / "in", "--out", tmp_path / "out")
    lines = [line for line in outcome.err.splitlines() if "not closed" in line]
    assert len(lines) == 1
    assert "(2 files, the first training_set/000_HC_Annotation.png)" in lines[0]
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert len(report["remarks"]) == 2
