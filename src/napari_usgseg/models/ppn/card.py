"""The card of a trained prompt predictor, and its interface; light to import.

<folder>/ppn.json          the card
<folder>/ppn.safetensors   the weights
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from ...core.errors import CheckpointError, ModelNotFoundError
from ...core.types import ImageEmbedding, Prediction
from ...io.atomic import write_atomically
from ..interfaces import Segmenter

Way = Literal["plain", "beside", "joined", "blended", "cut", "kept"]
"""How a person's prompts and the learned ones make an answer together; see ``PpnModel.refine``."""
WAYS: dict[str, tuple[Way, ...]] = {
    "box": ("plain", "beside", "joined", "blended", "cut"),
    "click": ("plain", "joined", "blended"),
    "fix by click": ("plain", "joined", "kept"),
    "fix by scribble": ("plain", "joined", "kept"),
}
"""The ways that can answer each kind of prompt; "fix" is of a mask that is there already."""
CLEARLY = 0.01
"""Dice by which a way must be better than the segmenter alone."""
CARD_FILE = "ppn.json"
WEIGHTS_FILE = "ppn.safetensors"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class PpnCard:
    """A trained prompt predictor.

    Attributes:
        classes: label value -> name, in the order of the queries.
        segmenter: ``model_id`` (name and content hash) of the segmenter that it was trained on.
        shape: sizes of the network (``ppn.PpnShape``), and "tokens".
        source: name of the data set or project.
        images: ids of the training images.
        seed: of the training.
        training: how it was trained (steps, learning rate, ...).
        scores: what was measured ("dice", "held_out_images", ..., and "ways": Dice by label value,
            kind of prompt and way, on images that were not learnt from).
        lora_rank: of the LoRA on the mask decoder; 0 where all of SAM stayed frozen.
        weights_sha256: of ``ppn.safetensors``.
    """

    classes: dict[int, str]
    segmenter: str
    shape: dict[str, Any]
    source: str = ""
    images: tuple[str, ...] = ()
    seed: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    lora_rank: int = 0
    weights_sha256: str = ""

    @property
    def ppn_id(self) -> str:
        """Short name of these very weights."""
        return f"ppn-{self.weights_sha256[:8]}"

    def way(self, class_id: int, kind: str) -> Way | None:
        """The way that answered a kind of prompt best for a class; None where none was measured."""
        return best_way(self.scores.get("ways", {}).get(str(class_id), {}).get(kind, {}), kind)

    def value_of(self, name: str) -> int | None:
        """The label value of a class by its name, or None."""
        names = {known.casefold(): value for value, known in self.classes.items()}
        return names.get(name.casefold())


def best_way(dice: Mapping[str, float], kind: str) -> Way | None:
    """The way with the best Dice by way; the segmenter alone where none is clearly better.

    Measured on a few images, a small lead is chance, and on other images as often a loss.
    """
    known = [way for way in WAYS[kind] if way in dice]
    if not known:
        return None
    best = max(known, key=lambda way: float(dice[way]))
    alone = dice.get("plain")
    return "plain" if alone is not None and dice[best] < alone + CLEARLY else best


class AutoSegmenter(Protocol):
    """Masks of learned classes without a prompt: a trained prompt predictor on its segmenter."""

    @property
    def model_id(self) -> str:
        """Name and content hash of segmenter and prompt predictor."""
        ...

    @property
    def card(self) -> PpnCard:
        """What is known of it: classes, training images, scores."""
        ...

    def predict(self, embedding: ImageEmbedding) -> dict[int, Prediction]:
        """Label value -> prediction; one with ``object_score`` below 0 is not in the image.

        Raises:
            ModelError: the embedding is another model's.
        """
        ...

    def for_class(self, class_id: int) -> Segmenter:
        """A segmenter whose prompts refine what was learned of one class.

        Raises:
            ModelError: there is no such class.
        """
        ...


def write_card(folder: Path, card: PpnCard) -> None:
    """Write ``ppn.json``, replacing an earlier one.

    Raises:
        LabelWriteError: it cannot be written.
    """
    entry = {"schema": SCHEMA, "kind": "sam2rad-ppn", **asdict(card)}
    entry["classes"] = [{"value": value, "name": name} for value, name in card.classes.items()]
    name, _, digest = card.segmenter.rpartition("-")
    entry["segmenter"] = {"id": card.segmenter, "name": name, "hash": digest}
    text = json.dumps(entry, indent=1) + "\n"
    write_atomically(folder / CARD_FILE, text.encode(), overwrite=True)


def read_card(folder: str | Path) -> PpnCard:
    """Read ``ppn.json``.

    Raises:
        ModelNotFoundError: there is none.
        CheckpointError: it is damaged or of another kind.
    """
    path = Path(folder) / CARD_FILE
    if not path.is_file():
        raise ModelNotFoundError(
            f"{path}: no prompt predictor here; `usgseg train ppn DATASET --out DIR` makes one"
        )
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        if entry["schema"] != SCHEMA or entry["kind"] != "sam2rad-ppn":
            raise ValueError(f"schema {entry['schema']} of {entry['kind']!r}")
        return PpnCard(
            classes={int(c["value"]): str(c["name"]) for c in entry["classes"]},
            segmenter=str(entry["segmenter"]["id"]),
            shape=dict(entry["shape"]),
            source=str(entry["source"]),
            images=tuple(map(str, entry["images"])),
            seed=int(entry["seed"]),
            training=dict(entry["training"]),
            scores=dict(entry["scores"]),
            lora_rank=int(entry["lora_rank"]),
            weights_sha256=str(entry["weights_sha256"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not a prompt predictor's card ({type(error).__name__}: {error}); train again"
        ) from error
