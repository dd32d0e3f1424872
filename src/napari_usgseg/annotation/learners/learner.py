"""Base of both learners from accepted images: versions, and trainings in a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, ClassVar

from psygnal import Signal

from ...jobs import Job, Lane, Scope, files
from ...jobs.background import Message
from ...project.records import ImageState
from ...project.versions import (
    ModelKind,
    ModelVersion,
    Unfinished,
    Versions,
    VersionStore,
    title_of,
)
from .progress import TrainingPlan, TrainingProgress, as_curve, with_point

if TYPE_CHECKING:
    from ..session import AnnotationSession


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
        self._job: Job | None = None
        self._outcome = ""
        self._ending = ""
        self._closing = False
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
        self.progress = None
        if self._job is not None:
            self._job.cancel()

    def begin(self, images: int, request: dict[str, Any]) -> None:
        """Begin a training as ``request`` says."""
        self.failure, self._died_at = "", None
        self.progress = TrainingProgress(images=images)
        self._shelf("begin", request, then=self._begun)
        self._tell_all()

    def resume(self, unfinished: Unfinished) -> None:
        """Go on with one that was stopped and kept."""
        self.failure, self._died_at = "", None
        self.progress = TrainingProgress(images=unfinished.images, resumed=True)
        self._shelf("resume", self._learner.in_use_now(), then=self._begun)
        self._tell_all()

    def cancel(self, keep: bool) -> None:
        """End the training now; ``keep`` what it has learnt, or remove it."""
        if self.progress is None:
            if self._learner.paused and not keep:
                self._shelf("discard")
            return
        if self._closing:
            return
        self._ending = "pause" if keep else "discard"
        self.progress = replace(self.progress, phase="ending")
        if self._job is not None:
            self._job.stop()
        self._shelf("pause")  # if the window closes before it has ended, it is not gone on with
        self._learner.changed.emit()

    def _shelf(self, action: str, *values: Any, then: Callable[[bool], None] | None = None) -> None:
        self._learner.change_versions(action, *values, then=then)

    def _start(self) -> None:
        session, kind = self._session, self._learner.kind
        assert session.store is not None
        assert session.store.models_folder is not None
        self._outcome = ""
        self._job = session.ask(
            f"napari_usgseg.learning.process.{kind}_training",
            VersionStore(session.store.models_folder, kind).training.absolute(),
            lane=Lane.TRAINING,
            key="training",
            scope=Scope.FOLDER,
            told=self._take,
            done=self._ended,
        )

    def _tell_all(self) -> None:
        """A training begins or ends, which the other kind waits for."""
        for learner in self._session.learners:
            learner.changed.emit()

    # -- answers -------------------------------------------------------------------------------

    def _begun(self, succeeded: bool) -> None:
        """The training is written down, or could not be."""
        if not succeeded or self.progress is None:
            self.progress = None
        elif self._ending:
            self._over()
        else:
            self._start()

    def _closed(self, _: bool) -> None:
        """That the training is over is written down, or could not be."""
        self.progress, self._ending, self._closing = None, "", False
        self._tell_all()

    def _take(self, message: Message) -> None:
        """Take a message of the training."""
        if self.progress is None:
            return
        now = self.progress
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
        self.progress = now
        self._learner.changed.emit()

    def _ended(self, code: int) -> None:
        session, progress = self._session, self.progress
        if progress is None:
            return
        if self._outcome == "done" and self._ending != "discard":
            self._close("register")
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
        action = "pause" if self._ending == "pause" else "discard"
        if action == "discard":
            self._learner.given_up()
        self._close(action)

    def _close(self, action: str) -> None:
        """Its process has ended; it is over when that is written down, and another may begin."""
        if self.progress is not None:
            self.progress = replace(self.progress, phase="ending")
        self._closing = True
        self._shelf(action, then=self._closed)


LEAST_IMAGES = 3
LEAST_OF_CLASS = 3
"""A class in fewer images is left out of a training."""
NO_FOLDER = "Open a folder of images first."
BEGUN = "A training goes on in the background; Learn shows how far it is."


class Learner:
    """``session.predictor`` and ``session.tuner``.

    ``changed`` is emitted whenever anything that can be read here may have changed (also progress,
    and what the other one does: one training goes on at a time).

    Attributes:
        kind: of the versions.
        plan: of the next training; tests make it short.
        running: the training.
    """

    changed = Signal()
    kind: ClassVar[ModelKind]
    busy: ClassVar[str]
    """Why the other kind cannot be trained while a training of this one goes on."""

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self._versions = Versions()
        self._broken: dict[int, str] = {}
        self.plan = TrainingPlan()
        self.running = Running(session, self)

    # -- versions --------------------------------------------------------------------------------

    @property
    def versions(self) -> tuple[ModelVersion, ...]:
        """All that were trained here, oldest first, those that were not promoted among them."""
        return self._versions.items

    @property
    def last(self) -> ModelVersion | None:
        """The newest version, in use or not."""
        return self._versions.last

    def get(self, number: int) -> ModelVersion | None:
        """A version by its number."""
        return self._versions.get(number)

    @property
    def current(self) -> ModelVersion | None:
        """The one in use; None is the model as it is.

        Without a person's choice it is the newest promoted one that fits the chosen model, or the
        newest one, which then says why it is not used.
        """
        current = self._versions.get(self._versions.current)
        if current is None or self._versions.chosen or not self._of_another(current):
            return current
        fitting = (v for v in reversed(self.versions) if v.promoted and not self._of_another(v))
        return next(fitting, current)

    @property
    def in_use(self) -> int | None:
        """The number of the version that is really used, or None."""
        current = self.current
        return None if current is None or self.why_not else current.number

    @property
    def why_not(self) -> str:
        """Why no version is used, one sentence with the cure; "" where one is."""
        store, current = self._session.store, self.current
        if store is None:
            return NO_FOLDER
        if store.models_folder is None:
            return f"What is learnt is kept with a folder: {NO_FOLDER[0].lower()}{NO_FOLDER[1:]}"
        if current is None and self.versions:
            return "No version is in use: choose one, or train again."
        if current is None:
            return self._nothing_yet()
        return self._of_another(current) or self._broken.get(current.number, "")

    def choose(self, number: int | None) -> None:
        """Use another version, or none."""
        session = self._session
        if session.store is None:
            return
        if number == (None if self.current is None else self.current.number):
            if number is not None and self._broken.pop(number, None) is not None:
                self.changed.emit()
                self._used()
            return
        if session.read_only:
            self._use(replace(self._versions, current=number, chosen=True))
            return
        self.change_versions("choose", number)

    def is_broken(self, text: str) -> None:
        """The version in use cannot be used; said once."""
        current = self.current
        if current is not None and current.number not in self._broken:
            self._broken[current.number] = (
                f"{current.title} cannot be used: {text.rstrip('.')}. "
                "Choose it again to try once more."
            )
            self._session.say(self._broken[current.number], "warning")
            self.changed.emit()

    def _badge(self, number: int) -> str:
        """What a person reads of a version by its number; "" for 0."""
        version = self.get(number)
        if version is not None:
            return version.badge
        return f"{title_of(self.kind, number)}, not here any more" if number else ""

    # -- training --------------------------------------------------------------------------------

    @property
    def cannot_train(self) -> str:
        """Why no training can begin now, one sentence with the cure; "" where it can."""
        session = self._session
        if session.store is None:
            return NO_FOLDER
        if session.store.models_folder is None:
            return f"What is learnt is kept with a folder: {NO_FOLDER[0].lower()}{NO_FOLDER[1:]}"
        if session.read_only:
            return f"Nothing can be learnt here: {session.read_only}."
        if self.training is not None:
            return "A training goes on already."
        for other in session.learners:
            if other.training is not None:
                return other.busy
        if self.paused:
            return ""
        committed = session.browser.committed
        if committed < LEAST_IMAGES:
            return f"Accept {LEAST_IMAGES} images at least; {committed} are accepted."
        records = session.browser.records
        places = session.browser.places(ImageState.ACCEPTED)
        first = records[places[0]]
        if all(records[n].frame is not None and records[n].path == first.path for n in places[1:]):
            return (
                "All accepted images are of one file, so that nothing could be measured: accept "
                "images of another one."
            )
        return ""

    def train(self) -> None:
        """Begin a training on all committed images, or go on with one that was stopped."""
        reason, unfinished = self.cannot_train, self.unfinished
        if reason:
            self._session.say(reason, "warning")
        elif unfinished is not None and unfinished.paused:
            self.running.resume(unfinished)
            self._session.say(BEGUN)
        else:
            images = self._committed()
            self.running.begin(len(images), self.request(images))
            self._session.say(BEGUN)

    def cancel(self, keep: bool = False) -> None:
        """End the training now.

        Args:
            keep: what it has learnt, so that ``train`` goes on there; else all of it is removed.
        """
        self.running.cancel(keep)

    @property
    def training(self) -> TrainingProgress | None:
        """The training that goes on; None where none does."""
        return self.running.progress

    @property
    def unfinished(self) -> Unfinished | None:
        """A training to go on with, or None."""
        return self._versions.unfinished

    @property
    def paused(self) -> bool:
        """A training was stopped and kept: ``train`` goes on with it."""
        return self.training is None and self.unfinished is not None and self.unfinished.paused

    @property
    def verdict(self) -> str:
        """What the last training measured, promoted or not; "" where there was none."""
        if self.running.failure:
            return self.running.failure
        return "" if self.last is None else self.last.measured

    def request(self, images: list[str]) -> dict[str, Any]:
        """What a training on images is asked for, as JSON values."""
        session, settings = self._session, self._session.settings
        assert session.store is not None
        return {
            **self.in_use_now(),
            "annotator": session.store.annotator,
            "images": images,
            "classes": {item.class_id: item.name for item in session.table.classes},
            "counts": {v: n for v, n in session.predictor.counts.items() if n},
            "least_images": min(LEAST_OF_CLASS, settings.train_after),
            "cache_bytes": int(settings.cache_gb * 2**30),
            "plan": asdict(self.plan),
        }

    def in_use_now(self) -> dict[str, Any]:
        """The part of a request that says which models are chosen and which versions in use."""
        session = self._session
        return {
            "segmenter": session.settings.segmenter,
            "detector": session.settings.detector,
            "adapter": session.tuner.in_use,
            "against": self.in_use,
        }

    def _committed(self) -> list[str]:
        browser = self._session.browser
        return [browser.records[n].image_id for n in browser.places(ImageState.ACCEPTED)]

    # -- what comes from elsewhere ---------------------------------------------------------------

    def opened(self, versions: Versions) -> None:
        """Another folder is shown."""
        self._versions = versions
        self._broken.clear()
        for problem in versions.problems[:1]:
            self._session.notified.emit("warning", problem)
        self.running.opened(self.unfinished)
        self.changed.emit()

    def leave(self) -> None:
        """The folder is left, or the window closes."""
        self.running.leave()

    def change_versions(
        self, action: str, *values: Any, then: Callable[[bool], None] | None = None
    ) -> None:
        """Change what is kept of the versions, by an action of ``VersionStore`` with its values.

        ``then`` hears whether that succeeded; not where another folder is shown by then.
        """
        session = self._session
        assert session.store is not None

        def over(succeeded: bool) -> None:
            if then is not None:
                then(succeeded)
            self.changed.emit()
            self.changed_versions()

        def done(versions: Versions) -> None:
            before = self.last
            self._use(versions)
            if action == "register" and self.last is not None and self.last != before:
                outcome = "in use now" if self.last.promoted else "not used, Learn says why"
                session.say(f"{self.last.title}: {outcome}")
                session.notified.emit("info", f"{self.last.title}: {self.last.measured}")
            over(True)

        def failed(error: str) -> None:
            session.fail(error, "versions")
            over(False)

        session.ask(
            files.change_versions,
            session.store,
            self.kind,
            action,
            *values,
            lane=Lane.FILES,
            scope=Scope.FOLDER,
            kind="versions",
            done=done,
            failed=failed,
        )

    def changed_versions(self) -> None:
        """What is kept of the versions was changed, or could not be."""

    def given_up(self) -> None:
        """A training was given up or failed."""

    def _use(self, versions: Versions) -> None:
        former, self._versions = self.current, versions
        self.changed.emit()
        if former != self.current:
            self._used()

    def _used(self) -> None:
        """Another version, or none, is in use now."""

    def _nothing_yet(self) -> str:
        """The sentence for a folder where nothing was trained."""
        raise NotImplementedError

    def _of_another(self, current: ModelVersion) -> str:
        """Why a version does not fit the chosen model; "" where it does."""
        raise NotImplementedError
