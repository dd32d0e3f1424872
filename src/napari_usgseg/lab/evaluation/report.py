"""Reports of evaluations: the JSON of ``usgseg evaluate``, its tables, the sheet of worst images.

The tables are the paper's two: data sets seen in training by organ, and unseen ones. Where it is
known what the scored model was trained on (``trained_on``), that decides. Of other models the
registry's word is taken, which is that of GroundingDINO-US-SAM's tuning; data sets that it does
not know are listed apart. Every row also says where the paper has its data set.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ...core.types import BoolArray
from ...io.atomic import Write
from ...io.labels import write_png
from ...io.outputs import OutputFolder
from ..public_datasets.registry import find_dataset
from .annotator import NOC_TARGETS, REPORTED_CLICKS
from .evaluate import ImageScore, MaskScore, Scorer, mean_score
from .methods import Answer, Scene
from .plots import COLOR, PALE, as_svg, name_rows

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
TILE = 320
CAPTION = 18
COLUMNS = 4
TRUTH, ANSWER = (0, 200, 120), (230, 159, 0)
"""Green and orange of a palette that colour-blind eyes can tell apart."""

DRAWS = 2000
SEED = 0
"""Equal input gives equal output."""

Interval = tuple[float, float]


def interval(values: Sequence[float], groups: Sequence[str]) -> Interval | None:
    """The 95 % interval of a mean over images; None where there is only one group.

    Args:
        values: one for each image.
        groups: of each image; an image that belongs to nobody else is a group of its own.
    """
    names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.bincount(index, np.asarray(values, float))
    counts = np.bincount(index).astype(float)
    rng = np.random.default_rng(SEED)
    # How often each group is drawn, instead of drawing: all draws are then one matrix product.
    # Whole groups, for images of one patient are alike and would make the interval too narrow.
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    low, high = np.percentile((times @ sums) / (times @ counts), (2.5, 97.5))
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Method B minus method A on the same images.

    Attributes:
        images: how many.
        first: mean of A.
        second: mean of B.
        difference: of the means.
        ci95: of the difference; None where all images are of one group.
        p: of the Wilcoxon signed-rank test, two-sided (Pratt's treatment of zeros); 1 where no
            image differs.
        greater: images where B's value is greater.
        less: images where it is less.
    """

    images: int
    first: float
    second: float
    difference: float
    ci95: Interval | None
    p: float
    greater: int
    less: int


def paired_difference(
    first: Sequence[float], second: Sequence[float], groups: Sequence[str]
) -> PairedDifference:
    """Compare two methods image by image.

    Args:
        first: values of method A.
        second: values of method B on the same images.
        groups: of these images.
    """
    from scipy.stats import wilcoxon

    a, b = np.asarray(first, float), np.asarray(second, float)
    gain = b - a
    # scipy ranks the differences: without any, there is no statistic to speak of.
    p = float(wilcoxon(gain, zero_method="pratt").pvalue) if gain.any() else 1.0
    return PairedDifference(
        images=len(gain),
        first=float(a.mean()),
        second=float(b.mean()),
        difference=float(gain.mean()),
        ci95=interval(list(gain), groups),
        p=p,
        greater=int((gain > 0).sum()),
        less=int((gain < 0).sum()),
    )


