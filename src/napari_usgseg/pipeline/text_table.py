"""Tables as Markdown and CSV text."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from typing import Any


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def csv_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows under all of their keys, in order of appearance; None is an empty field."""
    text = StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def figure(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def span(interval: Sequence[float] | None, digits: int = 3, *, sign: bool = False) -> str:
    """An interval as "0.81 to 0.88", or a dash."""
    if interval is None:
        return "-"
    form = f"{'+' if sign else ''}.{digits}f"
    return f"{interval[0]:{form}} to {interval[1]:{form}}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
