"""Detectors under tuning, of both kinds: the LoRA around their network, and the task it learns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.errors import ModelError
from ...models.grounding.grounding_dino import GroundingDino
from ...models.grounding.nano_detector import SAME_PHRASE, NanoDetector, PhraseNet
from ...models.interfaces import Detector
from ...models.lora.adapter import DINO_PRESETS, GUARDED, NANO_PRESETS, add_adapter, find_preset
from ...models.registry import load_detector, resolve_device
from ..trainer import Task
from .data import TuningData, UnrelatedPhrases, strange_images
from .dino_task import DinoTask
from .grounder_task import GroundingTask
from .questions import Questioner

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


DENSE, DINO = (1e-3, 8, 240), (5e-4, 4, 240)
"""Peak learning rate, images in a step, and steps for a hundred images."""


class AdapterTask(Task):
    """A detector's own task, of which only the LoRA matrices are trained."""

    def __init__(self, task: Task, guard: PhraseGuard | None = None) -> None:
        self.model = task.model
        self._task, self._guard = task, guard

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The detector's."""
        return self._task.loss(step, rng)

    def after_step(self) -> None:
        """Hold the matrices where the guarded phrases have no part."""
        if self._guard is not None:
            self._guard.hold()


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """A detector under training.

    Attributes:
        detector: itself; what it finds changes with every step.
        tuned: PEFT's model around its network.
        task: what a step costs.
    """

    detector: Detector
    tuned: Any
    task: Task


class TunableDetector:
    """A detector that LoRA can be put on; what differs between the two kinds is here.

    Args:
        name: of a detector, or its folder.
        device: "cpu", "cuda", ...

    Raises:
        ModelError: an adapter is tuned no further, or the detector cannot be loaded.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        folder = Path(name)
        self.base = str(folder.resolve()) if folder.is_dir() else name
        self.detector = load_detector(name, device=device)
        self.base_id = self.detector.model_id
        if "+" in self.base_id:
            raise ModelError(f"{name} is an adapter: merge it first (usgseg models merge-lora)")
        self.is_dense = isinstance(self.detector, NanoDetector)
        self.lr, self.batch, self.steps = DENSE if self.is_dense else DINO

    def on_cpu(self, device: str) -> bool:
        """Whether it is tuned on the CPU; the `nano` detector always is."""
        return self.is_dense or resolve_device(device) == "cpu"

    @property
    def image_size(self) -> int:
        """Side in pixels of the square that is trained on.

        A Grounding DINO that keeps an image's aspect sees squares as long as its shortest edge;
        augmentation stretches by more than the difference.
        """
        if isinstance(self.detector, NanoDetector):
            return self.detector.net.image_size
        size = self._dino.image_processor.size
        shortest = size.shortest_edge if size.shortest_edge else size.height
        return int(shortest) // 32 * 32

    @property
    def box_threshold(self) -> float:
        """The least score of a box that it goes by itself."""
        found = self.detector
        return found.box_threshold if isinstance(found, NanoDetector) else self._dino.box_threshold

    @property
    def _dino(self) -> GroundingDino:
        assert isinstance(self.detector, GroundingDino)
        return self.detector

    def check_preset(self, preset: str) -> None:
        """Raise ModelError where this kind of detector has no such preset."""
        find_preset(preset, NANO_PRESETS if self.is_dense else DINO_PRESETS)

    def prepare(
        self,
        data: TuningData,
        absent: UnrelatedPhrases,
        *,
        preset: str,
        rank: int,
        alpha: float,
        batch: int,
        image_size: int,
        seed: int,
    ) -> Tuning:
        """Put LoRA on, teach the phrases, and make the task."""
        guard: PhraseGuard | None = None
        pool = [*data.training, *strange_images(data, absent, seed)]
        questioner = Questioner(pool, image_size, batch, absent=absent)
        presets = NANO_PRESETS if self.is_dense else DINO_PRESETS
        chosen = find_preset(preset, presets)
        if isinstance(self.detector, NanoDetector):
            found = self.detector
            learned = found.known.learned
            found.known = found.known.taught(data.targets, data.phrases, found.encoder)
            tuned = add_adapter(found.net, chosen, rank, alpha, self.base)
            task: Task = GroundingTask(found.net, found.encoder, questioner)
            if preset == GUARDED:
                others = _others(learned, found.encoder(list(data.phrases)))
                guard = PhraseGuard(found.net, others)
        else:
            dino = self._dino
            tuned = add_adapter(dino.model, chosen, rank, alpha, self.base)
            task = DinoTask(dino.model, dino.tokenizer, questioner)
        tuned.eval()
        return Tuning(self.detector, tuned, AdapterTask(task, guard))


def _others(learned: Tensor, new: Tensor) -> Tensor:
    """The vectors of ``learned`` that mean none of the ``new`` phrases: those may change."""
    return learned[(learned @ new.T).amax(1) < SAME_PHRASE]
