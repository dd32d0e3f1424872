"""The embedded detector ``nano``: a phrase to a dense mask, the mask's parts to boxes.

A model folder holds ``grounder.json`` (sizes and what it was trained on), ``grounder.safetensors``
(half precision; the network and the vectors of the phrases that it was trained with) and the
sentence encoder's three files (`load_sentence_encoder`).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from ...core.errors import CheckpointError
from ...core.geometry import components, mask_to_box
from ...core.types import Detections, TextPrompt
from ..checkpoints import sha256_of
from ..lora.adapter import merged_copy
from ..sam.nano import TRUNK, TRUNK_CHANNELS
from ..sam.sam import check_image, to_pixels
from .phrases import FOREIGN, wanted_phrases, words_of

# The sentence encoder is all-MiniLM-L6-v2 (Apache-2.0; a six-layer BERT, mean-pooled and
# normalised: Reimers and Gurevych, arXiv 1908.10084) with its vocabulary cut down. Words that are
# no longer in it fall apart into pieces and single letters, so no word is unknown and a new organ's
# name can be learned.
MAX_TOKENS = 64


class SentenceEncoder(nn.Module):
    """A BERT whose mean-pooled, normalised last states stand for a phrase."""

    def __init__(self, config: dict[str, Any], tokenizer: Tokenizer) -> None:
        super().__init__()
        self.bert = BertModel(BertConfig(**config), add_pooling_layer=False)
        self.tokenizer = tokenizer
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)

    def forward(self, phrases: list[str]) -> Tensor:
        """Phrases to (N, 384) unit vectors."""
        encoded = self.tokenizer.encode_batch([phrase.lower() for phrase in phrases])
        ids = torch.tensor([e.ids for e in encoded])
        mask = torch.tensor([e.attention_mask for e in encoded])
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask[..., None].to(states.dtype)
        pooled = (states * weight).sum(1) / weight.sum(1)
        return nn.functional.normalize(pooled, dim=-1)

    def is_word(self, word: str) -> bool:
        """Whether the vocabulary holds a word, in small letters, as a whole."""
        return self.tokenizer.token_to_id(word) is not None


def load_sentence_encoder(folder: Path) -> SentenceEncoder:
    """Read ``text.json``, ``tokenizer.json`` and ``text.safetensors`` of ``folder``.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    try:
        config = json.loads((folder / "text.json").read_text(encoding="utf-8"))
        encoder = SentenceEncoder(config, Tokenizer.from_file(str(folder / "tokenizer.json")))
        state = {k: v.float() for k, v in load_file(folder / "text.safetensors").items()}
        encoder.load_state_dict(state)
    except Exception as error:  # tokenizers and safetensors raise bare exceptions of their own
        raise CheckpointError(
            f"{folder}: the sentence encoder cannot be read ({error}); reinstall the package, or "
            "check with 'usgseg models verify'"
        ) from error
    return encoder.eval()


WIDTH = 96
FINE_WIDTH = 48
TEXT_DIM = 384


