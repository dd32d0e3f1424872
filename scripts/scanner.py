"""Files of scanners, as the program reads them: docs/scanner.md, a row for each file.

    python scripts/scanner.py FOLDER... [--phantoms 24] [--sheet x.png] [--out docs/scanner.md]

For each file: what it is, whether its frames equal those of pydicom, PyAV, nibabel or tifffile
(decoded by them alone, all frames), its regions, its spacing, the sector that is found in its
pixels and the lines of text beside it and in it. Sectors and texts of phantoms are measured against
their truth. What fails is named.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_usgseg.core.errors import UsgsegError
from napari_usgseg.core.types import Region
from napari_usgseg.io.images import as_shown
from napari_usgseg.io.reading.files import hidden_name, open_frames
from napari_usgseg.io.reading.frames import Frames
from napari_usgseg.io.search import search_images
from napari_usgseg.phantoms.phantom import make_phantom
from napari_usgseg.segmentation.burned_in import find_text, text_mask
from napari_usgseg.segmentation.sector import Sector, find_sector, find_tissue

LEAST_FIT = 0.6
LEAST_INSIDE = 0.95
SAMPLE = 2
"""So many files of a folder of images below one that is given."""
FEW_VALUES = 8
"""A file of so few values is a label map, which has no sector."""
TEXTS = ("DOE, JANE", "ID 123456", "1980-02-03")


@dataclass
class Row:
    """What is read of a file.

    Attributes:
        name: of the file.
        what: kind, frames, size, rate.
        equal: to the usual reader's frames: "n of n", "no: ...", or why it was not compared.
        spacing: mm a pixel, as text.
        regions: as text.
        sector: as text.
        text: as text.
        seconds: to open it.
        doubts: what is to be said of it.
        picture: its sector and text drawn, (H, W, 3).
    """

    name: str
    what: str = "cannot be read"
    equal: str = ""
    spacing: str = ""
    regions: str = ""
    sector: str = ""
    text: str = ""
    seconds: float | None = None
    doubts: list[str] = field(default_factory=list)
    picture: np.ndarray | None = None

    def line(self) -> str:
        """A line of a table in Markdown."""
        seconds = "" if self.seconds is None else f"{self.seconds:.2f}"
        cells = (
            self.name, self.what, self.equal, self.spacing, self.regions, self.sector, self.text,
            seconds,
        )  # fmt: skip
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--phantoms", type=int, default=24)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows: list[Row] = []
    for path in files(given.folders):
        row = report(path)
        if hidden_name(path):
            row.name = f"(DICOM {len(rows) + 1}: its name repeats who the patient is)"
        rows.append(row)
        print(row.line(), flush=True)
    command = ["python", "scripts/scanner.py", *map(str, given.folders)]
    if given.out:
        command += ["--out", str(given.out)]
    lines = [
        "# What is read of scanners' files",
        "",
        f"Made by `{shlex.join(command)}`; one row",
        "a file, failures named. Text: lines that are found beside the tissue, and within it, "
        "where",
        "speckle and vessels can look like letters. No line of text in a real file is known to a",
        "program, so that what is missed is not in this table: `--sheet x.png` draws what is "
        "found.",
        "",
        "| file | what | frames equal | mm a pixel (row, column) | regions | sector | text beside, "
        "within | seconds |",
        "|---|---|---|---|---|---|---|---|",
        *(row.line() for row in rows),
        "",
        "## Sectors of phantoms",
        "",
        *sectors(given.phantoms),
        "",
        "## Text beside phantoms",
        "",
        *texts(given.phantoms),
        "",
        "## What failed",
        "",
        *([f"- {row.name}: {doubt}" for row in rows for doubt in row.doubts] or ["Nothing."]),
    ]
    text = "\n".join(lines) + "\n"
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    pictures = [row.picture for row in rows if row.picture is not None]
    if given.sheet and pictures:
        Image.fromarray(sheet(pictures)).save(given.sheet)


def files(folders: list[Path]) -> Iterator[Path]:
    """All files of a folder; of folders with folders in them, a few of each."""
    for folder in folders:
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
        if not inside:
            yield from search_images([folder]).files
        for each in inside:
            found = search_images([each / "images" if (each / "images").is_dir() else each]).files
            yield from found[:: max(1, len(found) // SAMPLE)][:SAMPLE]


def report(path: Path) -> Row:
    """What is read of a file."""
    row = Row(path.name)
    began = time.perf_counter()
    try:
        with open_frames(path) as frames:
            row.seconds = time.perf_counter() - began
            height, width = frames.sizes[0]
            rate = f", {frames.about.rate:g} a second" if frames.about.rate else ""
            row.what = f"{frames.about.kind}, {len(frames)} x {height} x {width}{rate}"
            row.equal = compared(path, frames)
            some = sorted({0, len(frames) // 3, 2 * len(frames) // 3, len(frames) - 1})
            shown = [as_shown(path, frames.stored(index)) for index in some]
            about = frames.about
    except UsgsegError as error:
        row.doubts.append(getattr(error, "cause", str(error)))
        return row
    if row.equal.startswith("no"):
        row.doubts.append(f"frames {row.equal}")
    row.spacing = "not known"
    if about.spacing_mm:
        row.spacing = f"{about.spacing_mm[0]:.4f}, {about.spacing_mm[1]:.4f}"
    row.regions = "; ".join(map(told, about.regions)) or "none"
    if len(np.unique(np.stack(shown))) <= FEW_VALUES:
        row.sector = row.text = "labels"
        return row
    look(row, shown, [region for region in about.regions if region.is_tissue])
    return row


def told(region: Region) -> str:
    """A region in words."""
    if region.spacing_mm:
        measure = f"{region.spacing_mm[0]:.4f}, {region.spacing_mm[1]:.4f} mm"
    else:
        down, across = (unit or "-" for unit in region.units)
        measure = f"no length ({across} across, {down} down)"
    return f"{region.kind} {region.box} {measure}"


def look(row: Row, shown: list[np.ndarray], tissue: list[Region]) -> None:
    """Find the sector and the text of pictures."""
    size = shown[0].shape[:2]
    sector = find_sector(shown)
    if sector is None:
        row.sector = "none"
        row.doubts.append("no sector found")
    else:
        mask = sector.mask(size)
        row.sector = f"{sector.kind}, {mask.mean():.0%} of the picture, fit {sector.fit:.2f}"
        if sector.fit < LEAST_FIT:
            row.doubts.append(f"the sector fits badly ({sector.fit:.2f})")
        if tissue:
            inside = np.zeros(size, bool)
            for x0, y0, x1, y1 in (region.box for region in tissue):
                inside[y0:y1, x0:x1] = True
            share = (mask & inside).sum() / mask.sum()
            row.sector += f", {share:.0%} of it in the regions"
            if share < LEAST_INSIDE:
                row.doubts.append(f"only {share:.0%} of the sector is in the scanner's regions")
    found = find_tissue(shown[0])
    lines = find_text(shown[0], found)
    within = sum(found[y0:y1, x0:x1].mean() > 0.5 for x0, y0, x1, y1 in lines)
    row.text = f"{len(lines) - within}, {within}"
    row.picture = drawn(shown[0], sector, lines)


def compared(path: Path, frames: Frames) -> str:
    """Whether all frames are those of the usual reader."""
    try:
        others = usual(path, frames.about.kind)
    except Exception as error:
        return f"not compared ({type(error).__name__})"
    if others is None:
        return "not compared"
    count = 0
    for index, other in enumerate(others):
        if index >= len(frames) or not np.array_equal(frames.frame(index), other):
            return f"no: frame {index}"
        count += 1
    return f"{count} of {count}" if count == len(frames) else f"no: {count} of {len(frames)}"


def usual(path: Path, kind: str) -> Iterator[Any] | None:
    """Frames as the usual reader of a kind gives them."""
    if kind == "DICOM":
        return of_pydicom(path)
    if kind == "video":
        import av

        return (f.to_ndarray(format="rgb24") for f in av.open(str(path)).decode(video=0))
    if kind == "TIFF":
        import tifffile

        return iter(page.asarray() for page in tifffile.TiffFile(path).pages)
    if kind == "volume":
        import nibabel

        values = np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
        return iter(values.reshape(*values.shape[:2], -1, order="F").transpose(2, 1, 0))
    with Image.open(path) as image:
        return iter([np.asarray(image)]) if image.mode in ("L", "RGB") else None


def of_pydicom(path: Path) -> Iterator[Any]:
    """Frames of pydicom, palettes looked up."""
    import pydicom
    from pydicom.pixels import apply_color_lut, iter_pixels

    header = pydicom.dcmread(path, force=True)
    for frame in iter_pixels(header):
        yield (
            apply_color_lut(frame, header)
            if header.PhotometricInterpretation == "PALETTE COLOR"
            else frame
        )


def drawn(picture: np.ndarray, sector: Sector | None, lines: list[Any]) -> np.ndarray:
    """A small picture, what is outside its sector reddened, text framed."""
    image = picture.astype(np.float32)
    if sector is not None:
        outside = ~sector.mask(picture.shape[:2])
        image[outside] = image[outside] * 0.6 + np.array([90, 0, 0])
    tile = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(tile)
    for box in lines:
        draw.rectangle(box, outline=(255, 220, 0))
    tile.thumbnail((240, 180))
    framed = Image.new("RGB", (244, 184), (60, 60, 60))
    framed.paste(tile, (2, 2))
    return np.asarray(framed)


def sheet(pictures: list[np.ndarray], across: int = 6) -> np.ndarray:
    """All pictures in rows."""
    empty = np.zeros_like(pictures[0])
    padded = pictures + [empty] * (-len(pictures) % across)
    return np.vstack([np.hstack(padded[i : i + across]) for i in range(0, len(padded), across)])


def sectors(count: int) -> list[str]:
    """IoU of the sectors found in phantoms with their truth."""
    scores: list[tuple[float, int, str]] = []
    for seed in range(count):
        phantom = make_phantom(seed)
        sector = find_sector(phantom.image)
        mask = np.zeros_like(phantom.visible)
        if sector is not None:
            mask = sector.mask(phantom.visible.shape)
        iou = (mask & phantom.visible).sum() / (mask | phantom.visible).sum()
        kind = "rectangle" if is_rectangle(phantom.visible) else "fan"
        scores.append((float(iou), seed, kind))
    lines = [
        "| truth | phantoms | mean IoU | least | 0.98 or more |",
        "|---|---|---|---|---|",
    ]
    for kind in ("fan", "rectangle"):
        values = [iou for iou, _, found in scores if found == kind]
        if values:
            good = sum(iou >= 0.98 for iou in values)
            lines.append(
                f"| {kind} | {len(values)} | {np.mean(values):.4f} | {min(values):.3f} | "
                f"{good} of {len(values)} |"
            )
    worst = [f"seed {seed} ({kind}, {iou:.3f})" for iou, seed, kind in scores if iou < 0.98]
    lines += ["", f"Below 0.98: {', '.join(worst) or 'none'}."]
    return lines


def texts(count: int) -> list[str]:
    """How many lines of text beside phantoms are covered, and what is found where none is."""
    random = np.random.default_rng(0)
    drawn_lines = covered = wrong = 0
    for seed in range(count):
        phantom = make_phantom(seed)
        image = np.asarray(phantom.image)
        image = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
        image = np.pad(image, ((30, 30), (200, 0), (0, 0)))
        canvas = Image.fromarray(image)
        draw = ImageDraw.Draw(canvas)
        boxes = []
        for number, line in enumerate(TEXTS):
            font = ImageFont.load_default(size=int(random.integers(10, 24)))
            place, level = (5, 35 + 50 * number), int(random.integers(130, 256))
            draw.text(place, line, font=font, fill=(level,) * 3)
            boxes.append([int(side) for side in draw.textbbox(place, line, font=font)])
        shown = np.asarray(canvas)
        found = find_text(shown, find_tissue(shown))
        mask, written = text_mask(found, shown.shape[:2]), np.zeros(shown.shape[:2], bool)
        for x0, y0, x1, y1 in boxes:
            written[y0:y1, x0:x1] = True
            bright = shown[y0:y1, x0:x1].max(axis=2) > 64
            drawn_lines += 1
            covered += int((mask[y0:y1, x0:x1] & bright).sum() >= 0.9 * bright.sum())
        wrong += sum(not written[y0:y1, x0:x1].any() for x0, y0, x1, y1 in found)
    return [
        f"{covered} of {drawn_lines} lines of 10 to 23 points, of a brightness of 130 to 255, are "
        f"covered by nine tenths or more; {wrong} lines are found where none is."
    ]


def is_rectangle(mask: np.ndarray) -> bool:
    """Whether a mask fills the box about it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return bool(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all())


if __name__ == "__main__":
    main()
