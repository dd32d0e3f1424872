from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile

from napari_usgseg.core.metrics import dice
from napari_usgseg.core.types import LabelClass
from napari_usgseg.io.labels import read_labels, write_classes, write_labels
from napari_usgseg.phantoms.loop import make_phantom_loop
from tests.support.dicom import write_dicom

COUNT = 12


@pytest.fixture(scope="module")
def loop():
    return make_phantom_loop(1, COUNT, (96, 128), "thyroid", "beat", period=12.0)


@pytest.fixture
def files(loop, tmp_path):
    """A loop as DICOM of known spacing and rate, and the label map of its first frame."""
    dicom = write_dicom(
        tmp_path / "scan.dcm", loop.frames, FrameTime="50", PixelSpacing=["0.2", "0.1"]
    )
    first = tmp_path / "first.png"
    write_labels(first, loop.labels[0])
    return dicom, first


def test_a_loop_is_labelled_from_one_frame(usgseg, files, loop, tmp_path):
    dicom, first = files
    out = tmp_path / "out"
    outcome = usgseg("propagate", dicom, "--keyframe", f"0={first}", "--out", out)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{COUNT - 1} frames labelled from 1" in outcome.out
    masks = [read_labels(out / f"{frame:04d}.png") for frame in range(COUNT)]
    assert np.array_equal(masks[0], loop.labels[0])
    largest = np.bincount(loop.labels[0].ravel())[1:].argmax() + 1
    scores = [dice(m == largest, t == largest) for m, t in zip(masks, loop.labels, strict=True)]
    assert min(scores) > 0.9


