from __future__ import annotations

import csv

import numpy as np
import pytest
import tifffile

from napari_usgseg.core.metrics import dice
from napari_usgseg.io.labels import read_labels, write_labels
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
    masks = [read_labels(out / "scan" / f"{frame:04d}.png") for frame in range(COUNT)]
    assert np.array_equal(masks[0], loop.labels[0])
    largest = np.bincount(loop.labels[0].ravel())[1:].argmax() + 1
    scores = [dice(m == largest, t == largest) for m, t in zip(masks, loop.labels, strict=True)]
    assert min(scores) > 0.9


def test_areas_over_time_are_a_table_in_pixels_and_seconds(usgseg, files, loop, tmp_path):
    dicom, first = files
    out = tmp_path / "out"
    assert usgseg("propagate", dicom, "--keyframe", f"0={first}", "--out", out).code == 0
    with (out / "areas.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["frame"] for row in rows} == {str(frame) for frame in range(COUNT)}
    assert {row["seconds"] for row in rows if row["frame"] == "4"} == {"0.2"}
    for row in rows:
        labels = read_labels(out / "scan" / f"{int(row['frame']):04d}.png")
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
    names = sorted(path.name for path in (out / "scan").glob("*.png"))
    assert names == ["0000.png", "0006.png", "0007.png", "0008.png", "0009.png"]
    assert np.array_equal(read_labels(out / "scan" / "0008.png"), loop.labels[8])


def test_what_is_there_is_not_written_over(usgseg, files, tmp_path):
    dicom, first = files
    out = tmp_path / "out"
    (out / "scan").mkdir(parents=True)
    theirs = out / "scan" / "0003.png"
    theirs.write_bytes(first.read_bytes())
    outcome = usgseg("propagate", dicom, "--keyframe", f"0={first}", "--out", out, "--overwrite")
    assert outcome.code == 1
    assert "0003.png" in outcome.err
    assert not (out / "areas.csv").exists()
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
    assert not (out / "loop" / "0005.png").exists()
    assert (out / "loop" / "0011.png").exists()


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
    assert (read_labels(out / "scan" / "0007.png") == 300).any()
