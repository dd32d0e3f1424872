"""A trained prompt predictor on its segmenter: masks without a prompt, or with a person's on top.

`PpnModel.for_class` is a `Segmenter` for one class, so whatever works with a person's prompts
works with learned ones beside them: nothing else needs to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CheckpointError, ModelError
from ..io.atomic import write_atomically
from ..types import ImageEmbedding, Prediction, Prompts
from .base import Segmenter
from .checkpoints import sha256_of
from .ppn import ClassPrompter, LearnedPrompts, PpnShape
from .ppn_card import WEIGHTS_FILE, PpnCard, read_card, write_card
from .ppn_decode import Decoded, FrozenDecoder
from .ppn_join import agreement, blended, box_of_mask, join, mean_of, person_points
from .sam import MASK_THRESHOLD, feature_list
from .sam_prompts import LOGIT_LIMIT
from .sam_square import image_logits

LORA = "lora."
QUERIES = "queries"


class PpnModel:
    """Masks of the classes that a prompt predictor has learned.

    Args:
        segmenter: the one that it was trained on.
        prompter: the network with its queries.
        card: what is known of it.
        decoder: with LoRA where it was tuned; else a frozen copy of the segmenter's is made.

    Raises:
        CheckpointError: the card is of another segmenter.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        prompter: ClassPrompter,
        card: PpnCard,
        decoder: FrozenDecoder | None = None,
    ) -> None:
        check_segmenter(card, segmenter)
        self._segmenter, self._card = segmenter, card
        self._decoder = decoder or FrozenDecoder(segmenter)
        self._prompter = prompter.to(self._decoder.device).eval()
        self._rows = {value: row for row, value in enumerate(card.classes)}

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter itself."""
        return self._segmenter

    @property
    def card(self) -> PpnCard:
        """What is known of it."""
        return self._card

    @property
    def model_id(self) -> str:
        """Segmenter and weights."""
        return f"{self.segmenter.model_id}+{self.card.ppn_id}"

    def with_card(self, card: PpnCard) -> PpnModel:
        """The same network under another card (with scores, say)."""
        return PpnModel(self.segmenter, self._prompter, card, self._decoder)

    @torch.inference_mode()
    def predict(self, embedding: ImageEmbedding) -> dict[int, Prediction]:
        """Every class in an image, nobody having pointed at anything: label value -> prediction.

        A class whose ``object_score`` is below 0 is not in the image; its mask is what it would be.

        Raises:
            ModelError: the embedding is another model's.
        """
        features = self._features(embedding)
        learned = self._learned(features)
        decoded = self._decoder(features, learned.sparse, learned.dense)
        decoded = blended(decoded, learned.mask_logits)
        return {
            value: self._prediction(decoded, row, embedding) for value, row in self._rows.items()
        }

    @torch.inference_mode()
    def refine(self, embedding: ImageEmbedding, class_id: int, prompts: Prompts) -> Prediction:
        """One class, with a person's prompts joined to the learned ones.

        A person's box stands in for the predicted one and ends the mask prompt at its border,
        ``mask_input`` stands in for the mask prompt, clicks and scribbles are further prompts.
        Learned prompts that are wrong here would fight the person's. So where the joined prompts do
        not agree with every click, the clicks are asked without them on the predicted mask, and the
        answer is the one that agrees with more. To a box the answer is the mean of its own
        and that with the mask prompt beside it.

        Raises:
            ModelError: the embedding is another model's, or there is no such class.
            PromptError: a prompt is malformed or outside the image.
        """
        features = self._features(embedding)
        row = torch.tensor([self._row(class_id)], device=self._decoder.device)
        learned = self._learned(features, row)
        sparse, dense, logits = join(self._decoder, learned, prompts, embedding)
        if prompts.is_empty:
            decoded = self._decoder(features, sparse, dense)
            return self._prediction(blended(decoded, learned.mask_logits), 0, embedding)
        points = person_points(prompts)

        def obeys(answer: Prediction) -> float:
            return agreement(answer, points)

        if prompts.mask_input is not None:
            plain = self._segmenter.predict(embedding, prompts)
            joined = self._prediction(self._decoder(features, sparse, dense), 0, embedding)
            return max((joined, plain), key=lambda a: (obeys(a), float(a.iou_predictions[0])))
        if prompts.box is not None:
            plain = self._segmenter.predict(embedding, prompts)
            beside = replace(prompts, mask_input=logits[0, 0].cpu().numpy())
            second = self._segmenter.predict(embedding, beside)
            both = mean_of(plain, second, embedding, self._decoder.image_size)
            if obeys(both) == 1:
                return both
            joined = self._prediction(self._decoder(features, sparse, dense), 0, embedding)
            return max((both, joined), key=obeys)
        joined = self._prediction(self._decoder(features, sparse, dense), 0, embedding)
        if obeys(joined) == 1:
            return joined
        now = self.refine(embedding, class_id, Prompts())
        corrected = replace(prompts, mask_input=now.low_res_logits[0])
        return max((joined, self._segmenter.predict(embedding, corrected)), key=obeys)

    def for_class(self, class_id: int) -> ClassSegmenter:
        """A `Segmenter` whose prompts refine what was learned of one class.

        Raises:
            ModelError: there is no such class.
        """
        self._row(class_id)
        return ClassSegmenter(self, class_id)

    def _learned(self, features: list[Tensor], rows: Tensor | None = None) -> LearnedPrompts:
        learned = self._prompter(self._decoder.prompt_encoder, features, rows)
        return box_of_mask(learned, self._decoder)

    def _prediction(self, decoded: Decoded, row: int, embedding: ImageEmbedding) -> Prediction:
        low_res = decoded.logits[row].float()
        full = image_logits(low_res, embedding, self._decoder.image_size)
        return Prediction(
            masks=(full > MASK_THRESHOLD).cpu().numpy(),
            iou_predictions=decoded.iou[row].float().clamp(0, 1).cpu().numpy(),
            low_res_logits=low_res.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).cpu().numpy(),
            object_score=float(decoded.object_score[row]),
        )

    def _features(self, embedding: ImageEmbedding) -> list[Tensor]:
        if embedding.model_id != self.segmenter.model_id:
            raise ModelError(
                f"the embedding of image {embedding.image_id!r} was made by {embedding.model_id}, "
                f"this prompt predictor is of {self.segmenter.model_id}: embed it again with that"
            )
        return [f.to(self._decoder.device).float() for f in feature_list(embedding)]

    def _row(self, class_id: int) -> int:
        if class_id not in self._rows:
            known = ", ".join(f"{value} ({name})" for value, name in self.card.classes.items())
            raise ModelError(
                f"the prompt predictor has no class {class_id}, only {known}: train it on images "
                "with that class"
            )
        return self._rows[class_id]


class ClassSegmenter:
    """A `Segmenter` for one class: learned prompts first, a person's joined to them."""

    def __init__(self, model: PpnModel, class_id: int) -> None:
        self._model, self._class_id = model, class_id

    @property
    def model_id(self) -> str:
        """Of the segmenter, whose embeddings this takes."""
        return self._model.segmenter.model_id

    def embed(self, image: NDArray[np.uint8], image_id: str = "") -> ImageEmbedding:
        """As the segmenter does."""
        return self._model.segmenter.embed(image, image_id)

    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask: bool | None = None
    ) -> Prediction:
        """One mask; ``multimask`` has no meaning here, and ``prompts`` may be empty."""
        return self._model.refine(embedding, self._class_id, prompts)