def test_areas_over_time_are_a_table_in_pixels_and_seconds(usgseg, files, loop, tmp_path):
    dicom, first = files
    out = tmp_path / "out"
    outcome = usgseg("propagate", dicom, "--keyframe", f"0={first}", "--out", out)
    assert outcome.code == 0
    with (out / "areas.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["frame"] for row in rows} == {str(frame) for frame in range(COUNT)}
    assert "ejection fraction" in outcome.out
    assert "No diagnosis" in outcome.out
    assert {row["seconds"] for row in rows if row["frame"] == "4"} == {"0.2"}
    for row in rows:
        labels = read_labels(out / f"{int(row['frame']):04d}.png")
        assert int(row["area_px"]) == (labels == int(row["label"])).sum()
    assert all(row["score"] == "" for row in rows if row["frame"] == "0")


def test_labelled_frames_stay_and_only_the_wanted_are_written(usgseg, files, loop, tmp_path):
    dicom, first = files
    second = tmp_path / "second.png"
    write_labels(second, loop.labels[8])
    out = tmp_path / "out"
    outcome = usgseg(
        "propagate", dicom, "--keyframe", f"0={first}", "--keyframe", f"8={second}",
        "--first", 6, "--last", 9, "--out", out,
    )  # fmt: skip
    assert outcome.code == 0
    names = sorted(path.name for path in out.glob("*.png"))
    assert names == ["0000.png", "0006.png", "0007.png", "0008.png", "0009.png"]
    assert np.array_equal(read_labels(out / "0008.png"), loop.labels[8])


def test_what_is_there_is_not_written_over(usgseg, files, tmp_path):
    dicom, first = files
    out = tmp_path / "out"
    out.mkdir()
    theirs = out / "0003.png"
    theirs.write_bytes(first.read_bytes())
    outcome = usgseg("propagate", dicom, "--keyframe", f"0={first}", "--out", out, "--overwrite")
    assert outcome.code == 1
    assert "0003.png" in outcome.err
    assert not (out / "areas.csv").exists()
    assert not (out / "run.json").exists()
    assert theirs.read_bytes() == first.read_bytes()


@pytest.fixture
def damaged(loop, tmp_path):
    """A TIFF whose page 5 cannot be decoded."""
    path = tmp_path / "loop.tif"
    tifffile.imwrite(path, loop.frames, photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset, length = file.pages[5].dataoffsets[0], file.pages[5].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + length] = bytes(length)
    path.write_bytes(data)
    return path


def test_a_damaged_page_is_named_and_the_rest_goes_on(usgseg, files, damaged, tmp_path):
    out = tmp_path / "out"
    outcome = usgseg("propagate", damaged, "--keyframe", f"0={files[1]}", "--out", out)
    assert outcome.code == 3
    assert "frame 5" in outcome.err
    assert not (out / "0005.png").exists()
    assert (out / "0011.png").exists()


def test_a_damaged_page_is_no_keyframe(usgseg, files, damaged, tmp_path):
    out = tmp_path / "out"
    outcome = usgseg("propagate", damaged, "--keyframe", f"5={files[1]}", "--out", out)
    assert outcome.code == 1
    assert "--keyframe 5: the frame cannot be read" in outcome.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("keyframe", "message"),
    [
        ("first.png", "expected FRAME=LABELS"),
        ("-1={first}", "expected FRAME=LABELS"),
        ("99={first}", "the loop has frames 0 to 11"),
        ("0={missing}", "no such file"),
    ],
)
def test_a_keyframe_that_is_none_is_refused(usgseg, files, tmp_path, keyframe, message):
    dicom, first = files
    given = keyframe.format(first=first, missing=tmp_path / "missing.png")
    outcome = usgseg("propagate", dicom, "--keyframe", given, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert message in outcome.err


def test_a_label_map_of_another_size_is_refused(usgseg, files, loop, tmp_path):
    dicom, _ = files
    small = tmp_path / "small.png"
    write_labels(small, loop.labels[0][:50])
    outcome = usgseg("propagate", dicom, "--keyframe", f"0={small}", "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "small.png" in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--last", 12), "the loop has frames 0 to 11"),
        (("--last", 10**9), "the loop has frames 0 to 11"),
        (("--first", 3, "--last", 1), "the loop has frames 0 to 11"),
        (("--keyframe", "0=first.png"), "names a frame twice"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_written(
    usgseg, files, tmp_path, options, message
):
    dicom, first = files
    out = tmp_path / "out"
    outcome = usgseg("propagate", dicom, "--keyframe", f"0={first}", *options, "--out", out)
    assert outcome.code == 1
    assert message in outcome.err
    assert not out.exists()


def test_pages_of_two_sizes_are_no_loop(usgseg, loop, files, tmp_path):
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(loop.frames[0])
        writer.write(loop.frames[1][:50])
    outcome = usgseg("propagate", path, "--keyframe", f"0={files[1]}", "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "differ in size" in outcome.err


def test_labels_keep_their_numbers_where_one_map_is_wider_than_the_first(
    usgseg, files, loop, tmp_path
):
    dicom, first = files
    wide = tmp_path / "wide.png"
    write_labels(wide, loop.labels[6].astype(np.uint16) + 299 * (loop.labels[6] == 1))
    out = tmp_path / "out"
    outcome = usgseg(
        "propagate", dicom, "--keyframe", f"0={first}", "--keyframe", f"6={wide}", "--out", out
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert (read_labels(out / "0007.png") == 300).any()


def test_the_run_is_written_down_with_the_agreement_on_each_frame(usgseg, files, loop, tmp_path):
    dicom, first = files
    last = tmp_path / "last.png"
    write_labels(last, loop.labels[COUNT - 1])
    keyframes = ("--keyframe", f"0={first}", "--keyframe", f"{COUNT - 1}={last}")
    out = tmp_path / "out"
    assert usgseg("propagate", dicom, *keyframes, "--out", out).code == 0
    run = json.loads((out / "run.json").read_text())
    assert run["engine"] == "flow"
    assert run["keyframes"] == {"0": str(first), str(COUNT - 1): str(last)}
    assert run["seconds"] > 0
    assert [one["frame"] for one in run["frames"]] == list(range(1, COUNT - 1))
    assert all(0.5 < one["agreement"] <= 1 for one in run["frames"])
    assert run["failed"] == {}


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        (("--next", 2), [3, 4, 5, 6, 7]),
        (("--next", 2, "--direction", "forward"), [5, 6, 7]),
        (("--next", 2, "--direction", "backward"), [3, 4, 5]),
        (("--direction", "forward"), list(range(5, COUNT))),
        (("--direction", "backward"), list(range(6))),
    ],
)
def test_only_so_many_frames_and_only_one_way_are_gone(
    usgseg, files, loop, tmp_path, options, frames
):
    middle = tmp_path / "middle.png"
    write_labels(middle, loop.labels[5])
    out = tmp_path / "out"
    outcome = usgseg("propagate", files[0], "--keyframe", f"5={middle}", *options, "--out", out)
    assert (outcome.code, outcome.err) == (0, "")
    assert sorted(int(path.stem) for path in out.glob("*.png")) == frames


def test_one_label_alone_is_followed_by_its_number_or_its_name(usgseg, files, loop, tmp_path):
    dicom, first = files
    chosen = int(np.bincount(loop.labels[0].ravel())[1:].argmax()) + 1
    write_classes(tmp_path / "classes.json", [LabelClass(chosen, "Lobe", "#ffffff")])
    for name, given in (("number", chosen), ("name", "lobe")):
        out = tmp_path / name
        outcome = usgseg(
            "propagate", dicom, "--keyframe", f"0={first}", "--object", given, "--out", out
        )
        assert (outcome.code, outcome.err) == (0, "")
        for frame in (0, 3):  # in the keyframe there are others
            assert set(np.unique(read_labels(out / f"{frame:04d}.png"))) == {0, chosen}


@pytest.mark.parametrize(
    ("given", "message"), [("9", "no keyframe has such a label"), ("heart", "a name needs a")]
)
def test_a_label_that_is_not_there_is_refused(usgseg, files, tmp_path, given, message):
    dicom, first = files
    out = tmp_path / "out"
    outcome = usgseg(
        "propagate", dicom, "--keyframe", f"0={first}", "--object", given, "--out", out
    )
    assert outcome.code == 1
    assert message in outcome.err
    assert not out.exists()
