"""Files of scanners, as the program reads them: docs/scanner.md, a row for each file.

    python scripts/scanner.py FOLDER... [--phantoms 40] [--sheet x.png] [--out docs/scanner.md]

For each file: what it is, whether its frames equal those of pydicom, PyAV, nibabel or tifffile
(decoded by them alone, all frames), its regions, its spacing, and the sector that is found in its
pixels. Sectors of phantoms are measured against their truth. What fails is named.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from napari_usgseg.io.images import as_shown
from napari_usgseg.io.reading.files import open_frames
from napari_usgseg.io.reading.frames import Frames
from napari_usgseg.io.search import search_images
from napari_usgseg.phantoms.phantom import make_phantom
from napari_usgseg.segmentation.sector import Sector, find_sector

LEAST_FIT = 0.6
LEAST_INSIDE = 95
SAMPLE = 2
"""So many files of a folder of images below one that is given."""


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--phantoms", type=int, default=40)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = [
        "# What is read of scanners' files",
        "",
        "Made by `python scripts/scanner.py FOLDER...`; one row a file, failures named.",
        "",
        "| file | what | frames equal | mm a pixel (row, column) | regions | sector | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    failures: list[str] = []
    pictures: list[np.ndarray] = []
    for path in files(given.folders):
        row, picture = report(path, failures)
        print(row, flush=True)
        lines.append(row)
        failures += doubts(row)
        if picture is not None:
            pictures.append(picture)
    lines += ["", "## Sectors of phantoms", "", *phantoms(given.phantoms)]
    lines += ["", "## What failed", "", *(failures or ["Nothing."])]
    text = "\n".join(lines) + "\n"
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
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


def report(path: Path, failures: list[str]) -> tuple[str, np.ndarray | None]:
    """A row of the table, and a picture with its sector."""
    began = time.perf_counter()
    try:
        with open_frames(path) as frames:
            seconds = time.perf_counter() - began
            about = frames.about
            height, width = frames.sizes[0]
            rate = f", {about.rate:g} a second" if about.rate else ""
            what = f"{about.kind}, {len(frames)} x {height} x {width}{rate}"
            equal = compared(path, frames)
            some = sorted({0, len(frames) // 3, 2 * len(frames) // 3, len(frames) - 1})
            shown = [as_shown(path, frames.stored(index)) for index in some]
    except Exception as error:
        failures.append(f"- {path.name}: {error}")
        return f"| {path.name} | cannot be read | | | | | |", None
    if equal.startswith("no"):
        failures.append(f"- {path.name}: frames {equal}")
    regions = "; ".join(
        f"{region.kind} {region.box} "
        + (
            f"{region.spacing_mm[0]:.4f}, {region.spacing_mm[1]:.4f} mm"
            if region.spacing_mm
            else f"no length ({region.units[1] or '-'} across, {region.units[0] or '-'} down)"
        )
        for region in about.regions
    )
    spacing = "not known"
    if about.spacing_mm:
        spacing = f"{about.spacing_mm[0]:.4f}, {about.spacing_mm[1]:.4f}"
    is_label = "label" in path.name or "mask" in path.name
    sector = None if is_label else find_sector(shown)
    found = "labels" if is_label else "none"
    if sector is not None:
        mask = sector.mask((height, width))
        found = f"{sector.kind}, {mask.mean():.0%} of the picture, fit {sector.fit:.2f}"
        tissue = [region.box for region in about.regions if region.is_tissue]
        if tissue:
            inside = np.zeros_like(mask)
            for x0, y0, x1, y1 in tissue:
                inside[y0:y1, x0:x1] = True
            found += f", {(mask & inside).sum() / mask.sum():.0%} of it in the regions"
    elif not is_label:
        failures.append(f"- {path.name}: no sector found")
    name = path.name if len(path.name) < 40 else f"{path.name[:37]}..."
    row = (
        f"| {name} | {what} | {equal} | {spacing} | {regions or 'none'} | {found} | {seconds:.2f} |"
    )
    return row, drawn(shown[0], sector)


def doubts(row: str) -> list[str]:
    """What is to be said of a sector that fits badly or lies outside the scanner's own regions."""
    name = row.split("|")[1].strip()
    fit, inside = re.search(r"fit (\d\.\d+)", row), re.search(r"(\d+)% of it in the regions", row)
    said = []
    if fit and float(fit.group(1)) < LEAST_FIT:
        said.append(f"- {name}: the sector fits badly ({fit.group(1)})")
    if inside and int(inside.group(1)) < LEAST_INSIDE:
        said.append(f"- {name}: only {inside.group(1)} % of the sector is in the scanner's regions")
    return said


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


def drawn(picture: np.ndarray, sector: Sector | None) -> np.ndarray:
    """A small picture, what is outside its sector reddened."""
    image = picture.astype(np.float32)
    if sector is not None:
        outside = ~sector.mask(picture.shape[:2])
        image[outside] = image[outside] * 0.6 + np.array([90, 0, 0])
    tile = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    tile.thumbnail((240, 180))
    framed = Image.new("RGB", (244, 184), (60, 60, 60))
    framed.paste(tile, (2, 2))
    return np.asarray(framed)


def sheet(pictures: list[np.ndarray], across: int = 6) -> np.ndarray:
    """All pictures in rows."""
    empty = np.zeros_like(pictures[0])
    padded = pictures + [empty] * (-len(pictures) % across)
    return np.vstack([np.hstack(padded[i : i + across]) for i in range(0, len(padded), across)])


def phantoms(count: int) -> list[str]:
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


def is_rectangle(mask: np.ndarray) -> bool:
    """Whether a mask fills the box about it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return bool(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all())


if __name__ == "__main__":
    main()
