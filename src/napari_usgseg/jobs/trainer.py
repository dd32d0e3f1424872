"""The door to the training process; knows no window."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .background import ENDED, BackgroundProcess, Message
from .requests import StopRequest, TrainingAnswer, TrainingRequest

MODULES = {kind: f"napari_usgseg.learning.process.{kind}_training" for kind in ("ppn", "lora")}


class Trainer:
    """Starts and ends trainings, one at a time.

    Args:
        answered: called with every message of a training, on a thread of this object.
    """

    def __init__(self, answered: Callable[[TrainingAnswer], None]) -> None:
        self._answered = answered
        self._process: BackgroundProcess | None = None
        self._ending: list[threading.Thread] = []

    @property
    def process_id(self) -> int | None:
        """Of the training that goes on, or None."""
        return None if self._process is None else self._process.process_id

    def submit(self, request: TrainingRequest) -> None:
        """Begin a training, or have the one that goes on end."""
        former, self._process = self._process, None
        if former is not None:  # it may be in the middle of a long step
            self._ending = [thread for thread in self._ending if thread.is_alive()]
            self._ending.append(threading.Thread(target=former.close, name="usgseg-ending"))
            self._ending[-1].start()
        if isinstance(request, StopRequest):
            return

        def report(message: Message) -> None:
            self._answered(TrainingAnswer(request.generation, message))

        try:
            arguments = [str(request.folder.absolute())]
            self._process = BackgroundProcess(MODULES[request.kind], arguments, report)
        except OSError as error:
            text = f"The training cannot be started ({error}); close other programs and try again."
            report({"kind": "failed", "text": text})
            report({"kind": ENDED, "code": 1})

    def close(self) -> None:
        """End the training; waits a few seconds at most. What it has learnt stays."""
        self.submit(StopRequest(0))
        for thread in self._ending:
            thread.join()
