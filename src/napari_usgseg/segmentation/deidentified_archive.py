"""De-identified archive: DICOM files written anew, text beside the tissue black.

    <out>/<patient>/<study>/<image>.dcm   names are pseudonyms, the same for the same patient
    <out>/deidentified.json               what became of each file, by its new name
    <check>/sheet.png                     pictures before and after, to be looked at

What stays of a picture is what the person says, or else the scanner's own regions, or else the
sector that is found in the pixels. Where that is not certain the file is refused: a person says
where the ultrasound is. Text within what stays is counted and said, and black where that is asked
for. The sheet shows what was there before, so it is no part of the archive: keep it with the
originals.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from ..core.errors import ImageReadError, LabelWriteError, readable
from ..core.types import BoolArray
from ..io.deidentify import deidentified
from ..io.images import as_shown
from ..io.names import numbered_name
from ..io.outputs import OutputFolder
from ..io.reading.dicom import DicomFrames
from ..io.reading.files import is_dicom
from ..io.reading.frames import words_of
from ..io.reading.identity import pseudonym
from .burned_in import Box, find_text, text_mask
from .sector import find_sector

LOG_FILE, SHEET_FILE = "deidentified.json", "sheet.png"
LEAST_FIT = 0.6
"""A sector that fits worse is not certain."""
_RIM = 2
"""Pixels around a sector that stay, for its outline is found to a pixel or two."""
_LOOKED_AT = 8
"""Frames of a loop that are searched for a sector."""
_READ = 64
"""And for text; of a longer loop the file does not claim that there is none."""
_TILE = (320, 240)
MOST_TILES = 60


@dataclass(frozen=True, slots=True)
class DeidentifiedFile:
    """Result of a file.

    Attributes:
        source: of the original.
        status: "done" or "failed".
        target: the new file; None where it failed.
        kept: what stays of the picture, 0..1.
        by: what says so: "person", "regions" or "sector".
        text_outside: lines of text that are black now.
        text_inside: lines of what looks like text within what stays.
        message: why it failed.
    """

    source: Path
    status: Literal["done", "failed"]
    target: Path | None = None
    kept: float = 0.0
    by: str = ""
    text_outside: int = 0
    text_inside: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Looked:
    """What is to stay of a file's pictures, the text that was found, and whether in all frames."""

    keep: BoolArray
    by: str
    outside: tuple[Box, ...]
    inside: tuple[Box, ...]
    picture: NDArray[np.uint8]
    is_all: bool


def deidentify_files(
    sources: Sequence[Path],
    out: Path,
    check: Path,
    *,
    box: tuple[float, float, float, float] | None = None,
    black_text: bool = False,
    overwrite: bool = False,
) -> Iterator[DeidentifiedFile]:
    """Write DICOM files without who the patient is, yielding what became of each.

    Args:
        sources: the files, each once; what is no DICOM fails.
        out: the folder of the archive, new or empty.
        check: the folder of the sheet, outside of ``out``.
        box: (x0, y0, x1, y1), what stays of every picture; None: regions, or the sector.
        black_text: what looks like text within what stays becomes black, too.
        overwrite: replace what the program wrote.

    Raises:
        LabelWriteError: a folder holds anything else, or cannot be written.
    """
    archive = OutputFolder(out, reads=sources, overwrite=overwrite)
    archive.check_only_own()
    archive.check_writable()
    beside = OutputFolder(check, reads=sources, overwrite=overwrite)
    beside.check(check / SHEET_FILE)
    used: set[str] = set()
    tiles: list[NDArray[np.uint8]] = []
    log: dict[str, dict[str, object]] = {}
    failed = 0
    for source in sources:
        try:
            result, tile = _deidentify(source, archive, used, box, black_text)
        except Exception as error:  # whatever a damaged file sets off, the others are done
            if isinstance(error, LabelWriteError):
                raise
            cause = error.cause if isinstance(error, ImageReadError) else words_of(error, source)
            failed += 1
            yield DeidentifiedFile(source, "failed", message=cause)
            continue
        assert result.target is not None
        if len(tiles) < MOST_TILES:
            tiles.append(tile)
        log[result.target.relative_to(out).as_posix()] = {
            "kept": round(result.kept, 4), "by": result.by,
            "text_outside_now_black": result.text_outside, "text_inside": result.text_inside,
            "text_inside_is_black": black_text,
        }  # fmt: skip
        yield result
    card = {"schema": 1, "failed": failed, "files": log}
    archive.write(out / LOG_FILE, (json.dumps(card, indent=1) + "\n").encode())
    archive.remove_others()
    if tiles:
        write_sheet(tiles, beside)


def _deidentify(
    source: Path,
    archive: OutputFolder,
    used: set[str],
    box: tuple[float, float, float, float] | None,
    black_text: bool,
) -> tuple[DeidentifiedFile, NDArray[np.uint8]]:
    if not is_dicom(source):
        raise ImageReadError(source, "is no DICOM; only DICOM is de-identified")
    with DicomFrames(source) as frames:
        looked = look(frames, box)
        keep = looked.keep
        if black_text:
            keep = keep & ~text_mask(looked.inside, keep.shape)
        left = bool(looked.inside) and not black_text
        text_stays = left if left or looked.is_all else None
        data = deidentified(frames, keep, text_stays=text_stays)
        study = str(frames.header.get("StudyInstanceUID") or "")
        names = (frames.about.group or "patient-unknown", pseudonym(study, "study"))
        image = pseudonym(str(frames.header.get("SOPInstanceUID") or frames.digest()), "image")
    folder = archive.root / names[0] / names[1]
    name = numbered_name(f"{names[0]}/{names[1]}/{image}", used).rpartition("/")[2]
    target = folder / f"{name}.dcm"
    after = _as_others_read(data)  # what cannot be read back is no part of the archive
    archive.write(target, data)
    result = DeidentifiedFile(
        source, "done", target, float(keep.mean()), looked.by, len(looked.outside),
        len(looked.inside),
    )  # fmt: skip
    black = (*looked.outside, *(looked.inside if black_text else ()))
    stays = () if black_text else looked.inside
    return result, pair(looked.picture, after, name, black, stays)


