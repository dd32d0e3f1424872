"""State dicts of the published implementation in other sizes: every size is read from the tensors.

The published network is written down here once more, from its description and apart from our
module, so that names, order and arithmetic of both are compared and not one with itself.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from sam2.modeling.sam.transformer import TwoWayAttentionBlock
from torch import Tensor, nn

from napari_usgseg.core.errors import CheckpointError
from napari_usgseg.models.ppn.network import PpnShape
from napari_usgseg.models.ppn.published import load_published, shape_of


class Head(nn.Module):
    """Linear layers under ``layers``, rectified but for the last."""

    def __init__(self, wide: int, hidden: int, count: int) -> None:
        super().__init__()
        sizes = [wide, *[hidden] * (count - 1), 4]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class Box(nn.Module):
    def __init__(self, shape: PpnShape) -> None:
        super().__init__()
        self.mlp = Head(2 * shape.embed_dim, shape.box_hidden, shape.box_layers)


class Mask(nn.Module):
    def __init__(self, shape: PpnShape) -> None:
        super().__init__()
        first = nn.Conv2d(shape.embed_dim, shape.mask_hidden, 3, padding=1)
        more = (
            nn.Conv2d(shape.mask_hidden, shape.mask_hidden, 3, padding=1)
            for _ in range(shape.mask_layers - 1)
        )
        self.layers = nn.ModuleList([first, *more])
        self.final_conv = nn.Conv2d(shape.mask_hidden, 1, 1)


class Ordinal(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        step = torch.arange(0, channels, 2).float() / channels
        self.register_buffer("inv_freq", 1.0 / 10000**step)


class Reference(nn.Module):
    """Coarse to fine; each level adds the enlarged tokens of the one before."""

    def __init__(self, shape: PpnShape, encoder: PromptEncoder) -> None:
        super().__init__()
        wide = shape.embed_dim
        self.prompt_encoder = encoder
        self.pos_encoding2d = PositionEmbeddingSine(wide, warmup_cache=False)
        self.pos_encoding1d = Ordinal(wide)
        self.box_regression_head = Box(shape)
        self.mask_classifier = Mask(shape)
        self.channel_adapters = nn.ModuleList(
            nn.Identity() if c == wide else nn.Conv2d(c, wide, 1) for c in shape.channels
        )
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(
                wide, shape.num_heads, shape.mlp_dim,
                attention_downsample_rate=shape.downsample, skip_first_layer_pe=number == 0,
            )
            for number in range(len(shape.channels))
        )  # fmt: skip

    def forward(self, features: list[Tensor], queries: Tensor) -> dict[str, Tensor]:
        count, wide = queries.shape[1:]
        pe = torch.zeros(count, wide)
        for place in range(count):
            for pair in range(wide // 2):
                angle = place / math.pow(10000, 2 * pair / wide)
                pe[place, 2 * pair : 2 * pair + 2] = torch.tensor(
                    [math.sin(angle), math.cos(angle)]
                )
        side = features[-1].shape[-1]
        dense = self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        dense = dense.expand(len(queries), -1, side, side)
        for level, adapt, block in zip(
            features[::-1], self.channel_adapters, self.layers, strict=True
        ):
            image = adapt(level)
            dense = F.interpolate(dense, image.shape[-2:])
            tokens = (image + dense).flatten(2).permute(0, 2, 1)
            places = self.pos_encoding2d(image).flatten(2).permute(0, 2, 1)
            queries, tokens = block(queries, tokens, pe, places)
            dense = tokens.permute(0, 2, 1).reshape(image.shape)
        mask = dense
        for layer in self.mask_classifier.layers:
            mask = F.relu(layer(mask))
        mask = self.mask_classifier.final_conv(mask)
        mask = F.interpolate(mask, (4 * side, 4 * side), mode="bilinear", align_corners=False)
        numbers = self.box_regression_head.mlp(queries[:, :2].flatten(1)).sigmoid()
        boxes = torch.cat((numbers[:, :2], numbers[:, :2] + numbers[:, 2:]), 1)
        pixels = boxes * self.prompt_encoder.input_image_size[0]
        corners, dense = self.prompt_encoder(None, pixels, mask)
        sparse = torch.cat((corners, queries[:, 2:]), 1)
        return {"sparse": sparse, "dense": dense, "mask_logits": mask, "boxes": boxes}


CASES = {
    "one level, two tokens more than the box": (PpnShape((256,), mlp_dim=96), 1, 4, 16, 128),
    "SAM 2's three levels, twelve tokens, five classes": (
        PpnShape((256, 64, 32), mlp_dim=128), 5, 12, 16, 96,
    ),
    "narrow, four levels, three convolutions, a deep box head": (
        PpnShape(
            (64, 48, 24, 8), embed_dim=64, mlp_dim=40, downsample=4, mask_hidden=12, mask_layers=3,
            box_hidden=20, box_layers=4, num_heads=4,
        ), 3, 7, 8, 64,
    ),
    "without an adapter at two levels": (
        PpnShape((32, 32), embed_dim=32, mlp_dim=24, downsample=1, mask_layers=1), 2, 2, 4, 160,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_other_sizes_load_from_their_tensors_and_answer_alike(case):
    shape, classes, tokens, mask_channels, image_size = CASES[case]
    torch.manual_seed(len(case))
    grid = image_size // 16
    encoder = PromptEncoder(shape.embed_dim, (grid, grid), (image_size, image_size), mask_channels)
    reference = Reference(shape, encoder).eval()
    features = [
        torch.randn(classes, channels, grid * 2**level, grid * 2**level)
        for level, channels in enumerate(shape.channels)
    ][::-1]
    queries = torch.randn(classes, tokens, shape.embed_dim)
    state = reference.state_dict()
    inner = {n: t for n, t in state.items() if not n.startswith("prompt_encoder.")}
    assert shape_of(inner, shape.num_heads) == shape
    predictor, tensors = load_published(state, shape.num_heads)
    ours = PromptEncoder(shape.embed_dim, (grid, grid), (image_size, image_size), mask_channels)
    ours.load_state_dict(tensors)
    with torch.inference_mode():
        expected = reference(features, queries)
        learned = predictor(ours, features, queries)
    for name, tensor in expected.items():
        torch.testing.assert_close(getattr(learned, name), tensor, atol=1e-4, rtol=0)
    assert learned.tokens.shape == (classes, tokens - 2, shape.embed_dim)


def test_a_tensor_too_few_or_of_another_size_is_an_error_that_names_it():
    shape = PpnShape((32, 16), embed_dim=32, mlp_dim=24, downsample=1)
    state = Reference(shape, PromptEncoder(32, (4, 4), (64, 64), 8)).state_dict()
    fewer = {n: t for n, t in state.items() if n != "layers.1.norm1.weight"}
    with pytest.raises(CheckpointError, match=r"layers\.1\.norm1\.weight"):
        load_published(fewer)
    other = {**state, "channel_adapters.1.bias": torch.zeros(5)}
    with pytest.raises(CheckpointError, match=r"channel_adapters\.1\.bias"):
        load_published(other)
