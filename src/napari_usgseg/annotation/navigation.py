"""Navigation: folders and images, the image before and after, and the steps of the undo stack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..effort.efforts import Stopwatch
from ..io.reading.frames import FileAbout
from ..jobs import Lane, Scope, files, inference
from ..jobs.files import Content, Loaded, Opened
from ..project.project import MemoryStore, Project
from ..project.records import Edit, EventKind, ImageProposal, ImageState, Step
from .class_table import first_table, with_values
from .commands import accept
from .commands.prompts import unasked
from .document import AnnotationDocument
from .image_queue import ImageQueue
from .learners.adapter_tuning import AdapterTuning
from .learners.prompt_predictor import PromptPredictor
from .prefetch import Prefetch, warn_of
from .prompting import Prompting
from .settings import Settings
from .undo import UndoStack


class Navigation:
    """``session.navigation``: folders, layers and phantoms; the image before, the image after.

    Attributes:
        after_load: what is done once the image is there that was asked for.
    """

    def __init__(
        self,
        document: AnnotationDocument,
        prefetch: Prefetch,
        prompting: Prompting,
        predictor: PromptPredictor,
        tuning: AdapterTuning,
    ) -> None:
        self._document, self._prefetch, self._prompting = document, prefetch, prompting
        self._predictor, self._tuning = predictor, tuning
        self.after_load: list[Callable[[], None]] = []

    # -- folders -------------------------------------------------------------------------------

    def open_folder(
        self,
        folder: str | Path,
        labels_root: str | Path | None = None,
        annotator: str = "",
    ) -> None:
        """Open a folder of images, or a project; labels are kept in it, or in ``labels_root``.

        ``annotator`` is whose labels; "" is the first person here, who needs no name.
        """
        root = None if labels_root is None else Path(labels_root)
        text = f"Looking through {Path(folder).name}..."
        self._open(text, files.open_folder, Path(folder), root, annotator)

    def open_array(self, name: str, array: NDArray[Any], about: FileAbout | None = None) -> None:
        """Open one image that is in memory; any array that ``io.images.to_rgb_uint8`` takes."""
        self._open(f"Taking {name}...", files.open_array, name, array, about)

    def _open(self, text: str, function: Callable[..., Opened], *args: Any) -> None:
        document = self._document
        document.flush()
        document.note_effort()
        if document.unsaved:
            document.retry()
        document.ask(
            function,
            *args,
            lane=Lane.FILES,
            key="open",
            text=text,
            done=self.use_store,
            late=lambda opened: document.close_store(opened.store),
        )

    def open_phantoms(self, folder: str | Path) -> None:
        """Make phantoms in an empty folder and open them."""
        self._document.ask(
            inference.make_phantoms,
            Path(folder),
            lane=Lane.PHRASES,
            key="phantoms",
            text="Making phantoms...",
            done=lambda _: self.open_folder(folder),
        )

    def import_labels(self, path: str | Path) -> None:
        """Take another program's labels, or those of an export, as proposals; see ``io.formats``.

        The folder is opened anew with them. What is done meanwhile is written down behind them.
        """
        document = self._document
        document.flush()
        store = document.store
        if not isinstance(store, Project):
            document.say("Open a folder first; labels come in for its images.", "warning")
            return
        if reason := document.read_only or document.unsaved:
            document.say(f"Nothing was changed: {reason}.", "warning")
            return

        def taken(said: tuple[str, str]) -> None:
            done, remarks = said
            document.notified.emit("info", f"{done}. Correct and accept them.")
            if remarks:
                document.notified.emit("warning", f"{remarks}.")
            if document.store is store:
                self.open_folder(store.folder, store.root, store.annotator)

        document.ask(
            files.import_labels,
            store,
            Path(path),
            document.outbox.of(store),
            document.undo_stack.reserve(len(store.records) + 2),
            lane=Lane.FILES,
            key="import",
            text=f"Importing {Path(path).name}...",
            aside=True,
            done=taken,
        )

    def use_store(self, opened: Opened) -> None:
        """Show a store that was opened."""
        document, store = self._document, opened.store
        document.flush()
        # Everything that belongs to the folder before; a save belongs to no scope and is done.
        document.jobs.cancel(*Scope)
        for learner in (self._predictor, self._tuning):
            learner.leave()
        former = document.store
        document.outbox.inherit(store, opened.steps.serial)
        self.after_load.clear()
        document.undo_stack = UndoStack(opened.steps)
        document.image_queue = ImageQueue(
            store.records, opened.states, opened.drawn, store, document.outbox, opened.empty
        )
        document.others, document.left_out = opened.others, opened.left_out
        if former is not None and former not in document.outbox.stores():
            document.close_store(former)
        kept = dict(opened.settings)
        if not isinstance(store, MemoryStore):  # what was looked for elsewhere is not here
            kept.setdefault("phrase", "")
        if ImageState.ACCEPTED in opened.states.values():
            kept.setdefault("labelling", "semantic")
        document.settings = Settings.from_json({**document.settings.to_json(), **kept})
        document.facts.pop("saved", None)
        document.known_classes = () if opened.table is None else opened.table.classes
        self._close_image()
        document.set_state(table=opened.table or first_table())
        document.opened.emit()
        document.classes_changed.emit()
        document.settings_changed.emit()
        self._predictor.opened(opened.versions)
        self._tuning.opened(opened.adapters)
        if store.problems:
            first, *others = store.problems
            more = f" (and {len(others)} more)" if others else ""
            document.notified.emit("warning", first + more)
        if opened.left_out:
            document.notified.emit("info", " ".join(opened.left_out))
        if store.read_only:
            document.notified.emit("warning", f"{store.read_only}.")
        if "labelling" not in opened.settings:
            document.remember({"labelling": document.settings.labelling})
        begin = document.image_queue.resume_at(opened.settings.get("last"))
        if begin is not None:
            self.open_image(begin)

    # -- images --------------------------------------------------------------------------------

    def open_image(self, image_id: str) -> None:
        """Show an image; what is proposed on the one shown now is kept for coming back."""
        document = self._document
        if document.store is None or (
            document.record is not None and image_id == document.record.image_id
        ):
            return
        document.flush()
        document.jobs.cancel(Scope.IMAGE)
        self._prompting.cancel()
        document.note_effort()
        # Ahead of ``_close_image``, which empties what is kept here.
        document.image_queue.leave(document.loaded, document.labels, document.proposal)
        self._close_image()
        document.image_queue.go(image_id)
        document.image_changed.emit()
        document.states_changed.emit()
        kept = document.image_queue.take_loaded(image_id)
        if kept is not None:
            document.jobs.cancel("load")
            self._show(kept)
            return
        self.reload()

    def reload(self) -> None:
        """Read the current image again, after a failure."""
        document = self._document

        def done(loaded: Loaded) -> None:
            document.image_queue.learn(loaded)
            self._show(loaded)

        if document.store is not None and document.record is not None:
            document.ask(
                files.load_image,
                document.store,
                document.record,
                lane=Lane.FILES,
                key="load",
                scope=Scope.FOLDER,
                text=f"Reading {document.record.path.name}...",
                done=done,
                late=lambda loaded: warn_of(document, loaded),
            )

    def _show(self, loaded: Loaded) -> None:
        """Take an image that was read for the current one."""
        document, image_id = self._document, loaded.record.image_id
        warn_of(document, loaded)
        document.loaded = replace(loaded, warning="")
        proposal = document.image_queue.take_proposal(image_id) or loaded.proposal
        document.set_state(labels=loaded.labels, proposal=unasked(proposal))
        document.image_queue.set_drawn(image_id, bool(loaded.labels.any()))
        table = with_values(document.table, loaded.values, document.settings.labelling)
        if table is not document.table:
            document.set_state(table=table)
            document.classes_changed.emit()
        document.image_loaded.emit()
        document.labels_changed.emit()
        document.proposal_changed.emit()
        self._prefetch.prepare(f"Preparing {loaded.record.path.name}...")
        waiting, self.after_load = self.after_load, []
        for action in waiting:
            action()
        fresh = document.state_of(image_id) is ImageState.UNTOUCHED
        wanted = document.settings.find_on_open and bool(document.settings.phrase)
        finds = wanted and not document.image_queue.is_begun_loop
        if waiting:
            pass  # on the way to a step of the undo stack
        elif not fresh or not finds or self._predictor.shows_by_itself:
            self._predictor.proposals.shown()
        else:
            self._prompting.find_on_open()
        self._predictor.look()
        if document.store is not None:
            document.effort = Stopwatch()
            document.note(EventKind.OPEN, image_id)
            self._prefetch.begin()

    def _close_image(self) -> None:
        document = self._document
        document.loaded = None
        document.set_state(
            labels=None, proposal=ImageProposal(), begins_new=False, picked=0, pointed=None
        )
        document.failures.clear()
        for fact in ("note", "time"):
            document.facts.pop(fact, None)

    def step(self, by: int) -> bool:
        """Go to the next (1) or previous (-1) image; False at the end."""
        self._document.flush()
        end = "This is the last image." if by > 0 else "This is the first image."
        return self._go(self._document.image_queue.neighbour(by), end)

    def next_untouched(self) -> bool:
        """Go to the next image that nobody has labelled; False where none is left."""
        self._document.flush()
        return self._go(self._document.image_queue.next_untouched(), "No untouched image is left.")

    def go_to_name(self, part: str) -> bool:
        """Go to the next image whose name holds ``part``; False where none does."""
        self._document.flush()
        none = f"No image has '{part.strip()}' in its name."
        return self._go(self._document.image_queue.named(part), none)

    def _go(self, image_id: str | None, none: str) -> bool:
        if image_id is None:
            self._document.say(none)
            return False
        self.open_image(image_id)
        return True

    def show_only(self, state: ImageState | None) -> None:
        """Let the images before and after be those in one state; None goes through all."""
        document = self._document
        document.image_queue.only = state
        if document.loaded is not None:
            self._prefetch.begin()
        document.tell()

    def skip(self) -> None:
        """Set the current image aside and go to the next; labels that it has are kept.

        They are accepted by that as little as before.
        """
        if self._document.do(accept.skip):
            self.step(1)

    def flag(self) -> None:
        """Flag the current image for review and go to the next, or take its flag away.

        Labels and what is proposed are kept; accepting takes the flag away too.
        """
        flagged = self._document.state.decided is ImageState.FLAGGED
        if self._document.do(accept.flag) and not flagged:
            self.step(1)

    def accept_and_next(self) -> bool:
        """Accept what is proposed and go to the next image; go on where nothing can be saved."""
        if self._document.read_only:
            return self.step(1)
        return self._document.do(accept.accept) and self.step(1)

    def mark_empty(self) -> bool:
        """Say that there is nothing to label in the image, and go to the next one."""
        return self._document.do(accept.mark_empty) and self.step(1)


NOTHING = "Nothing to take back or do again."


class UndoNavigation:
    """``session.undo_navigation``: undo, redo and any step of the undo stack, one step at a time.

    A step on another image opens that image, and an old step is read from the store; the way goes
    on when that has come. So presses of the key add up while something is awaited.
    """

    def __init__(self, document: AnnotationDocument, navigation: Navigation) -> None:
        self._document, self._navigation = document, navigation
        self._going = False
        self._read = 0  # the number of the step whose images were read to see whether it fits them
        self._contents: dict[str, Content] = {}

    def move(self, steps: int) -> None:
        """Undo (-1) or redo (1) the next step; where it was on another image, go there first."""
        self._document.flush()
        history = self._document.undo_stack
        self.go_to((history.position if history.target is None else history.target) + steps)

    def go_to(self, position: int) -> None:
        """Undo or redo until so many steps are done."""
        self._document.flush()
        if not 0 <= position <= self._document.undo_stack.count:
            self._document.say(NOTHING)
            return
        self._document.undo_stack.target = position
        self._read = 0
        self._go_on()

    def stop(self) -> None:
        """Stay at this step."""
        self._document.undo_stack.target = None
        if self._go_on in self._navigation.after_load:
            self._navigation.after_load.remove(self._go_on)

    def _go_on(self) -> None:
        """Go as far as can be gone without waiting."""
        # An answer may come while a step is taken (a store in memory answers at once), and would
        # take the next one inside of it.
        if self._going:
            return
        self._going = True
        try:
            while self._step():
                pass
        finally:
            self._going = False

    def _step(self) -> bool:
        """Take one step; False where there is none, or where something is awaited first."""
        document, history = self._document, self._document.undo_stack
        if history.target is None or history.target == history.position:
            history.target = None
            return False
        back = history.target < history.position
        step = history.next_undo if back else history.next_redo
        if step is None:
            history.target = None
            return False
        if not self._arrive(step):
            return False
        edit = history.content(step.number)
        if edit is not None and edit.parts and step.number != self._read:
            assert document.store is not None
            images = [part.image_id for part in edit.parts if part.image_id and part.patch]
            document.ask(
                files.read_contents,
                document.store,
                document.image_queue.records_of(images),
                lane=Lane.FILES,
                key="step",
                scope=Scope.FOLDER,
                text=f"Looking at the images of '{step.name}'...",
                done=lambda found: self._take_contents(step.number, found),
            )
            return self._read == step.number  # answered at once
        if edit is None:
            assert document.store is not None
            document.ask(
                files.read_step,
                document.store,
                step.number,
                lane=Lane.FILES,
                key="step",
                scope=Scope.FOLDER,
                text=f"Reading '{step.name}'...",
                done=lambda edit: self._take(step.number, edit),
            )
            return history.content(step.number) is not None  # answered at once
        return self._apply(edit, step, back)

    def _take(self, number: int, edit: Edit) -> None:
        """Take an edit that was read from the store, and go on."""
        self._document.flush()  # what was painted meanwhile is a step of its own: here it ends
        self._document.undo_stack.keep(number, edit)
        self._go_on()

    def _take_contents(self, number: int, found: dict[str, Content]) -> None:
        """Take the images of a step as they are now, and go on."""
        self._document.flush()
        self._read, self._contents = number, found
        self._go_on()

    def _fitting(self, change: Edit) -> list[int]:
        """The indices of the parts of a step whose images are as it left them."""
        record, fitting = self._document.record, []
        for index, part in enumerate(change.parts):
            content = self._contents.get(part.image_id or "")
            labels = None if content is None else content.labels
            if record is not None and part.image_id == record.image_id:
                labels = self._document.labels
            if part.patch is None or (labels is not None and part.patch.fits(labels)):
                fitting.append(index)
        return fitting

    def _arrive(self, step: Step) -> bool:
        """Go to the image of a step; False while it is read, or where it is gone."""
        document, after_load = self._document, self._navigation.after_load
        if step.image_id is None:
            return True
        if step.image_id not in document.image_queue:
            document.undo_stack.target = None
            document.say(
                f"The image of {step.image_id} is gone; put it back to take this step.", "warning"
            )
            return False
        if document.record is None or document.record.image_id != step.image_id:
            after_load.append(self._go_on)
            self._navigation.open_image(step.image_id)
        elif document.labels is None and self._go_on not in after_load:
            after_load.append(self._go_on)
        return document.labels is not None

    def _apply(self, edit: Edit, step: Step, back: bool) -> bool:
        document, history = self._document, self._document.undo_stack
        change = edit.inverse() if back else edit
        saving = change.patch is not None or change.state is not None or bool(change.parts)
        if document.read_only and saving:
            history.target = None
            document.say(f"Nothing was changed: {document.read_only}.", "warning")
            return False
        labels = document.labels
        # Another program wrote the label file since. A patch that is put on other labels would
        # destroy them, so the image's steps go.
        if change.patch is not None and labels is not None and not change.patch.fits(labels):
            history.forget(step.image_id or "")
            document.note(EventKind.FORGET, step.image_id)
            history.target = None
            document.say("The labels were changed elsewhere; this step cannot be taken.", "warning")
            return False
        fitting = self._fitting(change)
        if len(fitting) < len(change.parts):
            left = len(change.parts) - len(fitting)
            document.say(f"{left} of the images were changed elsewhere and stay so.", "warning")
            change = replace(change, parts=tuple(change.parts[index] for index in fitting))
        contents, self._read, self._contents = self._contents, 0, {}
        document.image_queue.note_flags(change.inverse() if back else change, undone=back)
        document.jobs.cancel(Scope.PROPOSAL)
        if back:
            history.back()
        else:
            history.forth()
        document.note(
            EventKind.UNDO if back else EventKind.REDO,
            step.image_id,
            step=step.number,
            proposal=None if change.proposal is None else change.proposal[1],
            saving=saving,
            parts=[
                {
                    "image_id": part.image_id,
                    "step": part.number,
                    "proposal": None if part.proposal is None else part.proposal[1],
                }
                for part in change.parts
            ],
        )
        document.apply(change)
        for part in change.parts:
            if part.patch is not None and part.image_id in contents:
                labels = part.patch.applied(contents[part.image_id].labels)
                document.image_queue.set_drawn(part.image_id, bool(labels.any()))
        document.say(f"{'Undid' if back else 'Redid'}: {step.name}")
        return True
