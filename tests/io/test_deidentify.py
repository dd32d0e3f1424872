"""De-identified DICOM: nothing that identifies is left, what stays is byte for byte the same."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.uid import UID

from napari_usgseg.core.errors import ImageReadError
from napari_usgseg.io import deidentify
from napari_usgseg.io.deidentify import deidentified
from napari_usgseg.io.images import as_shown
from napari_usgseg.io.reading.dicom import DicomFrames
from tests.support.dicom import ENCODERS, palette, region, write_dicom
from tests.support.videos import decoded, write_video

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
GREY = np.random.default_rng(0).integers(1, 200, (3, 24, 32), np.uint8)
COLOUR = np.random.default_rng(1).integers(1, 200, (3, 24, 32, 3), np.uint8)
KEEP = np.zeros((24, 32), bool)
KEEP[5:20, 7:28] = True


def written(path, keep=KEEP, text_stays=False):
    with DicomFrames(path) as frames:
        data = deidentified(frames, keep, text_stays=text_stays)
    target = path.with_name("new.dcm")
    target.write_bytes(data)
    return target


def check_pixels(path, keep=KEEP) -> None:
    target = written(path, keep)
    with DicomFrames(path) as old, DicomFrames(target) as new:
        assert len(old) == len(new)
        for index in range(len(old)):
            np.testing.assert_array_equal(new.frame(index)[keep], old.frame(index)[keep])
            was, shown = (as_shown(path, each.stored(index)) for each in (old, new))
            np.testing.assert_array_equal(shown[keep], was[keep])
            assert shown[~keep].max() <= 1  # (black of YBR is 0 or 1 of RGB)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_grey_that_is_not_compressed_stays_byte_for_byte(tmp_path, syntax, dtype):
    path = write_dicom(tmp_path / "a", GREY.astype(dtype), syntax=syntax)
    keep = KEEP
    with DicomFrames(path) as old, DicomFrames(written(path)) as new:
        for index in range(3):
            np.testing.assert_array_equal(new.frame(index)[keep], old.frame(index)[keep])
            assert (new.frame(index)[~keep] == 0).all()
        shown = as_shown(path, new.stored(0))
    assert np.ptp(shown[keep]) > 150  # what is black takes no brightness from what stays


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("planes", [0, 1])
def test_colours_that_are_not_compressed_stay_byte_for_byte(tmp_path, photometric, planes):
    stored = np.moveaxis(COLOUR, -1, 1) if planes else COLOUR
    path = write_dicom(tmp_path / "a", COLOUR, photometric)
    data = pydicom.dcmread(path)
    data.PlanarConfiguration, data.PixelData = planes, np.ascontiguousarray(stored).tobytes()
    data.save_as(path)
    check_pixels(path)
    new = pydicom.dcmread(written(path))
    assert new.PhotometricInterpretation == photometric
    pixels = np.frombuffer(new.PixelData, np.uint8).reshape(stored.shape)
    pixels = np.moveaxis(pixels, 1, -1) if planes else pixels
    np.testing.assert_array_equal(pixels[:, KEEP], COLOUR[:, KEEP])


def test_colours_at_half_resolution_stay_byte_for_byte(tmp_path):
    coded = np.random.default_rng(2).integers(16, 200, (2, 24, 16, 4), np.uint8)
    path = write_dicom(tmp_path / "a", COLOUR[:2], "YBR_FULL_422")
    data = pydicom.dcmread(path)
    data.PixelData = coded.tobytes()
    data.save_as(path)
    new = np.frombuffer(pydicom.dcmread(written(path)).PixelData, np.uint8).reshape(coded.shape)
    luma = np.stack([new[..., 0], new[..., 1]], -1).reshape(2, 24, 32)
    was = np.stack([coded[..., 0], coded[..., 1]], -1).reshape(2, 24, 32)
    np.testing.assert_array_equal(luma[:, KEEP], was[:, KEEP])
    assert (luma[:, ~KEEP] == 0).all()
    inside = KEEP.reshape(24, 16, 2).any(axis=2)
    np.testing.assert_array_equal(new[:, inside, 2:], coded[:, inside, 2:])


def test_white_is_not_taken_for_black(tmp_path):
    path = write_dicom(tmp_path / "a", GREY, "MONOCHROME1")
    with DicomFrames(written(path)) as frames:
        shown = as_shown(path, frames.stored(0))
    assert (shown[~KEEP] == 0).all()
    np.testing.assert_array_equal(shown[KEEP][:, 0], 255 - GREY[0][KEEP])


@pytest.mark.parametrize("syntax", [EXPLICIT, RLE])
def test_a_palette_keeps_its_numbers_and_black_is_its_darkest(tmp_path, syntax):
    table = np.random.default_rng(0).integers(2000, 60000, (256, 3))
    table[77] = 0
    path = write_dicom(tmp_path / "a", GREY, "PALETTE COLOR", **palette(table))
    if syntax == RLE:
        data = pydicom.dcmread(path)
        data.compress(UID(RLE))
        data.save_as(path)
    check_pixels(path)


@pytest.mark.parametrize("syntax", [RLE, *sorted(ENCODERS)])
@pytest.mark.parametrize("colors", [1, 3])
def test_what_is_compressed_stays_as_it_is_decoded(tmp_path, syntax, colors):
    photometric = "MONOCHROME2" if colors == 1 else "RGB"
    if colors == 3 and syntax.endswith(".50"):
        photometric = "YBR_FULL_422"
    frames = GREY if colors == 1 else COLOUR
    plain = EXPLICIT if syntax == RLE else syntax
    path = write_dicom(tmp_path / "a", frames, photometric, plain)
    if syntax == RLE:
        data = pydicom.dcmread(path)
        data.compress(UID(RLE))
        data.save_as(path)
    check_pixels(path)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("syntax", [EXPLICIT, RLE])
def test_twelve_of_sixteen_bits_stay_twelve(tmp_path, photometric, syntax):
    deep = {"BitsStored": 12, "HighBit": 11}
    path = write_dicom(tmp_path / "a", GREY.astype(np.uint16) * 16, photometric, **deep)
    if syntax == RLE:
        data = pydicom.dcmread(path)
        data.compress(UID(RLE))
        data.save_as(path)
    new = pydicom.dcmread(written(path))
    assert (new.BitsAllocated, new.BitsStored, new.HighBit) == (16, 12, 11)
    np.testing.assert_array_equal(new.pixel_array[:, KEEP], GREY[:, KEEP].astype(int) * 16)
    assert (new.pixel_array[:, ~KEEP] == (4095 if photometric == "MONOCHROME1" else 0)).all()


def test_a_video_in_dicom_stays_as_it_is_decoded(tmp_path):
    video = write_video(tmp_path / "a.bin", container="mp4", count=5, size=(64, 96))
    coded = video.read_bytes()
    coded += bytes(len(coded) % 2)
    path = write_dicom(
        tmp_path / "a.dcm", np.zeros((5, 64, 96, 3), np.uint8), "YBR_PARTIAL_420",
        "1.2.840.10008.1.2.4.102", coded=[coded], table=False,
    )  # fmt: skip
    keep = np.zeros((64, 96), bool)
    keep[10:50, 20:90] = True
    check_pixels(path, keep)
    with DicomFrames(written(path, keep)) as frames:
        np.testing.assert_array_equal(frames.frame(4)[keep], decoded(video, "mp4")[4][keep])


def test_regions_spacing_and_rate_stay(tmp_path):
    more = {
        "SequenceOfUltrasoundRegions": [
            region((0, 0, 15, 23), deltas=(0.01, -0.02)),
            region((16, 0, 31, 11), kind=3, data=3, units=(4, 7), deltas=(0.005, 1.0)),
        ],
        "FrameTime": 40, "WindowCenter": 100, "WindowWidth": 90,
    }  # fmt: skip
    path = write_dicom(tmp_path / "a", GREY, **more)
    with DicomFrames(path) as old, DicomFrames(written(path)) as new:
        assert new.about.regions == old.about.regions
        assert new.about.spacing_mm == old.about.spacing_mm == pytest.approx((0.2, 0.1))
        assert new.about.rate == old.about.rate == 25
    check_pixels_shown(path)


def check_pixels_shown(path) -> None:
    with DicomFrames(path) as old, DicomFrames(written(path)) as new:
        was, shown = (as_shown(path, each.stored(1)) for each in (old, new))
    np.testing.assert_array_equal(shown[KEEP], was[KEEP])


def test_identifiers_are_the_same_for_the_same(tmp_path):
    who = {"PatientID": "MRN1", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"}
    new = []
    for name in "ab":
        path = write_dicom(tmp_path / name, GREY[:1], **who)
        new.append(pydicom.dcmread(written(path)))
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID"):
        assert new[0][name].value == new[1][name].value
        assert "MRN1" not in str(new[0][name].value)
        assert "1.2.3" not in str(new[0][name].value)
    assert new[0].SOPInstanceUID != new[1].SOPInstanceUID
    assert new[0].SOPInstanceUID == new[0].file_meta.MediaStorageSOPInstanceUID
    assert new[0].StudyInstanceUID.startswith("2.25.")
    assert (new[0].PatientIdentityRemoved, new[0].BurnedInAnnotation) == ("YES", "NO")
    assert pydicom.dcmread(written(path, text_stays=True)).BurnedInAnnotation == "YES"
    assert "BurnedInAnnotation" not in pydicom.dcmread(written(path, text_stays=None))


# Who the patient is

PICTURE = (0x0028, 0x7FE0)
STAY = {
    "CineRate", "RecommendedDisplayFrameRate", "FrameTime", "FrameTimeVector", "SeriesNumber",
    "InstanceNumber", "Manufacturer", "ManufacturerModelName", "NominalScannedPixelSpacing",
}  # fmt: skip
"""Attributes that are kept and are none of PS3.15's basic profile."""


