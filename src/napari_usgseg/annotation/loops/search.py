"""Search of a loop: a phrase, or what the prompt predictor has learned, on all its frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...core.types import ImageRecord, TextPrompt
from ...effort.efforts import BY_PHRASE, BY_PPN
from ...jobs import inference
from ...jobs.inference import FoundOn, LearnedPrompts, PhraseSearch
from ...models.grounding.phrases import split_phrases
from ...project.project import LabelStore
from ...project.records import FIND_ON_FRAMES, ClassTable, ImageProposal
from .. import class_table
from ..commands.search import Search, class_names, propose_on
from ..document import AnnotationDocument
from ..learners.adapter_tuning import AdapterTuning
from ..learners.prompt_predictor import PromptPredictor
from .frames import Loops
from .runs import Arrival, Run, Runs, in_frames, spans, standing_of

NOTHING_FREE = (
    "Every frame that you ask for is labelled, set aside, or has something of yours on it."
)


class SearchRun(Run):
    """A search over a loop that goes on."""

    name = FIND_ON_FRAMES

    def __init__(self, frames: tuple[ImageRecord, ...], wanted: tuple[int, ...]) -> None:
        super().__init__(frames, wanted)
        self._hits: list[int] = []

    def frame_in(self, word: FoundOn) -> int:
        """As `Run.frame_in`."""
        return word.frame

    def noted(self, arrival: Arrival, after: ImageProposal, source: str) -> dict[str, Any]:
        """What is noted beside what is proposed."""
        found = arrival.word.found
        if found.proposals:
            self._hits.append(arrival.frame)
        scores: dict[str, float] = {}
        for item in after.objects:
            if item.proposal is not None and any(item.proposal is one for one in found.proposals):
                key = str(item.class_id)
                scores[key] = round(min(scores.get(key, 1.0), item.proposal.score), 4)
        seconds = round(found.seconds, 4)
        return {"model": found.model_id, "source": source, "scores": scores, "seconds": seconds}

    def summary(self, document: AnnotationDocument) -> str:
        """As `Run.summary`."""
        said = f"Found on {len(self._hits)} of {in_frames(len(self.done))}."
        nothing = sorted(set(self.done) - set(self._hits))
        return f"{said} Nothing on {spans(nothing)}." if nothing and self._hits else said


class PhraseRun(SearchRun):
    """A search for a phrase; a class that it names and that is not there is new."""

    doing = "Looking for it"

    def __init__(
        self, frames: tuple[ImageRecord, ...], wanted: tuple[int, ...], search: Search
    ) -> None:
        super().__init__(frames, wanted)
        self._search = search

    def tables(
        self, document: AnnotationDocument, arrivals: Sequence[Arrival]
    ) -> tuple[ClassTable, ClassTable] | None:
        """As `Run.tables`: only what was found makes classes."""
        before, after = document.table, document.table
        for arrival in arrivals:
            names = class_names(before, self._search, arrival.word.found)
            after, _ = class_table.classes_for_phrases(after, tuple(names.values()), False)
        return None if after.classes == before.classes else (before, after)

    def proposed(
        self, document: AnnotationDocument, arrival: Arrival
    ) -> tuple[ImageProposal, dict[str, Any]] | None:
        """As `Run.proposed`."""
        found = arrival.word.found
        after = propose_on(document.table, self._search, found, arrival.before)
        return after, self.noted(arrival, after, BY_PHRASE)


class LearnedRun(SearchRun):
    """Run of a prompt predictor over the frames."""

    doing = "Proposing what was learned"

    def __init__(
        self,
        frames: tuple[ImageRecord, ...],
        wanted: tuple[int, ...],
        predictor: PromptPredictor,
    ) -> None:
        super().__init__(frames, wanted)
        self._predictor = predictor

    def proposed(
        self, document: AnnotationDocument, arrival: Arrival
    ) -> tuple[ImageProposal, dict[str, Any]] | None:
        """As `Run.proposed`."""
        after = self._predictor.proposals.of(arrival.word.found, arrival.before)
        return after, self.noted(arrival, after, BY_PPN)


class LoopSearch:
    """``session.loop_search``: phrases and learned proposals on the frames of the loop shown.

    Frames that a person has a part in are left alone, so are those set aside. Undo takes a whole
    run back.

    Args:
        document: whose images they are.
        loops: the loop that is shown.
        runs: that a search is one of.
        predictor: what was learned.
        tuning: whose detector finds phrases.
    """

    def __init__(
        self,
        document: AnnotationDocument,
        loops: Loops,
        runs: Runs,
        predictor: PromptPredictor,
        tuning: AdapterTuning,
    ) -> None:
        self._document, self._loops, self._runs = document, loops, runs
        self._predictor, self._tuning = predictor, tuning

    def find(self, within: range | None = None) -> None:
        """Look for the phrase on the frames, or on those ``within``."""
        document = self._document
        chosen = document.settings
        phrases = split_phrases(chosen.phrase)
        if not phrases:
            document.say("Type what to look for, such as 'breast tumor', first.", "warning")
            return
        search = Search(chosen.phrase, phrases, False, document.table.active)
        prompt = TextPrompt(chosen.phrase, chosen.box_threshold, chosen.text_threshold)
        asked = PhraseSearch(prompt, self._tuning.detector, self._tuning.fallback)
        self._ask(within, asked, lambda frames, wanted: PhraseRun(frames, wanted, search))

    def propose_learned(self, within: range | None = None) -> None:
        """Have the frames, or those ``within``, segmented by the prompt predictor in use."""
        learned = self._predictor.learned()
        if learned is None:
            self._document.say(self._predictor.why_not, "warning")
            return
        self._ask(
            within, learned, lambda frames, wanted: LearnedRun(frames, wanted, self._predictor)
        )

    def _ask(self, within: range | None, asked: PhraseSearch | LearnedPrompts, made: Any) -> None:
        document, frames = self._document, self._loops.frames
        if not self._runs.can_begin():
            return
        here = self._loops.here or 0

        def begin(free: list[int]) -> None:
            if not free:
                document.say(NOTHING_FREE)
                return
            # the frame that is looked at and those behind it first, for they are seen first
            wanted = tuple(sorted(free, key=lambda frame: (frame < here, frame)))
            numbers = [0 if record.frame is None else record.frame for record in frames]
            self._runs.begin(
                made(frames, wanted),
                inference.search_loop,
                frames[0].path,
                document.settings.segmenter,
                asked,
                tuple(numbers[frame] for frame in wanted),
                document.fields_of_view(),
                document.settings.cleaning,
            )

        self._runs.prepare(
            free_frames, document.store, frames, within or range(len(frames)), then=begin
        )


def free_frames(store: LabelStore, frames: Sequence[ImageRecord], within: range) -> list[int]:
    """The frames that a person has no part in, and has not set aside."""
    standings = ((frame, standing_of(store, frames[frame])) for frame in within)
    return [frame for frame, standing in standings if standing.is_open and not standing.is_fixed]
