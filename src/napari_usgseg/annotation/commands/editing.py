"""From a proposal to labels: accepting, painting, and how objects are told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...io.labels import Labelling
from ...project.records import Edit, ImageProposal, ImageState, LabelMap, difference
from . import commit
from .classes import Classes


class Editing(Classes):
    """``session.editing``: what becomes of the label map and of the classes."""

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
            session.proposal.objects,
            session.settings.overwrite,
            session.settings.labelling,
        )
        state = session.browser.decided(image_id)
        patch = difference(session.labels, after)
        if patch is not None or state is not ImageState.ACCEPTED or session.proposal.objects:
            states = (state, ImageState.ACCEPTED)
            session.do(Edit("accept", image_id, (session.proposal, ImageProposal()), patch, states))
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
        self,
        name: str,
        after: LabelMap,
        proposal: ImageProposal | None = None,
        reopen: bool = False,
    ) -> None:
        """Make ``after`` (H, W) the current image's labels, as an edit called ``name``.

        That accepts nothing: what is drawn on an image that was not accepted waits for it, and an
        accepted one is accepted as it is now.

        Args:
            name: of the edit.
            after: the labels; what they hold of new classes is added to the classes.
            proposal: what is proposed from now on, or None where that stays.
            reopen: an accepted object is proposed again, so that the image is not accepted before
                it is.
        """
        session = self._session
        if session.record is None or session.labels is None:
            return
        patch = difference(session.labels, after)
        if patch is None and proposal is None:
            return
        image_id = session.record.image_id
        values = [] if patch is None else np.unique(patch.after).tolist()
        table = commit.with_values(session.table, values, session.settings.labelling)
        states = None
        if reopen and session.browser.decided(image_id) is ImageState.ACCEPTED:
            states = (ImageState.ACCEPTED, ImageState.UNTOUCHED)
        proposals = None if proposal is None else (session.proposal, proposal)
        tables = None if table is session.table else (session.table, table)
        session.do(Edit(name, image_id, proposals, patch, states, tables))

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
        session.labels_changed.emit()
        session.proposal_changed.emit()
        return True
