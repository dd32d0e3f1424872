"""A trained prompt predictor on its segmenter: masks without a prompt, or with a person's on top.

`PpnModel.for_class` is a `Segmenter` for one class, so whatever works with a person's prompts
works with learned ones beside them: nothing else needs to know.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ...core.errors import CheckpointError, ModelError
from ...core.types import ImageEmbedding, Prediction, Prompts
from ...io.atomic import write_atomically
from ..checkpoints import sha256_of
from ..interfaces import Segmenter
from ..sam.sam import (
    LOGIT_LIMIT,
    MASK_THRESHOLD,
    SamSegmenter,
    feature_list,
    image_logits,
    prompt_logits,
    prompt_points,
)
from .card import WEIGHTS_FILE, PpnCard, Way, read_card, write_card
from .light import LightHead, LightShape, likeliest
from .network import BOX_TOKENS, ClassPrompter, LearnedPrompts, PpnShape

Prompter = ClassPrompter | LightHead
"""What gives learned prompts of every class."""

LORA_LAYERS = r".*\.(q_proj|v_proj|k_proj|out_proj)"
"""The decoder's attention projections."""

PRESENCE_SLOPE = 10.0
"""Logits for an IoU of 1: a sure mask counts as present with a probability of 0.99."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Single-mask output of the mask decoder.

    Attributes:
        logits: (R, 1, g, g).
        iou: (R, 1), its own estimate.
        object_score: (R, 1) logits; below 0 the object is not in the image. A decoder without such
            an output (SAM's first version) answers by its IoU estimate (`presence`).
    """

    logits: Tensor
    iou: Tensor
    object_score: Tensor


