"""When a prompt predictor is trained, and how far that is; the work is a process of its own."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ..store.base import ImageState
from .background import ENDED
from .counting import Counting
from .requests import (
    FileAnswer,
    ShelfAction,
    ShelfRequest,
    StopRequest,
    TrainingAnswer,
    TrainRequest,
)
from .training_progress import TrainingPlan, TrainingProgress, as_curve, with_point

if TYPE_CHECKING:
    from .annotator import AnnotationSession

LEAST_IMAGES = 3
LEAST_OF_CLASS = 3
"""A class in fewer images is left out of a training."""


class Learning:
    """``session.predictor.learning``: counts, offers, the training that goes on.

    A training is offered at ``train_after`` images of a class, and again after as many new ones; a
    dismissed offer comes again after half as many.

    Attributes:
        plan: of the next training.
        counting: in how many committed images each class is.
        progress: of the training that goes on, or None.
        failure: why the last training came to nothing; "" where it did not.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self.plan = TrainingPlan()
        self.counting = Counting(session)
        self._forget()

    def _forget(self) -> None:
        self.progress: TrainingProgress | None = None
        self.failure = ""
        self._dismissed: dict[int, int] = {}
        self._generation = 0
        self._outcome = ""
        self._ending = ""
        self._died_at: int | None = None

    # -- offers --------------------------------------------------------------------------------

    @property
    def until_offer(self) -> int:
        """How many more images of one class have to be committed until a training is offered."""
        return min((self._left(value) for value in self.counting.counts), default=0)

    @property
    def offer(self) -> str:
        """The sentence that offers a training, or ""."""
        if self.progress is not None or self.cannot_train:
            return ""
        counts = self.counting.counts
        due = [value for value in counts if not self._left(value)]
        if not due:
            return ""
        most = max(due, key=lambda value: counts[value])
        item = self._session.table.get(most)
        images = "1 image" if counts[most] == 1 else f"{counts[most]} images"
        name = f" with '{item.name}'" if item is not None else ""
        return f"{images}{name} {'is' if counts[most] == 1 else 'are'} committed: train?"

    def _left(self, value: int) -> int:
        after = self._session.settings.train_after
        last = self._session.predictor.last
        target = after + (0 if last is None else last.per_class.get(value, 0))
        if value in self._dismissed:
            target = max(target, self._dismissed[value] + math.ceil(after / 2))
        return max(0, target - self.counting.counts[value])

    def dismiss(self) -> None:
        """No training now."""
        counts = self.counting.counts
        self._dismissed = {value: n for value, n in counts.items() if not self._left(value)}
        self._session.predictor.changed.emit()

    def begin_if_wanted(self) -> None:
        """Train, where the person chose that it begins by itself and it is time."""
        session = self._session
        wanted = session.settings.train_by_itself and not session.predictor.paused
        if wanted and self.counting.is_complete and self.offer:
            self.train()

    # -- beginning and ending ------------------------------------------------------------------

    def opened(self) -> None:
        """A folder was opened: count, and go on with a training that was going on there."""
        session = self._session
        self._forget()
        self.counting.forget()
        if session.store is None or session.store.models_folder is None:
            return
        self.counting.opened(self._committed())
        unfinished = session.predictor.unfinished
        if unfinished is not None and not unfinished.paused and not session.read_only:
            self.progress = TrainingProgress(images=unfinished.images, resumed=True)
            self._start()

    def leave(self) -> None:
        """The folder is left: what a training has learnt stays for coming back."""
        if self.progress is not None:
            self.progress = None
            self._session.ask(StopRequest(self._session.progress.generation))
        self._generation = 0

    @property
    def cannot_train(self) -> str:
        """Why no training can begin now; "" where it can."""
        session = self._session
        if session.store is None:
            return "Open a folder of images first."
        if session.store.models_folder is None:
            return "What is learnt is kept with a folder: open a folder of images first."
        if session.read_only:
            return f"Nothing can be learnt here: {session.read_only}."
        if self.progress is not None:
            return "A training goes on already."
        if session.predictor.paused:
            return ""
        committed = session.browser.committed
        if committed < LEAST_IMAGES:
            return f"Accept {LEAST_IMAGES} images at least; {committed} are accepted."
        records = session.browser.records
        places = session.browser.places(ImageState.COMMITTED)
        first = records[places[0]]
        if all(records[n].frame is not None and records[n].path == first.path for n in places[1:]):
            return (
                "All accepted images are of one file, so that nothing could be measured: accept "
                "images of another one."
            )
        return ""

    def train(self) -> None:
        """Begin a training on all committed images, or go on with one that was stopped."""
        session = self._session
        reason = self.cannot_train
        if reason:
            session.say(reason, "warning")
            return
        self.failure, self._died_at = "", None
        unfinished = session.predictor.unfinished
        if unfinished is not None and unfinished.paused:
            self.progress = TrainingProgress(images=unfinished.images, resumed=True)
            self._shelf("resume")
        else:
            images = self._committed()
            self.progress = TrainingProgress(images=len(images))
            self._shelf("begin", values=self._request(images))
        session.predictor.changed.emit()

    def cancel(self, keep: bool = False) -> None:
        """End the training now; ``keep`` what it has learnt, or remove it."""
        session = self._session
        if self.progress is None:
            if session.predictor.paused and not keep:
                self._shelf("discard")
            return
        self._ending = "pause" if keep else "discard"
        self.progress = replace(self.progress, phase="ending")
        session.ask(StopRequest(session.progress.generation))
        session.predictor.changed.emit()

    def _committed(self) -> list[str]:
        browser = self._session.browser
        return [browser.records[n].image_id for n in browser.places(ImageState.COMMITTED)]

    def _request(self, images: list[str]) -> dict[str, Any]:
        session, settings = self._session, self._session.settings
        current = session.predictor.current
        usable = current is not None and not session.predictor.why_not
        assert session.store is not None
        return {
            "annotator": session.store.annotator,
            "segmenter": settings.segmenter,
            "detector": settings.detector,
            "images": images,
            "classes": {item.class_id: item.name for item in session.table.classes},
            "least_images": min(LEAST_OF_CLASS, settings.train_after),
            "cache_bytes": int(settings.cache_gb * 2**30),
            "against": current.number if usable and current is not None else None,
            "plan": asdict(self.plan),
        }

    def _shelf(self, action: ShelfAction, values: dict[str, Any] | None = None) -> None:
        session = self._session
        assert session.store is not None
        generation = session.progress.begin("shelf")
        session.ask(ShelfRequest(generation, session.store, action, values=values or {}))

    def _start(self) -> None:
        session = self._session
        assert session.store is not None
        assert session.store.models_folder is not None
        self._outcome = ""
        self._generation = session.progress.begin("training")
        session.progress.drop("training")  # it is told of in another place than the status line
        session.ask(TrainRequest(self._generation, session.store.models_folder / "training"))

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
        self._session.predictor.changed.emit()

    def _ended(self, code: int) -> None:
        session, progress = self._session, self.progress
        assert progress is not None
        if self._outcome == "done" and self._ending != "discard":
            self.progress = None
            self._ending = ""
            self._shelf("settle")
        elif self._ending:
            self._over()
        elif self._outcome == "failed":
            self.progress = None
            session.say(f"The training came to nothing: {self.failure}", "warning")
            self.dismiss()
            self._shelf("discard")
        elif self._outcome == "kept":
            self.progress = None
            self.failure += " What it has learnt is kept: press Train to go on."
            session.say(self.failure, "warning")
            self._shelf("pause")
        elif self._died_at is None or progress.step > self._died_at:
            self._died_at = progress.step
            session.say(
                f"The training was ended from outside (exit code {code}); it goes on where it was.",
                "warning",
            )
            self.progress = replace(progress, phase="starting", resumed=True)
            self._start()
        else:
            self.progress = None
            self.failure = (
                f"The training was ended from outside twice (exit code {code}), perhaps for lack "
                "of memory. What it has learnt is kept: press Train to go on."
            )
            session.say(self.failure, "warning")
            self._shelf("pause")
        session.predictor.changed.emit()

    def _over(self) -> None:
        """It has ended because the person wanted that."""
        action: ShelfAction = "pause" if self._ending == "pause" else "discard"
        self.progress, self._ending = None, ""
        if action == "discard":
            self.dismiss()
        self._shelf(action)