def check_segmenter(
    card: PpnCard, segmenter: Segmenter, where: str | Path = "this prompt predictor"
) -> None:
    """See that a prompt predictor, from the folder ``where``, belongs to a segmenter.

    Raises:
        CheckpointError: it was trained on another one.
    """
    if card.segmenter != segmenter.model_id:
        raise CheckpointError(
            f"{where}: was trained on the segmenter {card.segmenter}, not on "
            f"{segmenter.model_id}; choose that segmenter, or train again on this one"
        )


def save_ppn(
    folder: Path, prompter: ClassPrompter, card: PpnCard, decoder: FrozenDecoder
) -> PpnCard:
    """Write weights, then the card that names them; returns the card with shape and checksum.

    Raises:
        LabelWriteError: the folder cannot be written.
    """
    from safetensors.torch import save

    tensors = {n: t.detach().cpu().contiguous() for n, t in prompter.state_dict().items()}
    tensors |= {f"{LORA}{n}": t.detach().cpu().contiguous() for n, t in decoder.lora().items()}
    write_atomically(folder / WEIGHTS_FILE, save(tensors), overwrite=True)
    sizes = prompter.predictor.shape
    shape = {
        **asdict(sizes),
        "channels": list(sizes.channels),
        "tokens": int(prompter.queries.shape[1]),
    }
    card = replace(card, shape=shape, weights_sha256=sha256_of(folder / WEIGHTS_FILE))
    write_card(folder, card)
    return card


def load_ppn(folder: str | Path, segmenter: Segmenter) -> PpnModel:
    """A prompt predictor that `save_ppn` wrote, on its segmenter.

    Raises:
        ModelNotFoundError: there is none in ``folder``.
        CheckpointError: it is damaged, or was trained on another segmenter.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    card = read_card(folder)
    check_segmenter(card, segmenter, folder)
    path = folder / WEIGHTS_FILE
    try:
        if sha256_of(path) != card.weights_sha256:
            raise CheckpointError(f"{path}: not the weights that {folder}/ppn.json names")
        tensors = load_file(path)
        prompter = build_prompter(card.shape, len(card.classes))
        prompter.load_state_dict({n: t for n, t in tensors.items() if not n.startswith(LORA)})
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path}: damaged or missing ({type(error).__name__}); train again"
        ) from error
    decoder = FrozenDecoder(segmenter)
    if card.lora_rank:
        lora = {n.removeprefix(LORA): t for n, t in tensors.items() if n.startswith(LORA)}
        decoder.add_lora(card.lora_rank, lora)
    return PpnModel(segmenter, prompter, card, decoder)


def build_prompter(shape: Mapping[str, Any], classes: int) -> ClassPrompter:
    """A network with random weights, of the sizes that a card's ``shape`` states."""
    sizes = {**shape, "channels": tuple(shape["channels"])}
    tokens = int(sizes.pop("tokens"))
    return ClassPrompter(PpnShape(**sizes), classes, tokens)
