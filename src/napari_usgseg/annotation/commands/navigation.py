"""Opening images and going from one to the next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ...jobs import Lane, Scope, files, inference
from ...jobs.files import Loaded, Opened
from ...project.records import Edit, EventKind, ImageState
from ..drafts import ImageProposal, unasked
from ..image_queue import Browser
from ..settings import Settings
from ..stopwatch import Stopwatch
from ..undo import History
from . import commit

if TYPE_CHECKING:
    from ..session import AnnotationSession


class Ahead:
    """``session.ahead``: the next two images and the previous one, in the order of the queue.

    One image is read at a time, so that a person who goes elsewhere waits for one at the most; each
    is encoded as soon as it is read, and segmented where a prompt predictor shows masks by itself.
    The worker does that only while nobody waits for it.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self._asked: set[str] = set()

    def begin(self) -> None:
        """Look around the image that is shown now; what was going on for another one is dropped."""
        self._session.jobs.cancel(Scope.AHEAD)
        self._asked.clear()
        self.go_on()

    def _take(self, loaded: Loaded) -> None:
        """Keep an image that was read ahead, have it encoded, and read the next one."""
        session = self._session
        session.browser.learn(loaded.record.image_id, loaded.state, loaded.unflagged)
        session.browser.keep(loaded)
        self._encode(loaded)
        self.go_on()

    def go_on(self) -> None:
        """Read the next image that is not there yet."""
        session = self._session
        if session.store is None:
            return
        for record in session.browser.nearby():
            if record.image_id in self._asked:
                continue
            self._asked.add(record.image_id)
            kept = session.browser.take_loaded(record.image_id)
            if kept is None:
                session.ask(
                    files.load_image,
                    session.store,
                    record,
                    lane=Lane.FILES,
                    key="read ahead",
                    scope=Scope.AHEAD,
                    done=self._take,
                    failed=lambda _: self.go_on(),  # said when it is opened
                    late=session.walk.warn,
                )
                return
            self._encode(kept)

    def _encode(self, loaded: Loaded) -> None:
        session = self._session
        if not session.predictor.proposals.ask_ahead(loaded):
            session.ask(
                inference.embed,
                session.source(loaded),
                session.settings.segmenter,
                lane=Lane.PREFETCH,
                scope=Scope.AHEAD,
            )


