"""Every format goes out and comes back; what other programs write comes in; others read ours."""

from __future__ import annotations

import ast
import base64
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from scipy import ndimage

from napari_usgseg.core.errors import DatasetError, FileError
from napari_usgseg.core.types import ImageRecord, LabelClass
from napari_usgseg.io.export import export_images
from napari_usgseg.io.formats import FORMATS, format_module, read_labels_of
from napari_usgseg.io.formats.objects import check_count
from napari_usgseg.io.formats.polygons import (
    corner_rings,
    corners_mask,
    joined,
    pixel_rings,
    pixels_mask,
)

CLASSES = [
    LabelClass(1, "breast tumor", "#e69f00"),
    LabelClass(2, 'cyst: "left", <small>', "#56b4e9"),
    LabelClass(5, "ünfug", "#009e73"),
]
NAMES = {item.class_id: item.name for item in CLASSES}
quick = settings(deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))


def blobs(seed: int, size_hw: tuple[int, int]) -> np.ndarray:
    """Codes of several objects of three classes, with holes, bays and pieces."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(size_hw), 1.5)
    codes = np.zeros(size_hw, np.uint16)
    for value, (low, high) in {1: (0.05, 0.1), 2: (0.12, 9), 5: (-9, -0.12)}.items():
        numbered, count = ndimage.label((field > low) & (field < high), np.ones((3, 3), int))
        for number in range(1, count + 1):
            codes[numbered == number] = value * 1000 + number
    return codes


CODES = st.one_of(
    st.builds(blobs, st.integers(0, 999), st.tuples(st.integers(1, 40), st.integers(1, 40))),
    hnp.arrays(np.uint16, st.tuples(st.integers(1, 7), st.integers(1, 9)),
               elements=st.sampled_from([0, 0, 1001, 1002, 2001, 5001])),
)  # fmt: skip


def write_set(folder: Path, maps: list[np.ndarray], format: str, labelling: str, **more) -> Path:
    """An export of images with these label maps; the image of each is noise of its size."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels, records = {}, []
    for index, labels in enumerate(maps):
        image = np.random.default_rng(index).integers(0, 256, (*labels.shape, 3), np.uint8)
        record = ImageRecord(f"patient {index // 2}-ü{index}", folder / f"{index}.png", None,
                             labels.shape, (0.25, 0.2))  # fmt: skip
        records.append(record)
        pixels[record] = image, labels
    report = export_images(
        records, pixels.__getitem__, folder / "out", name="mine", organ="breast",
        target="breast tumor", classes=CLASSES, labelling=labelling, format=format,
        groups={r.image_id: r.image_id.partition("-")[0] for r in records}, **more,
    )  # fmt: skip
    return report.whole()


def found_in(folder: Path, size_of) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Image -> class name and mask (or box) of each object, as a format's reader gives them."""
    _, labels = read_labels_of(folder)
    names = {item.class_id: item.name for item in labels.classes}
    found = {}
    for image in labels.images:
        name = next(Path(n).name.removesuffix(".png") for n in image.names)
        objects = image.read(size_of(name))
        found[name] = [(names[o.class_id], o.box if o.mask is None else o.mask) for o in objects]
    return found


def as_set(objects) -> set[tuple[str, bytes]]:
    return {(name, np.packbits(mask).tobytes()) for name, mask in objects if mask.any()}


