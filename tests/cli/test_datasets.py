from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.io.datasets import read_dataset


@pytest.fixture
def stu(tmp_path):
    """An imitation of STU's folder: three images with their masks."""
    folder = tmp_path / "STU here" / "Hospital"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    mask = np.zeros((48, 64), np.uint8)
    mask[8:28, 10:30] = 255
    for number in range(3):
        Image.fromarray(rng.integers(0, 255, (48, 64), np.uint8)).save(
            folder / f"Test_Image_{number}.png"
        )
        Image.fromarray(mask).save(folder / f"mask_{number}.png")
    return folder.parent


def test_the_list_has_the_paper_s_eighteen_and_the_extras(usgseg):
    outcome = usgseg("datasets", "list")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert len(lines) == 24
    assert sum("  seen  " in line for line in lines) == 15
    assert sum("  unseen" in line for line in lines) == 3
    assert next(line for line in lines if line.startswith("BUSI ")).split()[5:9] == [
        "657", "456", "132", "69",
    ]  # fmt: skip


def test_one_is_shown_with_its_licence_files_and_source(usgseg):
    outcome = usgseg("datasets", "show", "bus-bra")
    assert outcome.code == 0
    for words in ("CC BY 4.0", "unseen", "mask_0001-l.png", "patient", "said by"):
        assert words in outcome.out
    assert "not verified" in usgseg("datasets", "show", "usgra").out


def test_an_unknown_name_is_one_line_with_what_there_is(usgseg):
    outcome = usgseg("datasets", "show", "nothing")
    assert outcome.code == 1
    assert len(outcome.err_lines) == 1
    assert "BUS-UCLM" in outcome.err


def test_an_original_folder_is_prepared_and_read_back(usgseg, stu, tmp_path):
    outcome = usgseg("datasets", "prepare", "STU", stu, "--out", tmp_path / "out")
    assert (outcome.code, outcome.err) == (0, "")
    assert "STU: 3 images, 3 groups" in outcome.out
    assert "the paper counts 42" in outcome.out
    assert len(read_dataset(tmp_path / "out").items) == 3


def test_a_file_without_its_mask_is_named_and_the_code_is_3(usgseg, stu, tmp_path):
    (stu / "Hospital" / "mask_1.png").unlink()
    outcome = usgseg("datasets", "prepare", "stu", stu, "--out", tmp_path / "out")
    assert outcome.code == 3
    assert outcome.err_lines == [
        "usgseg: missing: Hospital/Test_Image_1.png: an image without its annotation"
    ]
    assert "2 images" in outcome.out


def test_a_folder_of_something_else_is_one_line(usgseg, tmp_path):
    (tmp_path / "empty").mkdir()
    outcome = usgseg("datasets", "prepare", "STU", tmp_path / "empty", "--out", tmp_path / "out")
    assert (outcome.code, len(outcome.err_lines)) == (1, 1)
    assert "Test_Image_1.png" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_prepared_data_set_goes_to_both_source_systems_and_back(usgseg, stu, tmp_path):
    usgseg("datasets", "prepare", "STU", stu, "--out", tmp_path / "ours")
    for layout in ("csv", "sam2rad"):
        out = tmp_path / layout
        outcome = usgseg("datasets", "convert", tmp_path / "ours", "--to", layout, "--out", out)
        assert (outcome.code, outcome.err) == (0, ""), outcome
        back = tmp_path / f"from {layout}"
        outcome = usgseg("datasets", "convert", out, "--to", "png", "--out", back)
        assert outcome.code == 0
        assert len(read_dataset(back).items) == 3


def test_an_unknown_layout_is_one_line(usgseg, stu, tmp_path):
    outcome = usgseg("datasets", "convert", stu, "--to", "yolo", "--out", tmp_path / "out")
    assert (outcome.code, len(outcome.err_lines)) == (1, 1)
    assert "png, csv, sam2rad" in outcome.err
