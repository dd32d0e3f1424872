"""Phrases, or boxes around examples, to boxes and masks with SAM 3 (transformers' ``Sam3Model``).

One concept at a time: each phrase of a prompt is asked by itself on one encoding of the image. The
mask of each box goes along as its prior. The published weights are gated, so a folder is loaded
that the person fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...core.errors import PromptError
from ...core.geometry import clip_box, nms
from ...core.types import Detections, FloatArray, TextPrompt
from ..checkpoints import folder_id, read_pretrained
from ..sam.sam import check_image
from .phrases import wanted_phrases

DEFAULT_BOX_THRESHOLD = 0.3
"""transformers' own default of ``post_process_instance_segmentation``."""

NMS_IOU = 0.6
"""Of two boxes of one phrase that overlap more than this, the better one stays."""

EXAMPLE = "visual"
"""The phrase that SAM 3 is asked with where there are boxes alone, as its authors do."""


class Sam3Detector:
    """A `Detector` on transformers' Sam3Model.

    Args:
        model: the model; it is moved to ``device`` and switched to evaluation.
        processor: a Sam3Processor.
        model_id: name and content hash of the weights.
        device: "cpu", "cuda", ...
    """

    def __init__(self, model: Any, processor: Any, model_id: str, device: str = "cpu") -> None:
        self.model = model.to(device).eval()
        self.processor, self.model_id, self._device = processor, model_id, device

    @property
    def box_threshold(self) -> float:
        """Least score of a box where a prompt does not say."""
        return DEFAULT_BOX_THRESHOLD

    @torch.inference_mode()
    def detect(self, image: NDArray[np.uint8], prompt: TextPrompt) -> Detections:
        """As `Detector.detect`; ``text_threshold`` has no meaning here.

        A score is the query's times that of the phrase being in the image at all.
        """
        seen = self._encode(image)
        phrases = wanted_phrases(prompt.text)
        limit = self.model.config.text_config.max_position_embeddings
        for phrase in phrases:
            if len(self.processor.tokenizer(phrase)["input_ids"]) > limit:
                raise PromptError(
                    f"{phrase!r} is too long for SAM 3: use {limit - 2} words or less"
                )
        found = [
            self._ask(seen, image.shape[:2], phrase, prompt.box_threshold) for phrase in phrases
        ]
        return _together(found)

    @torch.inference_mode()
    def detect_like(
        self,
        image: NDArray[np.uint8],
        boxes: FloatArray,
        phrase: str = EXAMPLE,
        box_threshold: float | None = None,
    ) -> Detections:
        """Everything in ``image`` (H, W, 3) like what is in boxes (N, 4) XYXY pixels on it."""
        size = self.processor(
            original_sizes=[list(image.shape[:2])],
            text=phrase,
            input_boxes=[np.asarray(boxes, float).reshape(-1, 4).tolist()],
            return_tensors="pt",
        )
        examples = {
            key: size[key].to(self._device) for key in ("input_boxes", "input_boxes_labels")
        }
        return self._ask(self._encode(image), image.shape[:2], phrase, box_threshold, **examples)

    def _encode(self, image: NDArray[np.uint8]) -> Any:
        check_image(image)
        pixels = self.processor.image_processor(
            np.ascontiguousarray(image), input_data_format="channels_last", return_tensors="pt"
        )["pixel_values"]
        return self.model.get_vision_features(pixel_values=pixels.to(self._device))

    def _ask(
        self,
        seen: Any,
        size_hw: tuple[int, ...],
        phrase: str,
        threshold: float | None,
        **examples: Any,
    ) -> Detections:
        words = self.processor.tokenizer(
            phrase,
            return_tensors="pt",
            padding="max_length",
            max_length=self.model.config.text_config.max_position_embeddings,
        )
        output = self.model(
            vision_embeds=seen,
            input_ids=words["input_ids"].to(self._device),
            attention_mask=words["attention_mask"].to(self._device),
            **examples,
        )
        scores = output.pred_logits[0].float().sigmoid() * output.presence_logits[0].sigmoid()
        score = scores.cpu().numpy()
        height, width = size_hw[:2]
        scale = np.array([width, height, width, height], np.float32)
        boxes = clip_box(output.pred_boxes[0].float().cpu().numpy() * scale, (height, width))
        least = self.box_threshold if threshold is None else threshold
        passed = np.flatnonzero((score >= least) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        kept = passed[nms(boxes[passed], score[passed], NMS_IOU)]
        kept = kept[np.argsort(-score[kept], kind="stable")]
        masks = output.pred_masks[0].float().cpu().numpy()[kept]
        return Detections(boxes[kept].astype(np.float32), score[kept], (phrase,) * len(kept), masks)


def _together(found: list[Detections]) -> Detections:
    """The detections of several phrases, best first."""
    scores = np.concatenate([each.scores for each in found])
    order = np.argsort(-scores, kind="stable")
    phrases = [phrase for each in found for phrase in each.phrases]
    masks = np.concatenate([each.priors for each in found if each.priors is not None])
    boxes = np.concatenate([each.boxes for each in found])
    return Detections(boxes[order], scores[order], tuple(phrases[i] for i in order), masks[order])


def load_sam3(folder: str | Path, device: str = "cpu", name: str | None = None) -> Sam3Detector:
    """SAM 3 from a folder in transformers' format.

    Args:
        folder: as ``save_pretrained`` writes it, with the processor's files.
        device: "cpu", "cuda", ...
        name: for its ``model_id``; else that of the folder.

    Raises:
        ModelNotFoundError: there is no such folder.
        CheckpointError: files are missing, damaged, or of another model.
    """
    from transformers import Sam3Model, Sam3Processor

    folder = Path(folder)
    model, processor = read_pretrained(folder, Sam3Model, Sam3Processor)
    model_id = folder_id(folder, name)
    return Sam3Detector(model, processor, model_id, device)
