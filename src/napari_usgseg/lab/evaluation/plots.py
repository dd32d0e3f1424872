"""Plots of evaluations: their colours, rows with names and figures, and pictures as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOR, PALE, GREY = "#0072b2", "#56b4e9", "#666666"
"""Of Okabe and Ito's palette, which colour-blind eyes can tell apart."""


def as_svg(picture: Figure) -> bytes:
    """A picture as SVG: words stay words, and equal pictures give equal files."""
    from matplotlib import rc_context

    data = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "usgseg"}):
        picture.savefig(data, format="svg", metadata={"Date": None})
    return data.getvalue()


def name_rows(axes: Axes, names: Sequence[str], values: Sequence[str]) -> None:
    """Name the rows at the left, give their figures at the right; the first is on top."""
    # A dollar would begin a formula.
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(names)), values)
    for each in (axes, right):
        each.tick_params(labelsize=8, length=0)