class FilmBlock(nn.Module):
    """A 3 x 3 convolution, group norm, scale and shift by the phrase, GELU."""

    def __init__(self, channels: int, out_channels: int, condition: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, out_channels)
        self.film = nn.Linear(condition, 2 * out_channels)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, C, h, w) and (N, D) to (N, C', h, w)."""
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        return F.gelu(self.norm(self.conv(x)) * (1 + scale) + shift)


class PhraseNet(nn.Module):
    """Trunk, text-conditioned pyramid, mask query and presence.

    Args:
        image_size: side in pixels of the square that an image is squashed to; a multiple of 32.
    """

    def __init__(self, image_size: int = 256) -> None:
        super().__init__()
        self.image_size = image_size
        self.trunk = timm.create_model(TRUNK, features_only=True, out_indices=(1, 2, 3, 4))
        s4, s8, s16, s32 = TRUNK_CHANNELS
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, w, 1, bias=False), nn.GroupNorm(8, w))
            for c, w in ((s4, FINE_WIDTH), (s8, WIDTH), (s16, WIDTH), (s32, WIDTH))
        )
        self.text = nn.Sequential(
            nn.Linear(TEXT_DIM, WIDTH * 2), nn.GELU(), nn.LayerNorm(WIDTH * 2)
        )
        condition = WIDTH * 2
        self.block32 = FilmBlock(WIDTH, WIDTH, condition)
        self.block16 = FilmBlock(WIDTH, WIDTH, condition)
        self.context = FilmBlock(WIDTH, WIDTH, condition)
        self.block8 = FilmBlock(WIDTH, WIDTH, condition)
        self.narrow = nn.Conv2d(WIDTH, FINE_WIDTH, 1)
        self.block4 = FilmBlock(FINE_WIDTH, FINE_WIDTH, condition)
        self.query = nn.Linear(condition, FINE_WIDTH + 1)
        self.presence = nn.Sequential(
            nn.Linear(2 * WIDTH + condition, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1)
        )
        # Most pixels are background: with logits near -2 the first losses are not all about saying
        # so.
        nn.init.constant_(self.query.bias[-1:], -2.0)

    def encode(self, pixels: Tensor) -> list[Tensor]:
        """Normalised pixels (B, 3, S, S) to the pyramid at strides 4, 8, 16, 32."""
        return [
            lateral(feature)
            for lateral, feature in zip(self.laterals, self.trunk(pixels), strict=True)
        ]

    def ask(self, pyramid: list[Tensor], phrases: Tensor) -> tuple[Tensor, Tensor]:
        """Pyramid of N images and N phrase vectors (N, 384) to mask logits and presence logits.

        Returns:
            (N, S/4, S/4) mask logits and (N,) presence logits.
        """
        s4, s8, s16, s32 = pyramid
        condition = self.text(phrases)
        top = self.block32(s32, condition)
        middle = self.block16(s16 + _up(top, s16), condition)
        middle = middle + self.context(middle, condition)
        fine = self.block8(s8 + _up(middle, s8), condition)
        finest = self.block4(s4 + _up(self.narrow(fine), s4), condition)
        query = self.query(condition)
        masks = torch.einsum("nchw,nc->nhw", finest, query[:, :-1]) / FINE_WIDTH**0.5
        masks = masks + query[:, -1][:, None, None]
        pooled = torch.cat([top.mean((2, 3)), middle.amax((2, 3)), condition], dim=1)
        return masks, self.presence(pooled)[:, 0]


