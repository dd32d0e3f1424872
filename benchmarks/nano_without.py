"""A nano segmenter that never saw some organs, to try a prompt predictor on them.

    python benchmarks/nano_without.py DATASET... --out runs/without
    python benchmarks/ppn_study.py LEFT_OUT... --counts 10 --no-unet \
        --model runs/without/nano-segmenter.safetensors --work runs/ppn --out runs/ppn

The datasets are those that it may see. By default the stages are shorter than the shipped model's
(500, 1400 and 450 steps), about an hour on one core.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from napari_usgseg.lab.nano_factory.segmenter import STAGES, train


def main() -> None:
    """Train, or go on with a training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--splits", type=Path, default=Path("benchmarks/splits.json"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", nargs=len(STAGES), type=int, default=(500, 1400, 450))
    parser.add_argument("--teacher-cache", type=Path)
    parser.add_argument("--teacher-images", type=int, default=583)
    given = parser.parse_args()
    train(
        given.datasets,
        given.out,
        splits=given.splits,
        teacher_cache=given.teacher_cache,
        teacher_images=given.teacher_images,
        stages=[replace(stage, steps=n) for stage, n in zip(STAGES, given.steps, strict=True)],
        resume=True,
    )


if __name__ == "__main__":
    main()
