"""``AnnotationSession``: what a person does to images, without any window.

The session holds the state and says what changed (psygnal events); it runs no thread. Long work
goes out as a record through ``requested``, and its answer comes back through ``receive``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..store.base import LabelStore
from .ahead import Ahead
from .answers import receive
from .copying import Copying
from .editing import Editing
from .finding import Finding
from .navigation import Walk
from .objects import Objects
from .painting import Painting
from .predictor import Predictor
from .prompting import Prompting
from .requests import (
    Answer,
    CloseRequest,
    EmbedRequest,
    ExportRequest,
    LearnedPrompts,
    WarmRequest,
)
from .settings import Settings
from .state import SessionState
from .travel import Travel
from .tuner import Tuner


class AnnotationSession(SessionState):
    """Folder, images, classes, prompts, proposal, labels, and the history of all edits.

    Every method is called on one thread. ``flushing`` is emitted before anything that leaves or
    changes the label map, so that a window can hand in what was painted by hand.

    Attributes:
        walk: opens folders and goes from image to image.
        prompting: phrases, clicks, boxes, scribbles.
        finding: the classes of what a phrase found.
        editing: accepting, classes, the label map as a whole.
        objects: merging, subtracting, splitting.
        painting: direct edits of the accepted labels.
        copying: what the previous image has, on this one.
        ahead: reads and encodes the images around the current one.
        travel: undo, redo, and any step of the history.
        predictor: what was learnt from the accepted images, and what it does.
        tuner: the detector, tuned to what was accepted.
        learners: these two.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self.walk = Walk(self)
        self.prompting = Prompting(self)
        self.finding = Finding(self)
        self.editing = Editing(self)
        self.objects = Objects(self)
        self.painting = Painting(self)
        self.copying = Copying(self)
        self.ahead = Ahead(self)
        self.travel = Travel(self)
        self.predictor = Predictor(self)
        self.tuner = Tuner(self)
        self.learners = self.predictor, self.tuner

    def receive(self, answer: Answer) -> None:
        """Take an answer; a stale one is dropped."""
        receive(self, answer)
        self.tell()

    def warm_up(self) -> None:
        """Load the models before they are needed."""
        name = self.settings.segmenter
        generation = self.progress.begin("warm", f"Loading the model {name}...")
        self.ask(WarmRequest(generation, segmenter=name))
        self.tuner.warm_up()

    def set_settings(self, settings: Settings) -> None:
        """Take other models, thresholds or cleaning; proposals in the making are redone."""
        if settings == self.settings:
            return
        old, self.settings = self.settings, settings
        self.settings_changed.emit()
        self.remember(settings.to_json())
        if (old.segmenter, old.detector) != (settings.segmenter, settings.detector):
            self.facts.pop("model", None)
            self.tuner.changed.emit()
            if old.segmenter != settings.segmenter:
                self.predictor.segmenter_is("")
            self.warm_up()
            if self.loaded is not None:
                generation = self.progress.begin("embed", "Preparing the image...")
                self.ask(EmbedRequest(generation, self.source(), settings.segmenter))
                self.ahead.begin()
        changed = (old.segmenter, old.cleaning) != (settings.segmenter, settings.cleaning)
        if changed and (current := self.draft.current) and not current.prompts.is_empty:
            prompts = replace(current.prompts, mask_input=None)
            assert self.draft.active is not None
            again = self.draft.with_object(self.draft.active, replace(current, prompts=prompts))
            self.prompting.edit_draft("redo with other settings", replace(again, pending=True))
        ours = [
            (each.mode, each.train_after, each.train_by_itself, each.cleaning)
            for each in (old, settings)
        ]
        if ours[0] != ours[1]:
            self.predictor.settings_changed()

    def joining(self, class_id: int) -> LearnedPrompts | None:
        """The learned prompts that join a person's of a class, or None."""
        return self.predictor.joining(class_id)

    def export(
        self,
        out: str | Path,
        organ: str,
        target: str,
        overwrite: bool = False,
        groups: str | None = None,
    ) -> None:
        """Write a data set of everything that is committed.

        Args:
            out: a new or an empty folder.
            organ: what the images show.
            target: the phrase for class 1.
            overwrite: replace an earlier export that nobody changed since.
            groups: which images are of one patient or loop, as in ``io.groups``; None keeps those
                of a patient's folder together, and the frames of a file.
        """
        self.flushing.emit()
        if self.store is None:
            self.say("Open a folder first; there is nothing to export.", "warning")
            return
        generation = self.progress.begin("export", "Exporting...")
        classes = self.table.classes
        self.ask(
            ExportRequest(
                generation, self.store, Path(out), organ, target, classes, overwrite, groups
            )
        )

    def undo(self) -> None:
        """Take back the last edit; where it was on another image, go there first."""
        self.travel.undo()

    def redo(self) -> None:
        """Do again what was undone last; where it was on another image, go there first."""
        self.travel.redo()

    def go_to(self, position: int) -> None:
        """Undo or redo until ``position`` of ``history.steps`` are done."""
        self.travel.go_to(position)

    def close_store(self, store: LabelStore) -> None:
        """Let others have a store that is not shown here (any more)."""
        self.ask(CloseRequest(self.progress.begin("journal"), store))

    def close(self) -> None:
        """Write down what is left to write, and let others have the folder."""
        self.flushing.emit()
        for learner in self.learners:
            learner.leave()
        self.note_effort()
        if self.store is not None:
            self.close_store(self.store)
