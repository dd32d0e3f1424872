"""Adapter tuning: the detector of a project, tuned to its own targets with LoRA.

``session.tuning``. The training is a process of its own (``learning.process``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...jobs import Lane, inference
from ...models.grounding.phrases import as_phrase
from ...models.lora.card import is_adapter
from ...project.versions import ModelVersion, Versions, tuned_number_in
from ..class_table import FIRST_CLASS
from .learner import LEAST_IMAGES, Learner
from .prompt_predictor import PromptPredictor
from .training import Host


class AdapterTuning(Learner):
    """``session.tuning``: versions, trainings, and the detector that the text prompt asks.

    Args:
        host: what it knows of the session.
        predictor: that counts the accepted images, and takes turns with this one.
    """

    kind = "lora"
    busy = "The detector is being tuned: wait until that is done, or stop it."

    def __init__(self, host: Host, predictor: PromptPredictor) -> None:
        super().__init__(host, predictor.peers)
        self._predictor = predictor
        self._warm = ""

    @property
    def detector(self) -> str:
        """What the text prompt asks: the folder of the adapter in use, or the chosen detector."""
        current = self.current
        if current is None or self.in_use is None:
            return self._host.settings.detector
        return str(current.folder.absolute())

    @property
    def detector_name(self) -> str:
        """The same for the history, which names no folder: "nano", "nano+lora-v1"."""
        chosen, current = self._host.settings.detector, self.current
        return chosen if current is None or self.in_use is None else f"{chosen}+{current.name}"

    @property
    def fallback(self) -> str:
        """The detector to ask where ``detector`` cannot be loaded; "" where that is the same."""
        chosen = self._host.settings.detector
        return "" if self.detector == chosen else chosen

    def badge(self, model_id: str) -> str:
        """What a person reads of who found a proposal; "" where no tuned detector was asked."""
        return self._badge(tuned_number_in(model_id))

    @property
    def cannot_train(self) -> str:
        """Why no tuning can begin now, one sentence with the cure; "" where it can."""
        reason = super().cannot_train
        if reason or self.paused:
            return reason
        detector = self._host.settings.detector
        if is_adapter(detector):
            return (
                f"{detector} is an adapter already: choose the detector that it belongs to, or "
                "merge it (usgseg models merge-lora)."
            )
        if not any(self.counts.get(value) for value in self._phrases()):
            return (
                "A class's name is the phrase that finds it: name a class that is on the accepted "
                "images."
            )
        return ""

    @property
    def counts(self) -> dict[int, int]:
        """Class id -> in how many accepted images it is."""
        return self._predictor.counts

    def request(self, images: list[str]) -> dict[str, Any]:
        """What a tuning on images is asked for, as JSON values."""
        return {**super().request(images), "classes": self._phrases()}

    @property
    def renamed(self) -> str:
        """Which classes the adapter in use knows by another name, and the cure; "" if none."""
        current = self.current
        if current is None or self.in_use is None:
            return ""
        now = {item.class_id: item.name for item in self._host.table.classes}
        pairs = [
            f"'{now[value]}' as '{name}'"
            for value, name in current.classes.items()
            if value in now and as_phrase(now[value]) != as_phrase(name)
        ]
        if not pairs:
            return ""
        return f"{current.title} knows {', '.join(pairs)}: type that, or tune again."

    def _phrases(self) -> dict[int, str]:
        """Class id -> name, of the classes that have one."""
        classes = self._host.table.classes
        return {
            item.class_id: item.name
            for item in classes
            if item.name != FIRST_CLASS and as_phrase(item.name)
        }

    # -- what comes from elsewhere ---------------------------------------------------------------

    def opened(self, versions: Versions) -> None:
        """Another folder is shown."""
        super().opened(versions)
        self._used()

    def _versions_changed(self) -> None:
        self._predictor.begin_if_wanted()  # it may have waited for its turn

    def warm_up(self) -> None:
        """Load the detector before it is needed."""
        self._warm = self.detector
        # Where it cannot be loaded, that is said when it is needed.
        self._host.ask(inference.load_detector, self._warm, lane=Lane.PHRASES, key="warm text")

    def _used(self) -> None:
        if self._warm and self.in_use is not None and self._warm != self.detector:
            self.warm_up()

    def _nothing_yet(self) -> str:
        return f"Nothing is tuned yet: accept {LEAST_IMAGES} images with a class, then tune."

    def _of_another(self, current: ModelVersion) -> str:
        chosen = base_name(self._host.settings.detector)
        if current.base == chosen:
            return ""
        return (
            f"{current.title} was tuned from {current.base}, not from {chosen}: choose that "
            "detector, or tune again."
        )


def base_name(detector: str) -> str:
    """A detector as an adapter's card names it: a name, or a whole path."""
    return str(Path(detector).resolve()) if Path(detector).is_dir() else detector
