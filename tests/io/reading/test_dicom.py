"""DICOM: frames as pydicom's own, whatever the syntax; what is broken costs itself alone."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, apply_voi_lut

from napari_usgseg.core.errors import ImageReadError
from napari_usgseg.core.notes import listening
from napari_usgseg.io.images import read_image, read_spacing
from napari_usgseg.io.reading import dicom
from napari_usgseg.io.reading.files import frame_sizes, hidden_name, open_frames, patient_of
from tests.support.dicom import ENCODERS, palette, region, write_dicom

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, RLE, J2K = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"
SAMPLES = Path(os.environ.get("USGSEG_DATA", "absent")).parent / "dicom"
samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real files of dicom/ are not here")


def picture(count: int = 3, colors: int = 1, dtype=np.uint8, seed: int = 0) -> np.ndarray:
    """Smooth frames (N, 24, 32[, 3]), each another."""
    y, x = np.mgrid[:24, :32]
    top = np.iinfo(dtype).max
    frames = [(np.sin(x / 5 + k + seed) + np.cos(y / 4 - k) + 2) / 4 * top for k in range(count)]
    frames = np.stack(frames)
    if colors == 3:
        frames = np.stack([frames, frames[:, ::-1], frames[:, :, ::-1]], -1)
    return frames.astype(dtype)


def pydicoms(path) -> list[np.ndarray]:
    data = pydicom.dcmread(path, force=True)
    array = data.pixel_array
    if data.PhotometricInterpretation == "PALETTE COLOR":
        array = apply_color_lut(array, data)
    return list(array) if int(data.get("NumberOfFrames", 1)) > 1 else [array]


def check_frames(path) -> None:
    expected = pydicoms(path)
    with open_frames(path) as frames:
        assert len(frames) == len(expected)
        for index in reversed(range(len(frames))):  # in any order
            np.testing.assert_array_equal(frames.frame(index), expected[index])
            assert frames.frame(index).dtype == expected[index].dtype
            assert frames.frame(index).shape[:2] == frames.sizes[index]


@samples
@pytest.mark.parametrize(
    "name",
    ["neck_1.dcm", "OBXXXX1A_rle_2frame.dcm", "gdcm-US-ALOKA-16.dcm", "US1_J2KR.dcm",
     "US-PAL-8-10x-echo", "hip_56568.dcm", "hip_72628.dcm"],
)  # fmt: skip
def test_real_frames_are_pydicoms_own(name):
    check_frames(SAMPLES / name)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("count", [1, 3])
def test_plain_grey_frames(tmp_path, syntax, dtype, count):
    check_frames(write_dicom(tmp_path / "IM0001", picture(count, dtype=dtype), syntax=syntax))


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_plain_frames_in_colour(tmp_path, photometric, syntax):
    check_frames(write_dicom(tmp_path / "a.dcm", picture(3, 3), photometric, syntax))


@pytest.mark.parametrize("colors", [1, 3])
@pytest.mark.parametrize("syntax", sorted(ENCODERS))
def test_compressed_frames(tmp_path, syntax, colors):
    photometric = "MONOCHROME2" if colors == 1 else "RGB"
    if colors == 3 and syntax.endswith(".50"):
        photometric = "YBR_FULL_422"
    for table in (True, False):
        path = tmp_path / f"{table}.dcm"
        check_frames(write_dicom(path, picture(3, colors), photometric, syntax, table=table))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", J2K])
def test_compressed_frames_of_sixteen_bits(tmp_path, syntax):
    check_frames(write_dicom(tmp_path / "a.dcm", picture(2, dtype=np.uint16), syntax=syntax))


@pytest.mark.parametrize("colors", [1, 3])
def test_run_lengths(tmp_path, colors):
    path = write_dicom(
        tmp_path / "a.dcm", picture(3, colors), "RGB" if colors == 3 else "MONOCHROME2"
    )
    data = pydicom.dcmread(path)
    data.compress(pydicom.uid.UID(RLE))
    data.save_as(path)
    check_frames(path)


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes(tmp_path, bits):
    table = np.random.default_rng(0).integers(0, 2**bits, (256, 3))
    path = write_dicom(tmp_path / "a.dcm", picture(2), "PALETTE COLOR", **palette(table, bits))
    check_frames(path)
    shown = (table >> (bits - 8)).astype(np.uint8)[picture(2)[1]]
    np.testing.assert_array_equal(read_image(path, 1), shown)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_a_file_without_a_preamble(tmp_path, syntax):
    path = write_dicom(
        tmp_path / "old", picture(1), syntax=syntax, preamble=False, Modality="US",
        ImageType=["ORIGINAL", "PRIMARY"],
    )  # fmt: skip
    with open_frames(path) as frames:
        np.testing.assert_array_equal(frames.frame(0), picture(1)[0])


def test_what_is_shown_of_grey_follows_the_window_of_the_file(tmp_path):
    pixels = picture(1, dtype=np.uint16) // 16
    more = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2000, "WindowWidth": 1500}
    path = write_dicom(tmp_path / "a.dcm", pixels, **more)
    data = pydicom.dcmread(path)
    expected = np.rint(apply_voi_lut(data.pixel_array, data) / 4095 * 255).astype(np.uint8)
    np.testing.assert_array_equal(read_image(path)[..., 0], expected)
    np.testing.assert_array_equal(open_frames(path).frame(0), pixels[0])  # unchanged
    path = write_dicom(tmp_path / "b.dcm", pixels, "MONOCHROME1", **more)
    np.testing.assert_array_equal(read_image(path)[..., 0], 255 - expected)


def test_a_window_that_makes_no_sense_costs_no_picture(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", picture(1), WindowCenter=0, WindowWidth=0)
    np.testing.assert_array_equal(read_image(path)[..., 0], picture(1)[0])


def test_where_zero_is_white_the_picture_is_turned_and_the_values_are_not(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", picture(1), "MONOCHROME1")
    np.testing.assert_array_equal(read_image(path)[..., 0], 255 - picture(1)[0])
    np.testing.assert_array_equal(open_frames(path).frame(0), picture(1)[0])


# Videos in DICOM


@pytest.mark.parametrize(
    ("syntax", "codec", "container"),
    [("1.2.840.10008.1.2.4.102", "libx264", "mp4"),
     ("1.2.840.10008.1.2.4.102", "libx264", "mpegts"),
     ("1.2.840.10008.1.2.4.100", "mpeg2video", "mpegts"),
     ("1.2.840.10008.1.2.4.100", "mpeg2video", "mpeg2video"),
     ("1.2.840.10008.1.2.4.107", "libx265", "mpegts")],
)  # fmt: skip
def test_a_video_in_dicom_has_the_videos_frames(tmp_path, syntax, codec, container):
    from tests.support.videos import decoded, write_video

    video = write_video(tmp_path / "a.bin", codec=codec, container=container, count=12)
    expected = decoded(video, container)
    coded = video.read_bytes()
    coded += bytes(len(coded) % 2)
    size = expected[0].shape[:2]
    path = write_dicom(
        tmp_path / "a.dcm", np.zeros((12, *size, 3), np.uint8), "YBR_PARTIAL_420", syntax,
        coded=[coded], table=False,
    )  # fmt: skip
    with open_frames(path) as frames:
        assert len(frames) == 12
        for index in (5, 0, 11):
            np.testing.assert_array_equal(frames.frame(index), expected[index])


# What is broken


def test_a_broken_frame_costs_itself_alone(tmp_path):
    frames = picture(60)
    coded = [ENCODERS[J2K](frame) for frame in frames]
    coded[37] = coded[37][:60] + bytes(len(coded[37]) - 60)
    path = write_dicom(tmp_path / "a.dcm", frames, syntax=J2K, coded=coded)
    with open_frames(path) as opened:
        assert len(opened) == 60
        with pytest.raises(ImageReadError, match=r"a\.dcm: frame 37 is truncated or damaged"):
            opened.frame(37)
        for index in (36, 38, 59):
            np.testing.assert_array_equal(opened.frame(index), frames[index])


@pytest.mark.parametrize("syntax", [EXPLICIT, J2K])
def test_a_file_that_was_cut_off_keeps_the_frames_that_are_whole(tmp_path, syntax):
    path = write_dicom(tmp_path / "a.dcm", picture(10), syntax=syntax, table=False)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.65)])
    with listening() as notes, open_frames(path) as frames:
        assert 3 <= len(frames) <= 7
        for index in range(len(frames) - 1):
            np.testing.assert_array_equal(frames.frame(index), picture(10)[index])
        with pytest.raises(ImageReadError, match="truncated or damaged"):
            frames.frame(len(frames) - 1)
    assert any("of its 10 frames are there" in line for line in notes.lines())


def bomb_size(path):
    return write_dicom(path, picture(1), Rows=60000, Columns=60000)


def bomb_frames(path):
    return write_dicom(path, picture(2), NumberOfFrames=2_000_000_000)


def bomb_codestream(path):
    coded = bytearray(ENCODERS[J2K](picture(1)[0]))
    for place in (8, 12, 24, 28):
        coded[place : place + 4] = (50_000).to_bytes(4, "big")
    return write_dicom(path, picture(1), syntax=J2K, coded=[bytes(coded)])


def bomb_jpeg(path):
    coded = bytearray(imagecodecs.jpeg8_encode(picture(1)[0]))
    place = coded.index(b"\xff\xc0")
    coded[place + 5 : place + 9] = (65000).to_bytes(2, "big") * 2
    return write_dicom(path, picture(1), syntax="1.2.840.10008.1.2.4.50", coded=[bytes(coded)])


def bomb_deflated(path):
    write_dicom(path, picture(1), syntax=DEFLATED)
    data = path.read_bytes()
    length = 132 + 12 + int(pydicom.filereader.read_file_meta_info(path)[0x00020000].value)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(400)) + squeeze.flush()
    path.write_bytes(data[:length] + body)
    return path


def bomb_palette(path):
    words = np.array([0, 2, 1, 9] + [1, 65535, 7, 1, 65535, 9] * 3000, "<u2").tobytes()
    more = {}
    for color in ("Red", "Green", "Blue"):
        more[f"{color}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        more[f"Segmented{color}PaletteColorLookupTableData"] = words
    return write_dicom(path, picture(1), "PALETTE COLOR", **more)


def bomb_run_lengths(path):
    header = np.array([1, 64, *[0] * 14], "<u4").tobytes()
    return write_dicom(
        path, picture(1), syntax=RLE, coded=[header + b"\x81\x00" * 2_000_000], table=False
    )


def bomb_depth(path):
    deep = {"BitsAllocated": 64, "BitsStored": 64, "HighBit": 63}
    return write_dicom(path, picture(1, 3), "RGB", Rows=9000, Columns=9000, **deep)


def fragments_without_end(path):
    write_dicom(path, picture(1), syntax=J2K, table=False)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"\xfe\xff\xdd\xe0")] + b"\xfe\xff\0\xe0\0\0\0\0" * 500_000)
    return path


def deep_sequences(path):
    write_dicom(path, picture(1))
    data = path.read_bytes()
    place = data.index(b"\xe0\x7f\x10\x00")
    nested = b"\x18\x00\x11\x60SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 20000
    path.write_bytes(data[:place] + nested)
    return path


def wrong_lengths(path):
    write_dicom(path, picture(1))
    data = path.read_bytes()
    place = data.index(b"\x28\x00\x10\x00US") + 6
    path.write_bytes(data[:place] + b"\xff\x7f" + data[place + 2 :])
    return path


def unknown_kind_of_value(path):
    write_dicom(path, picture(1))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00ZZ"))
    return path


def unknown_syntax(path):
    write_dicom(path, picture(1))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0"))
    return path


def without(name):
    """A file that lacks an attribute."""

    def make(path):
        write_dicom(path, picture(1))
        data = pydicom.dcmread(path)
        del data[name]
        data.save_as(path)
        return path

    make.__name__ = f"without_{name}"
    return make


def a_header_only(path):
    path.write_bytes(bytes(128) + b"DICM")
    return path


BROKEN = {
    bomb_size: "60000 x 60000 pixels are more than",
    bomb_codestream: "its compressed picture is 50000 x 50000 pixels, its header says 24 x 32",
    bomb_jpeg: "its compressed picture is 65000 x 65000 pixels, its header says 24 x 32",
    bomb_deflated: "grows to more than",
    bomb_palette: "has a palette of .* colours",
    bomb_run_lengths: "its compressed frame is longer than the picture",
    bomb_depth: "bytes is more than",
    fragments_without_end: "more than the 200,000 frames",
    deep_sequences: "truncated or damaged",
    wrong_lengths: "truncated or damaged|says nothing of its|without a picture",
    unknown_kind_of_value: "truncated or damaged; copy or export it again",
    unknown_syntax: "its transfer syntax is not supported; export it without compression",
    without("Rows"): "says nothing of its rows",
    without("PixelData"): "without a picture",
    a_header_only: "without a picture|truncated or damaged",
}
ROOM = 300_000_000
"""Bytes that reading all of them may take beyond what the program itself takes."""


@pytest.fixture(scope="module")
def read_apart(tmp_path_factory) -> dict[str, object]:
    """What a process of its own said of each broken file, and how much its memory grew.

    Decoders take their memory where Python does not count it.
    """
    folder = tmp_path_factory.mktemp("broken")
    paths = [write_dicom(folder / "whole", picture(1))]
    paths += [make(folder / make.__name__) for make in BROKEN]
    code = """