def dataset_report(
    scores: Sequence[ImageScore],
    *,
    labels: Mapping[int, str] | None = None,
    per_image: bool = False,
) -> dict[str, Any]:
    """The entry of one data set: means over its images.

    ``hd95_mm`` stands where every image states its spacing; ``empty_images`` and ``empty_kept``
    (the share of them where nothing was proposed) where text was asked of images without an object.
    ``ci95`` holds 95 % intervals of the means, by bootstrap over groups (``interval``).
    ``detection_rate`` is the share of labels that are there for which anything was found, and
    ``no_box`` the images with an object where nothing was; both where nobody pointed at objects.
    Where ``labels`` names several, ``classes`` has each by itself, over the images that hold it.
    """
    entry: dict[str, Any] = {
        "images": len(scores),
        "dice": _mean([score.dice for score in scores]),
        "iou": _mean([score.iou for score in scores]),
        "hd95_px": _mean([score.hd95_px for score in scores]),
        "seconds_per_image": _mean([score.seconds for score in scores]),
        "ci95": {key: _interval(scores, key) for key in ("dice", "iou", "hd95_px")},
    }
    found = [score.detected for score in scores if score.detected is not None]
    if found:
        entry["detection_rate"] = _mean(found)
        entry["no_box"] = sum(share == 0 for share in found)
    in_mm = [score.hd95_mm for score in scores if score.hd95_mm is not None]
    if len(in_mm) == len(scores):
        entry["hd95_mm"] = _mean(in_mm)
    if all(score.dice_at_clicks and score.noc for score in scores):
        entry["dice_at_clicks"] = {
            str(count): _mean([(score.dice_at_clicks or {})[count] for score in scores])
            for count in REPORTED_CLICKS
        }
        for target in NOC_TARGETS:
            noc = [(score.noc or {})[target] for score in scores]
            entry[f"noc{round(100 * target)}"] = _mean(noc)
    normal = [score for score in scores if score.empty]
    if normal:
        entry["empty_images"] = len(normal)
        entry["empty_kept"] = _mean([float(score.proposed_nothing) for score in normal])
    several = labels if labels is not None and len(labels) > 1 else {}
    if several:
        entry["classes"] = {
            str(value): _class_entry(value, name, scores) for value, name in several.items()
        }
    if per_image:
        entry["per_image"] = [_image_entry(score, bool(several)) for score in scores]
    return entry


def _class_entry(value: int, name: str, scores: Sequence[ImageScore]) -> dict[str, Any]:
    """One class over the images that hold it; no figures where none does."""
    holding = [score for score in scores if value in score.classes]
    entry: dict[str, Any] = {"name": name, "images": len(holding)}
    if holding:
        entry |= _figures(mean_score([score.classes[value] for score in holding]))
        groups = [score.item.group for score in holding]
        limits = interval([score.classes[value].dice for score in holding], groups)
        entry["ci95"] = {"dice": None if limits is None else [round(x, 6) for x in limits]}
    return entry


def _figures(score: MaskScore) -> dict[str, float]:
    return {key: round(value, 6) for key, value in asdict(score).items()}


