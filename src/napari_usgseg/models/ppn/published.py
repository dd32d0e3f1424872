"""Prompt predictors of Sam2Rad's own code (its ``HighResPPN``), made into a folder of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...core.errors import CheckpointError, ModelError
from ...core.notes import remark
from ...io.outputs import check_model_folder
from ..checkpoints import read_tensors
from ..interfaces import Segmenter
from .card import PpnCard
from .model import FrozenDecoder, sam_net, save_ppn, shape_for
from .network import BOX_TOKENS, ClassPrompter, PpnShape, PromptPredictor

ANCHOR = "box_regression_head.mlp.layers.0.weight"
"""A tensor that only the prompt predictor has: what stands before it names the network."""

PROMPT_ENCODER = "prompt_encoder."
"""What the names of the prompt encoder's tensors begin with, which is saved with the network."""


def import_published(
    path: str | Path,
    out: str | Path,
    segmenter: Segmenter,
    classes: Sequence[str] = (),
    dataset: str | None = None,
) -> PpnCard:
    """Make a prompt predictor's folder of a checkpoint of Sam2Rad (arXiv 2409.06821).

    Only prompt predictor and class queries are taken. Where the file shows that its SAM was not
    ``segmenter`` as it is (another prompt encoder, adapters in the image encoder, a tuned mask
    decoder), that is said of the file (``core.notes``) and kept in the card's ``training``, for the
    masks may be poor.

    Args:
        path: a checkpoint of Sam2Rad's training, or a file with the same tensors (``.safetensors``,
            or PyTorch's, read without running code).
        out: a new folder, or an empty one.
        segmenter: the SAM or SAM 2 that it was trained on.
        classes: a name for each of its classes, in order; their label values are 1, 2, ...
        dataset: whose queries to take, where the file holds those of several data sets.

    Returns:
        The card of the new folder.

    Raises:
        LabelWriteError: ``out`` holds something, or cannot be written.
        ModelNotFoundError: there is no such file.
        CheckpointError: it is damaged, holds no prompt predictor, or its sizes are not those of
            ``segmenter``.
        ModelError: ``segmenter`` is not of SAM's kind; ``classes`` or ``dataset`` do not match.
    """
    path, out = Path(path), Path(out)
    check_model_folder(out)
    tensors = read_tensors(path, "state_dict", "model")
    prefix = _prefix(path, tensors)
    network = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    predictor, encoder = load_published(network)
    shape = predictor.shape
    dataset, queries = _queries(path, tensors, shape.embed_dim, dataset)
    names = tuple(classes) or tuple(f"class {number + 1}" for number in range(len(queries)))
    if len(names) != len(queries):
        raise ModelError(f"{path}: has {len(queries)} classes, {len(names)} names were given")
    ours = shape_for(segmenter, len(shape.channels))
    if (shape.embed_dim, shape.channels) != (ours.embed_dim, ours.channels):
        raise CheckpointError(
            f"{path}: is for prompts of {shape.embed_dim} and features of {shape.channels} "
            f"channels, {segmenter.model_id} has {ours.embed_dim} and {ours.channels}: choose the "
            "model that it was trained on"
        )
    changed = _changes(segmenter, encoder, [n for n in tensors if not n.startswith(prefix)])
    if changed:
        remark(
            path,
            f"was not trained on {segmenter.model_id} as it is ({', '.join(changed)}), so its "
            "masks may be poor: measure it with usgseg evaluate --prompt ppn",
        )
    prompter = ClassPrompter(shape, *queries.shape[:2])
    prompter.predictor.load_state_dict(predictor.state_dict())
    with torch.no_grad():
        prompter.queries.copy_(queries)
    card = PpnCard(
        dict(enumerate(names, 1)),
        segmenter.model_id,
        shape={},
        source=dataset,
        training={"imported": path.name, "changed": changed},
    )
    return save_ppn(out, prompter, card, FrozenDecoder(segmenter))


def load_published(
    state: Mapping[str, Tensor], num_heads: int = 8
) -> tuple[PromptPredictor, dict[str, Tensor]]:
    """The network of a published state dict, and its prompt encoder's tensors by name.

    Args:
        state: tensors by name, the prompt encoder's as ``prompt_encoder.*``.
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
        predictor.load_state_dict(inner)
    except RuntimeError as error:
        raise CheckpointError(
            f"the tensors do not fit a prompt predictor: {' '.join(str(error).split())[:300]}"
        ) from error
    return predictor.eval(), outer


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
        first_box = state[ANCHOR]
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


def _numbers(state: Mapping[str, Tensor], prefix: str) -> set[int]:
    return {int(name[len(prefix) :].split(".")[0]) for name in state if name.startswith(prefix)}


def _prefix(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """What stands before the names of the network's tensors ("model.prompt_sampler....")."""
    found = [name.removesuffix(ANCHOR) for name in tensors if name.endswith(ANCHOR)]
    if not found:
        raise CheckpointError(
            f"{path}: no prompt predictor in it; expected a checkpoint of Sam2Rad with the tensors "
            "of its HighResPPN"
        )
    return found[0]


def _queries(
    path: Path, tensors: Mapping[str, Tensor], wide: int, dataset: str | None
) -> tuple[str, Tensor]:
    """A data set's name, and (K, N, C) the learned tokens of its K classes."""
    found = {
        name.rpartition(".")[2]: tensor
        for name, tensor in tensors.items()
        if "learnable_prompts." in name or name.endswith("queries")
    }
    if dataset is None and len(found) == 1:
        (dataset,) = found
    if not found:
        raise CheckpointError(
            f"{path}: no class queries in it; expected Sam2Rad's learnable_prompts beside the "
            "prompt predictor"
        )
    if dataset not in found:
        raise ModelError(f"{path}: holds queries of {', '.join(found)}: choose one data set")
    queries = found[dataset]
    if queries.ndim != 3 or queries.shape[1] < BOX_TOKENS or queries.shape[2] != wide:
        raise CheckpointError(
            f"{path}: queries of shape {tuple(queries.shape)}; expected (classes, tokens, {wide}) "
            f"with {BOX_TOKENS} tokens at least"
        )
    return dataset, queries


def _changes(
    segmenter: Segmenter, encoder: Mapping[str, Tensor], others: Sequence[str]
) -> list[str]:
    """In which ways the SAM of a checkpoint was not ``segmenter``, as far as its tensors tell."""
    ours = sam_net(segmenter).prompt_encoder.state_dict()
    same = encoder.keys() == ours.keys() and all(
        tensor.shape == ours[name].shape
        # To half precision's rounding: published files and ours may have been saved in it.
        and torch.allclose(tensor.float(), ours[name].float().cpu(), atol=1e-3)
        for name, tensor in encoder.items()
    )
    changes = [] if same else ["another prompt encoder"]
    if any("image_encoder" in name and "adapter" in name.lower() for name in others):
        changes.append("adapters in the image encoder")
    if any(name.endswith((".w_a.weight", ".w_b.weight")) for name in others):
        changes.append("LoRA in the mask decoder")
    return changes
