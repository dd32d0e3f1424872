"""Runners of a window's jobs; their words reach the session through a Qt signal.

So on the main thread only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Signal

from ..jobs import Job, Lane
from ..jobs.background import Trainings
from ..jobs.files import FileThread
from ..jobs.inference_process import InferenceProcess


class Workers(QObject):
    """The file thread, the training process, and the inference process of one window.

    Args:
        inference: a process that somebody else starts and ends; None is one of its own.
    """

    answered = Signal(object, object)
    """A job, and a runner's word on it for ``Job.receive``."""

    def __init__(self, inference: InferenceProcess | None = None) -> None:
        super().__init__()
        self.files, self.trainings = FileThread(), Trainings()
        self.inference = inference or InferenceProcess()
        self._own = None if inference is not None else self.inference

    def submit(self, job: Job) -> None:
        """Have a job done by the runner of its lane."""

        def answer(word: Any) -> None:
            with contextlib.suppress(RuntimeError):  # Qt has taken this object down already
                self.answered.emit(job, word)

        self._runner(job).submit(job, answer)

    def cancel(self, job: Job) -> None:
        """Have a job end early, or begin it no more; the file thread does all that it was given."""
        runner = self._runner(job)
        if not isinstance(runner, FileThread):
            runner.cancel(job)

    @property
    def end(self) -> Callable[..., None]:
        """What ends the runners; it needs nothing of this object, which may be gone by then."""
        # Trainings first, for they take seconds to keep what they have; saves in the file thread go
        # on meanwhile.
        runners = self.trainings, self.files, self._own

        def end(*_: Any) -> None:
            for runner in runners:
                if runner is not None:
                    runner.close()

        return end

    def _runner(self, job: Job) -> FileThread | Trainings | InferenceProcess:
        if job.lane is Lane.FILES:
            return self.files
        return self.trainings if job.lane is Lane.TRAINING else self.inference
