"""Table of models on data sets: data sets down, models across, bold where a lead is real.

Catalogue models, baselines and folders of predictions mix freely. Every model is scored on every
data set by the protocol (``evaluate``); what was scored is kept in ``results/`` of the output
folder, and is not scored again by the same request. A lead is real where the paired difference to
the next best on the same images has an interval (bootstrap over groups) that leaves out zero.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from ...core.errors import DatasetError, PromptError
from ...io.datasets import Dataset, DatasetItem
from ...io.names import safe_file_name
from ...io.outputs import OutputFolder
from .evaluate import Asked, Scorer, load_scorer
from .methods import EvaluationRequest
from .plots import COLOR, as_svg, name_rows
from .report import csv_table, dataset_report, figure, markdown_table, paired_difference, span

FILES = ("compare.json", "compare.csv", "compare.md", "compare.svg")
RESULTS = "results"
METRICS = ("dice", "iou")
MEAN = "mean"


@dataclass(frozen=True, slots=True)
class Entrant:
    """Entrant of a comparison: its name, and what is asked for."""

    name: str
    asked: Asked


def entrants(
    prompt: str,
    models: Sequence[str],
    baselines: Sequence[str],
    predictions: Mapping[str, Any],
    **how: Any,
) -> list[Entrant]:
    """What is compared, in the order of the columns.

    Args:
        prompt: of ``methods.PROMPT_KINDS``, for the models.
        models: of the catalogue.
        baselines: of ``evaluate.BASELINES``.
        predictions: folders of label maps by name.
        how: further fields of ``Asked`` for the models.

    Raises:
        PromptError: there are fewer than two, two have one name, or one cannot be asked so.
    """
    found = [Entrant(name, Asked(prompt, name, **how)) for name in models]
    found += [Entrant(name, Asked(None, baseline=name)) for name in baselines]
    found += [Entrant(name, Asked(None, predictions=path)) for name, path in predictions.items()]
    names = [entrant.name for entrant in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PromptError(f"two of what is compared are called '{twice}'; name it otherwise")
    if len(found) < 2:
        raise PromptError("name two or more to compare: --model, --baseline, --predictions")
    return found


def run_league(
    datasets: Sequence[Dataset],
    entrants: Sequence[Entrant],
    request: Callable[[Asked], EvaluationRequest],
    out: OutputFolder | None,
    on_image: Callable[[str, str, DatasetItem], None] = lambda name, dataset, item: None,
    on_result: Callable[[str, str, dict[str, Any]], None] = lambda name, dataset, entry: None,
) -> dict[str, Any]:
    """Score everything that is not scored yet, and put it together.

    Args:
        datasets: the rows.
        entrants: the columns.
        request: what to measure of each.
        out: where results are kept; None keeps none.
        on_image: called with column, row and item after each image.
        on_result: called with column, row and its entry (``report.dataset_report``), kept or new.

    Returns:
        {"schema", "prompt", "models", "datasets": {name: {model: entry}}, "best": {name: {metric:
        {"model", "next", "difference", "ci95", "is_real"}}}, "failures": [...]}; the row "mean"
        is over data sets, its "best" over all images together.

    Raises:
        UsgsegError: a model cannot be loaded.
    """
    rows: dict[str, dict[str, dict[str, Any]]] = {dataset.name: {} for dataset in datasets}
    failures: list[str] = []
    for entrant in entrants:
        asked, scorer = request(entrant.asked), None
        for dataset in datasets:
            about = _about(entrant, asked, dataset)
            entry = None if out is None else _kept(out, entrant, dataset, about)
            if entry is None:
                scorer = scorer or load_scorer(entrant.asked, asked)
                entry, failed = _scored(
                    scorer, dataset, partial(on_image, entrant.name, dataset.name)
                )
                failures += [f"{entrant.name}: {text}" for text in failed]
                if entry is not None and out is not None:
                    content = {"schema": 1, "request": about, "entry": entry}
                    path = out.root / RESULTS / _file(entrant, dataset)
                    out.write(path, (json.dumps(content, indent=1) + "\n").encode())
            if entry is not None:
                rows[dataset.name][entrant.name] = entry
                on_result(entrant.name, dataset.name, entry)
    rows = {name: row for name, row in rows.items() if row}
    if not rows:
        raise DatasetError(datasets[0].name, f"nothing could be scored: {failures[0]}")
    return {
        "schema": 1,
        "prompt": request(entrants[0].asked).prompt,
        "models": [entrant.name for entrant in entrants],
        "datasets": rows,
        "best": {
            **{
                name: {metric: _best([row], metric) for metric in METRICS}
                for name, row in rows.items()
            },
            MEAN: {metric: _best(list(rows.values()), metric) for metric in METRICS},
        },
        "failures": failures,
    }


def _scored(
    scorer: Scorer, dataset: Dataset, on_image: Callable[[DatasetItem], None]
) -> tuple[dict[str, Any] | None, list[str]]:
    try:
        result = scorer.score(dataset, on_image)
    except DatasetError as error:
        return None, [str(error)]
    entry = dataset_report(result.scores, labels=dataset.labels, per_image=True)
    return entry, [str(error) for _, error in result.failures]


def _about(entrant: Entrant, asked: EvaluationRequest, dataset: Dataset) -> dict[str, Any]:
    """What two runs must share for one to take the other's result."""
    files = [
        f"{item.item_id} {path.stat().st_size} {path.stat().st_mtime_ns}"
        for item in dataset.items
        for path in (item.image_path, item.mask_path)
        if path.exists()
    ]
    return {
        "asked": {
            key: None if value is None else str(value)
            for key, value in asdict(entrant.asked).items()
        },
        "request": json.loads(json.dumps(asdict(asked))),
        "items": hashlib.sha256("\n".join(files).encode()).hexdigest(),
    }


