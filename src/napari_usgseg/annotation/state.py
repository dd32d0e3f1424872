"""State of an annotation: everything that a command reads, and what a command makes of it.

A command is a pure function: ``state, what the person gave -> Change``. It does not know the
session, changes nothing by itself, and refuses with a sentence (``Refused``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ..core.types import ImageRecord
from ..io.labels import Labelling, LabelMap
from ..project.records import ClassTable, Edit, ImageProposal, ImageState, difference
from .class_table import first_table, with_labels, with_values
from .settings import Settings


class Refused(Exception):
    """Refusal of a command: a sentence with the cure; "" where no word is needed.

    ``level`` is "info" for the status line alone, "warning" for a notification too.
    """

    def __init__(self, text: str = "", level: str = "info") -> None:
        super().__init__(text)
        self.level = level


@dataclass(frozen=True, slots=True, eq=False)
class AnnotationState:
    """The image that is shown, its labels, what is proposed on it, and what is picked.

    Attributes:
        settings: models, phrase, thresholds, cleaning, labelling.
        table: the classes and the picked one.
        record: of the image that is shown, or None.
        labels: its label map (H, W), replaced and never changed in place; None while it is read.
        proposal: what is proposed on it.
        decided: its state, whatever is proposed on it.
        unflagged: the state that it has again when its flag is taken away.
        awaits_proposal: a job that ends with a proposal goes on.
        begins_new: the next positive prompt begins an object, whatever is near.
        picked: in instance labelling, the code that strokes go on with; 0 begins another object.
        pointed: where (x, y) the person pointed at the labels of this image last, or None.
    """

    settings: Settings = field(default_factory=Settings)
    table: ClassTable = field(default_factory=first_table)
    record: ImageRecord | None = None
    labels: LabelMap | None = None
    proposal: ImageProposal = field(default_factory=ImageProposal)
    decided: ImageState = ImageState.UNTOUCHED
    unflagged: ImageState = ImageState.UNTOUCHED
    awaits_proposal: bool = False
    begins_new: bool = False
    picked: int = 0
    pointed: tuple[float, float] | None = None

    @property
    def is_waiting(self) -> bool:
        """True while a proposal is awaited, so that there is nothing yet to accept."""
        return self.labels is None or self.proposal.pending or self.awaits_proposal

    @property
    def labelling(self) -> Labelling:
        """One label for each class, or one for each object."""
        return self.settings.labelling

    @property
    def image_id(self) -> str:
        """Of the image that is shown.

        Raises:
            Refused: none is.
        """
        if self.record is None:
            raise Refused
        return self.record.image_id

    def shown_labels(self) -> LabelMap:
        """The labels (H, W) of the image that is shown.

        Raises:
            Refused: it is not read yet.
        """
        if self.labels is None:
            raise Refused
        return self.labels

    def settled_labels(self) -> LabelMap:
        """The same, where no proposal is awaited that would come in between.

        Raises:
            Refused: one is.
        """
        if self.is_waiting:
            raise Refused
        return self.shown_labels()

    def after(self, edit: Edit) -> AnnotationState:
        """The state after an edit of this image or of the classes."""
        labels, table = self.labels, self.table
        if edit.patch is not None and labels is not None:
            labels = edit.patch.applied(labels)
        if edit.table is not None:
            table = edit.table[1]
            ids = {item.class_id for item in table.classes}
            table = replace(table, active=table.active if table.active in ids else min(ids))
            table = with_labels(table, labels, self.labelling)
        proposal = self.proposal if edit.proposal is None else edit.proposal[1]
        return replace(self, labels=labels, table=table, proposal=proposal)

    def propose(self, name: str, proposal: ImageProposal) -> Edit:
        """The edit called ``name`` after which ``proposal`` is proposed."""
        return Edit(name, self.image_id, proposal=(self.proposal, proposal))

    def relabel(
        self,
        name: str,
        after: LabelMap,
        proposal: ImageProposal | None = None,
        reopen: bool = False,
    ) -> Edit | None:
        """The edit called ``name`` after which ``after`` (H, W) are the labels; None without one.

        That accepts nothing: what is drawn on an image that was not accepted waits for it, and an
        accepted one is accepted as it is now. Classes that the labels have and the table lacks are
        added.

        Args:
            name: of the edit.
            after: the labels.
            proposal: what is proposed from now on, or None where that stays.
            reopen: an accepted object is proposed again, so that the image is not accepted before
                it is.
        """
        patch = difference(self.shown_labels(), after)
        if patch is None and proposal is None:
            return None
        values = [] if patch is None else np.unique(patch.after).tolist()
        table = with_values(self.table, values, self.labelling)
        states = None
        if reopen and self.decided is ImageState.ACCEPTED:
            states = (ImageState.ACCEPTED, ImageState.UNTOUCHED)
        proposals = None if proposal is None else (self.proposal, proposal)
        tables = None if table is self.table else (self.table, table)
        return Edit(name, self.image_id, proposals, patch, states, tables)


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Result of a command.

    Attributes:
        edit: to do; undo takes it back. None where nothing of the document changes.
        state: with what else is picked or proposed than before, which undo leaves alone; the edit
            is done upon it. None where that stays.
        said: a sentence for the person, once it is done.
    """

    edit: Edit | None = None
    state: AnnotationState | None = None
    said: str = ""


TEXT, MODEL = "text", "model"
"""What fails where a search does, and where a model does, or the process that it is in: loading it
anew may be the cure. Other work fails under its own key."""


@dataclass(frozen=True, slots=True)
class Status:
    """Status line: ``text``, whether something goes on, and whether something failed."""

    text: str
    busy: bool = False
    error: bool = False
