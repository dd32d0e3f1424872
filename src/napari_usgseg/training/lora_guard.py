"""What keeps the phrase grounder from forgetting: LoRA matrices that old phrases do not reach.

The layers of the preset "phrase" see nothing but the phrase (the presence head: the phrase beside
the image). Where the vectors of all learned phrases span a subspace, matrices A that are kept
orthogonal to it change nothing for those phrases, whatever B learns: B A x is 0 for each of them.
This is orthogonal weight modification (arXiv 1810.01256; gradient projection memory, arXiv
2103.09762) with the phrases, which are few and known, as the memory: no image of the old organs is
needed.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from ..models.phrase_net import PhraseNet

ENERGY = 1 - 1e-5
"""Share of the old vectors' energy that is kept from changes."""
BY_VECTOR = r"text\.0"
BY_CONDITION = r"(block(32|16|8|4)|context)\.film|query|presence\.0"
"""Layers that take the phrase's vector, or at their end what ``PhraseNet.text`` makes of it."""


class PhraseGuard:
    """Holds the LoRA matrices of a net where the given phrases have no part.

    Args:
        net: with its LoRA on, as it starts (B is 0).
        phrases: (N, 384) vectors of the phrases whose answers stay.
    """

    @torch.no_grad()
    def __init__(self, net: PhraseNet, phrases: Tensor) -> None:
        phrases = phrases.clone()
        free_vector, free_condition = _free(phrases), _free(net.text(phrases))
        self.held: list[tuple[Tensor, Tensor]] = []
        for name, layer in net.named_modules():
            if not hasattr(layer, "lora_A"):
                continue
            matrix = layer.lora_A["default"].weight
            if re.fullmatch(BY_VECTOR, name):
                self.held.append((matrix, free_vector))
            elif re.fullmatch(BY_CONDITION, name):
                wide = torch.zeros(matrix.shape[1], matrix.shape[1])
                wide[-len(free_condition) :, -len(free_condition) :] = free_condition
                self.held.append((matrix, wide))
        self.hold()

    @torch.no_grad()
    def hold(self) -> None:
        """Take out what a step of the optimiser has put where it may not be."""
        for matrix, free in self.held:
            matrix.copy_(matrix @ free)


def _free(vectors: Tensor) -> Tensor:
    """(N, D) vectors to the (D, D) projection onto what is orthogonal to (nearly) all of them."""
    _, sizes, directions = torch.linalg.svd(vectors, full_matrices=False)
    energy = (sizes**2).cumsum(0) / (sizes**2).sum()
    basis = directions[: int((energy < ENERGY).sum()) + 1]
    return torch.eye(vectors.shape[1]) - basis.T @ basis
