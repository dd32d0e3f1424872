"""Open document of a session: its state, its undo stack and outbox, its signals and its jobs.

Everything that changes an annotation passes through here: commands (``do``), edits that an answer
made (``edit``), and what undo takes back. Nothing in here runs a thread: long work goes out as a
job through ``requested``, and whoever runs it gives the job its outcome back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from psygnal import Signal, SignalInstance

from ..core.types import FieldOfView, ImageRecord, LabelClass
from ..effort.efforts import Stopwatch
from ..io.archives import by_archive
from ..io.formats import DEFAULT_FORMAT, DEFAULT_ORGAN
from ..jobs import Job, Jobs, Lane, Scope, files
from ..jobs.files import Loaded
from ..jobs.loaded_models import ImageSource
from ..models.embedding_cache import CachePlace
from ..project.project import LabelStore, MemoryStore
from ..project.records import (
    ClassTable,
    Edit,
    Event,
    EventKind,
    ImageProposal,
    ImageState,
    LabelMap,
    ProposedObject,
    SaveReport,
)
from ..project.versions import model_name
from ..segmentation.field_of_view import fields_of_view
from .commands.prompts import unasked
from .image_queue import ImageQueue
from .settings import Settings
from .state import MODEL, TEXT, AnnotationState, Change, Refused, Status
from .undo import Outbox, UndoStack

P = ParamSpec("P")


class AnnotationDocument:
    """Document that is open: its state, what was done to it, and who is told.

    Attributes:
        image_queue: the images and their states.
        loaded: the current image's pixels, or None while they are read.
        undo_stack: the undo stack.
        outbox: what happened and is not yet known to be in a store.
        known_classes: those that the history has.
        left_out: sentences about what the folder holds beside the images.
        others: other annotators who labelled in this project.
        jobs: what goes on off this thread.
        facts: what the status line says where nothing goes on: "note", "size" (of the object under
            work), "model", "time", "saved".
        failures: what failed and the cure, by the kind of work (``ask``), the newest last; each
            until work of the kind succeeds, or another image is shown.
        unsaved: why the last save failed, and the cure; "" where it did not.
        effort: how long the person is at work on the current image.
    """

    opened = Signal()
    image_changed = Signal()
    image_loaded = Signal()
    labels_changed = Signal()
    proposal_changed = Signal()
    classes_changed = Signal()
    states_changed = Signal()
    images_changed = Signal(tuple)  # ids of images that one edit has changed, shown or not
    settings_changed = Signal()
    status_changed = Signal(Status)
    notified = Signal(str, str)  # "info", "warning" or "error", and a sentence with the cure
    requested = Signal(object)  # a job to run
    cancelled = Signal(object)  # a job that nobody waits for any more, or that is to end early
    flushing = Signal()  # before a command: a window hands in what was painted by hand

    def __init__(self, settings: Settings | None = None) -> None:
        self._state = AnnotationState(settings or Settings())
        self.image_queue = ImageQueue()
        self.loaded: Loaded | None = None
        self.undo_stack = UndoStack()
        self.outbox = Outbox()
        self.known_classes: tuple[LabelClass, ...] = ()
        self.left_out: tuple[str, ...] = ()
        self.others: tuple[str, ...] = ()
        self.unsaved = ""
        self.effort = Stopwatch()
        self.jobs = Jobs(self.requested.emit, self.cancelled.emit, self.tell)
        self.facts: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self._flushes = False

    # -- what is there -------------------------------------------------------------------------

    @property
    def state(self) -> AnnotationState:
        """The document as a command reads it now."""
        state, record = self._state, self.record
        if record is not None:
            image_id = record.image_id
            decided, unflagged = (
                self.image_queue.decided(image_id),
                self.image_queue.unflagged(image_id),
            )
            state = replace(state, record=record, decided=decided, unflagged=unflagged)
        return replace(state, awaits_proposal=self.jobs.awaits(Scope.PROPOSAL))

    def set_state(self, **parts: Any) -> None:
        """Replace parts of the state that no edit is about; whoever does that tells of it."""
        self._state = replace(self._state, **parts)
        if self.record is not None and self.labels is not None:
            self.image_queue.set_proposed(self.record.image_id, self.proposal.has_masks)

    @property
    def settings(self) -> Settings:
        """Models, phrase, thresholds, cleaning."""
        return self._state.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._state = replace(self._state, settings=settings)

    @property
    def table(self) -> ClassTable:
        """The classes and the picked one."""
        return self._state.table

    @property
    def labels(self) -> LabelMap | None:
        """The current image's label map (H, W), never changed in place; None while it is read."""
        return self._state.labels

    @property
    def proposal(self) -> ImageProposal:
        """What is proposed on the current image."""
        return self._state.proposal

    @property
    def store(self) -> LabelStore | None:
        """Where images and labels are, or None before anything is opened."""
        return self.image_queue.store

    @property
    def record(self) -> ImageRecord | None:
        """The current image."""
        return self.image_queue.record

    @property
    def accepted(self) -> list[ImageRecord]:
        """The accepted images, in order."""
        return self.image_queue.accepted

    @property
    def read_only(self) -> str:
        """Why nothing can be saved, and the cure; "" where it can."""
        return "" if self.store is None else self.store.read_only

    @property
    def is_waiting(self) -> bool:
        """True while a proposal is awaited, so that there is nothing yet to accept."""
        return self.state.is_waiting

    def state_of(self, image_id: str) -> ImageState:
        """The state of an image; proposed where a proposal waits to be accepted."""
        return self.image_queue.state_of(image_id)

    def fields_of_view(self, loaded: Loaded | None = None) -> tuple[FieldOfView, ...]:
        """What models look at in an image (the current one); () is all of it."""
        loaded = loaded or self.loaded
        if loaded is None or loaded.about is None or not self.settings.crop_to_regions:
            return ()
        return fields_of_view(loaded.about.regions, loaded.pixels.shape[:2])

    def source(self, loaded: Loaded | None = None) -> ImageSource:
        """The pixels of an image (the current one's), for a job."""
        loaded = loaded or self.loaded
        assert loaded is not None
        folder = None if self.store is None else self.store.cache_folder
        limit = int(self.settings.cache_gb * 2**30)
        place = CachePlace(folder / "embeddings", limit) if folder and limit else None
        return ImageSource(loaded.key, loaded.pixels, place, self.fields_of_view(loaded))

    def set_settings(self, settings: Settings) -> None:
        """Take other models, thresholds or cleaning; proposals in the making are redone."""
        if settings != self.settings:
            old, self.settings = self.settings, settings
            self.settings_changed.emit()
            self.remember(settings.to_json())
            self.follow_settings(old)

    def follow_settings(self, old: Settings) -> None:
        """Bring what depends on the settings up to date, which were others before."""

    # -- commands and edits --------------------------------------------------------------------

    def flush(self) -> None:
        """Have a window hand in what was painted by hand.

        Whatever reads labels to decide or to change something does this first; ``do`` does.
        """
        # A flush is itself a command (``paint.painted``), which flushes: without this it would not
        # end.
        if not self._flushes:
            self._flushes = True
            try:
                self.flushing.emit()
            finally:
                self._flushes = False

    def do(
        self,
        command: Callable[Concatenate[AnnotationState, P], Change],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> bool:
        """Do a command; False where it refuses or cannot be saved, and then it is said why."""
        self.flush()
        try:
            change = command(self.state, *args, **kwargs)
        except Refused as refused:
            if str(refused):
                self.say(str(refused), refused.level)
            return False
        if change.state is not None:
            self._take(change.state, told=change.edit is None)
        done = change.edit is None or self.edit(change.edit)
        if change.said and done:
            self.say(change.said)
        return done

    def bind(self, command: Callable[Concatenate[AnnotationState, P], Change]) -> Callable[P, bool]:
        """A command as a method: ``bind(add_point)(x, y)`` is ``do(add_point, x, y)``."""

        def bound(*args: P.args, **kwargs: P.kwargs) -> bool:
            return self.do(command, *args, **kwargs)

        bound.__doc__ = command.__doc__
        return bound

    def _take(self, state: AnnotationState, told: bool) -> None:
        """Take a state with what else is picked or proposed than before."""
        before = self._state
        self.set_state(
            table=state.table,
            proposal=state.proposal,
            begins_new=state.begins_new,
            picked=state.picked,
            pointed=state.pointed,
        )
        if state.table is not before.table or (told and state.picked != before.picked):
            self.classes_changed.emit()
        if state.proposal is not before.proposal:
            self.proposal_changed.emit()

    def edit(self, edit: Edit) -> bool:
        """Do an edit, write it down, and remember how to take it back; False where that cannot."""
        parts = edit.parts or (edit,)
        saving = any(part.patch is not None or part.state is not None for part in parts)
        if self.read_only and saving:
            self.say(f"Nothing was changed: {self.read_only}.", "warning")
            self.labels_changed.emit()
            return False
        new_classes = edit.table is None and self.table.classes != self.known_classes
        labels = any(part.patch is not None for part in parts)
        if labels and new_classes:  # labels never stand without their classes
            edit = replace(edit, table=(self.table, self.table))
        # Ahead of ``note``: the step's number is the serial of its event, and those of the parts
        # follow.
        number = self.undo_stack.push(edit)
        saving = saving or edit.table is not None
        self.note(
            EventKind.EDIT,
            edit.image_id,
            edit=edit,
            serial=number,
            saving=saving,
            parts=[
                {"image_id": part.image_id, "edit": part, "step": number} for part in edit.parts
            ],
        )
        self.image_queue.note_flags(edit)
        self.image_queue.note_accept(edit)
        self.apply(edit)
        return True

    def begin(self, name: str, table: tuple[ClassTable, ClassTable] | None = None) -> int:
        """Begin an edit of several images whose parts come one after the other; gives its number.

        Its content is not kept here, for it may be long: undo reads it from the store. ``table`` is
        the classes before and after it, where it brings new ones.
        """
        self.edit(Edit(name, table=table))
        step = self.undo_stack.next_undo
        assert step is not None
        self.undo_stack.let_go(step.number)
        return step.number

    def add_parts(self, number: int, parts: Sequence[tuple[Edit, dict[str, Any]]]) -> None:
        """Do further parts of an edit that was begun: of each the edit, and what else is noted.

        The person may be at something else, so that this is no work of theirs.
        """
        if self.store is None:
            return
        for part, body in parts:
            serial = self.undo_stack.next_serial()
            event = Event(serial, EventKind.EDIT, part.image_id, edit=part, step=number, body=body)
            self.outbox.put(self.store, event)
        self._send(self.store)
        self.apply(Edit("", parts=tuple(part for part, _ in parts)))

    def edit_proposal(self, name: str, proposal: ImageProposal) -> None:
        """Replace what is proposed on the current image, as an edit called ``name``."""
        if self.record is not None:
            self.edit(self.state.propose(name, proposal))

    def apply(self, edit: Edit) -> None:
        """Change the state as an edit says, all of it before anybody hears of it.

        So a window that fails to show one part of it loses none of the others.
        """
        changed: list[SignalInstance] = []
        # An image that is still being read takes its state from the store, where the edit is too.
        here = None if self.record is None or self.labels is None else self.record.image_id
        for part in edit.parts:
            if part.image_id == here:
                self.apply(part)
            else:
                self.image_queue.apply(part)
        after = self._state.after(edit)
        if edit.patch is not None and after.labels is not None:
            if edit.image_id is not None:
                self.image_queue.set_drawn(edit.image_id, bool(after.labels.any()))
            changed.append(self.labels_changed)
        if edit.table is not None:
            self.known_classes = edit.table[1].classes
            changed.append(self.classes_changed)
        self.set_state(labels=after.labels, table=after.table, proposal=after.proposal)
        if edit.proposal is not None:
            self.facts.pop("note", None)
            changed.append(self.proposal_changed)
        if edit.state is not None and edit.image_id is not None:
            self.image_queue.set_state(edit.image_id, edit.state[1])
        for signal in changed:
            signal.emit()
        if edit.proposal is not None and self.proposal.pending:
            self.ask_prompt()
        self.states_changed.emit()
        if edit.parts:
            self.images_changed.emit(tuple(part.image_id for part in edit.parts))

    def ask_prompt(self) -> None:
        """Have those objects segmented whose newest prompt has no answer yet."""

    def answer(
        self, asked: ProposedObject, made: ProposedObject, model_id: str, body: dict[str, Any]
    ) -> None:
        """Put a model's answer in the place of an object that waited for it."""
        step = self.undo_stack.last_with(asked)

        def answered(proposal: ImageProposal) -> ImageProposal:
            if proposal.index_of(asked) is None:
                return proposal
            return replace(proposal.putting(asked, made), model_id=model_id)

        proposal = self.undo_stack.change(answered, self.proposal)
        if step is not None and self.record is not None:
            image_id = self.record.image_id
            self.note(EventKind.ANSWER, image_id, step=step, proposal=proposal, body=body)
        self.set_state(proposal=proposal)

    def call_off(self, asked: ProposedObject) -> None:
        """Forget the prompt of an object that had no answer."""
        found = self.undo_stack.take_back(asked)
        if found is None or self.record is None:
            self.set_state(proposal=unasked(self.proposal, asked))
            return
        step, (before, after) = found
        index = after.index_of(asked)
        assert index is not None
        former = before.objects[index] if index < len(before.objects) else None

        def without(proposal: ImageProposal) -> ImageProposal:
            return before if proposal is after else proposal.putting(asked, former)

        proposal = self.undo_stack.change(without, self.proposal)
        self.note(EventKind.TAKEN_BACK, self.record.image_id, step=step, proposal=proposal)
        self.set_state(proposal=proposal)

    # -- jobs ----------------------------------------------------------------------------------

    def ask(
        self,
        function: Callable[..., Any] | str,
        *args: Any,
        lane: Lane,
        key: str = "",
        text: str = "",
        kind: str = "",
        done: Callable[[Any], None] | None = None,
        failed: Callable[[str], None] | None = None,
        **options: Any,
    ) -> Job:
        """Submit a job, see ``jobs.Job``; where it fails the person hears of it.

        Not where it has no ``text``, for then it went on behind the person's back. ``kind`` is what
        failed then, until a job of that kind succeeds; "" is the key.
        """

        def succeeded(result: Any) -> None:
            self._mended(kind or key)
            if done is not None:
                done(result)

        def told_of(error: str) -> None:
            if text:
                self.give_up(lane)
                self.fail(error, kind or key)

        job = self.jobs.submit(
            function,
            *args,
            lane=lane,
            key=key,
            text=text,
            done=succeeded,
            failed=failed or told_of,
            **options,
        )
        self.tell()
        return job

    def give_up(self, lane: Lane) -> None:
        """Go on without a job of a lane that failed."""

    # -- what the person is told ---------------------------------------------------------------

    @property
    def status(self) -> Status:
        """The line that says what is going on."""
        going_on = self.jobs.text()
        if going_on:
            return Status(going_on, busy=True)
        if self.failure or self.unsaved:
            return Status(self.failure or self.unsaved, error=True)
        facts = {**self.facts, "model": model_name(self.facts.get("model", ""))}
        if self.read_only:  # what was saved last is no news of what is done now
            facts.pop("saved", None)
        said = [
            facts[name] for name in ("note", "size", "model", "time", "saved") if facts.get(name)
        ]
        return Status(" - ".join(said) or "ready")

    @property
    def failure(self) -> str:
        """What failed last and is not mended, with the cure; "" where nothing is."""
        return next(reversed(self.failures.values()), "")

    @property
    def failed(self) -> str:
        """What kind of work that was."""
        return next(reversed(self.failures), "")

    def say(self, text: str, level: str = "info") -> None:
        """Tell the person: a word on the status line, and a notification unless it is small."""
        text = self.facts["note"] = by_archive(text)
        if level != "info":
            self.notified.emit(level, text)
        self.tell()

    def fail(self, text: str, kind: str = "") -> None:
        """Say what failed and what to do; ``kind`` is the kind of work."""
        text = by_archive(text)
        # Out and in again, so that it is the newest.
        self.failures.pop(kind, None)
        self.failures[kind] = text
        self.notified.emit("error", text)
        self.tell()

    def _mended(self, kind: str) -> None:
        """Work of a kind succeeded: what failed at the like of it before is over.

        A search needs all that other work with models needs.
        """
        for other in (kind, MODEL) if kind == TEXT else (kind,):
            self.failures.pop(other, None)

    def tell(self) -> None:
        """Say what is going on."""
        self.status_changed.emit(self.status)

    # -- what is written down ------------------------------------------------------------------

    def note(
        self,
        kind: EventKind,
        image_id: str | None = None,
        *,
        serial: int | None = None,
        saving: bool = False,
        body: dict[str, Any] | None = None,
        parts: Sequence[dict[str, Any]] = (),
        **content: Any,
    ) -> None:
        """Write an event into the store's history.

        Args:
            kind: what it is.
            image_id: the image that it belongs to.
            serial: where one was given out for it already.
            saving: the status line says that something is saved.
            body: JSON values.
            parts: of it, events of the same kind: what each holds.
            content: ``edit``, ``step`` and ``proposal`` of ``project.records.Event``.
        """
        if self.store is None or self.store.read_only:
            return
        if kind in (EventKind.EDIT, EventKind.UNDO, EventKind.REDO, EventKind.OPEN):
            self.effort.touch()
        number = self.undo_stack.next_serial() if serial is None else serial
        self.outbox.put(self.store, Event(number, kind, image_id, body=body or {}, **content))
        for part in parts:
            self.outbox.put(self.store, Event(self.undo_stack.next_serial(), kind, **part))
        self._send(self.store, saving)

    def remember(self, values: dict[str, Any]) -> None:
        """Keep settings with the folder."""
        self.note(EventKind.SETTINGS, body=values)

    def note_effort(self) -> None:
        """Write down how long the person was at work on the image that is shown."""
        if self.record is not None and self.loaded is not None:
            body = {"active_s": round(self.effort.take(), 3)}
            self.note(EventKind.LEAVE, self.record.image_id, body=body)

    def retry(self) -> None:
        """Send again what could not be saved."""
        for store in self.outbox.stores() or (() if self.store is None else (self.store,)):
            self._send(store, saving=True)

    def _send(self, store: LabelStore, saving: bool = False) -> None:
        """Send a store what it is not known to have."""
        events = self.outbox.of(store)

        def failed(error: str) -> None:
            self.facts.pop("saved", None)
            if self.unsaved != error:
                self.unsaved = error
                self.notified.emit("error", error)

        self.ask(
            files.save,
            store,
            events,
            lane=Lane.FILES,
            text=f"Saving in {store.name}..." if saving else "",
            aside=True,
            done=lambda saved: self._saved(store, events, saving, *saved),
            failed=failed,
        )

    def _saved(
        self,
        store: LabelStore,
        events: tuple[Event, ...],
        saving: bool,
        report: SaveReport,
        warning: str,
    ) -> None:
        """A store has events."""
        if events:
            self.outbox.arrived(store, events[-1].serial)
        # A folder that was left is let go only when all that was done in it is written.
        if store is not self.store and store not in self.outbox.stores():
            self.close_store(store)
        if not self.outbox.stores():
            self.unsaved = ""
        if warning:
            self.notified.emit("warning", warning)
        if report.backup is not None:
            self.say(
                "The label file was changed by another program meanwhile; that version is kept as "
                f"{report.backup}",
                "warning",
            )
        if report.path is not None:
            self.facts["saved"] = f"saved {datetime.now():%H:%M}"
        elif saving:
            in_memory = isinstance(self.store, MemoryStore)
            self.facts["saved"] = "kept in this window only" if in_memory else ""

    def close_store(self, store: LabelStore) -> None:
        """Let others have a store that is not shown here (any more)."""
        self.ask(files.close_store, store, lane=Lane.FILES)

    def export(
        self,
        out: str | Path,
        organ: str = DEFAULT_ORGAN,
        target: str | None = None,
        overwrite: bool = False,
        groups: str | None = None,
        format: str = DEFAULT_FORMAT,
        measurements: bool = False,
    ) -> None:
        """Write a data set of all accepted images.

        Args:
            out: a new or an empty folder.
            organ: what the images show.
            target: the phrase for class 1; None takes its name.
            overwrite: replace an earlier export that nobody changed since.
            groups: which images are of one patient or loop, as in ``io.groups``; None keeps those
                of a patient's folder together, and the frames of a file.
            format: a name in ``io.formats.FORMATS``.
            measurements: also write measurements.csv.
        """
        self.flush()
        if self.store is None:
            self.say("Open a folder first; there is nothing to export.", "warning")
            return
        self.ask(
            files.export_labels,
            self.store,
            Path(out),
            organ,
            target,
            self.table.classes,
            overwrite,
            groups,
            format,
            measurements,
            lane=Lane.FILES,
            key="export",
            text="Exporting...",
            aside=True,
            done=lambda made: self._exported(*made),
        )

    def _exported(self, folder: Path, warning: str) -> None:
        self.note(EventKind.EXPORT, body={"to": folder.name})
        self.say(f"Exported to {folder}")
        self.notified.emit("info", f"The data set is in {folder}")
        if warning:
            self.notified.emit("warning", warning)
