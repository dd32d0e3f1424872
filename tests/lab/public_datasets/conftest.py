"""Small imitations of the original folders of the public data sets."""

from __future__ import annotations

import csv
import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from openpyxl import Workbook
from PIL import Image, ImageDraw

SIZE = (48, 64)
"""(H, W) of every image here."""


def picture(seed: int) -> np.ndarray:
    """(H, W) uint8 that is no near duplicate of another seed's."""
    return np.random.default_rng(seed).integers(0, 255, SIZE, np.uint8)


def square(x: int = 10, y: int = 8, side: int = 20) -> np.ndarray:
    """(H, W) bool with a square."""
    mask = np.zeros(SIZE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    Image.fromarray(pixels).save(path, **options)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_csv(path: Path, rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def write_xlsx(path: Path, rows: list[list[str]]) -> None:
    """A workbook of one sheet."""
    book = Workbook()
    for row in rows:
        book.active.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def write_nifti(
    path: Path, values: np.ndarray, spacing=(0.5, 0.5, 1.0), order: str = "<", slope=(0.0, 0.0)
) -> None:
    """(X, Y, Z[, C]) by the NIfTI-1.1 standard."""
    codes = {"u1": 2, "i2": 4, "f4": 16, "f8": 64, "u2": 512}
    code = codes[values.dtype.str[1:]]
    head = bytearray(352)
    struct.pack_into(f"{order}i", head, 0, 348)
    dims = [values.ndim, *values.shape] + [1] * (7 - values.ndim)
    struct.pack_into(f"{order}8h", head, 40, *dims)
    struct.pack_into(f"{order}hh", head, 70, code, values.dtype.itemsize * 8)
    struct.pack_into(f"{order}8f", head, 76, 1.0, *spacing, 0, 0, 0, 0)
    struct.pack_into(f"{order}3f", head, 108, 352.0, *slope)
    head[344:348] = b"n+1\0"
    data = bytes(head) + values.astype(values.dtype.newbyteorder(order)).tobytes(order="F")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def breast(root: Path) -> None:
    rows = [["CaseID", "Image_filename", "Classification"]]
    for n, finding in enumerate(("benign", "malignant", "benign", "normal"), 1):
        save(root / "images_and_masks" / f"case00{n}.png", picture(n))
        rows.append([str(n), f"case00{n}.png", finding])
        if finding != "normal":
            save(root / "images_and_masks" / f"case00{n}_tumor.png", square())
    save(root / "images_and_masks" / "case001_tumor2.png", square(40, 30, 10))
    save(root / "images_and_masks" / "case002_other1.png", square(40, 30, 10))
    write_xlsx(root / "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx", rows)


def buid(root: Path) -> None:
    for n, kind in enumerate(("Benign", "Benign", "Malignant")):
        save(root / kind / f"{n + 1} {kind} Image.bmp", picture(n))
        save(root / kind / f"{n + 1} {kind} Lesion.bmp", picture(n))
        save(root / kind / f"{n + 1} {kind} Mask.tif", square())


def bus_uc(root: Path) -> None:
    for n, kind in enumerate(("Benign", "Benign", "Malignant")):
        for place in (kind, "All"):
            save(root / "BUS_UC" / place / "images" / f"0{n}.png", picture(n))
            save(root / "BUS_UC" / place / "masks" / f"0{n}.png", square())


def bus_uclm(root: Path) -> None:
    names = ("ALWI_000", "ALWI_001", "ANAT_000", "CHSP_000")
    colors = ([0, 255, 0], [255, 0, 0], [0, 255, 0], [0, 0, 0])
    for n, (name, color) in enumerate(zip(names, colors, strict=True)):
        mask = np.zeros((*SIZE, 3), np.uint8)
        mask[square()] = color
        save(root / "BUS-UCLM" / "images" / f"{name}.png", picture(n))
        save(root / "BUS-UCLM" / "masks" / f"{name}.png", mask)
    write_text(root / "BUS-UCLM" / "INFO.csv", "Image;Label\n")


def bus_b(root: Path) -> None:
    for n in range(3):
        save(root / "BUS" / "original" / f"00000{n}.png", picture(n))
        save(root / "BUS" / "GT" / f"00000{n}.png", square())
    rows = [["Image", "Type"], *([f"00000{n}", "Benign"] for n in range(3))]
    write_xlsx(root / "BUS" / "DatasetB.xlsx", rows)


def busi(root: Path) -> None:
    base = root / "Dataset_BUSI_with_GT"
    for n, kind in enumerate(("benign", "malignant", "benign", "normal")):
        save(base / kind / f"{kind} ({n}).png", np.repeat(picture(n)[..., None], 3, 2))
        mask = square() if kind != "normal" else np.zeros(SIZE, bool)
        save(base / kind / f"{kind} ({n})_mask.png", mask)
    save(base / "benign" / "benign (0)_mask_1.png", square(40, 30, 10))


def stu(root: Path) -> None:
    for n in range(3):
        save(root / "Hospital" / f"Test_Image_{n}.png", picture(n))
        save(root / "Hospital" / f"mask_{n}.png", square())


def s1(root: Path) -> None:
    for n in range(3):
        part, test = ("TestingDataSet", "Test-General-1-") if n == 2 else ("TrainingDataSet", "")
        labels = "Test-General-1-channel-Labels" if n == 2 else "General-1-channel-Labels"
        save(root / part / f"{test}BreastTumourImages" / f"{n}.jpg", picture(n))
        save(root / part / labels / f"{n}.png", square().astype(np.uint8) * (1 + n % 2))
        save(root / part / "Expanded-3-channel-Labels" / f"{n}.png", picture(n))


def bus_bra(root: Path) -> None:
    names = ("0001-l", "0001-r", "0002-s", "0003-l")
    rows = [["ID", "Case", "Histology", "Pathology"]]
    for n, name in enumerate(names):
        save(root / "BUSBRA" / "Images" / f"bus_{name}.png", picture(n))
        save(root / "BUSBRA" / "Masks" / f"mask_{name}.png", square())
        rows.append([f"bus_{name}", str(int(name[:4])), "cyst", "benign"])
    write_csv(root / "BUSBRA" / "bus_data.csv", rows)


def tn3k(root: Path) -> None:
    for n, part in enumerate(("trainval", "trainval", "test")):
        save(root / "tn3k" / f"{part}-image" / f"000{n % 2}.jpg", picture(n))
        save(root / "tn3k" / f"{part}-mask" / f"000{n % 2}.jpg", square(), quality=50)
    write_text(root / "tn3k" / "tn3k-trainval-fold0.json", "{}")


def tg3k(root: Path) -> None:
    for n in range(3):
        save(root / "tg3k" / "thyroid-image" / f"000{n}.jpg", picture(n))
        save(root / "tg3k" / "thyroid-mask" / f"000{n}.jpg", square(), quality=50)


def tnscui(root: Path) -> None:
    for n in range(3):
        for stage in (
            "1_or_data",
            "2_preprocessed_data/stage1/p_",
            "2_preprocessed_data/stage2/p_",
        ):
            place = stage if stage.endswith("p_") else f"{stage}/"
            save(root / "DDTI" / f"{place}image" / f"{n}.PNG", picture(n), format="PNG")
            save(root / "DDTI" / f"{place}mask" / f"{n}.PNG", square(), format="PNG")


def us105(root: Path) -> None:
    for n in range(1, 4):
        save(root / "105 US Images" / f"{n:03d}.png", picture(n))
        save(root / "105 US Masks" / f"{n} G man.png", square())


def corners(x: int = 10, y: int = 8, side: int = 20) -> list[list[int]]:
    """The same square as ``square()``, as the corners of a polygon that is drawn with its line."""
    return [[x, y], [x + side - 1, y], [x + side - 1, y + side - 1], [x, y + side - 1]]


def aul(root: Path) -> None:
    for n, kind in enumerate(("Benign", "Malignant", "Benign", "Normal")):
        save(root / kind / "image" / f"{n}.jpg", picture(n))
        for part in ("mass", "liver", "outline"):
            if part == "mass" and kind == "Normal":
                continue
            shape = corners() if part == "mass" else corners(4, 4, 36)
            write_text(root / kind / "segmentation" / part / f"{n}.json", json.dumps(shape))


def solid(channels: int | None = None) -> np.ndarray:
    """(X, Y, 4[, C]): the square in the two slices in the middle."""
    marked = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
    marked[:, :, 1:3] = square().T[:, :, None]
    if channels is None:
        return marked
    return np.stack([marked, *[1 - marked] * (channels - 1)], -1)


def microseg(root: Path) -> None:
    for n, part in ((1, "train"), (2, "train"), (1, "test")):
        place = root / "Micro_Ultrasound_Prostate_Segmentation_Dataset" / part
        scan = np.random.default_rng(n).integers(0, 255, solid().shape).astype(np.uint8)
        write_nifti(place / "micro_ultrasound_scans" / f"microUS_{part}_0{n}.nii.gz", scan)
        for who, word in (("expert", "expert"), ("non_expert", "nonexpert")):
            file = place / f"{who}_annotations" / f"{word}_annotation_{part}_0{n}.nii.gz"
            write_nifti(file, solid().astype(np.float32))


def regpro(root: Path) -> None:
    for n, part in ((0, "train"), (1, "train"), (2, "val")):
        scan = np.random.default_rng(n).normal(0, 100, solid().shape).astype(np.float32)
        write_nifti(root / part / "us_images" / f"case00000{n}.nii.gz", scan, (0.8, 0.8, 0.8))
        write_nifti(root / part / "us_labels" / f"case00000{n}.nii.gz", solid(6), (0.8, 0.8, 0.8))
        write_nifti(root / part / "mr_images" / f"case00000{n}.nii.gz", scan)


def kidney_us(root: Path) -> None:
    head = ["filename", "file_size", "file_attributes", "region_count", "region_id",
            "region_shape_attributes", "region_attributes"]  # fmt: skip
    rows: list[list[object]] = [head]
    for n in range(1, 4):
        name = f"{n}_IM-000{n}-0059_anon.png"
        save(root / "images" / name, picture(n))
        save(root / "labels" / "images" / name, square())
        for word, shape in (("Capsule", corners()), ("Cortex", corners(12, 10, 6))):
            points = {
                "name": "polygon",
                "all_points_x": [x for x, _ in shape],
                "all_points_y": [y for _, y in shape],
            }
            attributes = [json.dumps(points), json.dumps({"Anatomy": word})]
            rows.append([name, 1, '{"View":"Transverse"}', 2, 0, *attributes])
    for reader in (1, 2):
        write_csv(root / "labels" / f"reviewed_labels_{reader}.csv", rows)


def luminous(root: Path) -> None:
    for n, name in enumerate(("54_1", "54_27", "7_4")):
        save(root / "LUMINOUS_Database" / "B-mode" / f"{name}_Bmode.tif", picture(n))
        numbers = ("1", "2") if n == 1 else ("",)
        for number in numbers:
            mask = square(40, 30, 10) if number == "2" else square()
            save(root / "LUMINOUS_Database" / "Masks" / f"{name}_Mask{number}.tif", mask)


def hc18(root: Path) -> None:
    rows: list[list[object]] = [["filename", "pixel size(mm)", "head circumference (mm)"]]
    for n, name in enumerate(("000_HC", "010_HC", "010_2HC")):
        save(root / "training_set" / f"{name}.png", picture(n))
        line = Image.new("L", SIZE[::-1])
        ImageDraw.Draw(line).ellipse((10, 8, 29, 27), outline=255)
        save(root / "training_set" / f"{name}_Annotation.png", np.asarray(line))
        rows.append([f"{name}.png", "0.069136", "44.3"])
    write_csv(root / "training_set_pixel_size_and_HC.csv", rows)


def ddti(root: Path) -> None:
    for case in (1, 2):
        marks = ""
        for image in (1, 2):
            save(root / f"{case}_{image}.jpg", picture(10 * case + image))
            points = [{"x": x, "y": y} for x, y in corners()]
            regions = json.dumps([{"points": points, "regionType": "freehand"}])
            marks += f"<mark><image>{image}</image><svg>{regions}</svg></mark>"
        write_text(root / f"{case}.xml", f"<case><number>{case}</number>{marks}</case>")


def dl_track(root: Path) -> None:
    for n in range(3):
        save(root / "apo_images" / f"{n}.tif", picture(n))
        save(root / "apo_masks" / f"{n}.tif", square())


def camus(root: Path) -> None:
    for n in (1, 2):
        for view in ("2CH_ED", "4CH_ES"):
            place = root / "database_nifti" / f"patient000{n}"
            base = f"patient000{n}_{view}"
            write_nifti(place / f"{base}.nii.gz", picture(n).T.copy(), (0.3, 0.3, 1))
            labels = square().astype(np.uint8) + 2 * square(40, 30, 10).astype(np.uint8)
            write_nifti(place / f"{base}_gt.nii.gz", labels.T.copy(), (0.3, 0.3, 1))
            write_nifti(place / f"{base[:-2]}half_sequence.nii.gz", solid())


def usgra(root: Path) -> None:
    for n, part in enumerate(("", "", "test/")):
        save(root / "dataset" / f"{part}images" / f"000{n}.png", picture(n))
        labels = square().astype(np.uint8) + 2 * square(40, 30, 10).astype(np.uint8)
        save(root / "dataset" / f"{part}masks" / f"000{n}.png", labels)


IMITATIONS: dict[str, Callable[[Path], None]] = {
    "BrEaST": breast, "BUID": buid, "BUS-UC": bus_uc, "BUS-UCLM": bus_uclm, "BUS-B": bus_b,
    "BUSI": busi, "STU": stu, "S1": s1, "BUS-BRA": bus_bra, "TN3K": tn3k, "TG3K": tg3k,
    "TNSCUI": tnscui, "105US": us105, "AUL": aul, "MicroSeg": microseg, "RegPro": regpro,
    "kidneyUS": kidney_us, "Luminous": luminous, "HC18": hc18, "DDTI": ddti,
    "DL_Track": dl_track, "CAMUS": camus, "usgra": usgra,
}  # fmt: skip


@pytest.fixture
def imitate(tmp_path) -> Callable[[str], Path]:
    """Make the imitation of a data set and return its folder."""

    def make(name: str) -> Path:
        root = tmp_path / "original here"
        IMITATIONS[name](root)
        return root

    return make
