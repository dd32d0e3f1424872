"""Prompting: what is asked of the models for a phrase, what a person points at, or a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..core.types import TextPrompt
from ..jobs import Job, Lane, Scope, files, inference
from ..jobs.files import Prior
from ..jobs.inference import Found
from ..models.grounding.phrases import all_foreign, as_phrase, split_phrases
from ..models.grounding.selections import names_in, read_selections
from ..project.records import EventKind, ProposedObject
from ..project.versions import number_in
from .class_table import FIRST_CLASS, named
from .commands import classes, prompts
from .commands.copies import add_alike, add_objects, masks_of, prompts_of
from .commands.search import Search, nameless_in_question, propose_found
from .document import AnnotationDocument
from .learners.adapter_tuning import AdapterTuning
from .learners.prompt_predictor import PromptPredictor
from .state import MODEL, TEXT

MANY_CLICKS = 3
ANOTHER_WAY = (
    "Still off? Shift+drag the box tool round the object, or lasso it: what a negative lasso goes "
    "round is cut off."
)
NOTHING_THERE = "Nothing found at this prompt. Try a box around the object."


class Prompting:
    """``session.prompting``: prompts of all kinds, each an edit that can be taken back.

    Args:
        document: that they are of.
        predictor: whose learned prompts join a person's.
        tuning: whose detector finds phrases.
    """

    def __init__(
        self, document: AnnotationDocument, predictor: PromptPredictor, tuning: AdapterTuning
    ) -> None:
        self._document, self._predictor, self._tuning = document, predictor, tuning
        self._vain: tuple[object, ...] = ()  # the search that failed last, or was refused
        self._asked: list[tuple[ProposedObject, Job]] = []  # whose answers are on their way
        self.add_point = document.bind(prompts.add_point)
        self.add_box = document.bind(prompts.add_box)
        self.add_scribble = document.bind(prompts.add_scribble)
        self.add_lasso = document.bind(prompts.add_lasso)
        self.draw_lasso = document.bind(prompts.draw_lasso)
        self.draw_stroke = document.bind(prompts.draw_stroke)
        self.draw_trace = document.bind(prompts.draw_trace)
        self.pick_object = document.bind(prompts.pick_object)
        self.pick_object_at = document.bind(prompts.pick_object_at)
        self.next_object = document.bind(prompts.next_object)
        self.drop_object = document.bind(prompts.drop_object)
        self.drop = document.bind(prompts.drop)
        self.new_object = document.bind(prompts.new_object)

    # -- phrases -------------------------------------------------------------------------------

    def find(self, phrase: str | None = None) -> None:
        """Look for a phrase (or the last one) in the current image."""
        document = self._document
        document.flush()
        if phrase is not None and phrase.strip() != document.settings.phrase:
            document.set_settings(replace(document.settings, phrase=phrase.strip()))
        if document.loaded is None:
            return
        text = document.settings.phrase
        if not split_phrases(text):
            document.say(
                "Type what to look for, such as 'breast tumor', then press Find.", "warning"
            )
            return
        document.jobs.cancel("alike", "use")
        search, asked = self._begin_search(text, by_person=phrase is not None), self._wanted

        def done(found: Found) -> None:
            nouns = ". ".join(item.phrase for item in read_selections(text))
            self._vain = asked if all_foreign(nouns, found.notes) else ()
            self._take_found(search, found)

        def failed(error: str) -> None:
            self._vain = asked
            self.drop_pending()
            document.fail(error, TEXT)

        self.segment_text(
            text,
            key="text",
            says=f"Looking for '{text}'...",
            kind=TEXT,
            done=done,
            failed=failed,
        )

    def find_on_open(self) -> None:
        """Look for the phrase in an image that opens; not where that was in vain before.

        Whether the model cannot be had or does not know the phrase: on the next image it would be
        the same.
        """
        if self._vain == self._wanted:
            text = self._document.settings.phrase
            self._document.say(f"'{text}' is not looked for by itself: press Find to try again.")
        else:
            self.find()

    @property
    def _wanted(self) -> tuple[object, ...]:
        """All that a search depends on but the image."""
        chosen = self._document.settings
        limits = chosen.box_threshold, chosen.text_threshold
        return chosen.phrase, chosen.segmenter, self._tuning.detector, *limits

    def segment_text(
        self,
        text: str,
        *,
        key: str,
        says: str,
        kind: str,
        done: Callable[[Found], None],
        failed: Callable[[str], None] | None = None,
    ) -> None:
        """Have all that a phrase names in the current image found and segmented."""
        document, chosen = self._document, self._document.settings
        document.ask(
            inference.segment_text,
            document.source(),
            chosen.segmenter,
            self._tuning.detector,
            TextPrompt(text, chosen.box_threshold, chosen.text_threshold),
            chosen.cleaning,
            self._tuning.fallback,
            lane=Lane.PHRASES,
            key=key,
            scope=Scope.PROPOSAL,
            text=says,
            kind=kind,
            done=done,
            failed=failed,
        )

    def _begin_search(self, text: str, by_person: bool) -> Search:
        """Of one phrase a person picks its class, if there is one."""
        document, phrases = self._document, names_in(text)
        picks = by_person and len(phrases) == 1
        there = named(document.table, text) or (
            named(document.table, phrases[0]) if picks else None
        )
        if picks and there is not None:
            document.do(classes.pick_class, there.class_id, say=False)
        return Search(text, phrases, picks, document.table.active)

    def _take_found(self, search: Search, found: Found) -> None:
        """Take what was found.

        Where the nameless class of a new folder may be meant, it is first looked up whether
        another image has it, for what is labelled so is not to be renamed.
        """
        document = self._document
        document.flush()
        self.credit(found)
        if document.record is None or document.store is None:
            return

        def propose(used: str = "") -> None:
            free = not used and nameless_in_question(document.state, search, found) is not None
            self._note_search(search, found)
            document.do(propose_found, search, found, free)

        asked = nameless_in_question(document.state, search, found)
        if asked is None:
            propose()
            return
        document.ask(
            files.find_use,
            document.store,
            asked,
            document.record.image_id,
            lane=Lane.FILES,
            key="use",
            scope=Scope.PROPOSAL,
            text=f"Looking for '{search.text}'...",
            done=propose,
            failed=propose,  # it may be in use
        )

    def _note_search(self, search: Search, found: Found) -> None:
        """Write down what was looked for and what came of it."""
        document = self._document
        assert document.record is not None
        document.note(
            EventKind.SEARCH,
            document.record.image_id,
            body={
                "phrase": search.text,
                "found": len(found.proposals),
                "phrases": [item.phrase for item in found.proposals],
                "segmenter": document.settings.segmenter,
                "detector": self._tuning.detector_name,
                "seconds": round(found.seconds, 4),
            },
        )

    # -- the masks of prompts ------------------------------------------------------------------

    def ask(self) -> None:
        """Have those objects segmented whose newest prompt has no answer yet.

        Each waits for its own: a prompt for another object calls nothing off.
        """
        document = self._document
        if document.loaded is None:
            return
        going_on = []
        for asked, job in self._asked:
            # The object was undone, dropped or prompted again (records are new at each change):
            # nobody takes the answer.
            if document.proposal.index_of(asked) is None:
                job.cancel()
            elif job.is_awaited:
                going_on.append((asked, job))
        waiting = [asked for asked, _ in going_on]
        self._asked = going_on
        for item in document.proposal.objects:
            if item.is_asked and item not in waiting:
                self._ask(item)

    def _ask(self, asked: ProposedObject) -> None:
        """Have an object segmented."""
        document, chosen = self._document, self._document.settings

        def take(found: Found) -> None:
            self._take_mask(asked, found)

        job = document.ask(
            inference.segment_prompt,
            document.source(),
            chosen.segmenter,
            asked.prompts,
            chosen.cleaning,
            asked.corrected,
            asked.drawn,
            self._predictor.joining(asked.class_id),
            lane=Lane.CLICKS,
            scope=Scope.PROPOSAL,
            text="Segmenting...",
            kind=MODEL,
            done=take,
        )
        self._asked.append((asked, job))

    def _take_mask(self, asked: ProposedObject, found: Found) -> None:
        """Put what was found in the place of the object that waits for it, if it still does."""
        document = self._document
        if document.proposal.index_of(asked) is None:
            return
        ppn = number_in(found.model_id) or asked.ppn
        item = replace(asked, proposal=found.proposals[0], ppn=ppn, drawn=None, is_asked=False)
        body = {"model": found.model_id, "seconds": round(found.seconds, 4)}
        document.answer(asked, item, found.model_id, body)
        self.credit(found)
        if not item.has_mask:
            document.facts["note"] = NOTHING_THERE
        elif len(item.prompts.point_coords) >= MANY_CLICKS and asked.drawn is None:
            document.facts["note"] = ANOTHER_WAY
        if found.notes:  # why learned prompts did not join
            self._predictor.is_broken(" ".join(found.notes))
        document.proposal_changed.emit()
        document.states_changed.emit()

    def segment_objects(
        self, items: tuple[ProposedObject, ...], *, key: str, done: Callable[[Found], None]
    ) -> None:
        """Have the prompts of several objects segmented in the current image."""
        document, chosen = self._document, self._document.settings
        document.ask(
            inference.segment_objects,
            document.source(),
            chosen.segmenter,
            tuple(item.prompts for item in items),
            chosen.cleaning,
            lane=Lane.CLICKS,
            key=key,
            scope=Scope.PROPOSAL,
            text="Segmenting...",
            kind=MODEL,
            done=done,
        )

    def ask_again(self) -> None:
        """Have the active object segmented anew, for the model or the cleaning is another."""
        proposal, current = self._document.proposal, self._document.proposal.current
        if current is None or proposal.active is None or current.prompts.is_empty:
            return
        # The logits are another model's, or of another cleaning: begin from the prompts alone.
        prompts = replace(current.prompts, mask_input=None)
        item = replace(current, prompts=prompts, drawn=None, is_asked=True)
        again = proposal.with_object(proposal.active, item)
        self._document.edit_proposal("redo with other settings", again)

    def credit(self, found: Found) -> None:
        """Say which models answered, and how fast."""
        facts = self._document.facts
        facts.pop("note", None)
        facts["model"] = found.model_id
        if found.fell_back:
            self._tuning.is_broken(found.fell_back)
        milliseconds = 1000 * found.seconds
        quick = milliseconds < 1000
        facts["time"] = f"{milliseconds:.0f} ms" if quick else f"{found.seconds:.1f} s"

    # -- calling off ---------------------------------------------------------------------------

    def clear_prompts(self) -> None:
        """Take back everything that is proposed on this image."""
        self.cancel()
        self._document.do(prompts.clear)

    def cancel(self) -> None:
        """Await no proposal any more."""
        self._document.jobs.cancel(Scope.PROPOSAL)
        self.drop_pending()
        self._document.tell()

    def drop_pending(self) -> None:
        """Take back the prompts that have no answer."""
        document = self._document
        while asked := [item for item in document.proposal.objects if item.is_asked]:
            current = document.proposal.current
            document.call_off(current if current in asked and current else asked[-1])
            document.proposal_changed.emit()


PROMPTS, MASKS, ALIKE = "copy prompts", "copy masks", "find alike"
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
        document.flush()
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
        document = self._document
        if document.labels is None:
            return
        if tuple(size_hw) != document.labels.shape:
            document.say("The previous image has another size, so nothing can be copied from it.")
            return
        labelling = document.settings.labelling
        items = prompts_of(prior) if name == PROMPTS else masks_of(prior, labelling)
        if not items:
            what = "prompt" if name == PROMPTS else "mask"
            document.say(f"There is no {what} on the previous image.")
            return
        self._prompting.segment_objects(
            items, key="objects", done=lambda found: self._take(name, items, found)
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
        document.do(add_objects, name, made, found.model_id)
        document.say(f"{len(made)} of {len(items)} copied.")

    def alike(self) -> None:
        """Look for the other objects of the picked class, by its name.

        In 35 cases with several objects of a class, one of them given (phantoms, and usgra's
        validation and training side), the class's name through the detector found the others with
        an F1 of 0.68, likeness to the given one in the segmenter's features with 0.38 at best.
        """
        document = self._document
        document.flush()
        if document.loaded is None or document.is_waiting:
            return
        item = document.table.get(document.table.active)
        phrase = "" if item is None else as_phrase(item.name)  # one phrase, commas in it or not
        if item is None or item.name == FIRST_CLASS or not phrase:
            document.say("Name the class first: double-click it, and type what it shows.")
            return

        def take(found: Found) -> None:
            self._prompting.credit(found)
            document.do(add_alike, ALIKE, item.class_id, found)

        self._prompting.segment_text(
            phrase,
            key="alike",
            says=f"Looking for more of '{item.name}'...",
            kind=MODEL,
            done=take,
        )