def marked() -> dict[str, tuple[str, str, object]]:
    """A value of its own for each attribute of the standard: keyword -> VR, how it is found, value.

    Those of PS3.15's basic profile are among them, whatever their kind: words, names, identifiers,
    dates, times, ages, integers and fractions.
    """
    marks: dict[str, tuple[str, str, object]] = {}
    for number, (tag, (vr, _, _, _, keyword)) in enumerate(sorted(DicomDictionary.items())):
        if not keyword or tag >> 16 in (0, 2, 4, *PICTURE) or keyword in ("SOPClassUID",):
            continue
        text: object
        if vr in ("LO", "SH", "LT", "ST", "UT", "UC", "AE", "CS", "UR"):
            text = f"ZEB{tag:08X}"
        elif vr == "PN":
            text = f"ZEB{tag:08X}^MARIA"
        elif vr == "UI":
            text = f"1.2.840.99.{tag}"
        elif vr in ("DA", "DT"):
            text = f"{date(1901, 1, 1) + timedelta(number):%Y%m%d}"
        elif vr == "TM":
            text = f"01{number // 60 % 60:02d}{number % 60:02d}.{700000 + number}"
        elif vr == "AS":
            text = "071Y"
        elif vr in ("IS", "UL", "SL", "UV", "SV"):
            text = 1_900_000_000 + number
        elif vr in ("US", "SS"):
            text = 20_000 + number
        elif vr in ("DS", "FD", "FL"):
            text = 7.0 + number
        else:
            continue
        marks[keyword] = (vr, str(text), text)
    return marks


