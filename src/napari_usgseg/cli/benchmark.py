"""``usgseg benchmark``: speed beside the ``sam2`` package's own predictor."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import JsonFile, ModelName, progress, report_writer


def benchmark(
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each; medians count.")] = 5,
    model: ModelName = "nano",
    json_file: JsonFile = None,
) -> None:
    """Time nano and our full path beside SAM2ImagePredictor, as ratios of one run."""
    from ..lab.evaluation.benchmark import run_benchmark
    from ..models.registry import load_segmenter

    write_report = report_writer(json_file)
    nano = load_segmenter(model)
    with progress(repeats + 1, "measuring") as step:
        report = run_benchmark(repeats, nano, progress=lambda done, total: step(""))
    typer.echo(f"peer: {report['peer']}, {report['threads']} thread(s)")
    for name, seconds in report["seconds"].items():
        ratio = report["ratios"].get(name)
        beside = f"  {ratio:.3f} of the peer's" if ratio is not None else ""
        typer.echo(f"{name}: {1000 * seconds:.1f} ms{beside}")
    write_report(report)
