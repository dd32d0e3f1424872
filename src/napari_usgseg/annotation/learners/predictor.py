"""The prompt predictor (PPN) of a project: which is in use, what it does, when a new one is made.

``session.predictor``. Everything here is quick; the training is a process of its own
(``ppn_training``), versions are read and written by the file worker.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...jobs.inference import LearnedPrompts
from ...project.versions import ModelVersion, Versions, number_in
from ..settings import Mode
from .learner import Learner
from .offers import Offers
from .progress import Curve, TrainingPlan, TrainingProgress
from .proposals import Proposals

if TYPE_CHECKING:
    from ..session import AnnotationSession


__all__ = ["Curve", "Predictor", "TrainingPlan", "TrainingProgress"]


class Predictor(Learner):
    """``session.predictor``: modes, versions, trainings.

    Attributes:
        offers: counts, and when a training is offered.
        proposals: on the image that is shown and those around it.
    """

    kind = "ppn"
    busy = "A prompt predictor is being trained: wait until that is done, or stop it."

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__(session)
        self._segmenter_id = ""
        self.offers = Offers(session)
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
    def shows_by_itself(self) -> bool:
        """True where images segment themselves as they open."""
        return self.mode is Mode.AUTONOMOUS and not self.why_not

    def badge(self, model_id: str) -> str:
        """What a person reads of who made a proposal (``proposal.model_id``); "" if not a PPN."""
        return self._badge(number_in(model_id))

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
    def counts(self) -> dict[int, int]:
        """Class id -> in how many committed images it is."""
        return self.offers.counting.counts

    @property
    def until_offer(self) -> int:
        """How many more images have to be committed until a training is offered; 0: it is."""
        return self.offers.until_offer

    @property
    def offer(self) -> str:
        """The sentence "10 images with 'nerve' are accepted: train?", or ""."""
        return self.offers.offer

    def dismiss(self) -> None:
        """No training now; it is offered again after half as many new images."""
        self.offers.dismiss()

    # -- what comes from elsewhere ---------------------------------------------------------------

    def opened(self, versions: Versions) -> None:
        """Another folder is shown."""
        store = self._session.store
        self.proposals.forget()
        self.offers.forget()
        if store is not None and store.models_folder is not None:
            self.offers.counting.opened(self._committed())
        super().opened(versions)

    def look(self) -> None:
        """Something happened to the shown image."""
        if self.offers.counting.look():
            self.counted()

    def settings_changed(self) -> None:
        """Another mode, segmenter or number of images."""
        self.changed.emit()
        self.proposals.refresh()
        self.offers.begin_if_wanted()

    def segmenter_is(self, model_id: str) -> None:
        """The chosen segmenter is loaded; "" as long as it is not."""
        if model_id == self._segmenter_id:
            return
        self._segmenter_id = model_id
        self._broken.clear()
        self.changed.emit()
        if model_id and self.versions:
            self.proposals.refresh()

    def given_up(self) -> None:
        """A training was given up or failed; it is not offered again at once."""
        self.dismiss()

    def counted(self) -> None:
        """Other images are known to be accepted, or other classes on them."""
        for learner in self._session.learners:
            learner.changed.emit()
        self.offers.begin_if_wanted()

    def _used(self) -> None:
        self.proposals.refresh()

    def _nothing_yet(self) -> str:
        after = self._session.settings.train_after
        return f"Nothing is learnt yet: accept {after} images with a class, then train."

    def _of_another(self, current: ModelVersion) -> str:
        if not self._segmenter_id or current.base == self._segmenter_id:
            return ""
        return (
            f"{current.title} was trained on {current.base}, not on {self._segmenter_id}: choose "
            "that segmenter, or train again on this one."
        )
