"""Training of a learner: its plan, its progress, and the process that it runs in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from psygnal import SignalInstance

from ...core.types import ImageRecord
from ...jobs import Job, Lane, Scope
from ...jobs.background import Message
from ...project.project import LabelStore
from ...project.records import ClassTable
from ...project.versions import ModelKind, Unfinished, VersionStore
from ..settings import Settings


class Host(Protocol):
    """Port of a learner: what it knows of the session, and what it may ask of it."""

    @property
    def store(self) -> LabelStore | None:
        """What is open, or None."""

    @property
    def read_only(self) -> str:
        """Why nothing can be saved, and the cure; "" where it can."""

    @property
    def settings(self) -> Settings:
        """The models that are chosen, among others."""

    @property
    def table(self) -> ClassTable:
        """The classes."""

    @property
    def accepted(self) -> list[ImageRecord]:
        """The accepted images, in order."""

    @property
    def notified(self) -> SignalInstance:
        """Tells the person: "info", "warning" or "error", and a sentence with the cure."""

    def ask(self, function: Callable[..., Any] | str, *args: Any, lane: Lane, **how: Any) -> Job:
        """Submit a job."""

    def say(self, text: str, level: str = "info") -> None:
        """Tell the person, on the status line too."""

    def fail(self, text: str, kind: str = "") -> None:
        """Say what failed and what to do."""


Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """A training that goes on.

    Attributes:
        phase: what is being done, in words: "starting", "reading images", "training", "measuring".
        step: of ``steps``, over all trainings of a cross-validation together; 0 of 0 before it
            is known.
        steps: in all.
        left: seconds that the other steps take, or None where that is not known.
        losses: (step, loss), one in ten.
        held_out: (step, mean Dice on images not learnt from).
        images: how many it learns from.
        resumed: it was begun before this window was opened, or was killed meanwhile.
    """

    phase: str = "starting"
    step: int = 0
    steps: int = 0
    left: float | None = None
    losses: Curve = ()
    held_out: Curve = ()
    images: int = 0
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Plan of a training, where it is other than the default; None are the defaults.

    Attributes:
        steps: optimiser steps of each training.
        views: bent views of each image; 0 none. Of prompt predictors.
        batch: images of a step. Of detectors, as the next.
        image_size: side in pixels of the square that is learnt from.
        seed: of everything random.
    """

    steps: int | None = None
    views: int | None = None
    batch: int | None = None
    image_size: int | None = None
    seed: int = 0


def as_curve(points: list[list[float]]) -> Curve:
    """Points as they come from JSON."""
    return tuple((int(step), float(value)) for step, value in points)


def with_point(curve: Curve, step: int, value: float | None) -> Curve:
    """The curve with one more point, in the place of those that a run before was ahead."""
    if value is None:
        return curve
    return (*(point for point in curve if point[0] < step), (step, float(value)))


