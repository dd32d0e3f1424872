"""Annotation session: what a person does to images, without any window."""

from __future__ import annotations

from dataclasses import replace

from ..io.labels import Labelling, LabelMap, values_in
from ..jobs import Lane, Scope, files, inference
from .band_habits import BandHabits
from .commands import accept, classes, objects, paint
from .document import AnnotationDocument
from .learners.adapter_tuning import AdapterTuning
from .learners.prompt_predictor import PromptPredictor
from .loops.areas import Areas
from .loops.frames import Loops
from .loops.propagation import Propagation
from .loops.runs import Runs
from .loops.search import LoopSearch
from .navigation import Navigation, UndoNavigation
from .overview import Overview
from .prefetch import Prefetch
from .prompting import Copying, Prompting
from .settings import Settings
from .state import MODEL


class AnnotationSession(AnnotationDocument):
    """Folder, images, classes, prompts, proposal, labels, and the undo stack of all edits.

    Every method is called on one thread. A command of ``annotation.commands`` is done by
    ``session.do(command, ...)``; those that the window has are methods of the attributes below.

    Attributes:
        navigation: opens folders and goes from image to image.
        prompting: phrases, clicks, boxes, scribbles.
        editing: accepting, classes, the label map as a whole.
        objects: merging, subtracting, splitting.
        painting: direct edits of the accepted labels.
        copying: what the previous image has, on this one.
        prefetch: reads and encodes the images around the current one.
        overview: what is on each image, and accepting many at once.
        loops: the frames of the loop that is shown.
        runs: over it, in the background: propagation and searches.
        propagation: from its keyframes to its other frames.
        loop_search: a phrase, or what was learned, on its frames.
        areas: of its labels over time.
        undo_navigation: undo, redo, and any step of the undo stack.
        prompt_predictor: what was learnt from the accepted images, and what it does.
        tuning: the detector, tuned to what was accepted.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self.prefetch = Prefetch(
            self,
            lambda loaded: self.prompt_predictor.proposals.prefetch(loaded),
            self._segmenter_is,
        )
        self.prompt_predictor = PromptPredictor(self, self.prefetch)
        self.tuning = AdapterTuning(self, self.prompt_predictor)
        self.prompting = Prompting(self, self.prompt_predictor, self.tuning)
        self.navigation = Navigation(
            self, self.prefetch, self.prompting, self.prompt_predictor, self.tuning
        )
        self.undo_navigation = UndoNavigation(self, self.navigation)
        self.copying = Copying(self, self.prompting)
        self.editing = Editing(self, self.navigation)
        self.objects = Objects(self)
        self.painting = Painting(self)
        self.band_habits = BandHabits(self)
        self.overview = Overview(self)
        self.loops = Loops(self, self.navigation, self.overview)
        self.runs = Runs(self, self.loops)
        self.propagation = Propagation(self, self.loops, self.runs)
        self.loop_search = LoopSearch(
            self, self.loops, self.runs, self.prompt_predictor, self.tuning
        )
        self.areas = Areas(self, self.loops)

    def ask_prompt(self) -> None:
        """Have the active object segmented."""
        self.prompting.ask()

    def give_up(self, lane: Lane) -> None:
        """Go on without a job of a lane that failed."""
        if lane is Lane.FILES:
            self.undo_navigation.stop()
        else:
            self.prompting.drop_pending()

    def warm_up(self) -> None:
        """Load the models before they are needed."""
        name = self.settings.segmenter
        self.ask(
            inference.load_segmenter,
            name,
            lane=Lane.CLICKS,
            key="warm",
            text=f"Loading the model {name}...",
            aside=True,
            kind=MODEL,
            done=self._segmenter_is,
        )
        self.tuning.warm_up()

    def _segmenter_is(self, model_id: str) -> None:
        self.facts["model"] = model_id
        self.prompt_predictor.segmenter_is(model_id)

    def follow_settings(self, old: Settings) -> None:
        """Load other models; proposals in the making are redone."""
        settings = self.settings
        if (old.segmenter, old.detector) != (settings.segmenter, settings.detector):
            self.facts.pop("model", None)
            self.tuning.changed.emit()
            if old.segmenter != settings.segmenter:
                self.prompt_predictor.segmenter_is("")
            self.warm_up()
        seen = [(each.segmenter, each.detector, each.crop_to_regions) for each in (old, settings)]
        if seen[0] != seen[1] and self.loaded is not None:
            self.prefetch.prepare("Preparing the image...")
            self.prefetch.begin()
        masks = [(each.segmenter, each.cleaning, each.crop_to_regions) for each in (old, settings)]
        if masks[0] != masks[1]:
            self.prompting.ask_again()
        ours = [
            (
                *(each.mode, each.train_after, each.train_by_itself, each.cleaning),
                each.weak_proposals,
            )
            for each in (old, settings)
        ]
        if ours[0] != ours[1]:
            self.prompt_predictor.settings_changed()

    def undo(self) -> None:
        """Take back the last edit; where it was on another image, go there first."""
        self.runs.stop()
        self.undo_navigation.move(-1)

    def redo(self) -> None:
        """Do again what was undone last; where it was on another image, go there first."""
        self.runs.stop()
        self.undo_navigation.move(1)

    def go_to(self, position: int) -> None:
        """Undo or redo until ``position`` of ``undo_stack.steps`` are done."""
        self.runs.stop()
        self.undo_navigation.go_to(position)

    def close(self) -> None:
        """Write down what is left to write, and let others have the folder."""
        self.flush()
        self.prompt_predictor.leave()
        self.tuning.leave()
        self.note_effort()
        if self.store is not None:
            self.close_store(self.store)


class Editing:
    """``session.editing``: what becomes of the label map and of the classes."""

    def __init__(self, document: AnnotationDocument, navigation: Navigation) -> None:
        self._document = document
        self.accept = document.bind(accept.accept)
        self.accept_and_next = navigation.accept_and_next
        self.add_class = document.bind(classes.add_class)
        self.rename_class = document.bind(classes.rename_class)
        self.pick_class = document.bind(classes.pick_class)
        self.give_class = document.bind(classes.give_class)

    def painted(self, labels: LabelMap) -> None:
        """Take a label map (H, W) that the person changed by hand; called where it is asked for."""
        self._document.do(paint.painted, labels)

    def delete_class(self, class_id: int) -> None:
        """Delete a class that no image has, in its labels or its proposals; undo brings it back."""
        document = self._document
        document.flush()
        item = document.table.get(class_id)
        if item is None or document.store is None or document.is_waiting:
            return
        if reason := document.read_only or document.unsaved:
            document.say(f"Nothing was changed: {reason}.", "warning")
        elif document.do(classes.check_deletable, class_id):

            def delete(used_on: str) -> None:
                document.do(classes.delete_class, class_id, used_on)

            document.ask(
                files.find_use,
                document.store,
                class_id,
                document.state.image_id,
                lane=Lane.FILES,
                key="delete class",
                scope=Scope.PROPOSAL,
                text=f"Looking whether an image has '{item.name}'...",
                done=delete,
            )

    def set_labelling(self, labelling: Labelling) -> bool:
        """Choose one label for each class, or one for each object, before anything is labelled.

        Returns:
            False where there are labels already; a sentence says what to do.
        """
        document = self._document
        document.flush()
        if labelling == document.settings.labelling:
            return True
        labelled = bool(document.others) or document.image_queue.has_labels
        have, want = ("class", "object") if labelling == "instance" else ("object", "class")
        refusal = ""
        if labelled:
            refusal = (
                f"This project has one label for each {have} already. To have one for each {want}, "
                "open the images with another folder for the labels."
            )
        elif document.undo_stack.next_redo is not None:
            refusal = (
                f"Undone steps may hold one label for each {have}. Redo them, or give them up with "
                "a click on the image; then choose again."
            )
        if refusal:
            document.say(refusal, "warning")
            document.settings_changed.emit()
            return False
        document.set_settings(replace(document.settings, labelling=labelling))
        document.set_state(picked=0)
        document.classes_changed.emit()
        document.labels_changed.emit()
        document.proposal_changed.emit()
        return True


class Objects:
    """``session.objects``: whole objects, proposed or accepted."""

    def __init__(self, document: AnnotationDocument) -> None:
        self.merge = document.bind(objects.merge)
        self.subtract = document.bind(objects.subtract)
        self.split = document.bind(objects.split)
        self.fill_holes = document.bind(objects.fill_holes)
        self.grow = document.bind(objects.grow)
        self.smooth = document.bind(objects.smooth)
        self.delete = document.bind(objects.delete)
        self.lift = document.bind(objects.lift)


class Painting:
    """``session.painting``: adds pixels to the accepted labels, or takes them away."""

    def __init__(self, document: AnnotationDocument) -> None:
        self._document = document
        self._seen: LabelMap | None = None
        self._values: list[int] = []
        self.take_value = document.bind(paint.take_value)
        self.pick = document.bind(paint.pick)
        self.lasso = document.bind(paint.lasso)
        self.stroke = document.bind(paint.stroke)
        self.trace = document.bind(paint.trace)
        self.box = document.bind(paint.box)

    @property
    def value(self) -> int:
        """The label value that the next stroke is painted with."""
        return paint.value_to_paint(self._document.state, self._used)

    @property
    def values(self) -> list[int]:
        """The label values on the current image, ascending."""
        return self._used()

    def _used(self) -> list[int]:
        labels = self._document.labels
        if labels is not self._seen:
            self._seen = labels
            self._values = [] if labels is None else values_in(labels)
        return self._values