class FrozenDecoder:
    """Copies of a segmenter's prompt encoder and mask decoder that no gradient changes.

    Gradients flow through them to the prompts; the segmenter itself is only read.

    Raises:
        ModelError: the segmenter is not of SAM's kind.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        net = sam_net(segmenter)
        self.image_size = int(net.image_size)
        # Copies: LoRA is put on the decoder in place, and the segmenter goes on answering plain
        # clicks.
        self.prompt_encoder: Any = copy.deepcopy(net.prompt_encoder).requires_grad_(False).eval()
        self.mask_decoder: Any = copy.deepcopy(net.mask_decoder).requires_grad_(False).eval()
        with torch.no_grad():
            self._dense_pe = self.prompt_encoder.get_dense_pe().clone()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._dense_pe.device

    def __call__(self, features: Sequence[Tensor], sparse: Tensor, dense: Tensor) -> Decoded:
        """Decode R rows of prompts for I images, R a multiple of I, image by image.

        Args:
            features: (I, C_l, h_l, w_l), finest first, the image embedding last.
            sparse: (R, N, C).
            dense: (R, C, h, w).
        """
        repeats = len(sparse) // len(features[-1])
        levels = [f.repeat_interleave(repeats, dim=0) if repeats > 1 else f for f in features]
        # predict_masks and not forward, which picks among masks in evaluation and would hide the
        # single-mask output from training.
        logits, iou, _, score = self.mask_decoder.predict_masks(
            image_embeddings=levels[-1],
            image_pe=self._dense_pe,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            repeat_image=False,
            high_res_features=levels[:-1],
        )
        if not self.mask_decoder.pred_obj_scores:
            score = presence(iou[:, :1])
        return Decoded(logits[:, :1], iou[:, :1], score)

    def embed_boxes(self, boxes: Tensor) -> Tensor:
        """(R, 4) XYXY pixels of the network's square -> (R, 2, C)."""
        return self.prompt_encoder(points=None, boxes=boxes, masks=None)[0]

    def embed_masks(self, logits: Tensor) -> Tensor:
        """(R, 1, g, g) -> (R, C, h, w)."""
        return self.prompt_encoder(points=None, boxes=None, masks=logits)[1]

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """(R, P, 2) pixels of the network's square and (R, P) labels -> (R, P + 1, C)."""
        return self.prompt_encoder(points=(coords, labels), boxes=None, masks=None)[0]

    def add_lora(self, rank: int, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Put trainable LoRA matrices (arXiv 2106.09685) on the mask decoder's attention.

        Args:
            rank: of the matrices; they start as "no change".
            state: trained matrices by name, as an earlier call's result names them.

        Returns:
            The matrices by name, as they stand in the decoder.
        """
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LORA_LAYERS)
        self.mask_decoder = inject_adapter_in_model(config, self.mask_decoder).eval()
        if state is not None:
            # Not strict: only the LoRA matrices are in the state.
            self.mask_decoder.load_state_dict(dict(state), strict=False)
        return self.lora()

    def lora(self) -> dict[str, Tensor]:
        """The LoRA matrices by name; {} where there are none."""
        named = self.mask_decoder.named_parameters()
        return {name: tensor for name, tensor in named if ".lora_" in name}


def presence(iou: Tensor) -> Tensor:
    """A logit that the object is there from the decoder's estimate of its mask's IoU.

    It is 0 at an IoU of one half. In training the cross-entropy of absent classes makes the
    prompts such that the estimate falls below that, as it does with a true object score.
    """
    return PRESENCE_SLOPE * (iou - 0.5)


def sam_net(segmenter: Segmenter) -> Any:
    """The network behind a segmenter.

    Raises:
        ModelError: the segmenter is not of SAM's kind.
    """
    if not isinstance(segmenter, SamSegmenter):
        raise ModelError(
            f"a prompt predictor needs a segmenter of SAM's kind, {segmenter.model_id} is not: "
            "take nano, a SAM 2.1 or a SAM"
        )
    return segmenter.net


def box_of_mask(learned: LearnedPrompts, decoder: FrozenDecoder) -> LearnedPrompts:
    """The same prompts with the box around the mask prompt, where that has a pixel.

    The box that the two tokens give is the weaker one after a few images; the decoder is surer of
    an object when box and mask prompt agree (measured; MODEL_CARD.md).
    """
    inside = learned.mask_logits > 0
    some = inside.flatten(1).any(1)[:, None]
    boxes = torch.where(some, boxes_of(inside.to(learned.boxes.dtype)), learned.boxes)
    corners = decoder.embed_boxes(boxes * decoder.image_size)
    sparse = torch.cat((corners, learned.sparse[:, BOX_TOKENS:]), dim=1)
    return replace(learned, sparse=sparse, boxes=boxes)


def blended(decoded: Decoded, mask_logits: Tensor) -> Decoded:
    """The decoder's answer with the mask prompt (R, 1, g, g) beside it where the two disagree.

    Of the mean of the probabilities, the mask prompt has half where the two masks have nothing in
    common and no share where they are the same: it knows the place, the decoder the border.
    """
    ours = F.interpolate(
        mask_logits, decoded.logits.shape[-2:], mode="bilinear", align_corners=False
    )
    first, second = decoded.logits > 0, ours > 0
    overlap = 2.0 * (first & second).sum((1, 2, 3), keepdim=True)
    total = first.sum((1, 2, 3), keepdim=True) + second.sum((1, 2, 3), keepdim=True)
    share = 0.5 * (1 - overlap / total.clamp(min=1))
    probability = (1 - share) * decoded.logits.sigmoid() + share * ours.sigmoid()
    return replace(decoded, logits=probability.logit(eps=1e-6))


def mean_of(
    first: Prediction, second: Prediction, embedding: ImageEmbedding, image_size: int
) -> Prediction:
    """The mean of the logits of two answers' best masks, with the first one's scores."""
    low_res = np.float32(0.5) * (first.low_res_logits[:1] + second.low_res_logits[:1])
    full = image_logits(torch.from_numpy(low_res).float(), embedding, image_size)
    return replace(
        first,
        masks=(full > MASK_THRESHOLD).numpy(),
        iou_predictions=first.iou_predictions[:1],
        low_res_logits=low_res,
    )


def boxes_of(targets: Tensor) -> Tensor:
    """Tight boxes (R, 4) XYXY, as fractions, of (R, 1, h, w) masks; (0, 0, 1, 1) for empty ones."""
    inside = targets[:, 0] > 0.5
    boxes = []
    for axis in (1, 2):  # columns, then rows
        line = inside.any(axis)
        size = line.shape[1]
        first = line.int().argmax(1)
        last = size - line.flip(1).int().argmax(1)
        boxes.append((first / size, last / size))
    (x0, x1), (y0, y1) = boxes
    return torch.stack((x0, y0, x1, y1), dim=1)


def join(
    decoder: FrozenDecoder, learned: LearnedPrompts, prompts: Prompts, embedding: ImageEmbedding
) -> tuple[Tensor, Tensor, Tensor]:
    """Learned prompts and a person's: sparse, dense, and the mask prompt, which ends at a box."""
    side, device = decoder.image_size, decoder.device
    size_hw, covered = embedding.size_hw, embedding.covered
    sparse, dense, logits = learned.sparse, learned.dense, learned.mask_logits
    box = person_box(decoder, prompts, embedding)
    if box is not None:
        sparse = torch.cat((decoder.embed_boxes(box), sparse[:, BOX_TOKENS:]), dim=1)
        logits = within_box(logits, box / side)
        dense = decoder.embed_masks(logits)
    grid_hw = decoder.prompt_encoder.mask_input_size
    given = prompt_logits(prompts.mask_input, grid_hw, covered)
    if given is not None:
        dense = decoder.embed_masks(given.to(device))
    others = replace(prompts, box=None, mask_input=None)
    points = prompt_points(others, size_hw, side, covered)
    if points is not None:
        clicks = decoder.embed_points(points[0].to(device), points[1].to(device))
        sparse = torch.cat((sparse, clicks), dim=1)
    return sparse, dense, logits


def person_box(
    decoder: FrozenDecoder, prompts: Prompts, embedding: ImageEmbedding
) -> Tensor | None:
    """A person's box (1, 4) XYXY in pixels of the network's square, or None."""
    if prompts.box is None:
        return None
    corners = prompt_points(
        Prompts(box=prompts.box), embedding.size_hw, decoder.image_size, embedding.covered
    )
    assert corners is not None
    return corners[0].reshape(1, 4).to(decoder.device)


def kind_of(prompts: Prompts) -> str:
    """Which of ``WAYS`` a person's prompts are: the newest is a scribble where there is one."""
    if prompts.mask_input is not None:
        return "fix by scribble" if prompts.scribbles else "fix by click"
    return "click" if prompts.box is None else "box"


def agreement(prediction: Prediction, prompts: Prompts) -> float:
    """The share of clicks and of scribbles' vertices that the best mask agrees with.

    A positive one must be in the mask, a negative one out of it; 1 where there is none.
    """
    lines = [(prompts.point_coords, prompts.point_labels)]
    lines += [(line, np.full(len(line), label)) for line, label in prompts.scribbles]
    labels = np.concatenate([label for _, label in lines])
    if len(labels) == 0:
        return 1.0
    mask = prediction.masks[0]
    columns, rows = np.rint(np.concatenate([coords for coords, _ in lines])).astype(int).T
    inside = mask[rows.clip(0, mask.shape[0] - 1), columns.clip(0, mask.shape[1] - 1)]
    return float((inside == (labels > 0)).mean())


def within_box(logits: Tensor, box: Tensor, margin: float = 0.05) -> Tensor:
    """Mask prompts (R, 1, g, g) that end at a box (R, 4) of fractions, ``margin`` of it around."""
    side = torch.tensor(logits.shape[-2:], device=logits.device).flip(0).repeat(2)
    size = (box[:, 2:] - box[:, :2]).repeat(1, 2) * torch.tensor([-1, -1, 1, 1], device=box.device)
    low_high = (box + margin * size) * side
    rows = torch.arange(logits.shape[-2], device=logits.device) + 0.5
    columns = torch.arange(logits.shape[-1], device=logits.device) + 0.5
    x0, y0, x1, y1 = low_high.T[:, :, None]
    in_rows, in_columns = (y0 <= rows) & (rows <= y1), (x0 <= columns) & (columns <= x1)
    inside = in_rows[:, :, None] & in_columns[:, None]
    return torch.where(inside[:, None], logits, logits.clamp(max=-LOGIT_LIMIT / 4))


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
        prompter: Prompter,
        card: PpnCard,
        decoder: FrozenDecoder | None = None,
    ) -> None:
        check_segmenter(card, segmenter)
        self.segmenter, self.card = segmenter, card
        self._decoder = decoder or FrozenDecoder(segmenter)
        self._prompter = prompter.to(self._decoder.device).eval()
        self._rows = {value: row for row, value in enumerate(card.classes)}

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
        if isinstance(self._prompter, LightHead):  # the decoder alone does not know the class
            there = torch.minimum(decoded.object_score, likeliest(learned.mask_logits))
            decoded = replace(decoded, object_score=there)
        return {
            value: self._prediction(decoded, row, embedding) for value, row in self._rows.items()
        }

    @torch.inference_mode()
    def refine(self, embedding: ImageEmbedding, class_id: int, prompts: Prompts) -> Prediction:
        """One class, with a person's prompts beside the learned ones.

        In which way, is what was best on images that were not learnt from (``PpnCard.way``):

        - "plain": the segmenter, without what was learned.
        - "beside": to a box, the mean of its answer with and without the mask prompt.
        - "joined": in the mask decoder (Sam2Rad's Figure 1): the person's box stands in for the
          predicted one and ends the mask prompt at its border, ``mask_input`` stands in for the
          mask prompt, clicks and scribbles are further prompts.
        - "blended": that with the mask prompt beside it where the two disagree.
        - "cut": what is predicted without a prompt, ended at the box.
        - "kept": ``mask_input`` as it is, which a correction then changes where it points.

        Where nothing was measured it is "beside" to a box, and "joined" or "plain" else. Learned
        prompts that are wrong here would fight the person's: where the answer does not agree with
        every click, the one of it and the plain answer is taken that agrees with more.

        Raises:
            ModelError: the embedding is another model's, or there is no such class.
            PromptError: a prompt is malformed or outside the image.
        """
        self._row(class_id)
        if prompts.is_empty and prompts.mask_input is None:
            return self.answer(embedding, class_id, prompts, "blended")
        kind = kind_of(prompts)
        way = self.card.way(class_id, kind)

        def by(way: Way) -> Prediction:
            return self.answer(embedding, class_id, prompts, way)

        def obeys(answer: Prediction) -> float:
            return agreement(answer, prompts)

        if way == "kept":
            return by(way)
        if way is None and kind.startswith("fix"):
            pair = by("joined"), by("plain")
            return max(pair, key=lambda a: (obeys(a), float(a.iou_predictions[0])))
        found = by(way or ("beside" if kind == "box" else "joined"))
        if obeys(found) == 1:
            return found
        if kind == "box":
            return max((found, by("joined")), key=obeys)
        if prompts.mask_input is None:  # clicks alone, on what is predicted without them
            now = self.answer(embedding, class_id, Prompts(), "blended")
            prompts = replace(prompts, mask_input=now.low_res_logits[0])
        return max((found, by("plain")), key=obeys)

    @torch.inference_mode()
    def answer(
        self, embedding: ImageEmbedding, class_id: int, prompts: Prompts, way: Way
    ) -> Prediction:
        """One class in a given way, whatever was measured; see ``refine``."""
        if way == "plain":
            return self.segmenter.predict(embedding, prompts)
        features = self._features(embedding)
        row = torch.tensor([self._row(class_id)], device=self._decoder.device)
        learned = self._learned(features, row)
        if way == "kept":
            grid_hw = self._decoder.prompt_encoder.mask_input_size
            kept = prompt_logits(prompts.mask_input, grid_hw, embedding.covered)
            assert kept is not None
            sure = torch.ones(1, 1)
            return self._prediction(Decoded(kept, sure, PRESENCE_SLOPE * sure), 0, embedding)
        sparse, dense, logits = join(self._decoder, learned, prompts, embedding)
        if way == "beside":
            plain = self.segmenter.predict(embedding, prompts)
            prior = replace(prompts, mask_input=logits[0, 0].cpu().numpy())
            second = self.segmenter.predict(embedding, prior)
            return mean_of(plain, second, embedding, self._decoder.image_size)
        if way == "cut":
            decoded = self._decoder(features, learned.sparse, learned.dense)
            decoded = blended(decoded, learned.mask_logits)
            box = person_box(self._decoder, prompts, embedding)
            if box is not None:
                cut = within_box(decoded.logits, box / self._decoder.image_size)
                decoded = replace(decoded, logits=cut)
            return self._prediction(decoded, 0, embedding)
        decoded = self._decoder(features, sparse, dense)
        return self._prediction(
            blended(decoded, logits) if way == "blended" else decoded, 0, embedding
        )

    def for_class(self, class_id: int) -> ClassSegmenter:
        """A `Segmenter` whose prompts refine what was learned of one class.

        Raises:
            ModelError: there is no such class.
        """
        self._row(class_id)
        return ClassSegmenter(self, class_id)

    def _learned(self, features: list[Tensor], rows: Tensor | None = None) -> LearnedPrompts:
        learned = self._prompter(self._decoder.prompt_encoder, features, rows)
        if self.card.training.get("box_from") == "tokens":  # the published recipe
            return learned
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


