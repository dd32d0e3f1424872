"""Page of a ledger: one HTML file that needs nothing else, no network, no script."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ..core.errors import FileError
from ..io.atomic import Write
from ..project.project import LabelStore
from ..project.records import ImageProposal
from .efforts import IDLE_SECONDS, Way, span
from .ledger import FEW, Ledger
from .quality import proposed_map

COLORS = {
    Way.UNCHANGED: "#009e73",
    Way.CHANGED: "#56b4e9",
    Way.DISCARDED: "#d55e00",
    Way.BY_HAND: "#cc79a7",
    Way.EMPTY: "#999999",
}
"""Of Okabe and Ito's palette, which colour-blind eyes can tell apart."""
GREY = "#808a94"
"""Of axes and texts: readable on the light page and on the dark one, for plots have no ground."""
PROPOSED, ACCEPTED = (230, 159, 0), (86, 180, 233)
THUMBNAIL = 320
"""Pixels of the longer side of an overlay."""
PLOT_SIZE = (7.4, 2.7)
"""Inches; at 100 dots to an inch this is what the window shows."""
WINDOW = 15
"""Images in the running median."""


def write_page(ledger: Ledger, stores: Sequence[LabelStore], path: Path, write: Write) -> None:
    """Write the ledger as an HTML file.

    Args:
        ledger: of the stores.
        stores: for the images, proposals and labels of the overlays; one for each annotator.
        path: of the file.
        write: how it is written.

    Raises:
        LabelWriteError: it may not or cannot be written.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "span": span}
    template = environment.from_string((files(__package__) / "page.html.j2").read_text("utf-8"))
    accepted = len(ledger.accepted) > 0
    text = template.render(
        ledger=ledger,
        now=datetime.now(),
        idle=IDLE_SECONDS,
        few=FEW,
        edits=sum((item.edits for item in ledger.efforts), Counter[str]()).most_common(),
        annotators=ledger.images["annotator"].nunique(),
        key=key(ledger),
        timeline=_embedded(timeline(ledger)) if accepted else "",
        by_origin=_embedded(seconds_by_origin(ledger)) if accepted else "",
        models=ledger.models.to_dict("records"),
        phrases=ledger.phrases.to_dict("records"),
        changed=list(_overlays(ledger, stores)),
        proposed_color=f"rgb{PROPOSED}",
        accepted_color=f"rgb{ACCEPTED}",
    )
    write(path, text.encode())


def _number(value: float, form: str, unit: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{form}}{unit}"


# -- plots -----------------------------------------------------------------------------------------


def key(ledger: Ledger) -> list[tuple[str, str]]:
    """The ways that are among the accepted images, each with its colour."""
    ways = set(ledger.accepted["way"])
    return [(str(way), color) for way, color in COLORS.items() if way in ways]


def timeline(ledger: Ledger) -> bytes:
    """Seconds of each accepted image, in the order of the accepts, with a running median, as PNG.

    A dot above the 98th percentile is drawn at the upper edge.
    """
    rows = ledger.accepted
    seconds, number = rows["active_s"].to_numpy(), np.arange(1, len(rows) + 1)
    top = max(float(np.quantile(seconds, 0.98)) * 1.1, 1e-3)
    figure, axes = _plot(PLOT_SIZE)
    for way, color in COLORS.items():
        of_way = (rows["way"] == way).to_numpy()
        shown = np.minimum(seconds[of_way], top)
        axes.plot(number[of_way], shown, "o", color=color, alpha=0.8, ms=4, mew=0, clip_on=False)
    middle = rows["active_s"].rolling(WINDOW, center=True).median()
    axes.plot(number, middle, color="#e69f00", lw=2)
    axes.set_ylim(0, top)
    axes.yaxis.set_major_formatter("{x:g} s")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color=GREY, alpha=0.35)
    return _png(figure)


def seconds_by_origin(ledger: Ledger) -> bytes:
    """A bar for each origin of first proposals: the median seconds of its images, as PNG."""
    rows = ledger.models.iloc[::-1]
    names = [name if len(name) <= 36 else f"{name[:33]}..." for name in rows["first_proposal"]]
    colors = [COLORS[Way.BY_HAND if n == Way.BY_HAND else Way.CHANGED] for n in names]
    figure, axes = _plot((PLOT_SIZE[0], 0.3 * len(rows) + 0.2))
    bars = axes.barh(range(len(rows)), rows["median_s"], color=colors, height=0.7)
    texts = [
        f"{median:.1f} s ({images} images)"
        for median, images in zip(rows["median_s"], rows["images"], strict=True)
    ]
    axes.bar_label(bars, texts, padding=5, color=GREY)
    axes.set_yticks(range(len(rows)), names)
    axes.set_xlim(0, 1.4 * max(rows["median_s"].max(), 1e-3))
    axes.xaxis.set_visible(False)
    return _png(figure)


def _plot(inches: tuple[float, float]) -> tuple[Figure, Any]:
    """An empty plot; a figure of its own, for pyplot's are kept for the whole process."""
    figure = Figure(inches, layout="constrained")
    axes = figure.subplots()
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=GREY, length=0)
    return figure, axes


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=200, transparent=True)
    return file.getvalue()


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


# -- the proposals that were changed most ----------------------------------------------------------


def _overlays(ledger: Ledger, stores: Sequence[LabelStore]) -> Iterator[dict[str, Any]]:
    """What the page shows of each: the row, and an overlay or the sentence why there is none."""
    store_of = {store.annotator: store for store in stores}
    for index, row in ledger.changed.iterrows():
        store, first = store_of[row["annotator"]], ledger.efforts[int(str(index))].first
        shown = {"row": row, "picture": "", "failure": ""}
        try:
            record = next(r for r in store.records if r.image_id == row["image_id"])
            proposal = store.proposal(None if first is None else first.document)
            drawn = overlay(store.read_image(record), proposal, store.read_labels(record))
        except FileError as error:
            shown["failure"] = str(error)
        else:
            file = io.BytesIO()
            Image.fromarray(drawn).save(file, "PNG", optimize=True)
            shown["picture"] = _embedded(file.getvalue())
        yield shown


def overlay(
    image: NDArray[np.uint8], proposal: ImageProposal, labels: NDArray[np.integer] | None
) -> NDArray[np.uint8]:
    """A small picture with the outlines of a proposal and of what was accepted.

    Args:
        image: (H, W, 3) RGB uint8.
        proposal: whose masks are (H, W).
        labels: (H, W), or None.

    Returns:
        (h, w, 3) RGB uint8, its longer side at most ``THUMBNAIL`` pixels.
    """
    height, width = image.shape[:2]
    part = min(1.0, THUMBNAIL / max(height, width))
    size = (max(1, round(height * part)), max(1, round(width * part)))
    rows = (np.arange(size[0]) * height / size[0]).astype(int)
    columns = (np.arange(size[1]) * width / size[1]).astype(int)
    drawn = np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    masks = [(mask, PROPOSED) for mask in proposed_map(proposal).values()]
    if labels is not None:
        masks += [(labels == value, ACCEPTED) for value in np.unique(labels) if value]
    for mask, color in masks:
        if mask.shape == (height, width):
            small = mask[rows][:, columns]
            drawn[small & ~ndimage.binary_erosion(small)] = color
    return drawn
