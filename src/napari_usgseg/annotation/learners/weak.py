"""Weak proposals: a light head fitted to the newest accepted images, again after every accept.

It proposes as long as no prompt predictor (PPN) is in use, from the first accepted image on, and
what it proposes is named so. It is fitted in the inference process (``learning.light``), one fit at
a time, while nobody waits for anything there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...jobs import Job, Lane, Scope, files
from ...jobs.inference import LearnedPrompts
from ...learning.weak import MOST_IMAGES, LightVersion, fit_light
from ...project.versions import weak_number
from .training import Host


class WeakProposer:
    """``session.prompt_predictor.weak``: the light head that proposes before a PPN does.

    Args:
        host: what it knows of the session.
        request: what a training on images is asked for, as JSON values.
        fitted: called when another one is in hand, or none.
    """

    def __init__(
        self,
        host: Host,
        request: Callable[[list[str]], dict[str, Any]],
        fitted: Callable[[], None],
    ) -> None:
        self._host, self._request, self._fitted = host, request, fitted
        self._version: LightVersion | None = None
        self._job: Job | None = None
        self._due = False
        self._failure = ""

    @property
    def number(self) -> int:
        """As in ``ProposedObject.ppn``: below 0; 0 where there is none."""
        return 0 if self._version is None else weak_number(self._version.folder.name)

    def classes_of(self, number: int) -> dict[int, str]:
        """Class id -> name, of the one in hand by its number; {} for any other."""
        version = self._version
        return {} if version is None or number != self.number else version.classes

    def learned(self, segmenter_id: str) -> LearnedPrompts | None:
        """What it has learned, where that is of this segmenter."""
        version = self._version
        if version is None or version.base != segmenter_id:
            return None
        return LearnedPrompts(version.folder, version.folder.name)

    def badge(self, number: int) -> str:
        """What a person reads of who made a proposal."""
        version = self._version
        if version is None or number != self.number:
            return "Weak proposal, from other images than now"
        images = "1 image" if version.images == 1 else f"{version.images} images"
        return f"Weak proposal, from {images}"

    def forget(self) -> None:
        """Another folder is shown, or another segmenter chosen."""
        if self._job is not None:
            self._job.cancel()
        self._version, self._job, self._due, self._failure = None, None, False, ""

    def fit(self) -> None:
        """Fit to what is accepted now; after the fit that goes on, if one does."""
        host = self._host
        if self._job is not None and self._job.is_awaited:
            self._due = True
            return
        store, accepted = host.store, [item.image_id for item in host.accepted]
        if store is None or store.models_folder is None or host.read_only:
            return
        if not accepted:
            if self._version is not None:
                self.forget()
                self._fitted()
            return
        self._due = False
        # The file thread works in order: what was accepted is in the project once it answers.
        self._job = host.ask(
            files.classes_present,
            store,
            (),
            lane=Lane.FILES,
            key="weak",
            scope=Scope.FOLDER,
            done=lambda _: self._begin(store.models_folder, accepted[-MOST_IMAGES:]),
            failed=self._fail,
        )

    def _begin(self, models_folder: Path | None, images: list[str]) -> None:
        assert models_folder is not None
        self._job = self._host.ask(
            fit_light,
            models_folder.absolute() / "weak",
            self._request(images),
            lane=Lane.LOOPS,
            key="weak",
            scope=Scope.FOLDER,
            done=self._take,
            failed=self._fail,
        )

    def _take(self, version: LightVersion) -> None:
        self._version, self._failure = version, ""
        self._fitted()
        self._again()

    def _fail(self, error: str) -> None:
        if error != self._failure:  # not after every accept
            self._host.say(f"No weak proposals: {error}", "warning")
        self._failure = error
        self._again()

    def _again(self) -> None:
        if self._due:
            self.fit()