def save_ppn(folder: Path, prompter: Prompter, card: PpnCard, decoder: FrozenDecoder) -> PpnCard:
    """Write weights, then the card that names them; returns the card with shape and checksum.

    Raises:
        LabelWriteError: the folder cannot be written.
    """
    from safetensors.torch import save

    tensors = {n: t.detach().cpu().contiguous() for n, t in prompter.state_dict().items()}
    tensors |= {f"{LORA}{n}": t.detach().cpu().contiguous() for n, t in decoder.lora().items()}
    write_atomically(folder / WEIGHTS_FILE, save(tensors), overwrite=True)
    card = replace(card, shape=shape_of(prompter), weights_sha256=sha256_of(folder / WEIGHTS_FILE))
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


LIGHT = "light"
"""The ``network`` in the shape of a light head; a prompt predictor network's shape has none."""


def shape_of(prompter: Prompter) -> dict[str, Any]:
    """A network's sizes, as its card states them."""
    if isinstance(prompter, LightHead):
        own = prompter.shape
        return {"network": LIGHT, **asdict(own), "channels": list(own.channels)}
    sizes = prompter.predictor.shape
    tokens = int(prompter.queries.shape[1])
    return {**asdict(sizes), "channels": list(sizes.channels), "tokens": tokens}


def build_prompter(shape: Mapping[str, Any], classes: int) -> Prompter:
    """A network with random weights, of the sizes that a card's ``shape`` states."""
    sizes = {**shape, "channels": tuple(shape["channels"])}
    if sizes.pop("network", "") == LIGHT:
        return LightHead(LightShape(**sizes), classes)
    tokens = int(sizes.pop("tokens"))
    return ClassPrompter(PpnShape(**sizes), classes, tokens)