def _as_others_read(data: bytes) -> NDArray[np.uint8]:
    """The first frame of a DICOM file that is about to be written, as it is shown."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.dcm")
        path.write_bytes(data)
        with DicomFrames(path) as written:
            return as_shown(path, written.stored(0))


def look(frames: DicomFrames, box: tuple[float, float, float, float] | None = None) -> _Looked:
    """Find what of a file's pictures is ultrasound, and the text in them.

    Raises:
        ImageReadError: it is not certain what is ultrasound, or a frame cannot be decoded.
    """
    pictures = [as_shown(frames.path, frames.stored(n)) for n in _some(len(frames), _LOOKED_AT)]
    size = pictures[0].shape[:2]
    sector = find_sector(pictures)
    found = None if sector is None or sector.fit < LEAST_FIT else sector.mask(size)
    keep, by = np.zeros(size, bool), "regions"
    for region in frames.about.regions:
        # "Other" may be a patient's banner as well as a picture, so it is no reason to keep pixels.
        if region.kind != "other":
            x0, y0, x1, y1 = region.box
            keep[y0:y1, x0:x1] = True
    if box is not None:
        x0, y0, x1, y1 = (max(0, round(side)) for side in box)
        keep, by = np.zeros(size, bool), "person"
        keep[y0:y1, x0:x1] = True
        if not keep.any():
            raise ImageReadError(
                frames.path, f"the box is outside its {size[1]} x {size[0]} pixels"
            )
    elif not keep.any():
        if found is None:
            raise ImageReadError(
                frames.path,
                "what is ultrasound in it is not certain; say where it is (--box X0,Y0,X1,Y1)",
            )
        keep, by = np.asarray(ndimage.binary_dilation(found, iterations=_RIM)), "sector"
    # Regions are rectangles around a fan, and scanners write text into their corners: what is
    # within the sector itself is judged as tissue, more strictly.
    tissue = keep if found is None else keep & found
    read = _some(len(frames), _READ)
    # Each place once: the same line stands in every frame of a loop.
    boxes = dict.fromkeys(
        line for n in read for line in find_text(as_shown(frames.path, frames.stored(n)), tissue)
    )
    inside = tuple(line for line in boxes if _share(keep, line) > 0.5)
    outside = tuple(line for line in boxes if line not in inside)
    return _Looked(keep, by, outside, inside, pictures[0], len(read) == len(frames))


def _some(length: int, count: int) -> list[int]:
    """So many frames of a loop at most, spread over it."""
    return [int(n) for n in np.unique(np.linspace(0, length - 1, count).round())]


def _share(mask: BoolArray, box: Box) -> float:
    x0, y0, x1, y1 = box
    return float(mask[y0:y1, x0:x1].mean())


def pair(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    name: str,
    black: Sequence[Box] = (),
    stays: Sequence[Box] = (),
) -> NDArray[np.uint8]:
    """A tile of the sheet: a picture before and after, side by side above its name.

    Args:
        before: (H, W, 3) RGB.
        after: the same size.
        name: that tells nothing.
        black: lines of text that are black now, framed in red.
        stays: those that stay, framed in yellow.
    """
    framed = Image.fromarray(before)
    draw = ImageDraw.Draw(framed)
    for lines, color in ((black, (255, 60, 60)), (stays, (255, 220, 0))):
        for x0, y0, x1, y1 in lines:
            draw.rectangle((x0 - 2, y0 - 2, x1 + 1, y1 + 1), outline=color, width=2)
    tile = Image.new("RGB", (2 * _TILE[0] + 6, _TILE[1] + 20), (60, 60, 60))
    for place, picture in ((2, framed), (_TILE[0] + 4, Image.fromarray(after))):
        picture.thumbnail(_TILE)
        tile.paste(picture, (place, 2))
    ImageDraw.Draw(tile).text((4, _TILE[1] + 5), name, fill=(255, 255, 255))
    return np.asarray(tile)


def check_folder(out: Path) -> Path:
    """Where the sheet of what is written to ``out`` is, if nobody says where: ``<out>-check``."""
    out = out.absolute()
    return out.parent / f"{out.name}-check"


def write_sheet(tiles: Sequence[NDArray[np.uint8]], folder: OutputFolder) -> Path:
    """Write tiles as ``sheet.png`` of a folder.

    Raises:
        LabelWriteError: it is a person's, or cannot be written.
    """
    file = BytesIO()
    Image.fromarray(sheet(tiles)).save(file, "PNG")
    folder.write(folder.root / SHEET_FILE, file.getvalue())
    return folder.root / SHEET_FILE


def sheet(tiles: Iterable[NDArray[np.uint8]], across: int = 3) -> NDArray[np.uint8]:
    """Tiles (H, W, 3) of one size in rows."""
    padded = list(tiles)
    padded += [np.zeros_like(padded[0])] * (-len(padded) % across)
    rows = [np.hstack(padded[i : i + across]) for i in range(0, len(padded), across)]
    return np.vstack(rows)


def said(result: DeidentifiedFile) -> str:
    """One line for a person."""
    name = readable(result.source)
    if result.status == "failed":
        return f"{name}: {result.message}"
    text = f"{result.text_outside} lines of text beside it are black"
    if result.text_inside:
        text += f", {result.text_inside} that look like text are in what stays"
    return f"{name}: {result.kept:.0%} stays ({result.by}), {text}"
