"""A small random Grounding DINO in the real format on disk, and a LoRA adapter of it."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
import torch

WORDS = ("kidney", "renal", "medulla", "breast", "tumor", "nod", "##ule", "##s")


def bert_vocabulary() -> dict[str, int]:
    """BERT's layout, with the ids that transformers' Grounding DINO has in its code."""
    fixed = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
    fixed |= {".": 1012, "?": 1029}
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    fixed |= {piece: 200 + index for index, piece in enumerate((*letters, *WORDS))}
    taken = set(fixed.values())
    unused = {f"[unused{index}]": index for index in range(1100) if index not in taken}
    return dict(sorted((fixed | unused).items(), key=lambda item: item[1]))


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory) -> Path:
    """Random weights, written by transformers itself as a published checkpoint is."""
    from transformers import (
        BertConfig,
        BertTokenizerFast,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 2, 4],
            window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=1100,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        ),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=12,
        max_text_len=32,
    )
    model = GroundingDinoForObjectDetection(config)
    for head in (*model.bbox_embed, model.model.encoder_output_bbox_embed):
        torch.nn.init.normal_(head.layers[-1].weight, std=0.5)  # starts at zero: no box would move
    folder = tmp_path_factory.mktemp("models") / "tiny-dino"
    model.save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 96}
    GroundingDinoImageProcessor(size=size).save_pretrained(folder)
    BertTokenizerFast(vocab=bert_vocabulary()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def lora_folder(dino_folder, tmp_path_factory) -> Path:
    """A random LoRA adapter of the model above, written by PEFT."""
    from peft import LoraConfig, get_peft_model
    from transformers import GroundingDinoForObjectDetection

    from napari_usgseg.models.lora.adapter import add_input_embeddings

    torch.manual_seed(1)
    model = GroundingDinoForObjectDetection.from_pretrained(dino_folder)
    add_input_embeddings(model)
    targets = ["query", "value", "text_projection", "out_vision_proj"]
    tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=16, target_modules=targets))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    folder = tmp_path_factory.mktemp("adapters") / "my-organ"
    tuned.save_pretrained(folder)
    return folder
