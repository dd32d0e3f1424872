"""State dicts of the published prompt predictor network (Sam2Rad's ``HighResPPN``)."""

from __future__ import annotations

from collections.abc import Mapping

from sam2.modeling.sam.prompt_encoder import PromptEncoder
from torch import Tensor

from ...core.errors import CheckpointError
from .network import PpnShape, PromptPredictor

PROMPT_ENCODER = "prompt_encoder."
"""What the names of the prompt encoder's tensors begin with, which is saved with the network."""


def shape_of(state: Mapping[str, Tensor], num_heads: int = 8) -> PpnShape:
    """Read a network's sizes from its state dict.

    Raises:
        CheckpointError: it is not the state dict of a prompt predictor.
    """
    try:
        levels = 1 + max(_numbers(state, "layers."))
        wide = int(state["layers.0.self_attn.q_proj.weight"].shape[1])
        narrow = int(state["layers.0.cross_attn_token_to_image.q_proj.weight"].shape[0])
        adapters = [state.get(f"channel_adapters.{level}.weight") for level in range(levels)]
        first_box = state["box_regression_head.mlp.layers.0.weight"]
        return PpnShape(
            channels=tuple(wide if w is None else int(w.shape[1]) for w in adapters),
            embed_dim=wide,
            mlp_dim=int(state["layers.0.mlp.layers.0.weight"].shape[0]),
            downsample=wide // narrow,
            mask_hidden=int(state["mask_classifier.final_conv.weight"].shape[1]),
            mask_layers=1 + max(_numbers(state, "mask_classifier.layers.")),
            box_hidden=int(first_box.shape[0]),
            box_layers=1 + max(_numbers(state, "box_regression_head.mlp.layers.")),
            num_heads=num_heads,
        )
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"not the state dict of a prompt predictor ({type(error).__name__}: {error}); "
            "expected the tensors of Sam2Rad's HighResPPN"
        ) from error


def load_published(
    state: Mapping[str, Tensor], image_size: int, num_heads: int = 8
) -> tuple[PromptPredictor, PromptEncoder]:
    """The network, and the prompt encoder that is saved with it, of a published state dict.

    Args:
        state: tensors by name, the prompt encoder's as ``prompt_encoder.*``.
        image_size: side in pixels of the square that the encoder saw; SAM's stride is 16.
        num_heads: of the attentions: the one size that tensors do not tell.

    Raises:
        CheckpointError: the tensors do not fit.
    """
    inner = {n: t for n, t in state.items() if not n.startswith(PROMPT_ENCODER)}
    outer = {
        n.removeprefix(PROMPT_ENCODER): t for n, t in state.items() if n.startswith(PROMPT_ENCODER)
    }
    predictor = PromptPredictor(shape_of(inner, num_heads))
    try:
        last_conv = outer["mask_downscaling.6.weight"]
        encoder = PromptEncoder(
            embed_dim=int(last_conv.shape[0]),
            image_embedding_size=(image_size // 16, image_size // 16),
            input_image_size=(image_size, image_size),
            mask_in_chans=int(last_conv.shape[1]),
        )
        predictor.load_state_dict(inner)
        encoder.load_state_dict(outer)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"the tensors do not fit a prompt predictor: {' '.join(str(error).split())[:300]}"
        ) from error
    return predictor.eval(), encoder.eval()


def _numbers(state: Mapping[str, Tensor], prefix: str) -> set[int]:
    return {int(name[len(prefix) :].split(".")[0]) for name in state if name.startswith(prefix)}
