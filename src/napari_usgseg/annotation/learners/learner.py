"""Learner from accepted images: its versions, which is in use, and when another can be trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, ClassVar

from psygnal import Signal

from ...jobs import Lane, Scope, files
from ...project.versions import ModelKind, ModelVersion, Unfinished, Versions, title_of
from .training import Host, TrainingPlan, TrainingProgress, TrainingRun

LEAST_IMAGES = 3
LEAST_OF_CLASS = 3
"""A class in fewer images is left out of a training."""
NO_FOLDER = "Open a folder of images first."
BEGUN = "A training goes on in the background; Learn shows how far it is."

DECODER_RANK = 4
"""Of the LoRA on the mask decoder, where that is tuned too."""


class Learner(ABC):
    """``session.prompt_predictor`` and ``session.tuning``.

    ``changed`` is emitted whenever anything that can be read here may have changed (also progress,
    and what the other one does: one training goes on at a time).

    Args:
        host: what it knows of the session.
        peers: all learners of the session; this one is added.

    Attributes:
        kind: of the versions.
        plan: of the next training; tests make it short.
        running: the training.
    """

    changed = Signal()
    kind: ClassVar[ModelKind]
    busy: ClassVar[str]
    """Why the other kind cannot be trained while a training of this one goes on."""

    def __init__(self, host: Host, peers: list[Learner]) -> None:
        self._host = host
        self._versions = Versions()
        self._broken: dict[int, str] = {}
        self.peers = peers
        peers.append(self)
        self.plan = TrainingPlan()
        self.running = TrainingRun(
            host, self.kind, self._change_versions, self.changed.emit, self.turned, self.given_up
        )

    # -- versions ------------------------------------------------------------------------------

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
        current = self.current
        if reason := self._no_folder():
            return reason
        if current is None and self.versions:
            return "No version is in use: choose one, or train again."
        if current is None:
            return self._nothing_yet()
        return self._of_another(current) or self._broken.get(current.number, "")

    def _no_folder(self) -> str:
        store = self._host.store
        if store is None:
            return NO_FOLDER
        if store.models_folder is None:
            return f"What is learnt is kept with a folder: {NO_FOLDER[0].lower()}{NO_FOLDER[1:]}"
        return ""

    def choose(self, number: int | None) -> None:
        """Use another version, or none."""
        if self._host.store is None:
            return
        if number == (None if self.current is None else self.current.number):
            if number is not None and self._broken.pop(number, None) is not None:
                self.changed.emit()
                self._used()
        elif self._host.read_only:
            self._use(replace(self._versions, current=number, chosen=True))
        else:
            self._change_versions("choose", number)

    def is_broken(self, text: str) -> None:
        """The version in use cannot be used; said once."""
        current = self.current
        if current is not None and current.number not in self._broken:
            self._broken[current.number] = (
                f"{current.title} cannot be used: {text.rstrip('.')}. "
                "Choose it again to try once more."
            )
            self._host.say(self._broken[current.number], "warning")
            self.changed.emit()

    def _badge(self, number: int) -> str:
        """What a person reads of a version by its number; "" for 0."""
        version = self.get(number)
        if version is not None:
            return version.badge
        return f"{title_of(self.kind, number)}, not here any more" if number else ""

    # -- training ------------------------------------------------------------------------------

    @property
    def cannot_train(self) -> str:
        """Why no training can begin now, one sentence with the cure; "" where it can."""
        if reason := self._no_folder():
            return reason
        if self._host.read_only:
            return f"Nothing can be learnt here: {self._host.read_only}."
        if self.training is not None:
            return "A training goes on already."
        for other in self.peers:
            if other.training is not None:
                return other.busy
        if self.paused:
            return ""
        accepted = self._host.accepted
        if len(accepted) < LEAST_IMAGES:
            return f"Accept {LEAST_IMAGES} images at least; {len(accepted)} are accepted."
        first = accepted[0]
        if all(item.frame is not None and item.path == first.path for item in accepted):
            return (
                "All accepted images are of one file, so that nothing could be measured: accept "
                "images of another one."
            )
        return ""

    def train(self) -> None:
        """Begin a training on all accepted images, or go on with one that was stopped."""
        reason, unfinished = self.cannot_train, self.unfinished
        if reason:
            self._host.say(reason, "warning")
            return
        if unfinished is not None and unfinished.paused:
            self.running.begin(unfinished.images, self._in_use_now(), resumed=True)
        else:
            images = [item.image_id for item in self._host.accepted]
            self.running.begin(len(images), self.request(images))
        self._host.say(BEGUN)

    def cancel(self, keep: bool = False) -> None:
        """End the training now.

        Args:
            keep: what it has learnt, so that ``train`` goes on there; else all of it is removed.
        """
        if self.paused and not keep:
            self._change_versions("discard")
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
        host, settings = self._host, self._host.settings
        assert host.store is not None
        return {
            **self._in_use_now(),
            "annotator": host.store.annotator,
            "images": images,
            "classes": {item.class_id: item.name for item in host.table.classes},
            "counts": {value: n for value, n in self.counts.items() if n},
            "least_images": min(LEAST_OF_CLASS, settings.train_after),
            "weak": settings.weak_proposals,
            "cache_bytes": int(settings.cache_gb * 2**30),
            "plan": {
                **asdict(self.plan),
                "decoder_rank": DECODER_RANK if settings.tune_decoder else 0,
            },
        }

    def _in_use_now(self) -> dict[str, Any]:
        """The part of a request that says which models are chosen and which versions in use."""
        settings = self._host.settings
        return {
            "segmenter": settings.segmenter,
            "detector": settings.detector,
            "adapter": next((one.in_use for one in self.peers if one.kind == "lora"), None),
            "against": self.in_use,
        }

    @property
    @abstractmethod
    def counts(self) -> dict[int, int]:
        """Class id -> in how many accepted images it is."""

    # -- what comes from elsewhere -------------------------------------------------------------

    def opened(self, versions: Versions) -> None:
        """Another folder is shown."""
        self._versions = versions
        self._broken.clear()
        for problem in versions.problems[:1]:
            self._host.notified.emit("warning", problem)
        in_turn = all(one is self or one.training is None for one in self.peers)
        self.running.opened(self.unfinished, in_turn)
        self.changed.emit()

    def leave(self) -> None:
        """The folder is left, or the window closes."""
        self.running.leave()

    def turned(self) -> None:
        """What all learners wait for is otherwise: a training, or which images are accepted."""
        for learner in self.peers:
            learner.changed.emit()

    def _change_versions(
        self, action: str, *values: Any, then: Callable[[bool], None] | None = None
    ) -> None:
        """Change what is kept of the versions, by an action of ``VersionStore`` with its values.

        ``then`` hears whether that succeeded; not where another folder is shown by then.
        """
        host = self._host

        def over(succeeded: bool) -> None:
            if then is not None:
                then(succeeded)
            self.changed.emit()
            self._versions_changed()

        def done(versions: Versions) -> None:
            before = self.last
            self._use(versions)
            if action == "register" and self.last is not None and self.last != before:
                host.say(self.last.outcome)
                host.notified.emit("info", f"{self.last.title}: {self.last.measured}")
            over(True)

        def failed(error: str) -> None:
            host.fail(error, "versions")
            over(False)

        host.ask(
            files.change_versions,
            host.store,
            self.kind,
            action,
            *values,
            lane=Lane.FILES,
            scope=Scope.FOLDER,
            kind="versions",
            done=done,
            failed=failed,
        )

    def _versions_changed(self) -> None:  # noqa: B027  (most have nothing to do then)
        """What is kept of the versions was changed, or could not be."""

    def given_up(self) -> None:  # noqa: B027  (most have nothing to do then)
        """A training was given up or failed."""

    def _use(self, versions: Versions) -> None:
        former, self._versions = self.current, versions
        self.changed.emit()
        if former != self.current:
            self._used()

    @abstractmethod
    def _used(self) -> None:
        """Another version, or none, is in use now."""

    @abstractmethod
    def _nothing_yet(self) -> str:
        """The sentence for a folder where nothing was trained."""

    @abstractmethod
    def _of_another(self, current: ModelVersion) -> str:
        """Why a version does not fit the chosen model; "" where it does."""
