"""A training that goes on: begun, paused, given up, gone on with; the work is another process."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..store.shelf import Shelf
from ..store.versions import Unfinished
from .background import ENDED
from .requests import (
    FileAnswer,
    ShelfAction,
    ShelfRequest,
    StopRequest,
    TrainingAnswer,
    TrainRequest,
)
from .training_progress import TrainingProgress, as_curve, with_point

if TYPE_CHECKING:
    from .annotator import AnnotationSession
    from .learner import Learner


class Running:
    """``session.predictor.running``, ``session.tuner.running``.

    Args:
        session: that everything is asked through.
        learner: whose trainings these are.

    Attributes:
        progress: of the training that goes on, or None.
        failure: why the last training came to nothing; "" where it did not.
    """

    def __init__(self, session: AnnotationSession, learner: Learner) -> None:
        self._session, self._learner = session, learner
        self._forget()

    def _forget(self) -> None:
        self.progress: TrainingProgress | None = None
        self.failure = ""
        self._generation = 0
        self._outcome = ""
        self._ending = ""
        self._closing = 0
        self._died_at: int | None = None

    # -- beginning and ending ------------------------------------------------------------------

    def opened(self, unfinished: Unfinished | None) -> None:
        """A folder was opened: go on with a training that was going on there."""
        session = self._session
        self._forget()
        if unfinished is None or unfinished.paused or session.store is None or session.read_only:
            return
        if any(other.training is not None for other in session.learners):
            self._shelf("pause")
            return
        self.progress = TrainingProgress(images=unfinished.images, resumed=True)
        self._start()

    def leave(self) -> None:
        """The folder is left: what a training has learnt stays for coming back."""
        if self.progress is not None:
            self.progress = None
            self._session.ask(StopRequest(self._session.progress.generation))
        self._generation = 0

    def begin(self, images: int, request: dict[str, Any]) -> None:
        """Begin a training as ``request`` says."""
        self.failure, self._died_at = "", None
        self.progress = TrainingProgress(images=images)
        self._shelf("begin", request)
        self._tell_all()

    def resume(self, unfinished: Unfinished) -> None:
        """Go on with one that was stopped and kept."""
        self.failure, self._died_at = "", None
        self.progress = TrainingProgress(images=unfinished.images, resumed=True)
        self._shelf("resume", self._learner.in_use_now())
        self._tell_all()

    def cancel(self, keep: bool) -> None:
        """End the training now; ``keep`` what it has learnt, or remove it."""
        session = self._session
        if self.progress is None:
            if self._learner.paused and not keep:
                self._shelf("discard")
            return
        if self._closing:
            return
        self._ending = "pause" if keep else "discard"
        self.progress = replace(self.progress, phase="ending")
        session.ask(StopRequest(session.progress.generation))
        self._shelf("pause")  # if the window closes before it has ended, it is not gone on with
        self._learner.changed.emit()

    def _shelf(
        self, action: ShelfAction, values: dict[str, Any] | None = None, last: bool = False
    ) -> None:
        session, kind = self._session, self._learner.kind
        assert session.store is not None
        generation = session.progress.begin("shelf")
        if last:
            self._closing = generation
        request = ShelfRequest(generation, session.store, action, kind=kind, values=values or {})
        session.ask(request)

    def _start(self) -> None:
        session, kind = self._session, self._learner.kind
        assert session.store is not None
        assert session.store.models_folder is not None
        self._outcome = ""
        self._generation = session.progress.begin("training")
        session.progress.drop("training")  # it is told of in another place than the status line
        folder = Shelf(session.store.models_folder, kind).training
        session.ask(TrainRequest(self._generation, folder, kind))

    def _tell_all(self) -> None:
        """A training begins or ends, which the other kind waits for."""
        for learner in self._session.learners:
            learner.changed.emit()

    # -- answers -------------------------------------------------------------------------------

    def take_shelf(self, answer: FileAnswer) -> None:
        """Go on when something was written down."""
        assert isinstance(answer.request, ShelfRequest)
        action = answer.request.action
        if action in ("begin", "resume"):
            if answer.error or self.progress is None:
                self.progress = None
            elif self._ending:
                self._over()
            else:
                self._start()
        elif answer.generation == self._closing:
            self.progress, self._ending, self._closing = None, "", 0
            self._tell_all()

    def take(self, answer: TrainingAnswer) -> None:
        """Take a message of the training."""
        if answer.generation != self._generation or self.progress is None:
            return
        message, now = answer.message, self.progress
        match message.get("kind"):
            case "phase" if not self._ending:
                now = replace(now, phase=message["text"], images=message["images"])
            case "curve":
                now = replace(
                    now, losses=as_curve(message["losses"]), held_out=as_curve(message["held_out"])
                )
            case "step":
                step = message["step"]
                now = replace(
                    now,
                    step=step,
                    steps=message["steps"],
                    losses=with_point(now.losses, step, message.get("loss")),
                    held_out=with_point(now.held_out, step, message.get("held_out_dice")),
                )
            case "done" | "failed" | "stopped" as kind:
                self._outcome = "kept" if message.get("keep") else kind
                self.failure = str(message.get("text", ""))
            case kind if kind == ENDED:
                self._ended(int(message["code"]))
                return
        self.progress = now
        self._learner.changed.emit()

    def _ended(self, code: int) -> None:
        session, progress = self._session, self.progress
        assert progress is not None
        if self._outcome == "done" and self._ending != "discard":
            self._close("settle")
        elif self._ending:
            self._over()
        elif self._outcome == "failed":
            session.say(f"The training came to nothing: {self.failure}", "warning")
            self._learner.given_up()
            self._close("discard")
        elif self._outcome == "kept":
            self.failure += " What it has learnt is kept: press Resume to go on."
            session.say(self.failure, "warning")
            self._close("pause")
        elif self._died_at is None or progress.step > self._died_at:
            self._died_at = progress.step
            session.say(
                f"The training was ended from outside (exit code {code}); it goes on where it was.",
                "warning",
            )
            self.progress = replace(progress, phase="starting", resumed=True)
            self._start()
        else:
            self.failure = (
                f"The training was ended from outside twice (exit code {code}), perhaps for lack "
                "of memory. What it has learnt is kept: press Resume to go on."
            )
            session.say(self.failure, "warning")
            self._close("pause")
        self._tell_all()

    def _over(self) -> None:
        """It has ended because the person wanted that."""
        action: ShelfAction = "pause" if self._ending == "pause" else "discard"
        if action == "discard":
            self._learner.given_up()
        self._close(action)

    def _close(self, action: ShelfAction) -> None:
        """Its process has ended; it is over when that is written down, and another may begin."""
        if self.progress is not None:
            self.progress = replace(self.progress, phase="ending")
        self._shelf(action, last=True)
