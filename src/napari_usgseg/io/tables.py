"""Reading tables: CSV, and the first sheet of an XLSX workbook, as dictionaries of text."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from ..core.errors import DatasetError

_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_MAX_BYTES = 200_000_000


def read_table(path: str | Path) -> list[dict[str, str]]:
    """The rows of a table, by the names in its first row; everything is text, trimmed.

    Raises:
        DatasetError: the file is missing, damaged or no table.
    """
    path = Path(path)
    try:
        rows = _xlsx(path) if path.suffix.lower() == ".xlsx" else _csv(path)
    except (OSError, ValueError, LookupError, csv.Error, zipfile.BadZipFile,
            ElementTree.ParseError) as error:  # fmt: skip
        raise DatasetError(
            path, f"not a table that can be read ({type(error).__name__}: {error}); save it as CSV"
        ) from error
    if not rows:
        raise DatasetError(path, "an empty table; expected the names of the columns first")
    names = [name.strip() for name in rows[0]]
    width = len(names)
    return [
        dict(zip(names, [cell.strip() for cell in row] + [""] * width, strict=False))
        for row in rows[1:]
        if any(row)
    ]


def _csv(path: Path) -> list[list[str]]:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    csv.field_size_limit(2**30)
    head = text.partition("\n")[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    return list(csv.reader(io.StringIO(text), delimiter=delimiter))


def _xlsx(path: Path) -> list[list[str]]:
    with zipfile.ZipFile(path) as book:
        if sum(info.file_size for info in book.infolist()) > _MAX_BYTES:
            raise ValueError("too large to open safely")
        shared: list[str] = []
        if "xl/sharedStrings.xml" in book.namelist():
            strings = ElementTree.fromstring(book.read("xl/sharedStrings.xml"))
            shared = ["".join(si.itertext()) for si in strings.iter(f"{_SHEET}si")]
        sheets = sorted(n for n in book.namelist() if re.fullmatch(r"xl/worksheets/.*\.xml", n))
        sheet = ElementTree.fromstring(book.read(sheets[0]))
    return [_cells(row, shared) for row in sheet.iter(f"{_SHEET}row")]


def _cells(row: ElementTree.Element, shared: list[str]) -> list[str]:
    cells: list[str] = []
    for cell in row.iter(f"{_SHEET}c"):
        letters = re.match(r"[A-Z]+", cell.get("r", ""))
        column = _column(letters.group()) if letters else len(cells)
        cells.extend([""] * (column - len(cells)))
        text = "".join(cell.itertext())
        value = cell.find(f"{_SHEET}v")
        if cell.get("t") != "inlineStr":
            text = "" if value is None else value.text or ""
        cells.append(shared[int(text)] if cell.get("t") == "s" and text else text)
    return cells


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1