# An untrained prompt predictor begins with the segmenter's sizes, the mean box and few masks.
# Starting from one that had learnt from other data sets (500 steps) was tried and gave nothing: on
# ten images of a data set that was new to it, it was no better than an untrained one.
TOKENS = 10
"""Queries of a class, the two of the box among them."""

LEVELS = 1
"""Feature levels that the network looks at, from the coarsest on."""

MLP_DIM = 512
"""Of the attention blocks; the paper's 2048 makes the files three times as large."""


def new_prompter(segmenter: Segmenter, classes: int, levels: int = LEVELS) -> ClassPrompter:
    """An untrained prompt predictor of a segmenter's sizes, for its ``levels`` coarsest levels.

    Raises:
        ModelError: the segmenter is not of SAM's kind.
    """
    return ClassPrompter(shape_for(segmenter, levels), classes, TOKENS)


def shape_for(segmenter: Segmenter, levels: int) -> PpnShape:
    """Sizes for a segmenter, read from what it makes of a grey image."""
    width = int(sam_net(segmenter).prompt_encoder.no_mask_embed.weight.shape[1])
    return PpnShape(channels_of(segmenter, levels), width, mlp_dim=MLP_DIM)


def channels_of(segmenter: Segmenter, levels: int) -> tuple[int, ...]:
    """Channels of a segmenter's ``levels`` coarsest feature levels, coarse to fine."""
    grey = np.full((8, 8, 3), 128, np.uint8)
    return tuple(int(f.shape[1]) for f in reversed(feature_list(segmenter.embed(grey))))[:levels]


def begin_at_the_mean(prompter: ClassPrompter, targets: Tensor) -> None:
    """Let an untrained network begin with the mean box and the mean share of object pixels.

    Args:
        prompter: changed in its box and mask heads' last layers only.
        targets: (M, 1, g, g), masks in [0, 1] of the training images' classes, where present.
    """
    corners = boxes_of(targets).mean(0)
    box = torch.cat((corners[:2], corners[2:] - corners[:2]))
    with torch.no_grad():
        head = prompter.predictor.box_regression_head.mlp.layers[-1]
        # Small weights let the bias decide at first, which is the mean box (or share), and still
        # pass a gradient on.
        head.weight.mul_(0.1)
        head.bias.copy_(box.clamp(0.02, 0.98).logit())
        last = prompter.predictor.mask_classifier.final_conv
        last.weight.mul_(0.1)
        share = float(targets.mean().clamp(0.01, 0.5).logit())
        nn.init.constant_(last.bias, share)  # type: ignore[arg-type]
