"""From a proposal to labels: accepting, painting, classes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..io.instances import Labelling
from ..store.records import ClassTable, Draft, Edit, ImageState, LabelMap, difference
from . import commit

if TYPE_CHECKING:
    from .annotator import AnnotationSession


class Editing:
    """``session.editing``: what becomes of the label map and of the classes."""

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session

    def accept(self) -> bool:
        """Commit what is proposed; without a proposal the image is done as it is.

        Returns:
            False where there is nothing to commit yet: no image, or an answer is awaited.
        """
        session = self._session
        session.flushing.emit()
        if session.record is None or session.labels is None or session.is_waiting:
            return False
        image_id = session.record.image_id
        after, yielded = commit.merged(
            session.labels,
            session.draft.objects,
            session.settings.overwrite,
            session.settings.labelling,
        )
        state = session.browser.decided(image_id)
        patch = difference(session.labels, after)
        if patch is not None or state is not ImageState.COMMITTED or session.draft.objects:
            states = (state, ImageState.COMMITTED)
            session.do(Edit("accept", image_id, (session.draft, Draft()), patch, states))
        if yielded:
            session.say(f"{yielded} pixels of other labels were left as they are.")
        return True

    def accept_and_next(self) -> bool:
        """Commit what is proposed and go to the next image."""
        return self.accept() and self._session.walk.step(1)

    def painted(self, labels: LabelMap) -> None:
        """Take a label map (H, W) that the person changed by hand."""
        session = self._session
        if session.labels is None or labels.shape != session.labels.shape:
            return
        self.relabel("paint", session.painting.numbered(labels))

    def relabel(
        self, name: str, after: LabelMap, draft: Draft | None = None, reopen: bool = False
    ) -> None:
        """Make ``after`` (H, W) the current image's labels, as an edit called ``name``.

        That accepts nothing: what is drawn on an image that was not accepted waits for it, and an
        accepted one is accepted as it is now.

        Args:
            name: of the edit.
            after: the labels; what they hold of new classes is added to the classes.
            draft: what is proposed from now on, or None where that stays.
            reopen: an accepted object is proposed again, so that the image is not accepted before
                it is.
        """
        session = self._session
        if session.record is None or session.labels is None:
            return
        patch = difference(session.labels, after)
        if patch is None and draft is None:
            return
        image_id = session.record.image_id
        values = [] if patch is None else np.unique(patch.after).tolist()
        table = commit.with_values(session.table, values, session.settings.labelling)
        states = None
        if reopen and session.browser.decided(image_id) is ImageState.COMMITTED:
            states = (ImageState.COMMITTED, ImageState.UNTOUCHED)
        drafts = None if draft is None else (session.draft, draft)
        tables = None if table is session.table else (session.table, table)
        session.do(Edit(name, image_id, drafts, patch, states, tables))

    def set_labelling(self, labelling: Labelling) -> bool:
        """Choose one label for each class, or one for each object, before anything is labelled.

        Returns:
            False where there are labels already; a sentence says what to do.
        """
        session = self._session
        if labelling == session.settings.labelling:
            return True
        labelled = bool(session.others) or session.browser.has_labels
        have, want = ("class", "object") if labelling == "instance" else ("object", "class")
        refusal = ""
        if labelled:
            refusal = (
                f"This project has one label for each {have} already. To have one for each {want}, "
                "open the images with another folder for the labels."
            )
        elif session.history.next_redo is not None:
            refusal = (
                f"Undone steps may hold one label for each {have}. Redo them, or give them up with "
                "a click on the image; then choose again."
            )
        if refusal:
            session.say(refusal, "warning")
            session.settings_changed.emit()
            return False
        session.set_settings(replace(session.settings, labelling=labelling))
        session.painting.new_object()
        session.draft_changed.emit()
        return True

    def add_class(self, name: str) -> None:
        """Add a class and pick it; one that is there already is picked."""
        session = self._session
        name = name.strip() or f"class {1 + max(c.class_id for c in session.table.classes)}"
        there = commit.named(session.table, name)
        if there is not None:
            self.pick_class(there.class_id)
            session.say(f"There is a class '{there.name}' already; it is picked.")
            return
        session.do(
            Edit(
                "add class",
                table=(session.table, commit.with_class(session.table, name)),
            )
        )

    def rename_class(self, class_id: int, name: str) -> None:
        """Give a class another name, which no other class has."""
        session = self._session
        old = session.table.get(class_id)
        other = commit.named(session.table, name)
        if other is not None and other.class_id != class_id:
            session.say(
                f"Class {other.class_id} is called '{other.name}' already; choose another name.",
                "warning",
            )
            return
        if old is not None and name.strip() and name.strip() != old.name:
            table = commit.with_name(session.table, class_id, name.strip())
            session.do(Edit("rename class", table=(session.table, table)))

    def pick_class(self, class_id: int) -> None:
        """Take a class for what is proposed or painted next, and for the object in the making."""
        session = self._session
        if session.table.get(class_id) is None:
            return
        if class_id != session.table.active:
            session.table = ClassTable(session.table.classes, class_id)
            session.classes_changed.emit()
        current = session.draft.current
        if current is not None and current.class_id != class_id and not session.draft.pending:
            assert session.draft.active is not None
            item = replace(current, class_id=class_id)
            session.prompting.edit_draft(
                "class", session.draft.with_object(session.draft.active, item)
            )
