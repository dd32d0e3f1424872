"""Tables: CSV, and the first sheet of an XLSX workbook, as dictionaries of text."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from xml.etree.ElementTree import ParseError

from ..core.errors import DatasetError

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
            ParseError) as error:  # fmt: skip
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
    from openpyxl import load_workbook

    with zipfile.ZipFile(path) as book:
        if sum(info.file_size for info in book.infolist()) > _MAX_BYTES:
            raise ValueError("too large to open safely")
    workbook = load_workbook(path, read_only=True, data_only=True)
    try:
        sheet = workbook.worksheets[0]
        sheet.reset_dimensions()  # some programs write a wrong one, and rows would be cut off
        rows = sheet.iter_rows(values_only=True)
        return [["" if cell is None else str(cell) for cell in row] for row in rows]
    finally:
        workbook.close()