def _up(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear")


CARD_FILE = "grounder.json"
TEXT_FILES = ("text.json", "tokenizer.json", "text.safetensors")
"""Of the sentence encoder, beside the detector's own two files."""

BOX_THRESHOLD = 0.8
"""Default least score: presence, that the phrase is in the image, times the box's mean mask.

The least at which four in five of the validation side's images without their target stay empty
(``benchmarks/grounder_limits.py``).
"""
LEAST_SIMILARITY = 0.55
"""A phrase less similar than this (cosine) to every phrase learned is foreign to the model."""
ABSENT_MARGIN = 0.0
"""A phrase nearer by this to one that was always answered with "not there" is foreign too.

Both limits were chosen by ``benchmarks/grounder_limits.py`` on phrases that neither training nor
tests use.
"""
SAME_PHRASE = 0.8
"""Phrases as similar as this (cosine) mean the same ("kidney", "the kidney", "kidneys")."""
LEAST_AREA = 0.0005
"""Parts smaller than this fraction of the image are noise (the protocol's smallest object)."""

SAME_WORD = 0.7
"""Words as alike as this (``difflib``) may be one, mistyped or of another language."""
NEAREST = 3
"""So many known phrases are offered for one with an unknown word."""

LEARNED, ABSENT = "phrases.learned", "phrases.absent"


@dataclass(frozen=True, slots=True, eq=False)
class Knowledge:
    """Phrases that a model was trained on, as names and as vectors.

    Attributes:
        names: the target phrases, for the person to read.
        learned: (N, 384) vectors of all phrasings of what was to be found.
        absent: (M, 384) vectors of phrases that were never to be found.
        words: all that is known to be a word of such phrases; empty where a model does not say.
    """

    names: tuple[str, ...]
    learned: Tensor
    absent: Tensor
    words: frozenset[str] = frozenset()

    def is_foreign(self, phrases: Tensor) -> list[bool]:
        """For (P, 384) phrase vectors: is it an organ that the model cannot know?"""
        near = (phrases @ self.learned.T).amax(1)
        wrong = (phrases @ self.absent.T).amax(1)
        return ((near < LEAST_SIMILARITY) | (wrong > near + ABSENT_MARGIN)).tolist()

    def unknown_words(self, phrase: str, encoder: SentenceEncoder) -> tuple[str, ...]:
        """The words of a phrase that are neither known nor whole words to the encoder."""
        if not self.words:
            return ()
        order = re.findall(r"[^\W\d_]+", phrase)
        strange = (word for word in order if word in words_of([phrase]) - self.words)
        return tuple(
            dict.fromkeys(
                word
                for word in strange
                if word.removesuffix("s") not in self.words
                and word.removesuffix("es") not in self.words
                and not encoder.is_word(word)
            )
        )

    @torch.inference_mode()
    def nearest(
        self, phrase: str, unknown: Sequence[str], encoder: SentenceEncoder
    ) -> tuple[str, ...]:
        """Known phrases that one with unknown words may mean, the nearest first.

        Each unknown word is read as the known one that is spelled most alike, where one is; the
        phrase that this gives comes first, if it means the same as a learned one.
        """
        meant = phrase
        for word in unknown:
            alike = difflib.get_close_matches(word, sorted(self.words), 1, SAME_WORD)
            meant = re.sub(rf"\b{word}\b", alike[0], meant) if alike else meant
        vector = encoder([meant])
        learned = bool((vector @ self.learned.T).amax() >= SAME_PHRASE)
        first = [meant] if meant != phrase and learned else []
        order = (encoder(list(self.names)) @ vector[0]).argsort(descending=True).tolist()
        return tuple(dict.fromkeys([*first, *(self.names[place] for place in order)]))[:NEAREST]

    @torch.inference_mode()
    def taught(
        self, names: Sequence[str], phrases: Sequence[str], encoder: SentenceEncoder
    ) -> Knowledge:
        """With new targets and all their phrasings, which are absent phrases no longer."""
        if not phrases:
            return self
        new = encoder(list(phrases))
        still_absent = (self.absent @ new.T).amax(1) < SAME_PHRASE
        return Knowledge(
            tuple(dict.fromkeys((*self.names, *names))),
            torch.cat([self.learned, new]),
            self.absent[still_absent],
            self.words | words_of([*names, *phrases]) if self.words else self.words,
        )


class NanoDetector:
    """A ``Detector`` that answers each phrase with a dense mask and takes its parts as boxes.

    Args:
        net: the network, in evaluation mode from here on.
        encoder: the sentence encoder that it was trained with.
        model_id: name and content hash.
        known: what it was trained on; a phrase foreign to it gives no box and a note.
        box_threshold: least score of a box where a prompt does not say.
    """

    def __init__(
        self,
        net: PhraseNet,
        encoder: SentenceEncoder,
        model_id: str,
        known: Knowledge,
        box_threshold: float = BOX_THRESHOLD,
    ) -> None:
        self.net = net.eval()
        self.encoder = encoder.eval()
        self.model_id = model_id
        self.known = known
        self.box_threshold = box_threshold

    @property
    def names(self) -> tuple[str, ...]:
        """The target phrases that it was trained on."""
        return self.known.names

    def with_adapter(self, adapter: Path) -> NanoDetector:
        """A copy with a LoRA adapter merged into its weights; it answers every phrase with them.

        Raises:
            ModelNotFoundError: the adapter's folder or a file of it is missing.
            CheckpointError: it is damaged, or of another detector.
        """
        net, model_id, card = merged_copy(self.net, self.model_id, adapter)
        known, threshold = self.known, self.box_threshold
        if card is not None:
            known = known.taught(card.targets, card.phrases, self.encoder)
            threshold = card.least_score(threshold)
        return NanoDetector(net, self.encoder, model_id, known, threshold)

    @torch.inference_mode()
    def detect(self, image: NDArray[np.uint8], prompt: TextPrompt) -> Detections:
        """As `Detector.detect`, with a coarse mask for each box (``priors``).

        ``text_threshold`` has no meaning here: every box belongs to its phrase by construction.
        """
        check_image(image)
        phrases = wanted_phrases(prompt.text)
        threshold = self.box_threshold if prompt.box_threshold is None else prompt.box_threshold
        height, width = image.shape[:2]
        vectors = self.encoder(list(phrases))
        foreign = self.known.is_foreign(vectors)
        pyramid = self.net.encode(to_pixels(image, self.net.image_size))
        logits, presence = self.net.ask(
            [level.expand(len(phrases), -1, -1, -1) for level in pyramid], vectors
        )
        whole = F.interpolate(logits[:, None], (height, width), mode="bilinear")[:, 0]
        boxes, scores, names, priors = [], [], [], []
        for index, phrase in enumerate(phrases):
            if foreign[index]:
                continue
            there = float(presence[index].sigmoid())
            probability = whole[index].sigmoid().numpy()
            for part in components(probability > 0.5, LEAST_AREA):
                box = mask_to_box(part)
                score = there * float(probability[part].mean())
                if box is not None and score >= threshold:
                    boxes.append(box)
                    scores.append(score)
                    names.append(phrase)
                    priors.append(_only_around(logits[index].numpy(), box, (height, width)))
        order = np.argsort(scores, kind="stable")[::-1]
        side = logits.shape[-1]
        return Detections(
            boxes=np.asarray(boxes, np.float32).reshape(-1, 4)[order],
            scores=np.asarray(scores, np.float32)[order],
            phrases=tuple(names[i] for i in order),
            priors=np.asarray(priors, np.float32).reshape(-1, side, side)[order],
            notes=tuple(
                note
                for phrase, strange in zip(phrases, foreign, strict=True)
                if phrase not in names and (note := self._why_not(phrase, strange))
            ),
        )

    def _why_not(self, phrase: str, foreign: bool) -> str:
        """Why a phrase gave nothing, where that is for its words; else ""."""
        unknown = self.known.unknown_words(phrase, self.encoder)
        names = ", ".join(self.known.names)
        if unknown:
            words = ", ".join(f"'{word}'" for word in unknown)
            nearest = ", ".join(self.known.nearest(phrase, unknown, self.encoder))
            return (
                f"'{phrase}'{f' {FOREIGN}' if foreign else ''}: unknown "
                f"word{'s' if len(unknown) > 1 else ''} {words}; nearest known phrases: {nearest}. "
                "Type one of these, draw a box or click."
            )
        return f"'{phrase}' {FOREIGN} ({names}). Draw a box or click instead." if foreign else ""


def _only_around(
    logits: NDArray[np.float32], box: NDArray[np.float32], size_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """``logits`` (h, w) of the whole image, pushed to "no" outside of ``box`` and its near rim."""
    height, width = logits.shape
    scale = np.array([width / size_hw[1], height / size_hw[0]] * 2)
    x0, y0, x1, y1 = box * scale
    rows, columns = np.mgrid[:height, :width]
    inside = (rows >= y0 - 2) & (rows <= y1 + 2) & (columns >= x0 - 2) & (columns <= x1 + 2)
    return np.where(inside, logits, np.minimum(logits, -8.0)).astype(np.float32)


def save_nano_detector(detector: NanoDetector, folder: Path, half: bool = True) -> None:
    """Write ``grounder.json`` and (half-precision) ``grounder.safetensors`` to ``folder``."""
    card = {"schema": 1, "image_size": detector.net.image_size, "known": list(detector.known.names)}
    if detector.known.words:
        card["words"] = sorted(detector.known.words)
    if detector.box_threshold != BOX_THRESHOLD:
        card["box_threshold"] = detector.box_threshold
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD_FILE).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    state = {k: v for k, v in detector.net.state_dict().items() if v.is_floating_point()}
    state |= {LEARNED: detector.known.learned, ABSENT: detector.known.absent}
    state = {k: (v.half() if half else v.float()).contiguous() for k, v in state.items()}
    save_file(state, folder / "grounder.safetensors")


def load_nano_detector(folder: Path) -> NanoDetector:
    """Read a model folder.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
    """
    try:
        card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        net = PhraseNet(int(card["image_size"]))
        file = folder / "grounder.safetensors"
        state = {k: v.float() for k, v in load_file(file).items()}
        learned, absent = state.pop(LEARNED), state.pop(ABSENT)
        # Counters of batch norm are integers and not in the file; strict loading wants them.
        counters = {k: v for k, v in net.state_dict().items() if not v.is_floating_point()}
        net.load_state_dict({**counters, **state})
        words = frozenset(str(word) for word in card.get("words", ()))
        known = Knowledge(tuple(str(name) for name in card["known"]), learned, absent, words)
        threshold = float(card.get("box_threshold", BOX_THRESHOLD))
        digest = sha256_of(file)[:8]
    except Exception as error:  # safetensors raises bare exceptions of its own
        raise CheckpointError(
            f"{folder}: the nano detector cannot be read ({error}); reinstall the package, or "
            "check with 'usgseg models verify'"
        ) from error
    encoder = load_sentence_encoder(folder)
    return NanoDetector(net, encoder, f"nano-{digest}", known, threshold)


def learned_phrases(folder: Path) -> Tensor:
    """(N, 384) vectors of every phrasing that the `nano` detector in ``folder`` learned."""
    with safe_open(folder / "grounder.safetensors", framework="pt") as tensors:
        vectors: Tensor = tensors.get_tensor(LEARNED)
    return vectors.float()
