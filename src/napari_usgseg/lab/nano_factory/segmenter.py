"""``usgseg train nano-segmenter``: from others' weights and labelled images to the embedded model.

Stages run one after another, each with its own checkpoint in ``out``; a stage that is done leaves
``NAME.safetensors`` and is not run again, so the same command with ``--resume`` goes on after an
interruption. The learning images are small at first, for speed, then at the final size.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from ...core.geometry import mask_to_box
from ...io.datasets import Dataset, DatasetItem, Split, read_dataset, read_splits
from ...learning.pool import PoolImage, load_pool, phantom_pool
from ...learning.prompts import Point
from ...learning.segmenter_task import DistillTask, PromptTask, decode, soft_iou
from ...learning.teacher import fill_cache
from ...learning.trainer import LoopSettings, TrainingLog, run
from ...models.sam.nano import NanoSam
from ...models.sam.sam import to_pixels
from .starting_weights import imagenet_trunk, lite_medsam_decoder

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: ``kind`` is "distill" or "prompts"; ``minutes`` 0 means no limit but ``steps``."""

    name: str
    kind: str
    image_size: int
    steps: int
    lr: float
    minutes: float = 0.0


STAGES = (
    Stage("distill", "distill", 256, 700, 6e-4),
    Stage("prompts-256", "prompts", 256, 2440, 2e-4),
    Stage("prompts-384", "prompts", 384, 1020, 1e-4),
)
"""The schedule of the shipped weights."""


def train(
    data: Sequence[Path],
    out: Path,
    *,
    splits: Path,
    seed: int = 0,
    teacher_cache: Path | None = None,
    stages: Sequence[Stage] = STAGES,
    teacher_images: int = 718,
    phantoms: int = 300,
    resume: bool = False,
    say: Say = print,
) -> Path:
    """Train the embedded segmenter and return the path of its half-precision weights.

    Args:
        data: data set folders in the protocol's layout; only training sides of ``splits`` are used.
        out: folder for checkpoints, ``log.jsonl`` and ``nano-segmenter.safetensors``.
        splits: the committed split file.
        seed: of the order, the phantoms, the teacher's boxes and all that bends images.
        stages: one after the other, each from the weights of the one before.
        teacher_cache: where LiteMedSAM's targets are kept (default: ``out``/teacher).
        teacher_images: how many training images LiteMedSAM is asked about.
        phantoms: number of phantoms in the pool.
        resume: go on from the checkpoints in ``out``.
    """
    from ...models.checkpoints import save_nano_segmenter

    out.mkdir(parents=True, exist_ok=True)
    datasets = [read_dataset(folder) for folder in data]
    split = read_splits(splits)
    cache = teacher_cache or out / "teacher"
    fill_cache(_for_the_teacher(datasets, split, seed, teacher_images), cache, seed)
    pool = load_pool(datasets, split, "train", cache) + phantom_pool(phantoms, seed + 1)
    held_out = load_pool(datasets, split, "val")
    say(f"{len(pool)} training images, {len(held_out)} for validation")

    weights: dict[str, torch.Tensor] | None = None
    for stage in stages:
        net = _network(stage.image_size, weights)
        done = out / f"{stage.name}.safetensors"
        if not (resume and done.exists()):
            task = (DistillTask if stage.kind == "distill" else PromptTask)(net, pool)
            settings = LoopSettings(stage.steps, stage.lr, minutes=stage.minutes, seed=seed)
            check = partial(validate, net, held_out)
            log = TrainingLog(out / "log.jsonl", stage.name, check, say)
            average = run(
                task, settings, out / f"{stage.name}.pt", resume=resume, progress=log.step
            )
            net.load_state_dict({**net.state_dict(), **average})
            log.check(stage.steps)
            save_file({k: v.contiguous() for k, v in net.state_dict().items()}, done)
        weights = load_file(done)
    final = _network(stages[-1].image_size, weights)
    target = out / "nano-segmenter.safetensors"
    save_nano_segmenter(final, target, {"seed": str(seed)})
    say(f"wrote {target.name}: {json.dumps(validate(final, held_out))}")
    return target


def _for_the_teacher(
    datasets: Sequence[Dataset], splits: dict[str, Split], seed: int, count: int
) -> list[tuple[str, DatasetItem]]:
    """``count`` training images, drawn by ``seed``: a teacher's answer takes a second or two."""
    items = [
        (dataset.name, item)
        for dataset in datasets
        for item in dataset.items
        if dataset.name not in splits or item.item_id in set(splits[dataset.name].train)
    ]
    random.Random(seed).shuffle(items)
    return items[:count]


def _network(image_size: int, weights: dict[str, torch.Tensor] | None) -> NanoSam:
    net = NanoSam(image_size)
    if weights is None:
        imagenet_trunk(net.trunk)
        lite_medsam_decoder(net)
    else:
        net.load_state_dict(weights)
    return net.to(memory_format=torch.channels_last)


@torch.inference_mode()
def validate(net: NanoSam, pool: Sequence[PoolImage], limit: int = 25) -> dict[str, float]:
    """Mean Dice of one object per image for its tight box and for one click, by data set.

    ``sensitivity`` is the mean change of the logits when the box moves by a fifth of the image,
    over their mean size: near 0 for a network that ignores its prompt.
    """
    was_training = net.training
    net.eval()
    sums: dict[str, list[float]] = {}
    seen: dict[str, int] = {}
    for sample in pool:
        numbers = [int(n) for n in np.unique(sample.objects) if n > 0]
        seen[sample.dataset] = seen.get(sample.dataset, 0) + 1
        if not numbers or seen[sample.dataset] > limit:
            continue
        mask = sample.objects == max(numbers, key=lambda n: int((sample.objects == n).sum()))
        embedding, (fine, middle) = net.encode(to_pixels(sample.image, net.image_size))
        box = mask_to_box(mask)
        if box is None:
            continue
        x0, y0, x1, y1 = (float(v) * net.image_size / mask.shape[0] for v in box)
        rows, columns = np.nonzero(mask)
        middle_row = int(np.argsort(rows)[len(rows) // 2])
        click = (
            float(columns[middle_row]) * net.image_size / mask.shape[0],
            float(rows[middle_row]) * net.image_size / mask.shape[0],
        )
        away = 0.2 * net.image_size
        prompts: list[list[Point]] = [
            [(x0, y0, 2), (x1, y1, 3)],
            [(*click, 1)],
            [((x0 + away) % net.image_size, y0, 2), ((x1 + away) % net.image_size, y1, 3)],
        ]
        features = (
            embedding.expand(3, -1, -1, -1),
            [fine.expand(3, -1, -1, -1), middle.expand(3, -1, -1, -1)],
        )
        none = torch.zeros(3, dtype=torch.bool)
        logits, _, _ = decode(net, features, prompts, torch.zeros(3, 1, 1, 1), none)
        whole = F.interpolate(logits[:, :1], mask.shape, mode="bilinear")
        iou = soft_iou(whole, torch.from_numpy(mask)[None, None].float().expand(3, -1, -1, -1))
        dice = 2 * iou / (1 + iou)
        change = (logits[2, 0] - logits[0, 0]).abs().mean() / logits[:1, 0].abs().mean()
        for name, value in (
            (f"box/{sample.dataset}", dice[0]),
            (f"click/{sample.dataset}", dice[1]),
            ("sensitivity", change),
        ):
            sums.setdefault(name, []).append(float(value))
    net.train(was_training)
    return {name: round(float(np.mean(values)), 4) for name, values in sorted(sums.items())}
