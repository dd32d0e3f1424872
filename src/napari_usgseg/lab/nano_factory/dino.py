"""Training of ``nano-dino``, a small Grounding DINO in transformers' own format."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ...io.datasets import read_splits
from ...learning.lora.data import PoolImage, Question, Questioner
from ...learning.lora.tasks import DinoTask, hits_of, truth_of
from ...learning.phrases import concept_of
from ...learning.trainer import TrainerSettings
from ...models.grounding.nano_detector import PhraseNet, load_sentence_encoder
from ...models.sam.nano import TRUNK
from ...models.sam.sam import to_pixels
from .materials import EMA, imagenet_trunk, load_pool, read_teaching, run_stage, without
from .text_encoder import cut

TEXT_LAYERS = 3
THRESHOLD = 0.3
"""Default least score of a box and of a token, chosen on the validation side."""
WIDTH = 128
QUERIES = 40

STEPS = 1280
IMAGE_SIZE = 256
LR = 5e-4
ALONE = 0.375
"""The first part of the steps asks for one phrase at a time."""
PRIOR = 4.0
"""Every score starts near the sigmoid of minus this: most cells show nothing of a phrase."""
SIZE_OFFSET = 1.5
"""In logits: proposals start at 0.2 to 0.5 of the image's side, not at 0.05 to 0.2."""
TEXT_SCALE, TEXT_OFFSET = 0.06, 0.5
"""Size of the text side's last norm at the start, and its share of the prior."""


