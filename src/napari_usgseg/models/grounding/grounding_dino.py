"""Phrases to boxes with Grounding DINO (arXiv 2303.05499) as ``transformers`` has it.

transformers names a box after whichever tokens pass a threshold, so that "thyroid nodule" can come
back as "nodule". Here every phrase of the prompt owns a span of tokens, a box's score for a phrase
is the best score among the span's tokens, and a box belongs to the one phrase that scores best.

Checkpoints are folders in transformers' format; only safetensors are read, and no code that comes
with a checkpoint is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...core.errors import PromptError
from ...core.geometry import clip_box, nms
from ...core.types import BoolArray, Detections, FloatArray, TextPrompt
from ..checkpoints import folder_id, model_type_of, read_pretrained
from ..lora.adapter import merged_copy
from ..sam.sam import check_image
from .phrases import PhraseSpan, phrase_scores, phrase_spans, wanted_phrases

DEFAULT_BOX_THRESHOLD = 0.25
DEFAULT_TEXT_THRESHOLD = 0.25
"""transformers' own defaults; a checkpoint's config may hold "box_threshold", "text_threshold"."""

MM_GROUNDING_DINO = "mm-grounding-dino"
"""The ``model_type`` of MMDetection's Grounding DINO: other weights, asked and answering alike."""

NMS_IOU = 0.6
"""Of two boxes of one phrase that overlap more than this, the better one stays."""


class GroundingDino:
    """A `Detector` on transformers' GroundingDinoForObjectDetection.

    Args:
        model: the model; it is moved to ``device`` and switched to evaluation.
        processor: a GroundingDinoProcessor, or anything with its ``image_processor`` and
            ``tokenizer``.
        model_id: name and content hash of the weights.
        device: "cpu", "cuda", ...
    """

    def __init__(self, model: Any, processor: Any, model_id: str, device: str = "cpu") -> None:
        self.model = model.to(device).eval()
        self.image_processor = processor.image_processor
        self.tokenizer = processor.tokenizer
        self.model_id = model_id
        self._device = device

    @property
    def box_threshold(self) -> float:
        """Least score of a box where a prompt does not say."""
        return self._threshold(TextPrompt(""))

    def with_adapter(self, adapter: Path) -> GroundingDino:
        """A copy with a LoRA adapter merged into its weights; it answers every phrase with them.

        Raises:
            ModelNotFoundError: the adapter's folder or a file of it is missing.
            CheckpointError: it is damaged, or of another detector.
        """
        model, model_id, card = merged_copy(self.model, self.model_id, adapter)
        tuned = GroundingDino(model, self, model_id, self._device)
        if card is not None and card.box_thresholds:
            least = card.least_score(self.box_threshold)
            model.config.box_threshold = model.config.text_threshold = least
        return tuned

    @torch.inference_mode()
    def detect(self, image: NDArray[np.uint8], prompt: TextPrompt) -> Detections:
        """As `Detector.detect`.

        A box stays where its best phrase scores at least ``box_threshold`` and
        ``text_threshold``, and no better box of the same phrase overlaps it by more than
        `NMS_IOU`. Boxes are clipped to the image. A prompt with too many tokens is a PromptError.
        """
        check_image(image)
        threshold = self._threshold(prompt)
        tokens, spans = self._tokenize(prompt.text)
        pixels = self.image_processor(
            images=np.ascontiguousarray(image),
            input_data_format="channels_last",
            return_tensors="pt",
        )
        inputs = {**tokens, **pixels}
        output = self.model(**{name: tensor.to(self._device) for name, tensor in inputs.items()})
        scores = phrase_scores(output.logits[0].float().sigmoid().cpu().numpy(), spans)
        boxes = _to_pixel_boxes(output.pred_boxes[0].float().cpu().numpy(), image.shape[:2])
        return _select(boxes, scores, [span.phrase for span in spans], threshold)

    def _threshold(self, prompt: TextPrompt) -> float:
        config = self.model.config
        box, text = prompt.box_threshold, prompt.text_threshold
        if box is None:
            box = getattr(config, "box_threshold", DEFAULT_BOX_THRESHOLD)
        if text is None:
            text = getattr(config, "text_threshold", DEFAULT_TEXT_THRESHOLD)
        TextPrompt(prompt.text, box, text)  # refuses a checkpoint's own that are out of range
        # The score of a box and that of its phrase are one number here, so the stricter one rules.
        return max(float(box), float(text))

    def _tokenize(self, text: str) -> tuple[dict[str, Any], tuple[PhraseSpan, ...]]:
        phrases = wanted_phrases(text)
        # A point between digits is no end of a phrase, but to the model every point is.
        caption = "".join(f"{phrase.replace('.', ',')}. " for phrase in phrases).strip()
        tokens = self.tokenizer(caption, return_tensors="pt", return_token_type_ids=True)
        ids = tokens["input_ids"][0].tolist()
        limit = int(self.model.config.max_text_len)
        if len(ids) > limit:
            raise PromptError(
                f"the prompt is {len(ids)} tokens long, this model takes {limit}: "
                "use fewer or shorter phrases"
            )
        names = ("input_ids", "attention_mask", "token_type_ids")
        return {name: tokens[name] for name in names}, phrase_spans(phrases, ids)


def _to_pixel_boxes(boxes: FloatArray, size_hw: tuple[int, int]) -> FloatArray:
    """(Q, 4) centre and size in fractions of the image to XYXY pixels inside it."""
    height, width = size_hw
    half = boxes[:, 2:] / 2
    corners = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return clip_box(corners * np.array([width, height, width, height], np.float32), size_hw)


def _select(
    boxes: FloatArray, scores: FloatArray, phrases: list[str], threshold: float
) -> Detections:
    """One phrase for each box, phrase-wise non-maximum suppression, best first."""
    best = scores.argmax(axis=1)
    score = scores.max(axis=1)
    passed: BoolArray = (score >= threshold) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    kept: list[int] = []
    # Within a phrase only: "thyroid" and "thyroid nodule" may well overlap.
    for phrase in range(len(phrases)):
        candidates = np.flatnonzero(passed & (best == phrase))
        kept.extend(candidates[nms(boxes[candidates], score[candidates], NMS_IOU)].tolist())
    order = np.array(sorted(kept, key=lambda index: -score[index]), np.intp)
    return Detections(
        boxes[order].astype(np.float32),
        score[order].astype(np.float32),
        tuple(phrases[best[index]] for index in order),
    )


def load_grounding_dino(
    folder: str | Path, device: str = "cpu", name: str | None = None
) -> GroundingDino:
    """Grounding DINO, or MM Grounding DINO (arXiv 2401.02361), from a folder of transformers'.

    Args:
        folder: as ``save_pretrained`` writes it, with the processor's files.
        device: "cpu", "cuda", ...
        name: for its ``model_id``; else that of the folder.

    Raises:
        ModelNotFoundError: there is no such folder.
        CheckpointError: files are missing, damaged, or of another model.
    """
    from transformers import (
        GroundingDinoForObjectDetection,
        GroundingDinoProcessor,
        MMGroundingDinoForObjectDetection,
    )

    folder = Path(folder)
    multi = model_type_of(folder) == MM_GROUNDING_DINO
    model_class = MMGroundingDinoForObjectDetection if multi else GroundingDinoForObjectDetection
    model, processor = read_pretrained(folder, model_class, GroundingDinoProcessor)
    model_id = folder_id(folder, name)
    return GroundingDino(model, processor, model_id, device)