import json, resource, sys
from pathlib import Path
from napari_usgseg.core.errors import ImageReadError
from napari_usgseg.io.images import read_image
most = lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
said = {}
for path in map(Path, sys.argv[1:]):
    try:
        read_image(path)
        said[path.name] = "an image"
    except ImageReadError as error:
        said[path.name] = str(error)
    said.setdefault("before", most())
said["after"] = most()
print(json.dumps(said))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform == "win32", reason="it does not tell how much memory was taken")
@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_what_is_malformed_is_a_clear_error_that_names_its_cause(read_apart, make):
    assert read_apart["whole"] == "an image"
    assert re.search(rf"{make.__name__}: .*({BROKEN[make]})", str(read_apart[make.__name__]))


@pytest.mark.skipif(sys.platform == "win32", reason="it does not tell how much memory was taken")
def test_what_is_malformed_takes_no_more_memory_than_a_file_that_is_whole(read_apart):
    assert read_apart["after"] - read_apart["before"] < ROOM


def test_a_number_of_frames_that_cannot_be_is_not_believed(tmp_path):
    path = bomb_frames(tmp_path / "a.dcm")
    assert frame_sizes(path) == [(24, 32)] * 2
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], picture(2)[1])


def test_a_long_loop_is_opened_without_decoding_it(tmp_path):
    one = picture(1)
    coded = [ENCODERS[J2K](one[0])] * 600
    path = write_dicom(tmp_path / "a.dcm", np.repeat(one, 600, 0), syntax=J2K, coded=coded)
    tracemalloc.start()
    with open_frames(path) as frames:
        assert len(frames) == 600
        np.testing.assert_array_equal(frames.frame(599), one[0])
        assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