class TrainingRun:
    """``learner.running``: the training that goes on, in a process of its own.

    Args:
        host: that everything is asked through.
        kind: of the versions.
        change_versions: changes what is kept of them, by an action and its values; ``then`` hears
            whether that succeeded.
        changed: the progress is another.
        turned: a training begins or ends, which the other kind waits for.
        given_up: it came to nothing, or the person did not want it.

    Attributes:
        progress: of the training that goes on, or None.
        failure: why the last training came to nothing; "" where it did not.
    """

    def __init__(
        self,
        host: Host,
        kind: ModelKind,
        change_versions: Callable[..., None],
        changed: Callable[[], None],
        turned: Callable[[], None],
        given_up: Callable[[], None],
    ) -> None:
        self._host, self._kind, self._change_versions = host, kind, change_versions
        self._changed, self._turned, self._given_up = changed, turned, given_up
        self._forget()

    def _forget(self) -> None:
        self.progress: TrainingProgress | None = None
        self.failure = ""
        self._job: Job | None = None
        self._outcome = ""
        self._ending = ""
        self._closing = False
        self._died_at: int | None = None

    # -- beginning and ending ------------------------------------------------------------------

    def opened(self, unfinished: Unfinished | None, in_turn: bool) -> None:
        """A folder was opened: go on with a training that went on there, ``in_turn`` only."""
        self._forget()
        if unfinished is None or unfinished.paused or self._host.read_only:
            return
        if not in_turn:
            self._change_versions("pause")
            return
        self.progress = TrainingProgress(images=unfinished.images, resumed=True)
        self._start()

    def leave(self) -> None:
        """The folder is left: what a training has learnt stays for coming back."""
        self.progress = None
        if self._job is not None:
            self._job.cancel()

    def begin(self, images: int, request: dict[str, Any], resumed: bool = False) -> None:
        """Begin a training as ``request`` says, or go on with one that was stopped and kept."""
        self.failure, self._died_at = "", None
        self.progress = TrainingProgress(images=images, resumed=resumed)
        self._change_versions("resume" if resumed else "begin", request, then=self._begun)
        self._turned()

    def cancel(self, keep: bool) -> None:
        """End the training now; ``keep`` what it has learnt, or remove it."""
        if self.progress is None or self._closing:
            return
        self._ending = "pause" if keep else "discard"
        self.progress = replace(self.progress, phase="ending")
        if self._job is not None:
            self._job.stop()
        # If the window closes before it has ended, it is not gone on with.
        self._change_versions("pause")
        self._changed()

    def _start(self) -> None:
        store = self._host.store
        assert store is not None
        assert store.models_folder is not None
        self._outcome = ""
        self._job = self._host.ask(
            "napari_usgseg.learning.process",
            self._kind,
            VersionStore(store.models_folder, self._kind).training.absolute(),
            lane=Lane.TRAINING,
            key="training",
            scope=Scope.FOLDER,
            told=self._take,
            done=self._ended,
        )

    # -- answers -------------------------------------------------------------------------------

    def _begun(self, succeeded: bool) -> None:
        """The training is written down, or could not be."""
        if not succeeded or self.progress is None:
            self._given_up()
            self._closed(False)
        elif self._ending:
            self._over()
        else:
            self._start()

    def _closed(self, _: bool) -> None:
        """That the training is over is written down, or could not be."""
        self.progress, self._ending, self._closing = None, "", False
        self._turned()

    def _take(self, message: Message) -> None:
        """Take a message of the training."""
        if self.progress is None:
            return
        now = self.progress
        match message.get("kind"):
            case "phase" if not self._ending:
                now = replace(now, phase=message["text"], images=message["images"], left=None)
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
                    left=message.get("left"),
                    losses=with_point(now.losses, step, message.get("loss")),
                    held_out=with_point(now.held_out, step, message.get("held_out_dice")),
                )
            case "done" | "failed" | "stopped" as kind:
                self._outcome = "kept" if message.get("keep") else kind
                self.failure = str(message.get("text", ""))
        self.progress = now
        self._changed()

    def _ended(self, code: int) -> None:
        host, progress = self._host, self.progress
        if progress is None:
            return
        if self._outcome == "done" and self._ending != "discard":
            self._close("register")
        elif self._ending:
            self._over()
        elif self._outcome == "failed":
            host.say(f"The training came to nothing: {self.failure}", "warning")
            self._given_up()
            self._close("discard")
        elif self._outcome == "kept":
            self.failure += " What it has learnt is kept: press Resume to go on."
            host.say(self.failure, "warning")
            self._close("pause")
        elif self._died_at is None or progress.step > self._died_at:
            self._died_at = progress.step
            host.say(
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
            host.say(self.failure, "warning")
            self._close("pause")
        self._turned()

    def _over(self) -> None:
        """It has ended because the person wanted that."""
        if self._ending == "discard":
            self._given_up()
        self._close(self._ending)

    def _close(self, action: str) -> None:
        """Its process has ended; it is over when that is written down, and another may begin."""
        if self.progress is not None:
            self.progress = replace(self.progress, phase="ending")
        self._closing = True
        self._change_versions(action, then=self._closed)
