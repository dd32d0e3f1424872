"""A small EdgeTAM of random weights, in transformers' own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIDE = 128
WIDTH = 128


def small_edgetam() -> Any:
    """An ``EdgeTamVideoModel`` that sees squares of ``SIDE`` pixels, and answers frames unalike."""
    from transformers import EdgeTamVideoConfig, EdgeTamVideoModel

    torch.manual_seed(0)
    grid = SIDE // 16
    config = EdgeTamVideoConfig(
        image_size=SIDE,
        vision_config={
            "model_type": "edgetam_vision_model",
            "backbone_config": {
                "model_type": "timm_wrapper",
                "architecture": "repvit_m1.dist_in1k",
                "num_classes": 1000,
                "model_args": {
                    "in_chans": 3,
                    "features_only": True,
                    "out_indices": [0, 1, 2, 3],
                },
            },
            "backbone_feature_sizes": [[4 * grid] * 2, [2 * grid] * 2, [grid] * 2],
            "fpn_hidden_size": WIDTH,
        },
        prompt_encoder_config={"hidden_size": WIDTH, "image_size": SIDE},
        mask_decoder_config={
            "hidden_size": WIDTH,
            "mlp_dim": 64,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": 48,
            "dynamic_multimask_via_stability": True,
        },
        memory_attention_hidden_size=WIDTH,
        memory_attention_mlp_hidden_size=64,
        memory_attention_rope_feat_sizes=[grid, grid],
        memory_attention_rope_k_sizes=[4, 4],
        memory_encoder_hidden_size=WIDTH,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=WIDTH,
        memory_fuser_embed_dim=WIDTH,
        memory_fuser_intermediate_dim=64,
        perceiver_resampler_hidden_size=64,
        perceiver_resampler_attention_head_dim=64,
        perceiver_resampler_mlp_intermediate_size=32,
        perceiver_resampler_num_latents=16,
        perceiver_resampler_num_latents_2d=16,
        num_maskmem=4,
        max_object_pointers_in_encoder=6,
    )
    model = EdgeTamVideoModel(config).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "backbone" in name:
                continue
            if tensor.ndim == 1:
                torch.nn.init.normal_(tensor, 0.0, 0.3)
            elif "shared" not in name:
                tensor.mul_(6)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(3.0)
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(
            model.shared_image_embedding.positional_embedding
        )
    return model


def write_edgetam(folder: Path) -> Path:
    """``small_edgetam`` as ``save_pretrained`` writes it."""
    small_edgetam().save_pretrained(folder)
    return folder