def _file(entrant: Entrant, dataset: Dataset) -> str:
    return safe_file_name(f"{dataset.name}--{entrant.name}") + ".json"


def _kept(
    out: OutputFolder, entrant: Entrant, dataset: Dataset, about: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The entry of an earlier run of the same request; predictions are always read anew."""
    if entrant.asked.predictions is not None:
        return None
    path = out.root / RESULTS / _file(entrant, dataset)
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if out.is_own(path) and content["request"] == about:
            return dict(content["entry"])
    return None


def _best(rows: Sequence[Mapping[str, Mapping[str, Any]]], metric: str) -> dict[str, Any] | None:
    """Who leads on the images that all have, the next one, and whether the lead is real."""
    names = [name for name in rows[0] if all(name in row for row in rows)]
    values: dict[str, list[float]] = {name: [] for name in names}
    groups: list[str] = []
    for number, row in enumerate(rows):
        of = {name: {i["id"]: i for i in row[name]["per_image"]} for name in names}
        common = [i for i in of[names[0]] if all(i in of[name] for name in names)] if names else []
        for name in names:
            values[name] += [of[name][i][metric] for i in common]
        # Groups of two data sets that have one name are two.
        groups += [f"{number}/{of[names[0]][i]['group']}" for i in common]
    if len(names) < 2 or not groups:
        return None
    order = sorted(names, key=lambda name: -sum(values[name]))
    found = paired_difference(values[order[1]], values[order[0]], groups)
    real = found.ci95 is not None and found.ci95[0] > 0
    return {
        "model": order[0],
        "next": order[1],
        "images": found.images,
        "difference": round(found.difference, 6),
        "ci95": None if found.ci95 is None else [round(x, 6) for x in found.ci95],
        "is_real": real,
    }


def write_league(result: Mapping[str, Any], out: OutputFolder) -> None:
    """Write ``FILES`` into a folder; older ones go.

    Raises:
        LabelWriteError: a file cannot be written.
    """
    contents = (
        (json.dumps(result, indent=1) + "\n").encode(),
        csv_table(list(_flat(result))).encode(),
        league_markdown(result).encode(),
        league_plot(result),
    )
    for name, data in zip(FILES, contents, strict=True):
        out.write(out.root / name, data)


def league_markdown(result: Mapping[str, Any]) -> str:
    """A table for Dice and one for IoU."""
    parts = [
        f"# {', '.join(result['models'])}: prompt {result['prompt']}\n",
        "Means over images with 95 % intervals by bootstrap over groups; the last row is the mean "
        "over data sets. Bold: the best, where its paired difference to the next best on the same "
        "images has an interval that leaves out zero.\n",
    ]
    for metric, title in (("dice", "Dice"), ("iou", "IoU")):
        head = ("data set", "images", *result["models"])
        parts += [f"## {title}\n", markdown_table(head, list(_cells(result, metric)))]
    return "\n".join(parts)


def _cells(result: Mapping[str, Any], metric: str) -> Iterable[tuple[str, ...]]:
    models, rows = result["models"], result["datasets"]

    def bold(name: str, model: str, text: str) -> str:
        best = result["best"][name][metric]
        return f"**{text}**" if best and best["is_real"] and best["model"] == model else text

    for name, row in rows.items():
        cells = []
        for model in models:
            entry = row.get(model)
            if entry is None:
                cells.append("-")
                continue
            limits = span((entry.get("ci95") or {}).get(metric))
            cells.append(f"{bold(name, model, figure(entry[metric]))} ({limits})")
        yield name, str(max(entry["images"] for entry in row.values())), *cells
    if len(rows) > 1:
        means = [
            bold(MEAN, model, figure(sum(row[model][metric] for row in rows.values()) / len(rows)))
            if all(model in row for row in rows.values())
            else "-"
            for model in models
        ]
        yield MEAN, f"of {len(rows)}", *means


def _flat(result: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for name, row in result["datasets"].items():
        for model, entry in row.items():
            flat: dict[str, Any] = {"dataset": name, "model": model, "images": entry["images"]}
            for metric in (*METRICS, "hd95_px"):
                low, high = (entry.get("ci95") or {}).get(metric) or (None, None)
                flat |= {metric: entry[metric], f"{metric}_low": low, f"{metric}_high": high}
            best = result["best"][name]["dice"]
            flat["best"] = bool(best and best["is_real"] and best["model"] == model)
            yield flat | {"seconds_per_image": entry["seconds_per_image"]}


def league_plot(result: Mapping[str, Any]) -> bytes:
    """Dice with its interval, a row for each data set and model, as SVG."""
    from matplotlib.figure import Figure

    rows = list(_flat(result))
    picture = Figure(figsize=(9, 0.3 * len(rows) + 1), layout="constrained")
    axes = picture.subplots()
    for place, row in enumerate(rows):
        low, high = (row[f"dice_{end}"] for end in ("low", "high"))
        if low is not None:
            axes.plot([low, high], [place, place], color=COLOR, linewidth=2, alpha=0.5)
        axes.plot([row["dice"]], [place], "o", color=COLOR)
    axes.set_xlim(-0.02, 1.02)
    axes.set_title("Dice, with 95 % intervals by bootstrap over groups", fontsize=9)
    name_rows(
        axes,
        [f"{row['dataset']}: {row['model']}" for row in rows],
        [figure(row["dice"]) for row in rows],
    )
    return as_svg(picture)