# Regions, spacing, rate


def test_regions_have_a_kind_a_rectangle_and_a_scale(tmp_path):
    more = {
        "SequenceOfUltrasoundRegions": [
            region((0, 0, 15, 23), deltas=(0.01, -0.02)),
            region((16, 0, 40, 11), kind=3, data=3, units=(4, 7), deltas=(0.005, 1.0)),
            region((16, 12, 31, 23), kind=2, units=(4, 3)),
            region((2, 2, 9, 9), data=2),
            region((50, 50, 60, 60)),
            region((9, 9, 3, 3)),
        ]
    }
    with open_frames(write_dicom(tmp_path / "a.dcm", picture(1), **more)) as frames:
        tissue, spectral, motion, colour = frames.about.regions
        assert frames.about.spacing_mm == pytest.approx((0.2, 0.1))
    assert (tissue.kind, tissue.box, tissue.units) == ("B-mode", (0, 0, 16, 24), ("cm", "cm"))
    assert tissue.spacing_mm == pytest.approx((0.2, 0.1))
    assert (spectral.kind, spectral.box) == ("spectral", (16, 0, 32, 12))
    assert (spectral.units, spectral.spacing_mm) == (("cm/s", "s"), None)
    assert (motion.kind, motion.units, motion.spacing_mm) == ("M-mode", ("cm", "s"), None)
    assert (colour.kind, colour.is_tissue, spectral.is_tissue) == ("colour", True, False)