def everything(data: Dataset):
    for element in data:
        if element.VR == "SQ":
            for item in element.value:
                yield from everything(item)
        else:
            yield element


def test_no_value_of_any_attribute_is_left(tmp_path):
    marks = marked()
    assert len(marks) > 3000
    path = write_dicom(tmp_path / "a", GREY)
    data = pydicom.dcmread(path)
    for keyword, (vr, _, value) in marks.items():
        data.add_new(pydicom.datadict.tag_for_keyword(keyword), vr, value)
    nested = Dataset()
    nested.PatientID = "ZEBNESTED"
    data.OtherPatientIDsSequence = [nested]
    data.SequenceOfUltrasoundRegions = [region((0, 0, 15, 23))]
    data.SequenceOfUltrasoundRegions[0].PatientName = "ZEBNESTED"
    data.SequenceOfUltrasoundRegions[0].TransducerType = "ZEBNESTED"
    block = data.private_block(0x0011, "ZEBPRIVATE", create=True)
    block.add_new(1, "LO", "ZEBSECRET")
    data.file_meta.SourceApplicationEntityTitle = "ZEBMETA"
    data.preamble = b"ZEBPREAMBLE".ljust(128, b"\0")
    data.save_as(path, enforce_file_format=True)
    target = written(path)
    raw = target.read_bytes()
    new = pydicom.dcmread(target)
    elements = list(everything(new)) + list(new.file_meta)
    for keyword, (vr, text, value) in marks.items():
        if keyword in STAY:
            continue
        if vr in ("LO", "SH", "LT", "ST", "UT", "UC", "AE", "CS", "UR", "PN", "UI", "TM", "DA"):
            assert text.encode() not in raw, keyword
        here = [element for element in elements if element.keyword == keyword]
        assert not any(element.value == value for element in here), keyword
        if vr in ("IS", "UL", "SL", "UV", "SV", "DS", "FD", "FL", "US", "SS", "AS"):
            others = [e.keyword for e in elements if e.keyword not in STAY and e.value == value]
            assert not others, keyword
    assert b"ZEB" not in raw.replace(str(new.Manufacturer).encode(), b"").replace(
        str(new.ManufacturerModelName).encode(), b""
    )
    assert not any(element.tag.is_private for element in elements)


def test_words_that_are_none_of_the_standard_s_are_not_kept(tmp_path):
    path = write_dicom(tmp_path / "a", GREY)
    data = pydicom.dcmread(path)
    data.VOILUTFunction, data.RescaleType = "DOE", "DOE"
    data.LossyImageCompressionMethod, data.Modality = "DOE JANE", "DOE"
    data.ImageType = ["ORIGINAL", "PRIMARY", "DOE"]
    data.save_as(path)
    assert b"DOE" not in written(path).read_bytes()


def test_a_broken_frame_fails_and_says_which(tmp_path):
    j2k = "1.2.840.10008.1.2.4.90"
    coded = [ENCODERS[j2k](frame) for frame in GREY]
    coded[1] = coded[1][:60] + bytes(len(coded[1]) - 60)
    path = write_dicom(tmp_path / "a", GREY, syntax=j2k, coded=coded)
    with pytest.raises(ImageReadError, match="frame 1 is truncated or damaged"):
        written(path)


@pytest.mark.parametrize("syntax", [EXPLICIT, RLE])
def test_frames_that_are_too_many_to_be_held_are_refused_compressed_or_not(
    tmp_path, monkeypatch, syntax
):
    path = write_dicom(tmp_path / "a", GREY)
    if syntax == RLE:
        data = pydicom.dcmread(path)
        data.compress(UID(RLE))
        data.save_as(path)
    written(path)
    monkeypatch.setattr(deidentify, "MAX_BYTES", 300)
    with pytest.raises(ImageReadError, match="more than 300 bytes"):
        written(path)
