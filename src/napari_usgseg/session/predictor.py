"""The prompt predictor (PPN) of a project: which is in use, what it does, when a new one is made.

``session.predictor``. Everything here is quick; the training is a process of its own
(``ppn_training``), versions are read and written by the file worker.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from psygnal import Signal

from ..store.ppn_versions import PpnVersion, Unfinished, Versions, number_in
from .learning import Learning
from .proposals import Proposals
from .requests import FileAnswer, LearnedPrompts, ShelfRequest, TrainingAnswer
from .settings import Mode
from .training_progress import Curve, TrainingPlan, TrainingProgress

if TYPE_CHECKING:
    from .annotator import AnnotationSession

__all__ = ["Curve", "Predictor", "TrainingPlan", "TrainingProgress"]


class Predictor:
    """``session.predictor``: modes, versions, trainings.

    ``changed`` is emitted whenever anything that can be read here may have changed (also counts,
    progress, offers).

    Attributes:
        learning: counts, offers, the training.
        proposals: on the image that is shown and those around it.
    """

    changed = Signal()

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self._versions = Versions()
        self._segmenter_id = ""
        self._broken: dict[int, str] = {}
        self.learning = Learning(session)
        self.proposals = Proposals(session)
        session.states_changed.connect(self.look)

    # -- what is in use --------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """What the prompt predictor does; kept with the project."""
        return self._session.settings.mode

    def set_mode(self, mode: Mode) -> None:
        """Choose what the prompt predictor does; what is shown and untouched follows at once."""
        self._session.set_settings(replace(self._session.settings, mode=mode))

    @property
    def versions(self) -> tuple[PpnVersion, ...]:
        """All that were trained here, oldest first, those that were not promoted among them."""
        return self._versions.items

    @property
    def last(self) -> PpnVersion | None:
        """The newest version, in use or not."""
        return self._versions.last

    def get(self, number: int) -> PpnVersion | None:
        """A version by its number."""
        return self._versions.get(number)

    @property
    def current(self) -> PpnVersion | None:
        """The one in use; None is SAM as it is."""
        return self._versions.get(self._versions.current)

    @property
    def unfinished(self) -> Unfinished | None:
        """A training to go on with, or None."""
        return self._versions.unfinished

    @property
    def why_not(self) -> str:
        """Why no learned prompts are used, one sentence with the cure; "" where they are."""
        store, current = self._session.store, self.current
        if store is None:
            return "Open a folder of images first."
        if store.models_folder is None:
            return "What is learnt is kept with a folder: open a folder of images first."
        if current is None and self.versions:
            return "No version is in use: choose one, or train again."
        if current is None:
            after = self._session.settings.train_after
            return f"Nothing is learnt yet: accept {after} images with a class, then train."
        if self._segmenter_id and current.segmenter != self._segmenter_id:
            return (
                f"PPN v{current.number} was trained on {current.segmenter}, not on "
                f"{self._segmenter_id}: choose that segmenter, or train again on this one."
            )
        return self._broken.get(current.number, "")

    @property
    def shows_by_itself(self) -> bool:
        """True where images segment themselves as they open."""
        return self.mode is Mode.AUTONOMOUS and not self.why_not

    def choose(self, number: int | None) -> None:
        """Use another version, or none; proposals that nobody touched are made anew."""
        session = self._session
        if session.store is None:
            return
        if number == self._versions.current:
            if number is not None and self._broken.pop(number, None) is not None:
                self.changed.emit()
                self.proposals.refresh()
            return
        if session.read_only:
            self._use(replace(self._versions, current=number))
            return
        generation = session.progress.begin("shelf")
        session.ask(ShelfRequest(generation, session.store, "choose", number))

    def badge(self, model_id: str) -> str:
        """What a person reads of who made a proposal (``draft.model_id``); "" if not a PPN."""
        number = number_in(model_id)
        version = self._versions.get(number)
        if version is not None:
            return version.badge
        return f"PPN v{number}, not here any more" if number else ""

    def propose(self) -> None:
        """Have the current image segmented by the PPN now; the person's objects stay."""
        reason = self.why_not
        if reason:
            self._session.say(reason, "warning")
        else:
            self.proposals.now()

    def learned(self) -> LearnedPrompts | None:
        """The PPN in use, whatever the mode; None where there is none."""
        current = self.current
        if current is None or self.why_not:
            return None
        return LearnedPrompts(current.folder.absolute(), current.name)

    def joining(self, class_id: int) -> LearnedPrompts | None:
        """The learned prompts that join a person's of a class, or None."""
        current, learned = self.current, self.learned()
        if learned is None or current is None or self.mode is Mode.MANUAL:
            return None
        return replace(learned, class_id=class_id) if class_id in current.classes else None

    # -- training --------------------------------------------------------------------------------

    @property
    def plan(self) -> TrainingPlan:
        """Of the next training; tests make it short."""
        return self.learning.plan

    @plan.setter
    def plan(self, plan: TrainingPlan) -> None:
        self.learning.plan = plan

    @property
    def counts(self) -> dict[int, int]:
        """Class id -> in how many committed images it is."""
        return self.learning.counting.counts

    @property
    def until_offer(self) -> int:
        """How many more images have to be committed until a training is offered; 0: it is."""
        return self.learning.until_offer

    @property
    def offer(self) -> str:
        """The sentence "10 images with 'nerve' are committed: train?", or ""."""
        return self.learning.offer

    def dismiss(self) -> None:
        """No training now; it is offered again after half as many new images."""
        self.learning.dismiss()

    @property
    def cannot_train(self) -> str:
        """Why no training can begin now, one sentence with the cure; "" where it can."""
        return self.learning.cannot_train

    def train(self) -> None:
        """Begin a training on all committed images, or go on with one that was stopped."""
        self.learning.train()

    def cancel(self, keep: bool = False) -> None:
        """End the training now.

        Args:
            keep: what it has learnt, so that ``train`` goes on there; else all of it is removed.
        """
        self.learning.cancel(keep)

    @property
    def training(self) -> TrainingProgress | None:
        """The training that goes on; None where none does."""
        return self.learning.progress

    @property
    def paused(self) -> bool:
        """A training was stopped and kept: ``train`` goes on with it."""
        unfinished = self._versions.unfinished
        return self.training is None and unfinished is not None and unfinished.paused

    @property
    def verdict(self) -> str:
        """What the last training measured, promoted or not; "" where there was none."""
        if self.learning.failure:
            return self.learning.failure
        return "" if self.last is None else self.last.measured

    # -- what comes from elsewhere ---------------------------------------------------------------

    def opened(self, versions: Versions) -> None:
        """Another folder is shown."""
        self._versions = versions
        self._broken.clear()
        self.proposals.forget()
        for problem in versions.problems[:1]:
            self._session.notified.emit("warning", problem)
        self.learning.opened()
        self.changed.emit()

    def leave(self) -> None:
        """The folder is left, or the window closes."""
        self.learning.leave()

    def look(self) -> None:
        """Something happened to the shown image."""
        if self.learning.counting.look():
            self.changed.emit()
            self.learning.begin_if_wanted()

    def take_present(self, answer: FileAnswer) -> None:
        """Take what was counted of images that were committed before."""
        self.learning.counting.take(answer)
        self.changed.emit()
        self.learning.begin_if_wanted()

    def settings_changed(self) -> None:
        """Another mode, segmenter or number of images."""
        self.changed.emit()
        self.proposals.refresh()
        self.learning.begin_if_wanted()

    def segmenter_is(self, model_id: str) -> None:
        """The chosen segmenter is loaded; "" as long as it is not."""
        if model_id == self._segmenter_id:
            return
        self._segmenter_id = model_id
        self._broken.clear()
        self.changed.emit()
        if model_id and self.versions:
            self.proposals.refresh()

    def is_broken(self, text: str) -> None:
        """The version in use cannot be used; said once."""
        current = self.current
        if current is not None and current.number not in self._broken:
            self._broken[current.number] = (
                f"PPN v{current.number} cannot be used: {text.rstrip('.')}. "
                "Choose it again to try once more."
            )
            self._session.say(self._broken[current.number], "warning")
            self.changed.emit()

    def take_shelf(self, answer: FileAnswer) -> None:
        """Take what is kept of prompt predictors now."""
        assert isinstance(answer.request, ShelfRequest)
        if answer.request.store is not self._session.store:
            return
        if answer.error:
            self._session.fail(answer.error, "shelf")
        elif answer.versions is not None:
            before = self.last
            self._use(answer.versions)
            if answer.request.action == "settle" and self.last is not None and self.last != before:
                self._session.say(f"PPN v{self.last.number}: {self.last.measured}", "info")
                self._session.notified.emit("info", f"PPN v{self.last.number}: {self.verdict}")
        self.learning.take_shelf(answer)
        self.changed.emit()

    def take(self, answer: TrainingAnswer) -> None:
        """Take a message of the training process."""
        self.learning.take(answer)

    def _use(self, versions: Versions) -> None:
        former, self._versions = self.current, versions
        self.changed.emit()
        if former != self.current:
            self.proposals.refresh()
