"""The prompt predictor (PPN) of a project: which is in use, what it does, when a new one is made.

``session.predictor``. Everything here is quick; the training is a process of its own
(``requests.TrainRequest``), versions are read and written by the file worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psygnal import Signal

from ..store.ppn_versions import PpnVersion
from .settings import Mode

if TYPE_CHECKING:
    from .annotator import AnnotationSession

Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """A training that goes on.

    Attributes:
        phase: what is being done, in words: "starting", "reading images", "training", "measuring".
        step: of ``steps``, over all trainings of a cross-validation together; 0 of 0 before it
            is known.
        steps: in all.
        losses: (step, loss), one in ten.
        held_out: (step, mean Dice on images not learnt from).
        images: how many it learns from.
        resumed: it was begun before this window was opened, or was killed meanwhile.
    """

    phase: str = "starting"
    step: int = 0
    steps: int = 0
    losses: Curve = ()
    held_out: Curve = ()
    images: int = 0
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a training does other than by default; None and 0 are the defaults.

    Attributes:
        steps: optimiser steps of each training.
        views: bent views of each image; 0 none.
        seed: of everything random.
    """

    steps: int | None = None
    views: int | None = None
    seed: int = 0


class Predictor:
    """``session.predictor``: modes, versions, trainings.

    ``changed`` is emitted whenever anything that can be read here may have changed (also counts,
    progress, offers).

    Attributes:
        plan: of the next training; tests make it short.
    """

    changed = Signal()

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self.plan = TrainingPlan()

    # -- what is in use --------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """What the prompt predictor does; kept with the project."""
        return self._session.settings.mode

    def set_mode(self, mode: Mode) -> None:
        """Choose what the prompt predictor does; what is shown and untouched follows at once."""
        raise NotImplementedError

    @property
    def versions(self) -> tuple[PpnVersion, ...]:
        """All that were trained here, oldest first, those that were not promoted among them."""
        raise NotImplementedError

    @property
    def current(self) -> PpnVersion | None:
        """The one in use; None is SAM as it is."""
        raise NotImplementedError

    @property
    def why_not(self) -> str:
        """Why no learned prompts are used, one sentence with the cure; "" where they are."""
        raise NotImplementedError

    def choose(self, number: int | None) -> None:
        """Use another version, or none; proposals that nobody touched are made anew."""
        raise NotImplementedError

    def badge(self, model_id: str) -> str:
        """What a person reads of who made a proposal (``draft.model_id``); "" if not a PPN."""
        raise NotImplementedError

    def propose(self) -> None:
        """Have the current image segmented by the PPN now; the person's objects stay."""
        raise NotImplementedError

    # -- training --------------------------------------------------------------------------------

    @property
    def counts(self) -> dict[int, int]:
        """Class id -> in how many committed images it is."""
        raise NotImplementedError

    @property
    def until_offer(self) -> int:
        """How many more images have to be committed until a training is offered; 0: it is."""
        raise NotImplementedError

    @property
    def offer(self) -> str:
        """ "10 images with 'nerve' are committed: train?", or ""."""
        raise NotImplementedError

    def dismiss(self) -> None:
        """No training now; it is offered again after half as many new images."""
        raise NotImplementedError

    @property
    def cannot_train(self) -> str:
        """Why no training can begin now, one sentence with the cure; "" where it can."""
        raise NotImplementedError

    def train(self) -> None:
        """Begin a training on all committed images, or go on with one that was stopped."""
        raise NotImplementedError

    def cancel(self, keep: bool = False) -> None:
        """End the training now.

        Args:
            keep: what it has learnt, so that ``train`` goes on there; else all of it is removed.
        """
        raise NotImplementedError

    @property
    def training(self) -> TrainingProgress | None:
        """The training that goes on; None where none does."""
        raise NotImplementedError

    @property
    def paused(self) -> bool:
        """A training was stopped and kept: ``train`` goes on with it."""
        raise NotImplementedError

    @property
    def verdict(self) -> str:
        """What the last training measured, promoted or not; "" where there was none."""
        raise NotImplementedError
