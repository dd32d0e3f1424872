"""The JSON of ``usgseg evaluate``, schema 1."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .evaluate import ImageScore
from .methods import NOC_TARGETS, REPORTED_CLICKS, EvaluationRequest

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


SCHEMA = 1


def dataset_report(scores: Sequence[ImageScore], *, per_image: bool = False) -> dict[str, Any]:
    """The entry of one data set: means over its images.

    ``hd95_mm`` stands where every image states its spacing; ``empty_images`` and ``empty_kept``
    (the share of them where nothing was proposed) where text was asked of images without an object.
    ``ci95`` holds 95 % intervals of the means, by bootstrap over groups (``uncertainty``).
    ``detection_rate`` is the share of labels that are there for which anything was found, and
    ``no_box`` the images with an object where nothing was; both where nobody pointed at objects.
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
    if all(score.item.spacing_mm for score in scores):
        entry["hd95_mm"] = _mean([_millimetres(score) for score in scores])
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
    if per_image:
        entry["per_image"] = [_image_entry(score) for score in scores]
    return entry


def evaluation_report(
    request: EvaluationRequest,
    segmenter: str,
    grounder: str | None,
    datasets: dict[str, dict[str, Any]],
    ppn: dict[str, Any] | None = None,
    adapter: str | None = None,
    trained_on: Collection[str] | None = None,
) -> dict[str, Any]:
    """The whole report; ``mean`` is over data sets.

    Args:
        request: what was measured.
        segmenter: its name, as it was asked for.
        grounder: the detector's name, or None where none was used.
        datasets: ``dataset_report`` by name of the data set.
        ppn: what was used of a prompt predictor ("id", "images", "seed"), or None.
        adapter: name of a LoRA adapter on the grounder, or None.
        trained_on: data sets that taught the models, or None where that is not known.
    """
    return {
        "schema": SCHEMA,
        "prompt": request.prompt,
        "segmenter": segmenter,
        "grounder": grounder,
        **({"ppn": ppn} if ppn else {}),
        **({"adapter": adapter} if adapter else {}),
        "trained_on": None if trained_on is None else sorted(trained_on),
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
        "datasets": datasets,
        "mean": {
            key: _mean([entry[key] for entry in datasets.values()]) for key in ("dice", "iou")
        },
    }


def _image_entry(score: ImageScore) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": score.item.item_id,
        "group": score.item.group,
        "dice": round(score.dice, 6),
        "iou": round(score.iou, 6),
        "hd95_px": round(score.hd95_px, 6),
    }
    if score.item.spacing_mm:
        entry["hd95_mm"] = round(_millimetres(score), 6)
    return entry


def _interval(scores: Sequence[ImageScore], key: str) -> list[float] | None:
    """The 95 % interval of a mean; None where all images are of one group."""
    found = interval(
        [float(getattr(score, key)) for score in scores], [score.item.group for score in scores]
    )
    return None if found is None else [round(limit, 6) for limit in found]


def _millimetres(score: ImageScore) -> float:
    return score.hd95_px * (score.item.spacing_mm or 0.0)


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 6)