def build_dino(text: dict[str, Any]) -> Any:
    """A ``GroundingDinoForObjectDetection`` of some six million parameters beside its text side.

    Class logits are an unscaled dot product of layer-normed vectors without a bias: from scratch,
    first losses are in the thousands. So the text's norm starts small, and both sides' with
    opposite biases that stand for the prior of focal losses (RetinaNet, arXiv 1708.02002, section
    3.3). The fusion of image and text starts at a tenth, not at the 1e-4 that fits a longer
    schedule. The trunk's norms are frozen by timm: transformers would put plain norms in their
    place and lose the activations and the epsilon that timm keeps in them.
    """
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        TimmBackboneConfig,
    )

    config = GroundingDinoConfig(
        backbone_config=TimmBackboneConfig(
            backbone=TRUNK,
            out_indices=[2, 3, 4],
            use_pretrained_backbone=False,
            freeze_batch_norm_2d=True,
        ),
        text_config=BertConfig(**text),
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=512,
        decoder_ffn_dim=512,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=QUERIES,
        num_feature_levels=3,
        max_text_len=64,
        auxiliary_loss=False,
        dropout=0.0,
        fusion_dropout=0.0,
        fusion_droppath=0.0,
        text_enhancer_dropout=0.0,
    )
    model = GroundingDinoForObjectDetection(config)
    core = model.model
    direction = F.normalize(torch.randn(WIDTH), dim=0)
    with torch.no_grad():
        text_norm = core.encoder.layers[-1].text_enhancer_layer.layer_norm_after
        text_norm.weight.fill_(TEXT_SCALE)
        text_norm.bias.copy_(-TEXT_OFFSET * direction)
        for norm in (core.enc_output_norm, core.decoder.layer_norm):
            norm.bias.copy_(PRIOR / TEXT_OFFSET * direction)
        core.encoder_output_bbox_embed.layers[-1].bias[2:] = SIZE_OFFSET
        for layer in core.encoder.layers:
            layer.fusion_layer.vision_param.fill_(0.1)
            layer.fusion_layer.text_param.fill_(0.1)
    return model


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
    trunk: Path | None = None,
    leave_out: Sequence[str] = (),
    resume: bool = False,
    study: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Train the small Grounding DINO and return its folder, ``out``/nano-dino.

    Args:
        data: data set folders in the protocol's layout; only training sides of ``splits`` are used.
        out: folder for the checkpoint, ``log.jsonl`` and the finished model.
        splits: the split file in the repository.
        seed: of the new weights, of the order and of all that bends images.
        steps: optimiser steps of ``batch`` images each; None takes ``STEPS``.
        minutes: stop after this long instead, 0 for no limit.
        image_size: side in pixels of the network's square; None takes ``IMAGE_SIZE``.
        trunk: ``grounder.safetensors`` of a trained `nano` detector to take the trunk from;
            ImageNet's where None.
        leave_out: targets that are neither learned from nor asked for; give a ``trunk`` that was
            trained without them too.
        resume: go on from the checkpoint in ``out``.
        study: the weights never ship, so data sets of any licence teach (``read_teaching``).
    """
    from transformers import BertTokenizerFast, GroundingDinoImageProcessor

    datasets = read_teaching(data, study)
    steps, side = steps or STEPS, image_size or IMAGE_SIZE
    text = out / "text"
    if not (text / "text.safetensors").exists():
        cut(text, TEXT_LAYERS)
    encoder = load_sentence_encoder(text)
    tokenizer = BertTokenizerFast(tokenizer_file=str(text / "tokenizer.json"))
    torch.manual_seed(seed)
    model = build_dino(json.loads((text / "text.json").read_text(encoding="utf-8")))
    model.model.text_backbone.load_state_dict(encoder.bert.state_dict(), strict=False)
    start_trunk(model, trunk)
    model.model.backbone.to(memory_format=torch.channels_last)
    split = read_splits(splits)
    never = [concept_of(phrase) for phrase in leave_out]
    pool, held_out = load_pool(datasets, split, "train"), load_pool(datasets, split, "val")
    pool = without(pool, never)
    say(f"{len(pool)} training images, {len(held_out)} for validation")
    task = DinoTask(model, tokenizer, Questioner(pool, side, batch, never), round(ALONE * steps))
    settings = TrainerSettings(
        steps, LR, warmup=200, clip_norm=2.0, minutes=minutes, ema=EMA, check_every=500, seed=seed
    )
    run_stage(
        "dino", task, settings, out, lambda: validate(model, tokenizer, held_out, side), resume, say
    )
    target = out / "nano-dino"
    model.config.box_threshold = model.config.text_threshold = THRESHOLD
    model.half().save_pretrained(target)
    tokenizer.save_pretrained(target)
    size = {"height": side, "width": side}
    GroundingDinoImageProcessor(size=size, do_pad=False).save_pretrained(target)
    say(f"wrote {target.name}")
    return target


def start_trunk(model: Any, source: Path | None) -> None:
    """Fill the backbone from a `nano` detector's trunk, or from ImageNet."""
    donor = PhraseNet()
    if source is None:
        imagenet_trunk(donor.trunk)
    else:
        state = {k: v.float() for k, v in load_file(source).items() if k.startswith("trunk.")}
        donor.load_state_dict({**donor.state_dict(), **state})
    given = donor.trunk.state_dict()
    backbone = model.model.backbone
    own = backbone.state_dict()
    taken = 0
    for name in own:
        match = max((k for k in given if name.endswith(f".{k}")), key=len, default=None)
        if match is not None and given[match].shape == own[name].shape:
            own[name] = given[match]
            taken += 1
    if taken < len(given) // 2:
        raise RuntimeError(f"only {taken} of {len(given)} trunk tensors found their place")
    backbone.load_state_dict(own)


@torch.inference_mode()
def validate(
    model: Any, tokenizer: Any, pool: Sequence[PoolImage], image_size: int, limit: int = 20
) -> dict[str, float]:
    """Hit rate by data set: the best-scored box for the target has IoU > 0.5 with an object."""
    model.eval()
    sums: dict[str, list[float]] = {}
    for sample in pool:
        if len(sums.get(sample.dataset, [])) >= limit:
            continue
        pixels = to_pixels(sample.image, image_size)
        for label, phrase in sample.phrases.items():
            mask = torch.from_numpy(sample.labels == label).float()
            mask = F.interpolate(mask[None, None], (image_size,) * 2, mode="area")[0, 0]
            truth = truth_of([Question(0, phrase, mask, True)], image_size)
            tokens = tokenizer([f"{phrase}."], return_tensors="pt")
            output = model(pixel_values=pixels, **tokens)
            hit = hits_of(output.logits[0], output.pred_boxes[0], tokens["input_ids"][0], truth)
            sums.setdefault(sample.dataset, []).extend(float(value) for value in hit)
    model.train()
    return {name: round(float(np.mean(values)), 4) for name, values in sorted(sums.items())}
