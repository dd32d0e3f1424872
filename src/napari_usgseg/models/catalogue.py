"""The names of all models and where their files come from; light to import."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from . import checkpoints, hub

Kind = Literal["segmenter", "detector"]
Source = Literal["embedded", "hub", "path"]

OPENVINO = "@openvino"
"""End of a SAM 2.1's name, or of its file's, that asks for the encoder in OpenVINO."""

DINO_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json")
"""What a Grounding DINO needs beside its weights."""


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A model in the package; ``location`` is its file or folder under ``weights/``."""

    name: str
    kind: Kind
    location: str

    @property
    def path(self) -> Path:
        """The file or folder; it is there in every whole installation."""
        return checkpoints.weights_folder() / self.location


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the Hugging Face hub.

    Attributes:
        name: short name.
        kind: what it does.
        repo: "owner/name".
        weights: the file of its weights.
        megabytes: about what a download takes.
        others: further files without which it cannot be loaded.
        licence: of the weights, as the repository states it.
    """

    name: str
    kind: Kind
    repo: str
    weights: str
    megabytes: int
    others: tuple[str, ...] = ()
    licence: str = "Apache-2.0"

    @property
    def files(self) -> tuple[str, ...]:
        """All files that have to be there."""
        return (self.weights, *self.others)

    def cached(self) -> Path | None:
        """The cached weights file, where all of the model's files are cached."""
        folder = hub.cached_folder(self.repo, self.files)
        return None if folder is None else folder / self.weights

    def fetch(self) -> Path:
        """The weights file on this machine, downloaded with the others where one is missing.

        Raises:
            ModelNotFoundError: not all are cached, and they cannot be had.
        """
        if not self.others:
            return hub.fetch_file(self.name, self.repo, self.weights)
        patterns = (self.weights, "*.json", "vocab.txt")
        folder = hub.fetch_folder(self.name, self.repo, self.files, patterns)
        return folder / self.weights


EMBEDDED = (
    EmbeddedModel("nano", "segmenter", checkpoints.NANO_FILE),
    EmbeddedModel("nano", "detector", "nano-grounder"),
    EmbeddedModel("nano-dino", "detector", "nano-dino"),
)

SAM2_HUB = {
    f"sam2.1-hiera-{size}": HubModel(
        f"sam2.1-hiera-{size}",
        "segmenter",
        f"facebook/sam2.1-hiera-{size}",
        f"sam2.1_hiera_{size.replace('-', '_')}.pt",
        megabytes,
    )
    for size, megabytes in (("tiny", 156), ("small", 184), ("base-plus", 324), ("large", 898))
}

SAM2_OPENVINO = tuple(
    replace(model, name=f"{model.name}{OPENVINO}")
    for model in SAM2_HUB.values()
    if find_spec("openvino") is not None
)
"""The same files run otherwise; offered where that can be."""

SAM1_HUB = {
    f"sam-vit-{size}": HubModel(
        f"sam-vit-{size}",
        "segmenter",
        f"facebook/sam-vit-{size}",
        "model.safetensors",
        megabytes,
        ("config.json",),
    )
    for size, megabytes in (("base", 375), ("large", 1250), ("huge", 2564))
} | {
    "medsam-vit-base": HubModel(
        "medsam-vit-base",
        "segmenter",
        "wanglab/medsam-vit-base",
        "model.safetensors",
        375,
        ("config.json",),
    )
}
"""SAM's first version, and MedSAM (arXiv 2304.12306): one that was tuned on medical images."""

DINO_HUB = {
    f"grounding-dino-{size}": HubModel(
        f"grounding-dino-{size}",
        "detector",
        f"IDEA-Research/grounding-dino-{size}",
        "model.safetensors",
        megabytes,
        DINO_FILES,
    )
    for size, megabytes in (("tiny", 690), ("base", 940))
}

CATALOGUE: tuple[EmbeddedModel | HubModel, ...] = (
    *EMBEDDED,
    *SAM2_HUB.values(),
    *SAM2_OPENVINO,
    *SAM1_HUB.values(),
    *DINO_HUB.values(),
)
