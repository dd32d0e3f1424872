"""``AnnotationSession``: what a person does to images, without any window.

The session holds the state and says what changed (psygnal events); it runs no thread. Long work
goes out as a job through ``requested``, and whoever runs it gives the job its outcome back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from psygnal import Signal, SignalInstance

from ..core.types import ImageRecord, LabelClass
from ..io.formats import DEFAULT_FORMAT
from ..jobs import Job, Jobs, Lane, Scope, files, inference
from ..jobs.files import Loaded
from ..jobs.inference import Found
from ..jobs.loaded_models import ImageSource
from ..models.embedding_cache import CachePlace
from ..project.project import LabelStore, MemoryStore
from ..project.records import ClassTable, Edit, Event, EventKind, ImageState, LabelMap, SaveReport
from ..project.versions import readable
from .commands import commit
from .commands.copying import Copying
from .commands.editing import Editing
from .commands.finding import Finding
from .commands.navigation import Ahead, Walk
from .commands.objects import Objects
from .commands.painting import Painting
from .commands.prompting import Prompting
from .drafts import ImageProposal
from .image_queue import Browser
from .learners.predictor import Predictor
from .learners.tuner import Tuner
from .outbox import Outbox
from .settings import Settings
from .status import MODEL, TEXT, Status
from .stopwatch import Stopwatch
from .undo import History, Travel


class SessionState:
    """What a session holds and how it changes; ``AnnotationSession`` adds what a person can do.

    Attributes:
        settings: models, phrase, thresholds, cleaning.
        browser: the images and their states.
        table: the classes and the picked one.
        known_classes: those that the history has.
        loaded: the current image's pixels, or None while they are read.
        labels: its accepted label map (H, W), replaced and never changed in place.
        history: of all edits.
        target: the position in the history that undo and redo are on their way to, or None.
        outbox: what happened and is not yet known to be in a store.
        left_out: sentences about what the folder holds beside the images.
        others: other annotators who labelled in this project.
        jobs: what goes on off this thread.
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
    settings_changed = Signal()
    status_changed = Signal(Status)
    notified = Signal(str, str)  # "info", "warning" or "error", and a sentence with the cure
    requested = Signal(object)  # a job to run
    cancelled = Signal(object)  # a job that nobody waits for any more, or that is to end early
    flushing = Signal()

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.browser = Browser()
        self.table = commit.first_table()
        self.known_classes: tuple[LabelClass, ...] = ()
        self.loaded: Loaded | None = None
        self.labels: LabelMap | None = None
        self._proposal = ImageProposal()
        self.history = History()
        self.target: int | None = None
        self.outbox = Outbox()
        self.left_out: tuple[str, ...] = ()
        self.others: tuple[str, ...] = ()
        self.unsaved = ""
        self.effort = Stopwatch()
        self.jobs = Jobs(self.requested.emit, self.cancelled.emit, self.tell)
        self.facts: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.after_load: list[Callable[[], None]] = []

    @property
    def store(self) -> LabelStore | None:
        """Where images and labels are, or None before anything is opened."""
        return self.browser.store

    @property
    def record(self) -> ImageRecord | None:
        """The current image."""
        return self.browser.record

    @property
    def status(self) -> Status:
        """The line that says what is going on."""
        going_on = self.jobs.text()
        if going_on:
            return Status(going_on, busy=True)
        if self.failure or self.unsaved:
            return Status(self.failure or self.unsaved, error=True)
        facts = [
            self.facts[name] for name in ("note", "model", "time", "saved") if self.facts.get(name)
        ]
        return Status(" - ".join(facts) or "ready")

    @property
    def failure(self) -> str:
        """What failed last and is not mended, with the cure; "" where nothing is."""
        return next(reversed(self.failures.values()), "")

    @property
    def failed(self) -> str:
        """What kind of work that was."""
        return next(reversed(self.failures), "")

    def state_of(self, image_id: str) -> ImageState:
        """The state of an image; proposed where a proposal waits to be accepted."""
        return self.browser.state_of(image_id)

    @property
    def proposal(self) -> ImageProposal:
        """What is proposed on the current image."""
        return self._proposal

    @proposal.setter
    def proposal(self, proposal: ImageProposal) -> None:
        self._proposal = proposal
        if self.record is not None and self.labels is not None:
            self.browser.set_proposed(self.record.image_id, proposal.has_masks)

    # -- history -------------------------------------------------------------------------------

    def do(self, edit: Edit) -> None:
        """Do an edit, write it down, and remember how to take it back."""
        saving = edit.patch is not None or edit.state is not None
        if self.read_only and saving:
            self.say(f"Nothing was changed: {self.read_only}.", "warning")
            self.labels_changed.emit()
            return
        new_classes = edit.table is None and self.table.classes != self.known_classes
        if edit.patch is not None and new_classes:  # labels never stand without their classes
            edit = replace(edit, table=(self.table, self.table))
        self.target = None
        number = self.history.push(edit)
        saving = saving or edit.table is not None
        self.note(EventKind.EDIT, edit.image_id, edit=edit, serial=number, saving=saving)
        self.apply(edit)

    def apply(self, edit: Edit) -> None:
        """Change the state as an edit says, all of it before anybody hears of it.

        So a window that fails to show one part of it loses none of the others.
        """
        changed: list[SignalInstance] = []
        if edit.patch is not None and self.labels is not None:
            self.labels = edit.patch.applied(self.labels)
            if edit.image_id is not None:
                self.browser.set_drawn(edit.image_id, bool(self.labels.any()))
            changed.append(self.labels_changed)
        if edit.table is not None:
            self.known_classes = edit.table[1].classes
            ids = {item.class_id for item in edit.table[1].classes}
            active = edit.table[1].active
            table = replace(edit.table[1], active=active if active in ids else min(ids))
            self.table = commit.with_labels(table, self.labels, self.settings.labelling)
            changed.append(self.classes_changed)
        if edit.proposal is not None:
            self.proposal = edit.proposal[1]
            self.facts.pop("note", None)
            changed.append(self.proposal_changed)
        if edit.state is not None and edit.image_id is not None:
            self.browser.set_state(edit.image_id, edit.state[1])
        for signal in changed:
            signal.emit()
        if edit.proposal is not None and self.proposal.pending:
            self.ask_prompt()
        self.states_changed.emit()

    def answer_step(
        self, pending: ImageProposal, answered: ImageProposal, body: dict[str, Any]
    ) -> None:
        """Put a model's answer in the place of the proposal that waited for it."""
        step = self.history.answer(pending, answered)
        if step is not None and self.record is not None:
            image_id = self.record.image_id
            self.note(EventKind.ANSWER, image_id, step=step, proposal=answered, body=body)

    def take_back(self, pending: ImageProposal) -> ImageProposal | None:
        """Forget a prompt that had no answer; gives the proposal before it, or None if unknown."""
        found = self.history.take_back(pending)
        if found is None or self.record is None:
            return None
        step, before = found
        self.note(EventKind.TAKEN_BACK, self.record.image_id, step=step, proposal=before)
        return before

    def set_table(self, table: ClassTable) -> None:
        """Take other classes."""
        if table is not self.table:
            self.table = table
            self.classes_changed.emit()

    def ask_prompt(self) -> None:
        """Have the active object segmented."""

    def source(self, loaded: Loaded | None = None) -> ImageSource:
        """The pixels of an image (the current one's), for a request."""
        loaded = loaded or self.loaded
        assert loaded is not None
        return ImageSource(loaded.key, loaded.pixels, self._cache_place())

    def _cache_place(self) -> CachePlace | None:
        folder = None if self.store is None else self.store.cache_folder
        limit = int(self.settings.cache_gb * 2**30)
        return CachePlace(folder / "embeddings", limit) if folder and limit else None

    @property
    def is_waiting(self) -> bool:
        """True while a proposal is awaited, so that there is nothing yet to accept."""
        return self.labels is None or self.proposal.pending or self.jobs.awaits(Scope.PROPOSAL)

    # -- the way out and back ------------------------------------------------------------------

    def ask(
        self,
        function: Callable[..., Any] | str,
        *args: Any,
        lane: Lane,
        key: str = "",
        scope: Scope | None = None,
        text: str = "",
        aside: bool = False,
        kind: str = "",
        done: Callable[[Any], None] | None = None,
        failed: Callable[[str], None] | None = None,
        late: Callable[[Any], None] | None = None,
        told: Callable[[Any], None] | None = None,
    ) -> Job:
        """Submit a job, see ``jobs.Job``; where it fails the person hears of it.

        Not where it has no ``text``, for then it went on behind the person's back. ``kind`` is what
        failed then, until a job of that kind succeeds; "" is the key.
        """

        def succeeded(result: Any) -> None:
            self.mended(kind or key)
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
            scope=scope,
            text=text,
            aside=aside,
            done=succeeded,
            failed=failed or told_of,
            late=late,
            told=told,
        )
        self.tell()
        return job

    def give_up(self, lane: Lane) -> None:
        """Go on without a job of a lane that failed."""

    def say(self, text: str, level: str = "info") -> None:
        """Tell the person: a word on the status line, and a notification unless it is small."""
        self.facts["note"] = text
        if level != "info":
            self.notified.emit(level, text)
        self.tell()

    def fail(self, text: str, kind: str = "") -> None:
        """Say what failed and what to do; ``kind`` is the kind of work."""
        self.failures.pop(kind, None)
        self.failures[kind] = text
        self.notified.emit("error", text)
        self.tell()

    def mended(self, kind: str) -> None:
        """Work of a kind succeeded: what failed at the like of it before is over.

        A search needs all that other work with models needs.
        """
        for other in (kind, MODEL) if kind == TEXT else (kind,):
            self.failures.pop(other, None)

    def tell(self) -> None:
        """Say what is going on."""
        self.status_changed.emit(self.status)

    # -- what is written down ------------------------------------------------------------------

    @property
    def read_only(self) -> str:
        """Why nothing can be saved, and the cure; "" where it can."""
        return "" if self.store is None else self.store.read_only

    def note(
        self,
        kind: EventKind,
        image_id: str | None = None,
        *,
        serial: int | None = None,
        edit: Edit | None = None,
        step: int | None = None,
        proposal: ImageProposal | None = None,
        body: dict[str, Any] | None = None,
        saving: bool = False,
    ) -> None:
        """Write an event into the store's history; see ``store.records.Event``.

        Args:
            kind: what it is.
            image_id: the image that it belongs to.
            serial: where one was given out for it already.
            edit: of kind ``edit``.
            step: the edit that it is about.
            proposal: what is proposed from now on.
            body: anything else, JSON values.
            saving: the status line says that something is saved.
        """
        if self.store is None or self.store.read_only:
            return
        if kind in (EventKind.EDIT, EventKind.UNDO, EventKind.REDO, EventKind.OPEN):
            self.effort.touch()
        number = self.history.next_serial() if serial is None else serial
        event = Event(number, kind, image_id, edit, step, proposal, body or {})
        self.outbox.put(self.store, event)
        self.send(self.store, saving)

    def send(self, store: LabelStore, saving: bool = False) -> None:
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

    def retry(self) -> None:
        """Send again what could not be saved."""
        for store in self.outbox.stores() or (() if self.store is None else (self.store,)):
            self.send(store, saving=True)

    def remember(self, values: dict[str, Any]) -> None:
        """Keep settings with the folder."""
        self.note(EventKind.SETTINGS, body=values)

    def note_effort(self) -> None:
        """Write down how long the person was at work on the image that is shown."""
        if self.record is not None and self.loaded is not None:
            body = {"active_s": round(self.effort.take(), 3)}
            self.note(EventKind.LEAVE, self.record.image_id, body=body)


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

    def ask_prompt(self) -> None:
        """Have the active object segmented."""
        self.prompting.ask()

    def give_up(self, lane: Lane) -> None:
        """Go on without a job of a lane that failed."""
        if lane is Lane.FILES:
            self.travel.stop()
        else:
            self.prompting.drop_pending()

    def credit(self, found: Found) -> None:
        """Say which models answered, and how fast."""
        self.facts.pop("note", None)
        self.facts["model"] = readable(found.model_id)
        if found.fell_back:
            self.tuner.is_broken(found.fell_back)
        milliseconds = 1000 * found.seconds
        quick = milliseconds < 1000
        self.facts["time"] = f"{milliseconds:.0f} ms" if quick else f"{found.seconds:.1f} s"

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
        self.tuner.warm_up()

    def prepare(self, text: str) -> None:
        """Encode the image that is shown, so that the first click waits for nothing."""
        self.ask(
            inference.embed,
            self.source(),
            self.settings.segmenter,
            lane=Lane.CLICKS,
            key="embed",
            scope=Scope.IMAGE,
            text=text,
            aside=True,
            kind=MODEL,
            done=self._segmenter_is,
        )

    def _segmenter_is(self, model_id: str) -> None:
        self.facts["model"] = model_id
        self.predictor.segmenter_is(model_id)

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
                self.prepare("Preparing the image...")
                self.ahead.begin()
        changed = (old.segmenter, old.cleaning) != (settings.segmenter, settings.cleaning)
        if changed and (current := self.proposal.current) and not current.prompts.is_empty:
            prompts = replace(current.prompts, mask_input=None)
            assert self.proposal.active is not None
            again = self.proposal.with_object(
                self.proposal.active, replace(current, prompts=prompts)
            )
            self.prompting.edit_proposal("redo with other settings", replace(again, pending=True))
        ours = [
            (each.mode, each.train_after, each.train_by_itself, each.cleaning)
            for each in (old, settings)
        ]
        if ours[0] != ours[1]:
            self.predictor.settings_changed()

    def export(
        self,
        out: str | Path,
        organ: str,
        target: str,
        overwrite: bool = False,
        groups: str | None = None,
        format: str = DEFAULT_FORMAT,
    ) -> None:
        """Write a data set of everything that is accepted.

        Args:
            out: a new or an empty folder.
            organ: what the images show.
            target: the phrase for class 1.
            overwrite: replace an earlier export that nobody changed since.
            groups: which images are of one patient or loop, as in ``io.groups``; None keeps those
                of a patient's folder together, and the frames of a file.
            format: a name in ``io.formats.FORMATS``.
        """
        self.flushing.emit()
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

    def undo(self) -> None:
        """Take back the last edit; where it was on another image, go there first."""
        self.travel.undo()

    def redo(self) -> None:
        """Do again what was undone last; where it was on another image, go there first."""
        self.travel.redo()

    def go_to(self, position: int) -> None:
        """Undo or redo until ``position`` of ``history.steps`` are done."""
        self.travel.go_to(position)

    def close(self) -> None:
        """Write down what is left to write, and let others have the folder."""
        self.flushing.emit()
        for learner in self.learners:
            learner.leave()
        self.note_effort()
        if self.store is not None:
            self.close_store(self.store)
