"""Results of a search for phrases: which class each object gets, and what is said of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.types import Prompts
from ...io.labels import semantic, values_in
from ...jobs import Lane, Scope, files
from ...jobs.inference import Found
from ...models.grounding.phrases import split_phrases
from ...project.records import ClassTable, Edit, EventKind, ImageProposal, ProposedObject
from ...segmentation.propose import Proposal
from . import commit

if TYPE_CHECKING:
    from ..session import AnnotationSession


@dataclass(frozen=True, slots=True)
class Search:
    """What was looked for.

    Attributes:
        text: as it was typed.
        phrases: in it.
        picks: the class of the one phrase is to be the picked one.
        active: the class that was picked when the search began.
    """

    text: str
    phrases: tuple[str, ...]
    picks: bool
    active: int


class Finding:
    """``session.finding``: from the answer of a search to proposed objects and their classes.

    An object belongs to the class that its phrase names, and to a new one where there is none,
    never to the picked one. Only what was found makes a class.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session

    def begin(self, text: str, by_person: bool) -> Callable[[Found], None]:
        """Begin to look for phrases; of one a person picks its class, if there is one.

        Returns:
            What takes what was found.
        """
        session, phrases = self._session, split_phrases(text)
        picks = by_person and len(phrases) == 1
        there = commit.named(session.table, text)
        if picks and there is not None:
            session.editing.pick_class(there.class_id, say=False)
        search = Search(text, phrases, picks, session.table.active)
        return lambda found: self._take(search, found)

    def _take(self, search: Search, answer: Found) -> None:
        """Take what was found.

        Where the nameless class of a new folder may be meant, it is first looked up whether
        another image has it, for what is labelled so is not to be renamed.
        """
        session = self._session
        session.credit(answer)
        if session.record is None or session.store is None:
            return
        names = self._names(search, answer)
        first = commit.nameless(session.table)
        new = any(commit.named(session.table, name) is None for name in names.values())
        if first is None or not new or self._has(first.class_id):
            self._propose(search, answer, names, nameless_is_free=False)
            return

        def go_on(used: str) -> None:
            if session.record is not None:
                first = commit.nameless(session.table)
                free = not used and first is not None and not self._has(first.class_id)
                names = self._names(search, answer)
                self._propose(search, answer, names, nameless_is_free=free)

        session.ask(
            files.find_use,
            session.store,
            first.class_id,
            session.record.image_id,
            lane=Lane.FILES,
            key="use",
            scope=Scope.PROPOSAL,
            text=f"Looking for '{search.text}'...",
            done=go_on,
            failed=go_on,  # it may be in use
        )

    def _has(self, class_id: int) -> bool:
        """True where the shown image has the class, in its labels or in what a person made."""
        session = self._session
        kept = commit.kept_by_person(session.proposal)
        if any(item.class_id == class_id for item in kept) or session.labels is None:
            return True
        return class_id in values_in(semantic(session.labels, session.settings.labelling))

    def _names(self, search: Search, answer: Found) -> dict[str, str]:
        """The name of the class that each found phrase stands for.

        What was typed may be the name of one class though it has several phrases ("n. medianus").
        """
        whole = commit.named(self._session.table, search.text)
        found = dict.fromkeys(item.phrase for item in answer.proposals)
        if whole is not None:
            return dict.fromkeys(found, whole.name)
        if len(search.phrases) == 1:
            return dict.fromkeys(found, search.phrases[0])
        order = [phrase for phrase in search.phrases if phrase in found]
        return {phrase: phrase for phrase in dict.fromkeys((*order, *found))}

    def _propose(
        self, search: Search, answer: Found, names: dict[str, str], nameless_is_free: bool
    ) -> None:
        session = self._session
        assert session.record is not None
        before = session.table
        wanted = tuple(dict.fromkeys(names.values()))
        table, ids = commit.classes_for_phrases(before, wanted, nameless_is_free)
        if search.picks and ids and before.active == search.active:
            table = table.picking(ids[wanted[0]])
        class_ids = [ids[names[item.phrase]] for item in answer.proposals]
        found = tuple(
            ProposedObject(class_id, Prompts(), item)
            for class_id, item in zip(class_ids, answer.proposals, strict=True)
        )
        kept = commit.kept_by_person(session.proposal)
        pending = session.proposal.pending  # a prompt that came meanwhile goes on
        active = next((n for n, item in enumerate(kept) if item is session.proposal.current), None)
        proposal = ImageProposal(
            (*kept, *found), active if pending else None, pending, answer.model_id, answer.notes
        )
        session.prompting.class_is_new = False
        self._note(search, answer)
        if found or session.proposal.objects:
            tables = None if table.classes == before.classes else (before, table)
            edit = Edit("find", session.record.image_id, (session.proposal, proposal), table=tables)
            session.do(edit)
            if tables is None:
                session.set_table(table)
        else:
            session.proposal = proposal
            session.proposal_changed.emit()
        said = [_summary(answer.proposals, class_ids, before, table)] if found else []
        said += answer.notes
        drawn = table.get(table.active)
        if not found and search.picks and drawn is not None and drawn.name != commit.FIRST_CLASS:
            said.append(f"What you draw now is '{drawn.name}'.")
        if said:
            session.facts["note"] = " ".join(said)

    def _note(self, search: Search, answer: Found) -> None:
        """Write down what was looked for and what came of it."""
        session = self._session
        assert session.record is not None
        session.note(
            EventKind.SEARCH,
            session.record.image_id,
            body={
                "phrase": search.text,
                "found": len(answer.proposals),
                "phrases": [item.phrase for item in answer.proposals],
                "segmenter": session.settings.segmenter,
                "detector": session.tuner.detector_name,
                "seconds": round(answer.seconds, 4),
            },
        )


def _summary(
    proposals: tuple[Proposal, ...], class_ids: list[int], before: ClassTable, after: ClassTable
) -> str:
    """What was found of each class, in a few words: "found 2 'cyst' (a new class), best 0.83"."""
    words: list[str] = []
    for class_id, count in Counter(class_ids).items():
        item, old = after.get(class_id), before.get(class_id)
        assert item is not None
        new = " (a new class)" if old is None or old.name != item.name else ""
        words.append(f"{count} '{item.name}'{new}")
    best = max(item.score for item in proposals)
    return f"found {', '.join(words)}, best {best:.2f}"
