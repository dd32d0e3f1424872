"""The ledger as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ..core.errors import FileError
from ..io.atomic import Write
from ..project.records import Draft, LabelStore
from .efforts import IDLE_SECONDS, ImageEffort, Way
from .plots import DOTS, key, seconds_by_origin, timeline
from .quality import proposed_map
from .report import Ledger
from .tables import FEW, committed, span

PROPOSED, COMMITTED = (230, 159, 0), (86, 180, 233)
THUMBNAIL = 320
"""Pixels of the longer side of an overlay."""

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1d2329; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; color: #59636e; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #d8dee4; }
th:first-child, td:first-child, .text { text-align: left; }
svg { width: 100%; height: auto; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: .4em;
       margin: 0 .3em 0 1em; }
.changed { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; width: 17rem; }
figure img { width: 100%; } .note { color: #59636e; }
@media (prefers-color-scheme: dark) {
  body { color: #e6edf3; background: #14181d; }
  th, td { border-color: #303841; }
}
"""


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
    write(path, page(ledger, stores).encode())


def page(ledger: Ledger, stores: Sequence[LabelStore]) -> str:
    """The HTML of ``write_page``."""
    title = f"Labelling effort: {escape(ledger.name)}"
    body = (
        "".join(_sections(ledger, stores))
        if ledger.efforts
        else (
            f"<p>Nothing is recorded yet: none of the {ledger.images} images was opened. "
            "Label some, then write this report again.</p>"
        )
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f'<h1>{title}</h1><p class="note">Written {datetime.now():%Y-%m-%d %H:%M}. Time counts '
        f"while an image is open; a pause longer than {IDLE_SECONDS:g} s counts as that long.</p>"
        f"{body}</body></html>\n"
    )


def _sections(ledger: Ledger, stores: Sequence[LabelStore]) -> Iterable[str]:
    yield _summary(ledger)
    done = committed(ledger.efforts)
    if not done:
        yield "<p>No image is committed yet, so there is no time per image to show.</p>"
        return
    yield "<h2>Time per image</h2>" + _legend(done) + timeline(done)
    yield "<h2>What each model's proposals saved</h2>" + seconds_by_origin(ledger.models)
    yield _models(ledger)
    if ledger.phrases:
        yield "<h2>Which phrase works best for each class</h2>" + _phrases(ledger)
    if ledger.changed:
        yield "<h2>Proposals that were changed most</h2>" + _changed(ledger, stores)
    if ledger.failures:
        lines = "".join(f"<li>{escape(line)}</li>" for line in ledger.failures)
        yield f"<h2>Not measured</h2><ul>{lines}</ul>"


def _summary(ledger: Ledger) -> str:
    sums = ledger.totals
    rate = "" if sums.per_hour is None else f"{sums.per_hour:.0f} images an hour of work, "
    each = sums.clicks / sums.committed if sums.committed else 0.0
    prompts = ", ".join(f"{escape(name)} {number}" for name, number in sums.prompts)
    people = sorted({item.annotator for item in ledger.efforts})
    by = f" by {len(people)} annotators" if len(people) > 1 else ""
    return (
        f"<p><b>{sums.committed} of {ledger.images} images committed</b>{by} in "
        f"{span(sums.active_s)} of work, of which the models took "
        f"{span(sums.waited_s)}: {rate}{each:.1f} clicks for each committed image.</p>"
        f'<p class="note">Edits: {prompts or "none"}.</p>'
    )


def _legend(done: Sequence[ImageEffort]) -> str:
    keys = "".join(
        f'<span class="key" style="background:{color}"></span>{name}' for name, color in key(done)
    )
    return f"<p>{DOTS} {keys}</p>"


def _models(ledger: Ledger) -> str:
    heads = ("first proposal", "images", "unchanged", "changed", "thrown away", "median",
             "unchanged", "changed", "saved", "Dice", "HD95")  # fmt: skip
    rows = [
        (
            row.name,
            str(row.images),
            *(f"{row.share(way):.0%}" for way in (Way.UNCHANGED, Way.CHANGED, Way.DISCARDED)),
            *(_value(v, ".1f", " s") for v in (row.median_s, row.unchanged_s, row.changed_s)),
            _value(row.saved_s, "+.1f", " s"),
            _value(row.dice, ".3f"),
            _value(row.hd95_px, ".1f", " px"),
        )
        for row in ledger.models
    ]
    caption = (
        "Medians are seconds at work on an image. Saved is against the images made by hand in this "
        f"project, where there are at least {FEW} of both; the images are not the same ones, so "
        "take it with care. Dice and HD95 are from the first proposal to what was committed."
    )
    return _table(heads, rows, caption)


def _phrases(ledger: Ledger) -> str:
    rows = [
        (row.class_name, row.phrase, str(row.searched), str(row.found), _value(row.dice, ".3f"))
        for row in ledger.phrases
    ]
    caption = (
        "Dice of what the phrase found first with what was committed of that class; an image on "
        "which it missed the class counts 0, one without the class on which it found nothing 1."
    )
    return _table(("class", "phrase", "looked for", "found", "Dice"), rows, caption)


def _changed(ledger: Ledger, stores: Sequence[LabelStore]) -> str:
    of = {store.annotator: store for store in stores}
    figures = "".join(_figure(ledger, of[item.annotator], item) for item in ledger.changed)
    return (
        f'<p><span class="key" style="background:rgb{PROPOSED}"></span>first proposal'
        f'<span class="key" style="background:rgb{COMMITTED}"></span>committed</p>'
        f'<div class="changed">{figures}</div>'
    )


def _figure(ledger: Ledger, store: LabelStore, item: ImageEffort) -> str:
    quality = ledger.qualities[item.annotator, item.image_id]
    who = f" ({escape(item.annotator)})" if item.annotator else ""
    text = (
        f"{escape(item.image_id)}{who}: Dice {quality.dice:.3f}, HD95 {quality.hd95_px:.1f} px, "
        f"{item.clicks} clicks, {item.active_s:.0f} s"
    )
    try:
        record = next(r for r in store.records if r.image_id == item.image_id)
        labels = store.read_labels(record)
        draft = store.draft(None if item.first is None else item.first.document)
        drawn = overlay(store.read_image(record), draft, labels)
    except FileError as error:
        return f"<figure><figcaption>{text}<br>{escape(str(error))}</figcaption></figure>"
    return (
        f'<figure><img alt="{escape(item.image_id)}" src="data:image/png;base64,{_png(drawn)}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def overlay(
    image: NDArray[np.uint8], draft: Draft, labels: NDArray[np.integer] | None
) -> NDArray[np.uint8]:
    """A small picture with the outlines of a proposal and of what was committed.

    Args:
        image: (H, W, 3) RGB uint8.
        draft: whose masks are (H, W).
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
    masks = [(mask, PROPOSED) for mask in proposed_map(draft).values()]
    if labels is not None:
        masks += [(labels == value, COMMITTED) for value in np.unique(labels) if value]
    for mask, color in masks:
        if mask.shape == (height, width):
            small = mask[rows][:, columns]
            drawn[small & ~ndimage.binary_erosion(small)] = color
    return drawn


def _png(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(value)}</td>" for value in row) + "</tr>" for row in rows
    )
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"


def _value(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"
