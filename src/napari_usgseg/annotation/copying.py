"""Copying: from the image before to this one, from one object to all of its class."""

from __future__ import annotations

from dataclasses import replace

from ..jobs import Lane, Scope, files, inference
from ..jobs.files import Prior
from ..jobs.inference import Found
from ..models.grounding.phrases import as_phrase
from ..project.records import ProposedObject
from .class_table import FIRST_CLASS
from .commands.copies import add_alike, add_objects, masks_of, prompts_of
from .document import AnnotationDocument
from .prompting import Prompting
from .state import MODEL

PROMPTS, MASKS, ALIKE = "copy prompts", "copy masks", "all of this class"
"""Names of the edits."""


class Copying:
    """``session.copying``: begins with what is there.

    What is copied is segmented anew on this image and then proposed beside what is there, as one
    edit. Nothing changes before the answer has come.
    """

    def __init__(self, document: AnnotationDocument, prompting: Prompting) -> None:
        self._document, self._prompting = document, prompting

    def prompts(self) -> None:
        """Point at the same places as on the previous image."""
        self._ask(PROMPTS)

    def masks(self) -> None:
        """Begin with the masks of the previous image, each fitted to this one."""
        self._ask(MASKS)

    def _ask(self, name: str) -> None:
        document = self._document
        before = document.image_queue.neighbour(-1)
        if document.store is None or document.loaded is None or document.is_waiting:
            return
        if before is None:
            document.say("There is no image before this one to copy from.")
            return
        record = document.image_queue.get(before)
        document.ask(
            files.read_prior,
            document.store,
            record,
            lane=Lane.FILES,
            key="prior",
            scope=Scope.PROPOSAL,
            text=f"Reading what was done on {before}...",
            done=lambda prior: self._segment(name, prior, record.size_hw),
        )

    def _segment(self, name: str, prior: Prior, size_hw: tuple[int, int]) -> None:
        """Have what was done on the previous image, of so many pixels, segmented here."""
        document, chosen = self._document, self._document.settings
        if document.labels is None:
            return
        if tuple(size_hw) != document.labels.shape:
            document.say("The previous image has another size, so nothing can be copied from it.")
            return
        items = prompts_of(prior) if name == PROMPTS else masks_of(prior, chosen.labelling)
        if not items:
            what = "prompt" if name == PROMPTS else "mask"
            document.say(f"There is no {what} on the previous image.")
            return
        document.ask(
            inference.segment_objects,
            document.source(),
            chosen.segmenter,
            tuple(item.prompts for item in items),
            chosen.cleaning,
            lane=Lane.CLICKS,
            key="objects",
            scope=Scope.PROPOSAL,
            text="Segmenting...",
            kind=MODEL,
            done=lambda found: self._take(name, items, found),
        )

    def _take(self, name: str, items: tuple[ProposedObject, ...], found: Found) -> None:
        """Propose what was copied, with the masks that it has on this image."""
        document = self._document
        self._prompting.credit(found)
        pairs = zip(items, found.proposals, strict=True)
        made = [replace(item, proposal=proposal) for item, proposal in pairs]
        made = [item for item in made if item.has_mask]
        if not made:
            document.say("Nothing was found at the places of the previous image.")
            return
        document.do_now(add_objects, name, made, found.model_id)
        document.say(f"{len(made)} of {len(items)} copied.")

    def alike(self) -> None:
        """Look for the other objects of the picked class, by its name.

        In 35 cases with several objects of a class, one of them given (phantoms, and usgra's
        validation and training side), the class's name through the detector found the others with
        an F1 of 0.68, likeness to the given one in the segmenter's features with 0.38 at best.
        """
        document = self._document
        if document.loaded is None or document.is_waiting:
            return
        item = document.table.get(document.table.active)
        phrase = "" if item is None else as_phrase(item.name)  # one phrase, commas in it or not
        if item is None or item.name == FIRST_CLASS or not phrase:
            document.say("Name the class first: double-click it, and type what it shows.")
            return

        def take(found: Found) -> None:
            self._prompting.credit(found)
            document.do_now(add_alike, ALIKE, item.class_id, found)

        self._prompting.segment_text(
            phrase,
            key="alike",
            says=f"Looking for more of '{item.name}'...",
            kind=MODEL,
            done=take,
        )
