"""Training of the embedded detector ``nano``, and how it is judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...io.datasets import read_splits
from ...learning.lora.data import PoolImage, Questioner
from ...learning.lora.tasks import NanoTask, PhraseVectors, soft_iou
from ...learning.phrases import (
    CONCEPTS,
    HELD_OUT_ABSENT,
    NEW_CONCEPTS,
    Concept,
    absent_phrases,
    all_phrases,
    concept_of,
    draw_absent,
)
from ...learning.trainer import TrainerSettings
from ...models.grounding.nano_detector import (
    Knowledge,
    NanoDetector,
    PhraseNet,
    SentenceEncoder,
    load_sentence_encoder,
    save_nano_detector,
)
from ...models.grounding.phrases import words_of
from ...models.sam.sam import to_pixels
from .materials import (
    EMA,
    imagenet_trunk,
    load_pool,
    phantom_pool,
    read_teaching,
    run_stage,
    without,
)
from .text_encoder import cut

Say = Callable[[str], None]

STEPS = 4200
IMAGE_SIZE = 256
LR = 1e-3
"""The schedule of the shipped weights."""


def train(
    data: Sequence[Path],
    out: Path,
    *,
    splits: Path,
    seed: int = 0,
    steps: int | None = None,
    minutes: float = 0.0,
    batch: int = 8,
    image_size: int | None = None,
    phantoms: int = 300,
    organs: int = 300,
    leave_out: Sequence[str] = (),
    resume: bool = False,
    study: bool = False,
    say: Say = print,
) -> Path:
    """Train the embedded `nano` detector and return its folder, ``out``/nano-grounder.

    Args:
        data: data set folders in the protocol's layout; only training sides of ``splits`` are used.
        out: folder for the checkpoint, ``log.jsonl`` and the finished model.
        splits: the split file in the repository.
        seed: of the order, the phantoms and all that bends images.
        steps: optimiser steps of ``batch`` images each; None takes ``STEPS``.
        minutes: stop after this long instead, 0 for no limit.
        image_size: side in pixels of the network's square; None takes ``IMAGE_SIZE``.
        phantoms: number of phantoms in the pool.
        organs: number of phantoms of organs and lines without data (``phantoms.organs``).
        leave_out: targets whose images, phantoms too, are not learned from and which are not asked
            for in others: to measure afterwards what tuning on a new organ brings.
        resume: go on from the checkpoint in ``out``.
        study: the weights never ship, so data sets of any licence teach (``read_teaching``).
    """
    datasets = read_teaching(data, study)
    target = out / "nano-grounder"
    if not (target / "text.safetensors").exists():
        cut(target)
    encoder = load_sentence_encoder(target)
    split = read_splits(splits)
    never = [concept_of(phrase) for phrase in leave_out]
    pool = load_pool(datasets, split, "train") + phantom_pool(phantoms, seed + 1, organs)
    pool = without(pool, never)
    held_out = load_pool(datasets, split, "val")
    say(f"{len(pool)} training images, {len(held_out)} for validation")
    torch.manual_seed(seed)  # what starts at random
    net = PhraseNet(image_size or IMAGE_SIZE)
    imagenet_trunk(net.trunk)
    net.to(memory_format=torch.channels_last)
    shown = {concept_of(phrase) for image in pool for phrase in image.phrases.values()}
    taught = (*CONCEPTS, *(concept for concept in NEW_CONCEPTS if concept in shown))
    absent = partial(draw_absent, taught=taught)
    task = NanoTask(net, encoder, Questioner(pool, net.image_size, batch, never, absent))
    settings = TrainerSettings(
        steps or STEPS, LR, minutes=minutes, ema=EMA, check_every=500, seed=seed
    )
    run_stage(
        "grounder", task, settings, out, lambda: validate(net, task.vectors, held_out), resume, say
    )
    concepts = {concept_of(d.phrase(label)) for d in datasets for label in d.labels}
    concepts |= shown & set(NEW_CONCEPTS)
    concepts -= set(never)
    known = knowledge(encoder, sorted(concepts, key=lambda concept: concept.name))
    save_nano_detector(NanoDetector(net, encoder, "training", known), target)
    say(f"wrote {target.name}: {json.dumps(validate(net, task.vectors, held_out))}")
    return target


@torch.inference_mode()
def knowledge(encoder: SentenceEncoder, concepts: Sequence[Concept]) -> Knowledge:
    """Vectors of all phrasings of ``concepts`` (and cysts, from phantoms) and of what is absent."""
    asked = (*concepts, concept_of("cyst"))
    kinds = [phrase for concept in asked for _, some in concept.kinds for phrase in some]
    learned = [phrase for concept in asked for phrase in (concept.name, *concept.phrases)] + kinds
    names = tuple(concept.name for concept in concepts)
    words = words_of(all_phrases(asked))
    return Knowledge(names, encoder(learned), encoder(list(absent_phrases(asked))), words)


@torch.inference_mode()
def validate(
    net: PhraseNet, vectors: PhraseVectors, pool: Sequence[PoolImage], limit: int = 40
) -> dict[str, float]:
    """Dice of the dense mask (empty where the presence logit is negative) by data set.

    ``held-out/NAME`` asks with phrasings that training never saw; ``absent`` is the fraction of
    foreign phrases that are answered with "not there", ``absent-new`` the same for phrases that
    training never saw either.
    """
    was_training = net.training
    net.eval()
    sums: dict[str, list[float]] = {}
    seen: dict[str, int] = {}
    for index, sample in enumerate(pool):
        seen[sample.dataset] = seen.get(sample.dataset, 0) + 1
        if seen[sample.dataset] > limit:
            continue
        pyramid = net.encode(to_pixels(sample.image, net.image_size))
        asked: list[tuple[str, str, np.ndarray | None]] = []
        for label, phrase in sample.phrases.items():
            mask = sample.labels == label
            name = "empty/" if not mask.any() else ""
            asked.append((name + sample.dataset, phrase, mask))
            unseen = concept_of(phrase).held_out
            if unseen and mask.any():
                other = unseen[index % len(unseen)]
                asked.append((f"held-out/{sample.dataset}", other, mask))
        wrong = "fetal head" if sample.dataset != "hc18" else "breast tumor"
        asked.append(("absent", wrong, None))
        asked.append(("absent-new", HELD_OUT_ABSENT[index % len(HELD_OUT_ABSENT)], None))
        logits, presence = net.ask(
            [level.expand(len(asked), -1, -1, -1) for level in pyramid],
            vectors([phrase for _, phrase, _ in asked]),
        )
        for (name, _, mask), logit, there in zip(asked, logits, presence, strict=True):
            sums.setdefault(name, []).append(_score(logit, bool(there > 0), mask))
    net.train(was_training)
    return {name: round(float(np.mean(values)), 4) for name, values in sorted(sums.items())}


def _score(logit: Tensor, there: bool, mask: np.ndarray | None) -> float:
    found = there and bool((logit > 0).any())
    if mask is None or not mask.any():
        return float(not found)
    if not found:
        return 0.0
    whole = F.interpolate(logit[None, None], mask.shape, mode="bilinear")
    iou = float(soft_iou(whole, torch.from_numpy(mask)[None, None].float())[0, 0])
    return 2 * iou / (1 + iou)