class Walk:
    """``session.walk``: folders, layers and phantoms; the image before, the image after."""

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session

    def open_folder(
        self,
        folder: str | Path,
        labels_root: str | Path | None = None,
        annotator: str = "",
    ) -> None:
        """Open a folder of images, or a project; labels are kept in it, or in ``labels_root``.

        ``annotator`` is whose labels; "" is the first person here, who needs no name.
        """
        session = self._session
        session.flushing.emit()
        session.note_effort()
        if session.unsaved:
            session.retry()
        session.ask(
            files.open_folder,
            Path(folder),
            None if labels_root is None else Path(labels_root),
            annotator,
            lane=Lane.FILES,
            key="open",
            text=f"Looking through {Path(folder).name}...",
            done=self.use_store,
            late=self._not_wanted,
        )

    def open_array(self, name: str, array: NDArray[Any]) -> None:
        """Open one image that is in memory; any array that ``io.images.to_rgb_uint8`` takes."""
        session = self._session
        session.flushing.emit()
        session.note_effort()
        session.ask(
            files.open_array,
            name,
            array,
            lane=Lane.FILES,
            key="open",
            text=f"Taking {name}...",
            done=self.use_store,
            late=self._not_wanted,
        )

    def _not_wanted(self, opened: Opened) -> None:
        """Let others have a store that another one was opened in the place of."""
        self._session.close_store(opened.store)

    def open_phantoms(self, folder: str | Path) -> None:
        """Make phantoms in an empty folder and open them."""
        self._session.ask(
            inference.make_phantoms,
            Path(folder),
            lane=Lane.PHRASES,
            key="phantoms",
            text="Making phantoms...",
            done=lambda _: self.open_folder(folder),
        )

    def use_store(self, opened: Opened) -> None:
        """Show a store that was opened."""
        session = self._session
        session.flushing.emit()
        session.jobs.cancel(*Scope)
        for learner in session.learners:
            learner.leave()
        former = session.store
        session.outbox.inherit(opened.store, opened.steps.serial)
        session.travel.stop()
        session.history = History(opened.steps)
        session.browser = Browser(opened.store, opened.states, session.outbox, opened.drawn)
        session.others, session.left_out = opened.others, opened.left_out
        if former is not None and former not in session.outbox.stores():
            session.close_store(former)
        kept = dict(opened.settings)
        if ImageState.ACCEPTED in opened.states.values():
            kept.setdefault("labelling", "semantic")
        session.settings = Settings.from_json({**session.settings.to_json(), **kept})
        session.table = opened.table or commit.first_table()
        session.known_classes = () if opened.table is None else opened.table.classes
        self._close_image()
        session.opened.emit()
        session.classes_changed.emit()
        session.settings_changed.emit()
        session.predictor.opened(opened.versions)
        session.tuner.opened(opened.adapters)
        if opened.store.problems:
            first, *others = opened.store.problems
            more = f" (and {len(others)} more)" if others else ""
            session.notified.emit("warning", first + more)
        if opened.left_out:
            session.notified.emit("info", " ".join(opened.left_out))
        if opened.store.read_only:
            session.notified.emit("warning", f"{opened.store.read_only}.")
        if "labelling" not in opened.settings:
            session.remember({"labelling": session.settings.labelling})
        begin = session.browser.resume_at(opened.settings.get("last"))
        if begin is not None:
            self.open_image(begin)

    def open_image(self, image_id: str) -> None:
        """Show an image; what is proposed on the one shown now is kept for coming back."""
        session = self._session
        if session.store is None or (
            session.record is not None and image_id == session.record.image_id
        ):
            return
        session.flushing.emit()
        session.jobs.cancel(Scope.IMAGE)
        session.prompting.cancel()
        session.note_effort()
        session.browser.leave(session.loaded, session.labels, session.proposal)
        self._close_image()
        session.browser.go(image_id)
        session.image_changed.emit()
        session.states_changed.emit()
        kept = session.browser.take_loaded(image_id)
        if kept is not None:
            session.jobs.cancel("load")
            self.show(kept)
            return
        self.reload()

    def reload(self) -> None:
        """Read the current image again, after a failure."""
        session = self._session
        if session.store is not None and session.record is not None:
            session.ask(
                files.load_image,
                session.store,
                session.record,
                lane=Lane.FILES,
                key="load",
                scope=Scope.FOLDER,
                text=f"Reading {session.record.path.name}...",
                done=self._take,
                late=self.warn,
            )

    def warn(self, loaded: Loaded) -> None:
        """Say what is to be said of an image as it was read, for the store says it once."""
        if loaded.warning:
            self._session.notified.emit("warning", loaded.warning)

    def _take(self, loaded: Loaded) -> None:
        session = self._session
        session.browser.learn(loaded.record.image_id, loaded.state, loaded.unflagged)
        self.show(loaded)

    def show(self, loaded: Loaded) -> None:
        """Take an image that was read for the current one."""
        session = self._session
        image_id = loaded.record.image_id
        self.warn(loaded)
        loaded = replace(loaded, warning="")
        session.loaded, session.labels = loaded, loaded.labels
        proposal = session.browser.take_proposal(image_id) or loaded.proposal
        session.proposal = unasked(proposal) if proposal.pending else proposal
        session.browser.set_drawn(image_id, bool(loaded.labels.any()))
        labelling = session.settings.labelling
        session.set_table(commit.with_labels(session.table, loaded.labels, labelling))
        session.image_loaded.emit()
        session.labels_changed.emit()
        session.proposal_changed.emit()
        session.prepare(f"Preparing {loaded.record.path.name}...")
        waiting, session.after_load = session.after_load, []
        for action in waiting:
            action()
        fresh = session.state_of(image_id) is ImageState.UNTOUCHED
        finds = session.settings.find_on_open and session.settings.phrase
        if waiting:
            pass  # on the way through the history
        elif not fresh or not finds or session.predictor.shows_by_itself:
            session.predictor.proposals.shown()
        else:
            session.prompting.find()
        session.predictor.look()
        if session.store is not None:
            session.effort = Stopwatch()
            session.note(EventKind.OPEN, image_id)
            session.ahead.begin()

    def _close_image(self) -> None:
        session = self._session
        session.loaded, session.labels, session.proposal = None, None, ImageProposal()
        session.failures.clear()
        for fact in ("note", "time"):
            session.facts.pop(fact, None)

    def step(self, by: int) -> bool:
        """Go to the next (1) or previous (-1) image; False at the end."""
        session = self._session
        target = session.browser.neighbour(by)
        if target is None:
            session.say("This is the last image." if by > 0 else "This is the first image.")
            return False
        self.open_image(target)
        return True

    def next_untouched(self) -> bool:
        """Go to the next image that nobody has labelled; False where none is left."""
        session = self._session
        target = session.browser.next_untouched()
        if target is None:
            session.say("No untouched image is left.")
            return False
        self.open_image(target)
        return True

    def go_to_name(self, part: str) -> bool:
        """Go to the next image whose name holds ``part``; False where none does."""
        session = self._session
        target = session.browser.named(part)
        if target is None:
            session.say(f"No image has '{part.strip()}' in its name.")
            return False
        self.open_image(target)
        return True

    def show_only(self, state: ImageState | None) -> None:
        """Let the images before and after be those in one state; None goes through all."""
        session = self._session
        session.browser.only = state
        if session.loaded is not None:
            session.ahead.begin()
        session.tell()

    def skip(self) -> None:
        """Set the current image aside and go to the next; labels that it has are kept.

        They are accepted by that as little as before.
        """
        session = self._session
        if session.record is None or session.labels is None:
            return
        state = session.browser.decided(session.record.image_id)
        if state not in (ImageState.ACCEPTED, ImageState.FLAGGED):
            states = (state, ImageState.SKIPPED)
            session.do(
                Edit(
                    "skip",
                    session.record.image_id,
                    (session.proposal, ImageProposal()),
                    state=states,
                )
            )
        self.step(1)

    def flag(self) -> None:
        """Flag the current image for review and go to the next, or take its flag away.

        Labels and what is proposed are kept; accepting takes the flag away too.
        """
        session = self._session
        if session.record is None or session.labels is None:
            return
        session.flushing.emit()
        image_id = session.record.image_id
        state = session.browser.decided(image_id)
        if state is ImageState.FLAGGED:
            kept = session.browser.unflagged(image_id)
            session.do(Edit("take flag away", image_id, state=(state, kept)))
            return
        session.do(Edit("flag for review", image_id, state=(state, ImageState.FLAGGED)))
        self.step(1)