def told_apart(codes: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [(NAMES[int(v) // 1000], codes == v) for v in np.unique(codes) if v]


def by_class(objects, size_hw) -> dict[str, np.ndarray]:
    """Class -> all its pixels."""
    drawn: dict[str, np.ndarray] = {}
    for name, mask in objects:
        if mask.any():
            drawn[name] = drawn.get(name, np.zeros(size_hw, bool)) | mask
    return drawn


EXACT = [name for name in FORMATS if not name.startswith("yolo")]
OBJECTS = [name for name in EXACT if name not in ("nnunet", "png-color", "png-classes")]


@pytest.mark.parametrize("format", EXACT)
@pytest.mark.parametrize("labelling", ["instance", "semantic"])
@quick
@given(maps=st.lists(CODES, min_size=1, max_size=3))
def test_what_goes_out_comes_back_pixel_by_pixel(tmp_path_factory, format, labelling, maps):
    if labelling == "semantic":
        maps = [codes // 1000 for codes in maps]
    if format.startswith("dicom-seg"):
        assume(min(labels.size for labels in maps) >= 8)
    out = write_set(tmp_path_factory.mktemp("set"), maps, format, labelling)
    assert read_labels_of(out)[0] == format.removesuffix("-polygons").removesuffix("-loops")
    sizes = {f"patient {i // 2}-ü{i}": labels.shape for i, labels in enumerate(maps)}
    found = found_in(out, sizes.__getitem__)
    assert found.keys() == sizes.keys()
    for (name, size_hw), labels in zip(sizes.items(), maps, strict=True):
        if labelling == "instance" and format in OBJECTS:
            assert as_set(found[name]) == as_set(told_apart(labels))
        codes = labels if labelling == "instance" else labels * 1000
        drawn = by_class(found[name], size_hw)
        wanted = by_class(told_apart(codes // 1000 * 1000), size_hw)
        assert drawn.keys() == wanted.keys()
        assert all(np.array_equal(drawn[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("format", ["yolo", "yolo-boxes"])
@quick
@given(codes=CODES)
def test_yolo_comes_back_but_for_what_its_table_says(tmp_path_factory, format, codes):
    out = write_set(tmp_path_factory.mktemp("set"), [codes], format, "instance")
    (objects,) = found_in(out, lambda name: codes.shape).values()
    pieces = [
        (name, part == number)
        for name, mask in told_apart(codes)
        for part, count in [ndimage.label(mask, np.ones((3, 3), int))]
        for number in range(1, count + 1)
    ]
    if format == "yolo":
        assert len(objects) == len(pieces)
        whole = [p for p in pieces if np.array_equal(ndimage.binary_fill_holes(p[1]), p[1])]
        assert as_set(whole) <= as_set(objects)  # without a hole all is exact
        drawn = np.any([mask for _, mask in objects] or [np.zeros(codes.shape, bool)], axis=0)
        assert np.count_nonzero(drawn != (codes > 0)) <= 0.1 * codes.size
        return
    assert len(objects) == len(told_apart(codes))
    for (_, box), (_, mask) in zip(objects, told_apart(codes), strict=True):
        rows, columns = np.nonzero(mask)
        edges = [columns.min(), rows.min(), columns.max(), rows.max()]
        np.testing.assert_allclose(box, edges, atol=1e-3)


@quick
@given(codes=CODES)
def test_polygons_are_the_mask_in_both_ways_of_drawing_them(codes):
    mask = codes > 0
    corners = [joined(outer, holes).ravel() for outer, holes in corner_rings(mask)]
    assert np.array_equal(corners_mask(corners, mask.shape), mask)
    filled = np.zeros_like(mask)
    for outer, _ in pixel_rings(mask):
        filled |= pixels_mask(np.resize(outer, (max(3, len(outer)), 2)), mask.shape)
    assert np.array_equal(filled, ndimage.binary_fill_holes(mask))


# -- other programs read ours ------------------------------------------------------------------


@pytest.fixture(scope="module")
def maps():
    return [blobs(seed, (40, 60)) for seed in range(12)]


@pytest.mark.parametrize("format", ["coco", "coco-polygons"])
def test_pycocotools_reads_every_pixel(tmp_path, maps, format):
    coco = COCO(write_set(tmp_path, maps, format, "instance") / "annotations.json")
    names = {number: item["name"] for number, item in coco.cats.items()}
    assert names == NAMES
    for number, codes in enumerate(maps, start=1):
        found = [
            (names[each["category_id"]], coco.annToMask(each).astype(bool))
            for each in coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        ]
        assert as_set(found) == as_set(told_apart(codes))


def test_supervision_reads_ours(tmp_path, maps):
    sv = pytest.importorskip("supervision", reason="an optional check: pip install supervision")
    truth = {f"patient {i // 2}-ü{i}": codes for i, codes in enumerate(maps)}

    def differing(data) -> int:
        return sum(
            int(np.count_nonzero(np.any(found.mask, 0) != (truth[Path(path).stem] > 0)))
            for path, _, found in data
        )

    folder = write_set(tmp_path / "coco", maps, "coco", "instance")
    data = sv.DetectionDataset.from_coco(
        str(folder / "images"), str(folder / "annotations.json"), force_masks=True
    )
    assert (len(data), differing(data)) == (12, 0)
    folder, count = write_set(tmp_path / "yolo", maps, "yolo", "instance"), 0
    for side in ("train", "test"):
        places = (folder / "images" / side, folder / "labels" / side, folder / "data.yaml")
        data = sv.DetectionDataset.from_yolo(*map(str, places), force_masks=True)
        count += len(data)
        assert differing(data) <= 12
    assert count == 12
    folder, count = write_set(tmp_path / "boxes", maps, "yolo-boxes", "instance"), 0
    for side in ("train", "test"):
        places = (folder / "images" / side, folder / "labels" / side, folder / "data.yaml")
        for path, _, found in sv.DetectionDataset.from_yolo(*map(str, places)):
            codes = truth[Path(path).stem]
            edges = [np.argwhere(codes == v).min(0)[::-1] for v in np.unique(codes) if v]
            assert len(found) == len(edges)
            for edge in edges:
                assert np.abs(found.xyxy[:, :2] - edge).max(1).min() <= 1
            count += 1
    assert count == 12
    folder = write_set(tmp_path / "voc", maps, "voc", "instance")
    data = sv.DetectionDataset.from_pascal_voc(
        str(folder / "JPEGImages"), str(folder / "Annotations")
    )
    assert sum(len(found) for _, _, found in data) == sum(len(told_apart(c)) for c in maps)


def test_labelmes_files_are_what_labelme_draws(tmp_path, maps):
    """As its ``LabelFile`` checks them and its ``shape_to_mask`` draws them (6.3.1)."""
    folder = write_set(tmp_path, maps, "labelme", "instance")
    for index, codes in enumerate(maps):
        content = json.loads((folder / f"patient {index // 2}-ü{index}.json").read_text("utf-8"))
        assert (folder / content["imagePath"]).is_file()
        assert (content["imageHeight"], content["imageWidth"]) == codes.shape
        assert content["imageData"] is None
        drawn = np.zeros(codes.shape, int)
        for shape in content["shapes"]:
            canvas = np.zeros(codes.shape, bool)
            if shape["shape_type"] == "mask":
                (x0, y0), (x1, y1) = np.array(shape["points"], int)
                part = Image.open(BytesIO(base64.b64decode(shape["mask"])))
                canvas[y0 : y1 + 1, x0 : x1 + 1] = np.asarray(part) > 0
            else:
                assert len(shape["points"]) > 2
                canvas = pixels_mask(shape["points"], codes.shape)
            drawn[canvas] = {name: value for value, name in NAMES.items()}[shape["label"]]
        assert np.array_equal(drawn, codes // 1000)


def test_nnunets_own_rules_of_integrity_hold(tmp_path, maps):
    """What ``verify_dataset_integrity`` of nnU-Net 2.8.1 asks for PNG files."""
    folder = write_set(tmp_path, maps, "nnunet", "instance")
    card = json.loads((folder / "dataset.json").read_text("utf-8"))
    cases = sorted(path.name[: -len("_0000.png")] for path in (folder / "imagesTr").iterdir())
    assert len(cases) == card["numTraining"] == 10
    assert {path.stem for path in (folder / "labelsTr").iterdir()} == set(cases)
    assert list(card["labels"].values()) == list(range(len(card["labels"])))
    assert len(card["channel_names"]) == 1
    for case in cases:
        image = np.asarray(Image.open(folder / "imagesTr" / f"{case}_0000{card['file_ending']}"))
        labels = np.asarray(Image.open(folder / "labelsTr" / f"{case}.png"))
        assert image.ndim == 2
        assert image.shape == labels.shape
        assert set(np.unique(labels)) <= set(card["labels"].values())
    folds = json.loads((folder / "splits_final.json").read_text())
    assert len(folds) == 5
    for fold in folds:
        patients = [{case.partition("-")[0] for case in fold[side]} for side in ("train", "val")]
        assert patients[0].isdisjoint(patients[1])
        assert sorted(fold["train"] + fold["val"]) == cases


def test_nifti_has_the_pixels_size_and_the_image(tmp_path, maps):
    folder = write_set(tmp_path, maps[:1], "nifti", "instance")
    labels = nibabel.load(folder / "labels" / "patient 0-ü0.nii.gz")
    image = nibabel.load(folder / "images" / "patient 0-ü0.nii.gz")
    assert np.array_equal(np.asarray(labels.dataobj)[:, :, 0].T, maps[0])
    assert labels.header.get_zooms()[:2] == pytest.approx((0.2, 0.25))
    assert np.allclose(labels.affine, image.affine)
    assert image.shape[:2] == labels.shape[:2]
    itk = pytest.importorskip("SimpleITK", reason="an optional check: pip install simpleitk")
    read = itk.ReadImage(str(folder / "labels" / "patient 0-ü0.nii.gz"))
    assert np.array_equal(itk.GetArrayFromImage(read)[0], maps[0])
    assert read.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert read.GetSpacing()[:2] == pytest.approx((0.2, 0.25))


def test_an_imagefolder_lists_files_that_are_there_by_side(tmp_path, maps):
    folder = write_set(tmp_path, maps, "imagefolder", "semantic")
    sides = {path.parent.name for path in folder.glob("*/metadata.jsonl")}
    assert sides == {"train", "test"}
    for side in sides:
        lines = (folder / side / "metadata.jsonl").read_text("utf-8").splitlines()
        for row in map(json.loads, lines):
            assert (folder / side / row["file_name"]).is_file()
            assert (folder / side / row["mask_file_name"]).is_file()
            assert len(row["objects"]["bbox"]) == len(row["objects"]["categories"])


@pytest.mark.parametrize("format", ["yolo", "imagefolder", "nnunet"])
def test_no_patient_is_on_two_sides_and_all_can_be_on_one(tmp_path, maps, format):
    codes = [codes // 1000 for codes in maps]
    folder = write_set(tmp_path, codes, format, "semantic")
    names: dict[str, set[str]] = {}
    for path in folder.rglob("patient*.png"):
        side = path.relative_to(folder).parts[1 if format == "yolo" else 0][-2:]
        names.setdefault(side, set()).add(path.name.partition("-")[0])
    held = {"Ts"} if format == "nnunet" else {"st"}
    for side in held:
        others = set().union(*(found for key, found in names.items() if key != side))
        assert names[side].isdisjoint(others)
    one = write_set(tmp_path / "one", codes, format, "semantic", split=False)
    assert not [path for path in one.rglob("patient*") if "test" in path.parts]
    assert "| train | 12 | 6 |" in (one / "README.md").read_text("utf-8")


def test_the_data_card_counts_and_says_who_and_under_which_licence(tmp_path, maps):
    made = ["## How it was made", "", "By hand."]
    folder = write_set(tmp_path, maps, "coco", "instance", licence="CC BY 4.0", made=made)
    text = (folder / "README.md").read_text("utf-8")
    count = sum(int(v) // 1000 == 1 for codes in maps for v in np.unique(codes))
    pixels = sum(int(np.count_nonzero(codes // 1000 == 1)) for codes in maps)
    images = sum(bool((codes // 1000 == 1).any()) for codes in maps)
    assert f"| 1 | breast tumor | {images} | {count} | {pixels} |" in text
    assert "By hand." in text
    assert "Licence of the images: CC BY 4.0." in text
    assert "| train | 10 | 5 |" in text
    card = json.loads((folder / "annotations.json").read_text("utf-8"))
    assert card["licenses"] == [{"id": 1, "name": "CC BY 4.0", "url": ""}]


# -- what other programs write comes in --------------------------------------------------------


def one_image(path: Path, size_hw=(20, 30), format=None):
    """Class name -> mask or box of the single image that a file or folder labels, and the set."""
    found, labels = read_labels_of(path, format)
    (image,) = labels.images
    names = {item.class_id: item.name for item in labels.classes}
    objects = [(names[o.class_id], o.box if o.mask is None else o.mask)
               for o in image.read(size_hw)]  # fmt: skip
    return found, image, objects, labels


def test_coco_of_another_program(tmp_path):
    runs = [20 * 5 + 3, 4, 20 * 30 - 20 * 5 - 7]  # column by column: 4 pixels of column 5
    card = {
        "images": [{"id": 77, "file_name": "p1/scan.jpg", "width": 30, "height": 20}],
        "categories": [{"id": 0, "name": "kidney"}, {"id": 90, "name": "vein"}],
        "annotations": [
            {"id": 1, "image_id": 77, "category_id": 0, "iscrowd": 0,
             "segmentation": [[2, 3, 8, 3, 8, 9, 2, 9], [20.2, 10.1, 25, 10.1, 25, 14.9]]},
            {"id": 2, "image_id": 77, "category_id": 90, "iscrowd": 1,
             "segmentation": {"size": [20, 30], "counts": runs}},
            {"id": 3, "image_id": 77, "category_id": 90, "bbox": [1, 2, 5, 4]},
        ],
    }  # fmt: skip
    (tmp_path / "instances_train.json").write_text(json.dumps(card))
    found, image, objects, labels = one_image(tmp_path)
    assert (found, image.names) == ("coco", ("p1/scan.jpg", "scan.jpg"))
    assert [(c.class_id, c.name) for c in labels.classes] == [(1, "kidney"), (2, "vein")]
    (kidney, crowd, box) = objects
    rings = card["annotations"][0]["segmentation"]
    same = run_lengths.decode(run_lengths.merge(run_lengths.frPyObjects(rings, 20, 30)))
    assert np.array_equal(kidney[1], same.astype(bool))
    assert kidney[1][3:9, 2:8].all()
    assert crowd[0] == "vein"
    assert np.array_equal(np.argwhere(crowd[1]), [[3, 5], [4, 5], [5, 5], [6, 5]])
    assert box[1].tolist() == [1, 2, 5, 5]


def test_yolo_of_another_program(tmp_path):
    labels = tmp_path / "train" / "labels"
    labels.mkdir(parents=True)
    (tmp_path / "README.roboflow.txt").write_text("hello")
    (tmp_path / "data.yaml").write_text("train: ../train/images\nnc: 2\nnames: ['a', 'b']\n")
    (labels / "scan_jpg.rf.1.txt").write_text(
        "1 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n0 0.5 0.5 0.2 0.4\n0 0.5 0.5 0.2 0.4 0.9\n"
    )
    found, image, objects, _ = one_image(tmp_path, (10, 20))
    assert (found, image.names[0]) == ("yolo", "scan_jpg.rf.1")
    assert [name for name, _ in objects] == ["b", "a", "a"]
    assert objects[0][1][2:6, 2:10].all()
    np.testing.assert_allclose(objects[1][1], [8, 3, 11, 6], atol=1e-4)
    np.testing.assert_allclose(objects[2][1], objects[1][1])


VOC = """<annotation><filename>scan.jpg</filename><size><width>30</width></size>
<object><name>cyst</name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>8</xmax><ymax>9</ymax></bndbox>
</object></annotation>"""


def test_voc_of_another_program(tmp_path):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "scan.xml").write_text(VOC)
    found, image, objects, _ = one_image(tmp_path)
    assert (found, image.names) == ("voc", ("scan.jpg", "scan"))
    assert objects[0][0] == "cyst"
    assert objects[0][1].tolist() == [2, 3, 7, 8]
    assert one_image(tmp_path / "Annotations" / "scan.xml")[2][0][1].tolist() == [2, 3, 7, 8]


def test_voc_masks_in_colour_are_read_by_the_label_map(tmp_path):
    """As CVAT exports "Segmentation mask 1.1": no Annotations/, both masks in colour."""
    classes, objects = np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30, 3), np.uint8)
    vein, nerve = (250, 50, 83), (36, 179, 83)
    classes[2:6, 2:6], classes[10:15, 20:25], classes[2:6, 12:16] = vein, nerve, vein
    objects[2:6, 2:6], objects[10:15, 20:25], objects[2:6, 12:16] = (1, 0, 0), (2, 0, 0), (3, 0, 0)
    for place, pixels in (("SegmentationClass", classes), ("SegmentationObject", objects)):
        (tmp_path / place).mkdir()
        Image.fromarray(pixels).save(tmp_path / place / "scan.png")
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nnerve:36,179,83::\nvein:250,50,83::\n"
    )
    _, _, found, _ = one_image(tmp_path)
    assert sorted((name, int(mask.sum())) for name, mask in found) == [
        ("nerve", 25), ("vein", 16), ("vein", 16),
    ]  # fmt: skip


def test_labelme_of_another_program(tmp_path):
    mask = BytesIO()
    Image.fromarray(np.array([[1, 0], [1, 1]], np.uint8)).save(mask, "PNG")
    shapes = [
        {"label": "cyst", "points": [[2.4, 3.1], [9.6, 3.2], [9.0, 8.8]], "group_id": None,
         "shape_type": "polygon", "flags": {}},
        {"label": "cyst", "points": [[20, 4], [15, 2]], "shape_type": "rectangle", "group_id": 3},
        {"label": "cyst", "points": [[20, 8], [15, 6]], "shape_type": "rectangle", "group_id": 3},
        {"label": "ball", "points": [[10, 14], [13, 14]], "shape_type": "circle"},
        {"label": "dots", "points": [[28, 17], [29, 18]], "shape_type": "mask",
         "mask": base64.b64encode(mask.getvalue()).decode()},
        {"label": "note", "points": [[1, 1]], "shape_type": "point"},
    ]  # fmt: skip
    content = {"version": "5.0.1", "flags": {}, "shapes": shapes, "imagePath": "..\\in\\scan.jpg",
               "imageData": "aGVsbG8=", "imageHeight": 20, "imageWidth": 30}  # fmt: skip
    (tmp_path / "scan.json").write_text(json.dumps(content))
    found, image, objects, labels = one_image(tmp_path)
    assert (found, image.names) == ("labelme", ("scan.jpg", "scan"))
    assert labels.notes == ("1 shapes have no area (lines, points) and were left out",)
    assert [name for name, _ in objects] == ["cyst", "cyst", "ball", "dots"]
    assert objects[1][1].sum() == 2 * 6 * 3  # two rectangles of one object, their lines included
    assert objects[2][1][14, 7:14].all()
    assert np.argwhere(objects[3][1]).tolist() == [[17, 28], [18, 28], [18, 29]]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels>
<label><name>vein</name><color>#ff6037</color></label></labels></task></meta>
<image id="0" name="p1/scan.png" width="30" height="20">
<polygon label="vein" source="manual" occluded="0" points="2.0,3.0;8.0,3.0;8.0,9.0;2.0,9.0"
 z_order="2"/>
<box label="vein" occluded="0" xtl="10.0" ytl="4.0" xbr="15.0" ybr="9.0" z_order="0"/>
<ellipse label="plaque" cx="20.0" cy="10.0" rx="4.0" ry="2.0" z_order="1"/>
<mask label="plaque" rle="1, 2, 1" left="3" top="15" width="2" height="2" z_order="0"/>
<box label="vein" xtl="20.0" ytl="2.0" xbr="26.0" ybr="4.0" rotation="90.0" z_order="3"/>
<polyline label="vein" points="1,1;2,2"/></image></annotations>"""


def test_cvat_of_another_program(tmp_path):
    (tmp_path / "annotations.xml").write_text(CVAT)
    found, image, objects, labels = one_image(tmp_path)
    assert (found, image.names) == ("cvat", ("p1/scan.png", "scan.png"))
    assert next((c.name, c.color) for c in labels.classes) == ("vein", "#ff6037")
    assert [name for name, _ in objects] == ["vein", "plaque", "plaque", "vein", "vein"]
    box, mask, ellipse, polygon, turned = (found for _, found in objects)  # by z_order
    assert np.argwhere(turned).min(0).tolist() == [0, 22]
    assert np.argwhere(turned).max(0).tolist() == [5, 23]
    assert box.tolist() == [10, 4, 14, 8]
    assert np.argwhere(mask).tolist() == [[15, 4], [16, 3]]
    assert abs(int(ellipse.sum()) - np.pi * 8) < 3
    assert np.array_equal(np.argwhere(polygon).min(0), [3, 2])
    assert polygon.sum() == 36
    assert labels.last_on_top
    assert "1 shapes have no area" in labels.notes[0]


def test_nnunet_of_another_program(tmp_path):
    (tmp_path / "labelsTr").mkdir()
    labels = np.zeros((20, 30), np.uint8)
    labels[2:4, 2:9], labels[9, 9] = 1, 2
    Image.fromarray(labels).save(tmp_path / "labelsTr" / "scan_01.png")
    card = {"channel_names": {"0": "R"}, "labels": {"background": 0, "vein": 1, "ignore": 2},
            "numTraining": 1, "file_ending": ".png"}  # fmt: skip
    (tmp_path / "dataset.json").write_text(json.dumps(card))
    found, image, objects, _ = one_image(tmp_path)
    assert (found, image.names[0]) == ("nnunet", "scan_01")
    assert [(name, int(mask.sum())) for name, mask in objects] == [("vein", 14)]


def test_label_maps_of_another_program(tmp_path):
    labels = np.zeros((20, 30), np.uint8)
    labels[2:4, 2:9] = 255
    Image.fromarray(labels).save(tmp_path / "scan.png")
    found, image, objects, labels_of = one_image(tmp_path)
    assert (found, image.names[0]) == ("png", "scan.png")
    assert [(name, int(mask.sum())) for name, mask in objects] == [("label 1", 14)]
    assert not labels_of.told_apart
    assert one_image(tmp_path / "scan.png")[2][0][1].sum() == 14


@pytest.mark.data
def test_real_label_volumes_come_in_frame_by_frame(data_folder):
    """The machine-made labels of three loops of hips, beside their DICOM files."""
    folder = data_folder.parent / "dicom"
    volumes = sorted(folder.glob("hip_*_labels.nii.gz"))
    if not volumes:
        pytest.skip(f"no real label volumes in {folder}")
    for path in volumes:
        values = np.asarray(nibabel.load(path).dataobj)
        _, labels = read_labels_of(path)
        assert [image.frame for image in labels.images] == list(range(values.shape[2]))
        assert labels.images[0].names == (
            path.name[: -len(".nii.gz")],
            path.name.split("_labels")[0],
        )
        for image in labels.images:
            drawn = np.zeros(values.shape[1::-1], int)
            for each in image.read(drawn.shape):
                drawn[each.mask] = each.class_id
            assert np.array_equal(drawn, values[:, :, image.frame].T)


def test_a_label_volume_that_simple_itk_wrote_comes_in_frame_by_frame(tmp_path):
    frames = np.stack([blobs(seed, (30, 40)) // 1000 for seed in range(3)]).astype(np.uint8)
    itk = pytest.importorskip("SimpleITK", reason="an optional check: pip install simpleitk")
    volume = itk.GetImageFromArray(frames)
    volume.SetSpacing((0.2, 0.25, 1.0))
    itk.WriteImage(volume, str(tmp_path / "heart_seg.nii.gz"))
    _, labels = read_labels_of(tmp_path / "heart_seg.nii.gz")
    assert [image.frame for image in labels.images] == [0, 1, 2]
    for image, frame in zip(labels.images, frames, strict=True):
        assert "heart" in image.names
        drawn = np.zeros((30, 40), np.uint8)
        for item in image.read((30, 40)):
            drawn[item.mask] = item.class_id
        assert np.array_equal(drawn, frame)


def test_a_mask_of_another_scale_is_brought_to_its_image(tmp_path):
    folder = write_set(tmp_path, [blobs(1, (20, 30))], "coco", "instance")
    (objects,) = found_in(folder, lambda name: (40, 60)).values()
    assert all(mask.shape == (40, 60) for _, mask in objects)
    with pytest.raises(DatasetError, match="of an image of 30x20 pixels, this one has 20x40"):
        found_in(folder, lambda name: (40, 20))


FOREIGN = Path(__file__).parent / "foreign"
"""Files that other programs wrote; its README.md says which."""


@pytest.mark.parametrize(
    ("place", "least"),
    [
        ("datumaro/coco_instances", 1.0),
        ("datumaro/coco_instances-polygons", 0.8),  # numbers of pixels where COCO has corners
        ("datumaro/cvat", 1.0),
        ("datumaro/cvat-polygons", 0.8),
        ("datumaro/voc", 1.0),
        ("labelme", 1.0),
        ("supervision/coco", 0.8),
        ("supervision/labelme", 1.0),
        ("supervision/yolo", 1.0),
    ],
)
def test_masks_that_another_program_wrote_come_in(place, least):
    truth = np.asarray(Image.open(FOREIGN / "truth.png")).astype(int)
    found, image, objects, _ = one_image(FOREIGN / place, truth.shape)
    assert found in place
    assert {Path(name).stem for name in image.names} == {"scan"}
    wanted = {1001: "breast tumor", 1002: "breast tumor", 2001: "cyst", 2002: "cyst"}
    assert len(objects) == len(wanted)
    for code, name in wanted.items():
        dice = [
            2 * np.count_nonzero(mask & (truth == code)) / (mask.sum() + (truth == code).sum())
            for other, mask in objects
            if other == name
        ]
        assert max(dice) >= least


@pytest.mark.parametrize(
    ("place", "off"),
    [
        ("datumaro/cvat-boxes", 0),
        ("datumaro/voc_detection", 1),  # it counts from 0 where VOC counts from 1
        ("datumaro/yolo", 0),
        ("supervision/voc", 0),
    ],
)
def test_boxes_that_another_program_wrote_come_in(place, off):
    truth = np.asarray(Image.open(FOREIGN / "truth.png")).astype(int)
    _, _, objects, _ = one_image(FOREIGN / place, truth.shape)
    assert [name for name, _ in objects] == ["breast tumor", "breast tumor", "cyst", "cyst"]
    for (_, box), code in zip(objects, (1001, 1002, 2001, 2002), strict=True):
        rows, columns = np.nonzero(truth == code)
        edges = [columns.min(), rows.min(), columns.max(), rows.max()]
        assert np.abs(np.subtract(box, edges)).max() <= off + 1e-3


# -- what is no such file ----------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_of_something_else_is_refused_by_every_format(tmp_path, format):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DatasetError) as error:
        format_module(format).read(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert not format_module(format).recognises(tmp_path)
    with pytest.raises(DatasetError, match="of no format that is known"):
        read_labels_of(tmp_path)


def all_of(read, folder: Path) -> None:
    for image in read(folder).images:
        image.read((20, 30))


BROKEN = {
    "coco": ("annotations.json", ["{", "[]", '["images", "annotations"]',
                                  '{"images": [], "annotations": [], "categories": [{"id": 1e999}'
                                  "]}",
                                  '{"images": 1, "annotations": [], "categories": []}',
                                  '{"images": [{}], "annotations": [{}], "categories": [{}]}']),
    "labelme": ("scan.json", ['{"shapes": 3}', '{"shapes": [{}]}', '{"shapes": [1]}', "["]),
    "cvat": ("annotations.xml", ["<annotations><image", "<other/>"]),
    "yolo": ("data.yaml", ["names: [a", "nc: 3", "- 1", "names: abc", "names: {a: b}", "names: 3",
                           "a: &a [x]\nnames: [*a, *a]", "names: {70000: a}", "names: {-1: a}"]),
    "nnunet": ("dataset.json", ['{"file_ending": ".png", "labels": 3}', "{",
                                '{"file_ending": ".png", "labels": {"a": [1, 2]}}']),
    "imagefolder": ("metadata.jsonl", ["{", '{"file": 1}', "3"]),
    "voc": ("Annotations/a.xml", ["<annotation><object></object></annotation>", "<annot"]),
    "nifti": ("a.nii.gz", ["no volume", ""]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("format", "name", "text"),
    [(format, name, text) for format, (name, texts) in BROKEN.items() for text in texts],
)
def test_a_broken_card_is_an_error_that_names_it(tmp_path, format, name, text):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(FileError):
        all_of(format_module(format).read, tmp_path)


def coco_object(**segmentation):
    return json.dumps({
        "images": [{"id": 1, "file_name": "a.png", "width": 30, "height": 20}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], **segmentation}],
    })  # fmt: skip


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [20, 30], "counts": [0, 10**9]},
        {"size": [20, 30], "counts": [700, -100]},
        {"size": [2000000, 3000000], "counts": [1, 2]},
        {"size": [20, 30], "counts": "PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP"},
        {"size": [20, 30], "counts": "0\x7f"},
        {"size": [20, 30], "counts": ""},
        [[1, 2, 3]],
        [[1, 2, 3, float("nan"), 5, 6]],
        [["a", "b", "c", "d", "e", "f"]],
        {"size": 3},
    ],
)
def test_run_lengths_and_polygons_that_are_none_are_refused(tmp_path, segmentation):
    (tmp_path / "annotations.json").write_text(coco_object(segmentation=segmentation))
    with pytest.raises(DatasetError, match=r"a\.png: an annotation that is none"):
        one_image(tmp_path)


@pytest.mark.parametrize("bbox", [[1, 2, float("nan"), 4], [1, 2, 3, 1e300], [1, 2], "abcd", {}])
def test_a_box_that_is_none_is_refused(tmp_path, bbox):
    (tmp_path / "annotations.json").write_text(coco_object(bbox=bbox))
    with pytest.raises(DatasetError, match=r"a\.png: an annotation that is none"):
        one_image(tmp_path)


@pytest.mark.parametrize("info", [[], None, "x", 3, {"labelling": []}])
def test_what_a_coco_file_says_of_itself_may_be_anything(tmp_path, info):
    card = json.loads(coco_object()) | {"info": info}
    (tmp_path / "annotations.json").write_text(json.dumps(card))
    assert one_image(tmp_path)[3].told_apart


def polygon_file(folder: Path, format: str, points: list) -> None:
    """A file of another program with one polygon in an image of 30x20 pixels."""
    if format == "coco":
        flat = [value for point in points for value in point]
        (folder / "annotations.json").write_text(coco_object(segmentation=[flat]))
    elif format == "yolo":
        (folder / "data.yaml").write_text("names: [a]")
        (folder / "labels").mkdir()
        text = " ".join(f"{x / 30} {y / 20}" for x, y in points)
        (folder / "labels" / "a.txt").write_text(f"0 {text}")
    elif format == "labelme":
        shape = {"label": "a", "points": points, "shape_type": "polygon"}
        (folder / "a.json").write_text(json.dumps({"shapes": [shape], "imagePath": "a.png"}))
    else:
        text = ";".join(f"{x},{y}" for x, y in points)
        image = f'<image name="a.png"><polygon label="a" points="{text}"/></image>'
        (folder / "annotations.xml").write_text(f"<annotations>{image}</annotations>")


@pytest.mark.parametrize("format", ["coco", "yolo", "labelme", "cvat"])
@pytest.mark.parametrize(
    "points",
    [
        [[1, 1], [1e9, 1], [1, 1e9]],
        [[1, 1], [-1e18, 1], [1, 5]],
        [[1, 1], [1e300, 1], [1, 5]],
        [[-250, -250], [270, 260]] * 10_000,  # each near, together a rim of millions of pixels
        [[1, 1], [20, 1], [20, 15]] * 100_000,
    ],
    ids=["wide", "far", "absurd", "zigzag", "many"],
)
def test_a_polygon_that_would_take_all_memory_is_refused_before_it_is_drawn(
    tmp_path, format, points
):
    polygon_file(tmp_path, format, points)
    with pytest.raises(DatasetError, match=r"outside of its image|more than 200000 points"):
        one_image(tmp_path, format=format)


@pytest.mark.parametrize("format", ["coco", "yolo", "labelme", "cvat"])
def test_a_polygon_that_reaches_out_of_its_image_is_cut_at_the_edge(tmp_path, format):
    polygon_file(tmp_path, format, [[-100, 5], [20, 5], [20, 100], [-100, 100]])
    ((_, mask),) = one_image(tmp_path, format=format)[2]
    inside = np.zeros((20, 30), bool)
    inside[5:, : 20 if format in ("coco", "cvat") else 21] = True
    assert np.array_equal(mask, inside)


def test_a_labelme_mask_that_is_a_bomb_is_refused(tmp_path):
    small = BytesIO()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(small, "PNG")
    bomb = bytearray(small.getvalue())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2  # what its header says: 3.6 gigapixels
    shape = {"label": "a", "points": [[0, 0], [9, 9]], "shape_type": "mask",
             "mask": base64.b64encode(bomb).decode()}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps({"shapes": [shape], "imagePath": "a.png"}))
    with pytest.raises(DatasetError, match="shape 1 is none"):
        one_image(tmp_path)


def test_more_objects_than_an_image_can_have_are_refused_before_their_masks_are_made(tmp_path):
    card = json.loads(coco_object())
    card["annotations"] *= 1001
    (tmp_path / "annotations.json").write_text(json.dumps(card))
    with pytest.raises(DatasetError, match="1001 objects in an image of 30x20 pixels; 1000 are"):
        one_image(tmp_path)
    with pytest.raises(DatasetError, match="54 objects in an image of 9000x9000 pixels; 53 are"):
        check_count(tmp_path, 54, (9000, 9000))
    polygon_file(tmp_path, "yolo", [[1, 1], [5, 1], [5, 5]])
    label = tmp_path / "labels" / "a.txt"
    label.write_text((label.read_text() + "\n") * 1001)
    with pytest.raises(DatasetError, match="1001 objects"):
        one_image(tmp_path, format="yolo")
    image = ElementTree.Element("annotations")
    scan = ElementTree.SubElement(image, "image", name="a.png")
    for _ in range(1001):
        ElementTree.SubElement(scan, "box", label="a", xtl="1", ytl="1", xbr="5", ybr="5")
    (tmp_path / "annotations.xml").write_text(ElementTree.tostring(image, encoding="unicode"))
    with pytest.raises(DatasetError, match="1001 objects"):
        one_image(tmp_path, format="cvat")


def test_a_region_of_speckle_goes_out_as_one_object(tmp_path):
    speckle = np.zeros((80, 80), np.uint8)
    speckle[::2, ::2] = 1  # 1600 pieces
    for format in ("coco", "coco-polygons", "labelme", "voc", "cvat"):
        out = write_set(tmp_path / format, [speckle], format, "semantic")
        ((name, mask),) = found_in(out, lambda name: (80, 80))["patient 0-ü0"]
        assert name == "breast tumor"
        assert np.array_equal(mask, speckle > 0)


def test_one_broken_mask_or_line_stops_no_other_of_an_imagefolder(tmp_path, maps):
    out = write_set(tmp_path, maps[:3], "imagefolder", "instance")
    card = next(path for path in out.rglob("metadata.jsonl"))
    lines = [json.loads(line) for line in card.read_text("utf-8").splitlines()]
    for line in lines:
        line.pop("labelling")
    (card.parent / lines[0]["mask_file_name"]).write_bytes(b"no picture")
    (out / "classes.json").unlink()
    card.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + "no line\n")
    _, labels = read_labels_of(out)
    read, failed = [], []
    for image in labels.images:
        try:
            read.append(len(image.read((40, 60))))
        except FileError as error:
            failed.append(str(error))
    assert len(failed) == 2
    assert any("line" in text and "is none" in text for text in failed)
    assert len(read) == sum(len(list(p.open())) for p in out.rglob("metadata.jsonl")) - 2
    assert min(read) > 2


def test_how_values_are_meant_is_decided_for_all_images_of_a_set(tmp_path):
    """A slice with large numbers only is no slice of codes where another has small ones."""
    values = np.zeros((30, 20, 2), np.uint16)
    values[2:5, 2:5, 0], values[9:12, 2:5, 0], values[2:5, 2:5, 1] = 3, 1001, 1002
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "scan.nii.gz")
    _, labels = read_labels_of(tmp_path)
    assert not labels.told_apart
    assert [[o.class_id for o in image.read((20, 30))] for image in labels.images] == [
        [3, 1001], [1002],
    ]  # fmt: skip
    folder = tmp_path / "set"
    (folder / "m").mkdir(parents=True)
    for index in range(2):
        Image.fromarray(values[..., index].T).save(folder / "m" / f"{index}.png")
    rows = [{"file_name": f"{n}.png", "mask": f"m/{n}.png"} for n in range(2)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    _, labels = read_labels_of(folder)
    assert [[o.class_id for o in image.read((20, 30))] for image in labels.images] == [
        [3, 1001], [1002],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("data.yaml", "names: ['no', 2024-01-01, 1.0, '', 'b ']",
         ["no", "2024-01-01", "1.0", "label 4", "b"]),
        ("data.yaml", "names:\n  0: no\n  1: yes\n", ["no", "yes"]),
        ("data.yaml", "names: {10: k, 2: c, 0: a}", ["a", None, "c", *[None] * 7, "k"]),
        ("data.yaml", "names: {'0': a, '1': b}", ["a", "b"]),
        ("classes.txt", "a\n\nc\n", ["a", "label 2", "c"]),
        ("obj.names", "\ufeffa\r\nb\r\n\r\n", ["a", "b"]),
    ],
)  # fmt: skip
def test_yolo_classes_are_known_by_their_numbers_however_they_are_listed(
    tmp_path, file, text, names
):
    (tmp_path / file).write_text(text, "utf-8")
    (tmp_path / "labels").mkdir()
    lines = [f"{n} .5 .5 .2 .2\n" for n, name in enumerate(names) if name is not None]
    (tmp_path / "labels" / "scan.txt").write_text("".join(lines))
    _, _, objects, _ = one_image(tmp_path)
    assert [name for name, _ in objects] == [name for name in names if name is not None]


ODD_NAMES = {1: "background", 2: "ignore", 3: "# left: a", 5: "_background_", 6: "a", 7: "A",
             8: "a (6)"}  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
def test_a_class_of_any_name_comes_back_as_itself(tmp_path, format):
    labels = np.zeros((20, 40), np.uint8)
    for place, value in enumerate(ODD_NAMES):
        labels[4:9, 5 * place + 1 : 5 * place + 4] = value
    record = ImageRecord("a", tmp_path / "a.png", None, labels.shape)
    out = export_images(
        [record], lambda _: (np.zeros((*labels.shape, 3), np.uint8), labels), tmp_path / "out",
        name="n", organ="o", target="t", format=format,
        classes=[LabelClass(v, n, f"#0000{v:02x}") for v, n in ODD_NAMES.items()],
    ).whole()  # fmt: skip
    (objects,) = found_in(out, lambda name: labels.shape).values()
    found = {}
    for name, part in objects:
        column = part[0] if part.ndim == 1 else np.argwhere(part)[:, 1].min()
        found[list(ODD_NAMES)[int(column) // 5]] = name
    assert found.keys() == ODD_NAMES.keys()
    for value, name in found.items():
        assert name in (ODD_NAMES[value], f"{ODD_NAMES[value]} ({value})")


def test_only_the_format_that_is_asked_for_is_imported():
    code = (
        "import sys; from napari_usgseg.io.formats import format_module; format_module('coco'); "
        "print([m for m in sys.modules if 'usgseg.io.formats.' in m or m == 'nibabel'])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.rpartition(".")[2] for name in ast.literal_eval(run.stdout)}
    assert loaded == {"records", "objects", "coco", "polygons"}


def test_a_size_that_is_absurd_is_refused_before_anything_is_decoded(tmp_path):
    text = coco_object(segmentation={"size": [10**9, 15 * 10**8], "counts": [0, 15 * 10**17]})
    text = text.replace('"width": 30, "height": 20', '"width": 1500000000, "height": 1000000000')
    (tmp_path / "annotations.json").write_text(text)
    with pytest.raises(DatasetError, match="1500000000x1000000000"):
        one_image(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("cvat", '<annotations><image name="&b;"/></annotations>'),
        ("voc", "<annotation><filename>&b;</filename></annotation>"),
    ],
)
def test_xml_that_declares_entities_is_refused_in_every_encoding(tmp_path, encoding, format, text):
    bomb = f'<!DOCTYPE a [<!ENTITY a "cccc"><!ENTITY b "&a;&a;">]>{text}'
    path = tmp_path / "Annotations" / "a.xml"
    path.parent.mkdir()
    path.write_bytes(bomb.encode(encoding))
    with pytest.raises(DatasetError):
        read_labels_of(path)
    with pytest.raises(FileError, match=r"document type|is no XML"):
        all_of(lambda path: format_module(format).read(path), path)


def test_xml_of_another_encoding_is_read(tmp_path):
    (tmp_path / "annotations.xml").write_bytes(CVAT.replace("utf-8", "utf-16").encode("utf-16"))
    assert [name for name, _ in one_image(tmp_path)[2]][:2] == ["vein", "plaque"]


def test_a_name_in_a_file_leads_nowhere_out_of_its_folder(tmp_path):
    secret = tmp_path / "secret.png"
    Image.fromarray(np.ones((20, 30), np.uint8)).save(secret)
    inside = tmp_path / "set"
    inside.mkdir()
    for name in ("../secret.png", str(secret), "..\\secret.png"):
        row = {"file_name": "a.png", "mask_file_name": name}
        (inside / "metadata.jsonl").write_text(json.dumps(row))
        _, labels = read_labels_of(inside)
        assert list(labels.images) == []
        assert "1 images have no mask" in labels.notes[0]


ODD = (b"-1", b"1e400", b"NaN", b"null", b"[]", b"{}", b'""', b"9" * 20, b"\xff\xfe", b"..", b"<")


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_was_changed_anyhow_is_read_or_refused(tmp_path, format):
    """Bytes replaced, cut off, put in or repeated: a ``FileError``, or sound objects."""
    size_hw = (14, 18)
    folder = write_set(tmp_path, [blobs(2, size_hw)], format, "instance")
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("README.md", ".usgseg-written.jsonl")
    ]
    rng = np.random.default_rng(0)
    for _ in range(40):
        path = files[rng.integers(len(files))]
        data = whole = path.read_bytes()
        for _ in range(rng.integers(1, 4)):
            at, end = sorted(rng.integers(0, len(data) + 1, 2))
            put = (bytes(rng.integers(0, 256, 1, np.uint8)), ODD[rng.integers(len(ODD))], b"",
                   data[at : at + 40])[rng.integers(4)]  # fmt: skip
            data = data[:at] + put + data[min(end, at + rng.integers(0, 12)) :]
        path.write_bytes(data)
        try:
            labels = format_module(format).read(folder)
        except FileError:
            labels = None
        for image in labels.images if labels else ():
            try:
                objects = image.read(size_hw)
            except FileError:
                continue
            for each in objects:
                assert each.mask is None or (each.mask.shape, each.mask.dtype) == (size_hw, bool)
                assert each.mask is not None or np.isfinite(each.box).all()
        path.write_bytes(whole)
