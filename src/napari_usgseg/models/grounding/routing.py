"""A detector with a LoRA adapter that answers only for what the adapter was taught.

A few images of one organ teach a network where that organ is, and it forgets the others: nothing in
those images says what was known before. So each phrase goes to the network that knows it: those of
the adapter (and what means the same) to the tuned one, all others to the base, whose answers are
exactly as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...core.types import Detections, TextPrompt
from ..interfaces import Detector
from ..lora.card import read_adapter_card
from .grounding_dino import GroundingDino
from .nano_detector import NanoDetector, SentenceEncoder, learned_phrases, load_sentence_encoder
from .phrases import split_phrases

TAUGHT = 0.7
"""A phrase as similar as this (cosine) to one that was taught means the same."""
ROUNDING = 1e-3
"""The base's vectors are in half precision: what it knows too and the adapter was taught is as near
to either, and the adapter answers it."""


def with_routed_adapter(
    base: NanoDetector | GroundingDino, adapter: Path, nano_folder: Path
) -> Detector:
    """A detector whose adapter answers what it was taught; all other phrases are the base's.

    An adapter that brings no card, or no phrases, answers everything.

    Args:
        base: the detector that the adapter belongs to.
        adapter: the adapter's folder.
        nano_folder: of the embedded `nano` detector; its sentence encoder stands in for the one
            that a Grounding DINO does not have.

    Raises:
        ModelNotFoundError: the adapter's folder or a file of it is missing.
        CheckpointError: it is damaged, or of another detector.
    """
    card = read_adapter_card(adapter)
    if card is None or not card.phrases:
        return base.with_adapter(adapter)
    tuned: NanoDetector | GroundingDino
    if isinstance(base, NanoDetector):
        encoder, known = base.encoder, base.known.learned
        tuned = base.with_adapter(adapter)
        share_tensors(tuned.net, base.net)
        # What the person is told of a phrase that neither knows names the new targets, too.
        base.known = replace(base.known, names=tuned.known.names, words=tuned.known.words)
    else:
        # "breast tumor" is near "thyroid nodule", and another thing: so what nano knows counts.
        encoder, known = load_sentence_encoder(nano_folder), learned_phrases(nano_folder)
        tuned = base.with_adapter(adapter)
        share_tensors(tuned.model, base.model)
    taught = TaughtPhrases(card.phrases, encoder, known, card.box_thresholds)
    return RoutedDetector(base, tuned, taught, taught.least_score)


class TaughtPhrases:
    """Tells which phrases an adapter answers.

    Args:
        phrases: what it was taught.
        encoder: says how similar two phrases are.
        known: (N, 384) vectors of what the base knows, if that is known: a phrase that is nearer to
            these stays with the base.
        least: target -> least score of a box, where it is not the detector's own.
    """

    @torch.inference_mode()
    def __init__(
        self,
        phrases: Sequence[str],
        encoder: SentenceEncoder,
        known: torch.Tensor | None = None,
        least: Mapping[str, float] | None = None,
    ) -> None:
        self.phrases = tuple(phrases)
        self.encoder = encoder
        self.vectors = encoder(list(phrases))
        self.known = known
        self.least = dict(least or {})
        self.targets = encoder(list(self.least)) if self.least else None

    @torch.inference_mode()
    def __call__(self, phrases: Sequence[str]) -> list[bool]:
        """For each phrase: does the adapter answer it?"""
        asked = self.encoder(list(phrases))
        near = (asked @ self.vectors.T).amax(1)
        taught = near >= TAUGHT
        if self.known is not None:
            taught &= near >= (asked @ self.known.T).amax(1) - ROUNDING
        return taught.tolist()

    @torch.inference_mode()
    def least_score(self, phrase: str) -> float:
        """The least score of a box for a taught phrase: that of the target nearest to it."""
        if self.targets is None:
            return 0.0
        nearest = int((self.encoder([phrase]) @ self.targets.T).argmax())
        return list(self.least.values())[nearest]


class RoutedDetector:
    """A `Detector`: two of them, and who is asked for which phrase.

    Args:
        base: as it was before.
        tuned: with the adapter merged in.
        is_taught: for each phrase, does ``tuned`` answer it?
        least_score: of a box for a phrase that ``tuned`` answers, where a prompt does not say.
    """

    def __init__(
        self,
        base: Detector,
        tuned: Detector,
        is_taught: Callable[[Sequence[str]], list[bool]],
        least_score: Callable[[str], float] = lambda phrase: 0.0,
    ) -> None:
        self.base, self.tuned, self.is_taught = base, tuned, is_taught
        self.least_score = least_score

    @property
    def model_id(self) -> str:
        """Name and content hash of base and adapter."""
        return self.tuned.model_id

    @property
    def names(self) -> tuple[str, ...]:
        """The phrases that either knows as they are."""
        return (*getattr(self.base, "names", ()), *getattr(self.is_taught, "phrases", ()))

    def detect(self, image: NDArray[np.uint8], prompt: TextPrompt) -> Detections:
        """As `Detector.detect`."""
        phrases = split_phrases(prompt.text)
        taught = self.is_taught(phrases) if phrases else []
        if not any(taught):
            return self.base.detect(image, prompt)
        if all(taught):
            return self._tuned(image, prompt)
        parts = []
        for detect, wanted in ((self.base.detect, False), (self._tuned, True)):
            own = [phrase for phrase, here in zip(phrases, taught, strict=True) if here == wanted]
            text = ". ".join(own)
            thresholds = prompt.box_threshold, prompt.text_threshold
            parts.append(detect(image, TextPrompt(text, *thresholds)))
        return _joined(*parts)

    def _tuned(self, image: NDArray[np.uint8], prompt: TextPrompt) -> Detections:
        """The tuned detector's boxes, each with the least score that its target needs."""
        found = self.tuned.detect(image, prompt)
        if prompt.box_threshold is not None:
            return found
        least = {phrase: self.least_score(phrase) for phrase in set(found.phrases)}
        places = enumerate(zip(found.phrases, found.scores, strict=True))
        kept = [place for place, (phrase, score) in places if score >= least[phrase]]
        return replace(
            found,
            boxes=found.boxes[kept],
            scores=found.scores[kept],
            phrases=tuple(found.phrases[place] for place in kept),
            priors=None if found.priors is None else found.priors[kept],
        )


def _joined(one: Detections, other: Detections) -> Detections:
    scores = np.concatenate([one.scores, other.scores])
    order = np.argsort(-scores, kind="stable")
    priors = None
    if one.priors is not None and other.priors is not None:
        priors = np.concatenate([one.priors, other.priors])[order]
    names = (*one.phrases, *other.phrases)
    return Detections(
        np.concatenate([one.boxes, other.boxes])[order],
        scores[order],
        tuple(names[index] for index in order),
        priors,
        (*one.notes, *other.notes),
    )


def share_tensors(model: torch.nn.Module, other: torch.nn.Module) -> None:
    """Let ``model`` use the parameters of ``other`` that have the same name and values."""
    theirs = dict(other.named_parameters(remove_duplicate=False))
    for name, tensor in list(model.named_parameters(remove_duplicate=False)):
        same = theirs.get(name)
        if same is not None and same.shape == tensor.shape and torch.equal(same, tensor):
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, same)
