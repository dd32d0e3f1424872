"""From a proposal to labels: accepting, painting, classes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..store.base import ImageState, LabelMap
from . import commit
from .draft import Draft
from .history import ClassTable, Edit, difference

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
            session.labels, session.draft.objects, session.settings.overwrite
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
        if session.record is None or session.labels is None or labels.shape != session.labels.shape:
            return
        patch = difference(session.labels, labels)
        if patch is None:
            return
        image_id = session.record.image_id
        table = commit.with_values(session.table, np.unique(patch.after).tolist())
        states = (session.browser.decided(image_id), ImageState.COMMITTED)
        tables = None if table is session.table else (session.table, table)
        session.do(Edit("paint", image_id, None, patch, states, tables))

    def add_class(self, name: str) -> None:
        """Add a class and pick it."""
        session = self._session
        name = name.strip() or f"class {1 + max(c.class_id for c in session.table.classes)}"
        session.do(
            Edit(
                "add class",
                table=(session.table, commit.with_class(session.table, name)),
            )
        )

    def rename_class(self, class_id: int, name: str) -> None:
        """Give a class another name."""
        session = self._session
        old = session.table.get(class_id)
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