def evaluation_report(scorer: Scorer, datasets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The whole report of ``dataset_report`` by name of the data set; ``mean`` is over them."""
    request = scorer.request
    return {
        "schema": SCHEMA,
        "prompt": request.prompt,
        "segmenter": scorer.model,
        "grounder": scorer.detector,
        **({"ppn": scorer.ppn} if scorer.ppn else {}),
        **({"adapter": scorer.adapter} if scorer.adapter else {}),
        "trained_on": None if scorer.trained_on is None else sorted(scorer.trained_on),
        "options": {
            "text": request.text,
            "box_threshold": request.box_threshold,
            "text_threshold": request.text_threshold,
            "one_sentence": request.one_sentence,
            "jitter": request.jitter,
            "shuffle_prompts": request.shuffle_prompts,
            "limit": request.limit,
            "seed": request.seed,
            "postprocess": asdict(request.settings),
            "use_priors": request.use_priors,
        },
        "datasets": dict(datasets),
        "mean": {
            key: _mean([entry[key] for entry in datasets.values()]) for key in ("dice", "iou")
        },
    }


def _image_entry(score: ImageScore, by_class: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": score.item.item_id,
        "group": score.item.group,
        "dice": round(score.dice, 6),
        "iou": round(score.iou, 6),
        "hd95_px": round(score.hd95_px, 6),
    }
    if score.hd95_mm is not None:
        entry["hd95_mm"] = round(score.hd95_mm, 6)
    if by_class:
        entry["classes"] = {str(value): _figures(found) for value, found in score.classes.items()}
    return entry


def _interval(scores: Sequence[ImageScore], key: str) -> list[float] | None:
    """The 95 % interval of a mean; None where all images are of one group."""
    found = interval(
        [float(getattr(score, key)) for score in scores], [score.item.group for score in scores]
    )
    return None if found is None else [round(limit, 6) for limit in found]


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 6)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column is text and whose others are figures."""
    import pandas as pd

    cells = pd.DataFrame(rows).map(lambda cell: cell.replace("|", "\\|").replace("\n", " "))
    sides = ("left", *["right"] * (len(head) - 1))
    return (
        cells.to_markdown(index=False, headers=head, colalign=sides, disable_numparse=True) + "\n"
    )


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under all of their keys, in order of appearance; None is an empty field."""
    import pandas as pd

    # As objects: a column of counts with a gap would turn into floats.
    return pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n")


def figure(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A number, or a dash where there is none (None or NaN)."""
    form = f"{'+' if sign else ''}.{digits}f"
    return "-" if value is None or math.isnan(value) else f"{value:{form}}"


def span(interval: Sequence[float] | None, digits: int = 3, *, sign: bool = False) -> str:
    """An interval as "0.81 to 0.88", or a dash."""
    return "-" if interval is None else " to ".join(figure(x, digits, sign=sign) for x in interval)


HEAD = (
    "organ", "data set", "images", "Dice", "95 %", "IoU", "95 %", "HD95 px", "95 %", "HD95 mm",
    "found", "no box", "s",
)  # fmt: skip
TITLES = {
    "seen": "Data sets seen in training",
    "unseen": "Unseen data sets",
    "others": "Other data sets",
}
CLASS_HEAD = ("data set", "class", "images", "Dice", "95 %", "IoU", "HD95 px")
CLASS_PLOT = "classes.svg"
PAPER = ("unseen", "seen")
MEANS = ("dice", "iou", "hd95_px", "detection_rate", "seconds_per_image")


def write_tables(
    report: Mapping[str, Any], organs: Mapping[str, str], out: OutputFolder
) -> list[Path]:
    """Write ``tables.md``, ``tables.json`` and a CSV file for each table into a folder.

    Args:
        report: of ``report.evaluation_report``.
        organs: of each of its data sets.
        out: their folder; older tables in it are replaced.

    Returns:
        What was written.

    Raises:
        LabelWriteError: a file cannot be written.
    """
    tables = grouped_rows(report, organs)
    files = {
        out.root / "tables.md": tables_markdown(report, organs),
        out.root / "tables.json": json.dumps({"schema": 1, **tables}, indent=1) + "\n",
    }
    for part, rows in tables.items():
        if rows:
            files[out.root / f"{part}.csv"] = csv_table(rows)
        else:  # of an earlier report
            out.remove(out.root / f"{part}.csv")
    classes = class_rows(report)
    plot = out.root / CLASS_PLOT
    if classes:
        files[out.root / "classes.csv"] = csv_table(classes)
        files[plot] = class_plot(report)
    else:
        out.remove(out.root / "classes.csv")
        out.remove(plot)
    for path, text in files.items():
        out.write(path, text.encode())
    return list(files)


def class_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each class of each data set that has several, in the report's order."""
    rows = []
    for name, entry in report["datasets"].items():
        for value, found in entry.get("classes", {}).items():
            low, high = (found.get("ci95") or {}).get("dice") or (None, None)
            rows.append(
                {
                    "dataset": name,
                    "label": int(value),
                    "class": found["name"],
                    "images": found["images"],
                    **{key: found.get(key) for key in ("dice", "iou", "hd95_px")},
                    "dice_low": low,
                    "dice_high": high,
                }
            )
    return rows


def _class_table(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        (
            row["dataset"],
            f"{row['label']} {row['class']}",
            str(row["images"]),
            figure(row["dice"]),
            span(None if row["dice_low"] is None else (row["dice_low"], row["dice_high"])),
            figure(row["iou"]),
            figure(row["hd95_px"], 1),
        )
        for row in rows
    ]
    return markdown_table(CLASS_HEAD, cells)


def class_plot(report: Mapping[str, Any]) -> str:
    """SVG of Dice by class: a bar for the mean, a dot for each image that was reported."""
    from matplotlib.figure import Figure

    rows = class_rows(report)
    picture = Figure(figsize=(9, 0.3 * len(rows) + 1), layout="constrained")
    axes = picture.subplots()
    for place, row in enumerate(rows):
        axes.barh(place, row["dice"] or 0.0, color=PALE)
        images = report["datasets"][row["dataset"]].get("per_image", ())
        label = str(row["label"])
        dots = [image["classes"][label]["dice"] for image in images if label in image["classes"]]
        axes.plot(dots, [place] * len(dots), "o", color=COLOR, alpha=0.4, markersize=3)
    axes.set_xlim(-0.02, 1.02)
    axes.set_title("Dice of each class: bar, mean over its images; dots, each image", fontsize=9)
    name_rows(
        axes,
        [f"{row['dataset']}: {row['class']}" for row in rows],
        [figure(row["dice"]) for row in rows],
    )
    return as_svg(picture).decode()


def grouped_rows(
    report: Mapping[str, Any], organs: Mapping[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Rows of figures under "seen", "unseen" and "others", by organ and then by name."""
    groups: dict[str, list[dict[str, Any]]] = {part: [] for part in TITLES}
    learnt = report.get("trained_on")
    for name, entry in report["datasets"].items():
        known = find_dataset(name)
        paper = None if known is None or known.seen is None else PAPER[known.seen]
        if learnt is None:
            part = paper or "others"
        else:
            part = "seen" if name.casefold() in learnt else "unseen"
        organ = organs[name] if known is None else known.organ
        groups[part].append(_row(organ, name, paper, entry))
    for rows in groups.values():
        rows.sort(key=lambda row: (row["organ"], row["dataset"].casefold()))
    return groups


def tables_markdown(report: Mapping[str, Any], organs: Mapping[str, str]) -> str:
    """All tables: a row for each data set, each organ of several, and all of them."""
    asked = [report["prompt"], report["segmenter"], report["grounder"], report.get("adapter")]
    who = (
        "GroundingDINO-US-SAM's tuning"
        if report.get("trained_on") is None
        else "the training of the models that are scored"
    )
    parts = [
        f"# {' / '.join(str(word) for word in asked if word)}\n",
        f"Seen and unseen: by {who}. Means over images, in mean rows over data sets; 95 % "
        "intervals by bootstrap over groups (patients, videos or cases); `found`: share of labels "
        "in the image for which anything was found; `no box`: images with an object in which "
        "nothing was; `s`: seconds per image.\n",
    ]
    for part, rows in grouped_rows(report, organs).items():
        if rows:
            table = markdown_table(HEAD, [_cells(row) for row in _with_means(rows)])
            parts += [f"## {TITLES[part]}\n", table]
    classes = class_rows(report)
    if classes:
        parts += ["## Each class by itself\n"]
        parts += ["Over the images that hold the class.\n", _class_table(classes)]
    return "\n".join(parts)


def _row(organ: str, name: str, paper: str | None, entry: Mapping[str, Any]) -> dict[str, Any]:
    limits: dict[str, float | None] = {}
    for key in ("dice", "iou", "hd95_px"):
        low, high = (entry.get("ci95") or {}).get(key) or (None, None)
        limits |= {f"{key}_low": low, f"{key}_high": high}
    return {
        "organ": organ,
        "dataset": name,
        "paper": paper,
        "images": entry["images"],
        **{key: entry.get(key) for key in ("dice", "iou", "hd95_px", "hd95_mm")},
        **limits,
        **{key: entry.get(key) for key in ("detection_rate", "no_box", "seconds_per_image")},
    }


def _with_means(rows: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The rows; after each organ of several data sets its mean, and in the end that of all."""
    import pandas as pd

    table = pd.DataFrame(rows)
    for organ, members in table.groupby("organ", sort=False):
        yield from (rows[index] for index in members.index)
        if 1 < len(members) < len(table):
            yield _mean_row(f"{organ}, mean", members)
    if len(table) > 1:
        yield _mean_row("mean", table)


def _mean_row(title: str, table: pd.DataFrame) -> dict[str, Any]:
    """Means over data sets; a figure that one of them lacks has none."""
    figures = table[[*MEANS, "no_box"]].astype(float)
    return {
        "organ": title,
        "dataset": f"of {len(table)}",
        "images": table["images"].sum(),
        **figures[list(MEANS)].mean(skipna=False),
        "no_box": figures["no_box"].sum(skipna=False),
    }


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    def limits(key: str, digits: int) -> str:
        low = row.get(f"{key}_low")
        return span(None if low is None else (low, row[f"{key}_high"]), digits)

    return (
        row["organ"],
        row["dataset"],
        str(row["images"]),
        figure(row["dice"]),
        limits("dice", 3),
        figure(row["iou"]),
        limits("iou", 3),
        figure(row["hd95_px"], 1),
        limits("hd95_px", 1),
        figure(row.get("hd95_mm"), 2),
        figure(row["detection_rate"], 2),
        figure(row["no_box"], 0),
        figure(row["seconds_per_image"], 2),
    )


class WorstCases:
    """Keeps the ``count`` images with the lowest Dice, as small pictures.

    Pass ``take`` to ``Scorer.score(on_scored=...)``.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.kept: list[tuple[float, str, NDArray[np.uint8]]] = []
        """Dice, a line of words and a tile of each, worst first."""

    def take(self, score: ImageScore, scene: Scene, answer: Answer) -> None:
        """Keep an image if it is among the worst so far."""
        if len(self.kept) == self.count and self.kept[-1][0] <= score.dice:
            return
        words = f"{scene.dataset.name} / {score.item.item_id}  Dice {score.dice:.3f}"
        self.kept.append((score.dice, words, _tile(scene, answer)))
        self.kept.sort(key=lambda entry: entry[0])
        del self.kept[self.count :]

    def save(self, path: Path, write: Write) -> None:
        """Write the sheet as a PNG, worst first.

        Raises:
            LabelWriteError: the file may not or cannot be written.
        """
        if self.kept:
            write_png(path, self.sheet(), write)

    def sheet(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB uint8."""
        columns = min(COLUMNS, len(self.kept))
        rows = -(-len(self.kept) // columns)
        canvas = Image.new("RGB", (columns * TILE, rows * (TILE + CAPTION) + CAPTION), "black")
        draw = ImageDraw.Draw(canvas)
        draw.text((4, 3), "truth", fill=TRUTH)
        draw.text((44, 3), "answer", fill=ANSWER)
        for place, (_, words, tile) in enumerate(self.kept):
            left, top = place % columns * TILE, place // columns * (TILE + CAPTION) + CAPTION
            draw.text((left + 4, top + 3), words[: TILE // 6], fill="white")
            canvas.paste(Image.fromarray(tile), (left, top + CAPTION))
        return np.asarray(canvas)


def _tile(scene: Scene, answer: Answer) -> NDArray[np.uint8]:
    """The image, no larger than a tile, with every truth's and every answer's contour."""
    height, width = scene.size_hw
    scale = TILE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    from scipy import ndimage

    drawn = np.array(Image.fromarray(scene.image).resize(size, Image.Resampling.BILINEAR))
    for masks, color in ((scene.truths, TRUTH), (answer.masks, ANSWER)):
        for mask in masks:
            small = _resized(mask, size)
            drawn[small & ~ndimage.binary_erosion(small)] = color
    tile = np.zeros((TILE, TILE, 3), np.uint8)
    tile[: drawn.shape[0], : drawn.shape[1]] = drawn
    return tile


def _resized(mask: BoolArray, size: tuple[int, int]) -> BoolArray:
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), bool)