def regions(*items) -> dict:
    return {"SequenceOfUltrasoundRegions": list(items)}


@pytest.mark.parametrize(
    ("more", "spacing"),
    [
        ({"PixelSpacing": [0.3, 0.2]}, (0.3, 0.2)),
        ({"PixelSpacing": [1.0, 1.0]}, None),
        ({"PixelSpacing": [0, 0]}, None),
        (regions(region((0, 0, 31, 23))) | {"PixelSpacing": [9, 9]}, (0.2, 0.1)),
        (regions(region((0, 0, 31, 23), units=(0, 0))) | {"PixelSpacing": [9, 9]}, None),
        (regions(region((0, 0, 9, 23)), region((10, 0, 31, 23), deltas=(1, 1))), None),
        (regions(region((0, 0, 31, 23), kind=3)) | {"PixelSpacing": [0.3, 0.2]}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_a_spacing_is_believed_where_it_is_one(tmp_path, more, spacing):
    found = read_spacing(write_dicom(tmp_path / "a.dcm", picture(1), **more))
    assert found == (None if spacing is None else pytest.approx(spacing))


@pytest.mark.parametrize(
    ("more", "scanner", "depth_mm"),
    [
        ({"Manufacturer": "ACME", "ManufacturerModelName": "P/9", "DepthOfScanField": 120},
         "ACME P/9", 120),
        ({"Manufacturer": "ACME", "DepthOfScanField": None}, "ACME", None),
        ({"ManufacturerModelName": "of DOE^JANE", "PatientName": "Doe^Jane"}, "", None),
        ({}, "", None),
    ],
)  # fmt: skip
def test_scanner_and_depth_are_known_and_a_scanner_that_is_called_as_the_patient_is_not(
    tmp_path, more, scanner, depth_mm
):
    with open_frames(write_dicom(tmp_path / "a.dcm", picture(1), **more)) as frames:
        assert (frames.about.scanner, frames.about.depth_mm) == (scanner, depth_mm)


@pytest.mark.parametrize(
    ("more", "rate"),
    [({"CineRate": 30}, 30), ({"RecommendedDisplayFrameRate": 25}, 25), ({"FrameTime": 40}, 25),
     ({"FrameTimeVector": [0, 50, 50]}, 20), ({"CineRate": 0}, None), ({}, None)],
)  # fmt: skip
def test_frames_a_second(tmp_path, more, rate):
    with open_frames(write_dicom(tmp_path / "a.dcm", picture(3), **more)) as frames:
        assert frames.about.rate == rate


# Who the patient is


def test_frames_of_a_patient_share_a_group_that_does_not_tell_who_it_is(tmp_path):
    who = {"PatientID": "MRN0012345", "PatientName": "Doe^Jane"}
    a = write_dicom(tmp_path / "a.dcm", picture(1), **who, StudyInstanceUID="1.2.3")
    b = write_dicom(tmp_path / "b.dcm", picture(1), **who, StudyInstanceUID="1.2.4")
    c = write_dicom(tmp_path / "c.dcm", picture(1), PatientID="MRN0012346")
    d = write_dicom(tmp_path / "d.dcm", picture(1), PatientID="ANONYMOUS", StudyInstanceUID="1.5")
    e = write_dicom(
        tmp_path / "e.dcm", picture(1), PatientName="Anonymized^", StudyInstanceUID="1.6"
    )
    groups = []
    for path in (a, b, c, d, e):
        with open_frames(path) as frames:
            groups.append(frames.about.group)
    assert groups[0] == groups[1]
    assert len(set(groups)) == 4
    assert "12345" not in "".join(groups)
    assert [group.partition("-")[0] for group in groups] == ["patient"] * 3 + ["study"] * 2


WHO = {"PatientID": "MRN0012345", "PatientName": "Doe^Jane^X", "PatientBirthDate": "19800203"}


@pytest.mark.parametrize(
    ("name", "repeats"),
    [("a.dcm", False), ("doe_jane.dcm", True), ("scan-MRN_00-12345-x.dcm", True),
     ("Jane/a.dcm", True), ("us-1980-02-03.dcm", True), ("patient 3.dcm", False),
     ("Jane/2024/left/a.dcm", True), ("03.02.1980/a.dcm", True), ("x/doe/y/z/a.dcm", True),
     ("does.dcm", False)],
)  # fmt: skip
def test_a_path_that_repeats_who_the_patient_is_is_known(tmp_path, name, repeats):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True, parents=True)
    with open_frames(write_dicom(path, picture(1), **WHO)) as frames:
        assert frames.about.repeats_identity is repeats
    assert (hidden_name(path) is not None) is repeats


@pytest.mark.parametrize(
    ("person", "name", "repeats"),
    [("Li^Wei", "li_03.dcm", True), ("Li^Wei", "LiWei.dcm", True), ("Li^Wei", "liver.dcm", False),
     ("Ho^An", "HoAn7.dcm", True), ("Ho^An", "hospital.dcm", False),
     ("M\u00fcller^J\u00f6rg", "Mueller.dcm", True), ("Mueller^J", "m\u00fcller.dcm", True),
     ("M\u00fcller^J", "MULLER.dcm", True), ("M\u00fcller^J", "mu\u0308ller.dcm", True),
     ("S\u00f8rensen^A", "soerensen.dcm", True), ("\u0141uk^A", "luk 2.dcm", True),
     ("Gro\u00df^A", "gross.dcm", True),
     ("\u0418\u0432\u0430\u043d\u043e\u0432", "\u0418\u0412\u0410\u041d\u041e\u0412.dcm", True),
     ("Wang^XiaoDong=\u738b^\u5c0f\u6771", "us\u738b1.dcm", True),
     ("\uae40^\ud76c\uc911", "\uae40.dcm", True),
     ("Anonymous^", "anonymous.dcm", False), ("Dr^Test", "test dr.dcm", False)],
)  # fmt: skip
def test_a_name_is_found_however_short_and_in_whatever_script(tmp_path, person, name, repeats):
    path = write_dicom(
        tmp_path / name, picture(1), SpecificCharacterSet="ISO_IR 192", PatientName=person
    )
    assert dicom.identity_of(path)[1] is repeats


@pytest.mark.parametrize(
    "breaking",
    [bomb_size, bomb_depth, without("Rows"), unknown_syntax],
    ids=lambda make: make.__name__,
)
def test_a_file_whose_picture_cannot_be_read_is_hidden_by_its_header(tmp_path, breaking):
    path = breaking(tmp_path / "a.dcm")
    data = pydicom.dcmread(path)
    data.PatientName, data.PatientID = "Doe^Jane", "MRN0012345"
    data.save_as(tmp_path / "doe.dcm", enforce_file_format=False)
    data.save_as(tmp_path / "b.dcm", enforce_file_format=False)
    with pytest.raises(ImageReadError):
        read_image(tmp_path / "doe.dcm")
    assert hidden_name(tmp_path / "doe.dcm") is not None
    assert hidden_name(tmp_path / "b.dcm") is None
    assert patient_of(tmp_path / "b.dcm").startswith("patient-")


def cut_off_in_the_header(path):
    write_dicom(path, picture(1), PatientName="Doe^Jane")
    path.write_bytes(path.read_bytes()[:250])
    return path


@pytest.mark.parametrize(
    "breaking",
    [deep_sequences, a_header_only, cut_off_in_the_header, without("PixelData")],
    ids=lambda make: make.__name__,
)
def test_a_file_whose_header_cannot_be_read_is_hidden_whatever_it_is_called(tmp_path, breaking):
    path = breaking(tmp_path / "a.dcm")
    assert hidden_name(path).startswith("image-")
    assert patient_of(path) is None


def test_dicom_under_the_name_of_an_image_is_hidden_too(tmp_path):
    path = write_dicom(tmp_path / "doe.png", picture(1), **WHO)
    assert hidden_name(path) is not None


def test_no_value_of_a_file_is_in_a_message_a_warning_or_a_log(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    secret = "ZEBEDEE"
    coded = [ENCODERS[J2K](picture(1)[0])[:50] + secret.encode() * 9]
    path = write_dicom(
        tmp_path / "a.dcm", picture(1), syntax=J2K, coded=coded, PatientName=secret,
        PatientID=secret,
    )  # fmt: skip
    data = path.read_bytes()
    data = data.replace(b"MONOCHROME2 ", b"ZEBEDEE     ")
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(ImageReadError) as failed:
            read_image(path)
    said = [str(failed.value), caplog.text, *capfd.readouterr(), *(str(w.message) for w in warned)]
    assert not any(secret in text for text in said)
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__


def test_nothing_is_logged_by_any_part_of_pydicom_and_frames_add_no_filter(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    path = write_dicom(tmp_path / "a.dcm", picture(9), syntax=J2K)
    filters = []
    with open_frames(path) as frames:
        for index in range(len(frames)):
            frames.frame(index)
            filters.append(list(warnings.filters))
    assert "pydicom" not in {record.name.partition(".")[0] for record in caplog.records}
    assert filters[0] == filters[-1]
    logging.getLogger("pydicom.pixels.decoders.base").warning("of another program")
    assert "of another program" in caplog.text


def test_a_table_of_offsets_that_lies_is_a_clear_error(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", picture(3), syntax=J2K)
    data = bytearray(path.read_bytes())
    good = encapsulate([ENCODERS[J2K](frame) for frame in picture(3)])
    place = data.index(good[:8]) + 12
    data[place : place + 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)
    with open_frames(path) as frames, pytest.raises(ImageReadError, match="damaged"):
        frames.frame(1)
