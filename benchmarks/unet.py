"""A small U-Net trained on a few images of a data set: the baseline of ppn_study.py.

    python benchmarks/unet.py DATASET --ids IDS.json --seconds 120 --split benchmarks/splits.json \
        --json OUT.json

Encoder: EfficientNet-Lite0 with ImageNet weights, as nano's trunk began; decoder: U-Net's, with
skips at every stride. 256 pixels, batch 8, AdamW 1e-3 with a cosine, BCE plus Dice, the same
augmentation as the prompt predictor's, for as many seconds of processor time as that took (so that
what else the computer does helps neither).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_usgseg.core.metrics import dice, iou
from napari_usgseg.io.datasets import Dataset, read_dataset, read_splits
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.lab.nano_factory.materials import imagenet_trunk
from napari_usgseg.learning.augmentation import bend_intensities, random_affine, warp
from napari_usgseg.learning.ppn import PPN_AUGMENTATION
from napari_usgseg.models.sam.nano import TRUNK
from napari_usgseg.models.sam.sam import normalise

SIDE = 256
BATCH = 8
LEARNING_RATE = 1e-3


class UNet(nn.Module):
    """U-Net (arXiv 1505.04597) on a timm encoder: (B, 3, S, S) -> (B, K, S, S) logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.encoder = timm.create_model(TRUNK, features_only=True)
        imagenet_trunk(self.encoder)
        skips = list(reversed(self.encoder.feature_info.channels()))
        widths = (128, 64, 32, 16)
        self.blocks = nn.ModuleList()
        deep = skips[0]
        for skip, width in zip(skips[1:], widths, strict=True):
            self.blocks.append(_double(deep + skip, width))
            deep = width
        self.head = nn.Conv2d(deep, classes, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of every class."""
        deep, *skips = reversed(self.encoder(pixels))
        for block, skip in zip(self.blocks, skips, strict=True):
            deep = F.interpolate(deep, skip.shape[-2:], mode="nearest")
            deep = block(torch.cat((deep, skip), dim=1))
        return F.interpolate(self.head(deep), pixels.shape[-2:], mode="bilinear")


def _double(inside: int, outside: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inside, outside):
        layers += [nn.Conv2d(channels, outside, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers)


def train(dataset: Dataset, ids: list[str], seconds: float, seed: int) -> tuple[UNet, int]:
    """Train for so many seconds of processor time; returns the network and its number of steps."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    values = sorted(dataset.labels)
    stacks = []
    for item in dataset.only(ids).items:
        image, labels = read_image(item.image_path), read_labels(item.mask_path)
        planes = [image.transpose(2, 0, 1) / 255, np.stack([labels == v for v in values])]
        whole = torch.from_numpy(np.concatenate(planes).astype(np.float32))
        stacks.append(F.interpolate(whole[None], (2 * SIDE, 2 * SIDE), mode="area")[0])
    net = UNet(len(values))
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    started, steps = time.process_time(), 0
    while (spent := (time.process_time() - started) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * max(0.02, 0.5 * (1 + math.cos(math.pi * spent)))
        images, targets = [], []
        for index in rng.integers(len(stacks), size=BATCH):
            bent = warp(stacks[index], random_affine(rng, PPN_AUGMENTATION), SIDE)
            images.append(bend_intensities(bent[:3], rng))
            targets.append(bent[3:])
        logits, target = net(normalise(torch.stack(images))), torch.stack(targets)
        probability = logits.sigmoid()
        overlap = (probability * target).sum((2, 3))
        total = probability.sum((2, 3)) + target.sum((2, 3))
        loss = F.binary_cross_entropy_with_logits(logits, target)
        loss = loss + 1 - ((2 * overlap + 1) / (total + 1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    return net.eval(), steps


@torch.inference_mode()
def score(net: UNet, dataset: Dataset, ids: list[str]) -> dict[str, float]:
    """Mean over images of the mean Dice and IoU over labels."""
    values = sorted(dataset.labels)
    dices, ious = [], []
    for item in dataset.only(ids).items:
        image, labels = read_image(item.image_path), read_labels(item.mask_path)
        pixels = torch.from_numpy(image.transpose(2, 0, 1).copy()).float()[None] / 255
        pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
        masks = F.interpolate(net(normalise(pixels)), labels.shape, mode="bilinear")[0] > 0
        pairs = [(labels == v, mask.numpy()) for v, mask in zip(values, masks, strict=True)]
        dices.append(np.mean([dice(*pair) for pair in pairs]))
        ious.append(np.mean([iou(*pair) for pair in pairs]))
    return {"dice": float(np.mean(dices)), "iou": float(np.mean(ious)), "images": len(dices)}


def main() -> None:
    """Train, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--ids", type=Path, required=True, help="JSON list of training images")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--side", default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    dataset = read_dataset(given.dataset)
    net, steps = train(dataset, json.loads(given.ids.read_text()), given.seconds, given.seed)
    side = list(getattr(read_splits(given.split)[dataset.name], given.side))
    result = {**score(net, dataset, side), "steps": steps}
    given.json.write_text(json.dumps(result) + "\n")
    print(f"{dataset.name}: U-Net, {steps} steps, Dice {result['dice']:.3f}")


if __name__ == "__main__":
    main()
