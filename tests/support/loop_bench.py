"""A session with the real nano and a real training process; answers come when the test pumps."""

from __future__ import annotations

import queue
import time
from pathlib import Path

from napari_usgseg.annotation.learners.training import TrainingPlan
from napari_usgseg.annotation.session import AnnotationSession
from napari_usgseg.annotation.settings import Settings
from napari_usgseg.io.labels import write_png
from napari_usgseg.jobs import Job, Lane, inference
from napari_usgseg.jobs.background import Trainings
from napari_usgseg.jobs.files import run_file_job
from napari_usgseg.jobs.loaded_models import LoadedModels
from napari_usgseg.phantoms.phantom import make_phantom

SIZE_HW = (96, 128)
PATIENCE_S = 300.0


def write_phantoms(folder: Path, count: int) -> list:
    """Phantoms "00.png", "01.png", ... and their true label maps."""
    truths = []
    for seed in range(count):
        phantom = make_phantom(seed, SIZE_HW, "breast")
        write_png(folder / f"{seed:02d}.png", phantom.image)
        truths.append((phantom.labels == 1).astype("uint8"))
    return truths


class LoopBench:
    """The session, its workers on this thread, and trainings in a process.

    Args:
        models: the real ones.
        steps: of a training.
        weak: have the light head propose until something is trained.

    Attributes:
        proposed: the jobs that propose, in order.
    """

    def __init__(self, models: LoadedModels, steps: int = 4, weak: bool = False) -> None:
        self.models = models
        self.messages: queue.SimpleQueue = queue.SimpleQueue()
        self.trainings = Trainings()
        self.proposed: list[Job] = []
        self.notes: list[tuple[str, str]] = []
        self.session = AnnotationSession(Settings(find_on_open=False, weak_proposals=weak))
        self.session.prompt_predictor.plan = TrainingPlan(steps=steps, views=0)
        self.session.tuning.plan = TrainingPlan(steps=steps, batch=2, image_size=128)
        self.session.requested.connect(self.run)
        self.session.cancelled.connect(self._on_cancelled)
        self.session.notified.connect(lambda level, text: self.notes.append((level, text)))

    def run(self, job: Job) -> None:
        if job.lane is Lane.TRAINING:
            self.trainings.submit(job, lambda word: self.messages.put((job, word)))
        elif job.lane is Lane.FILES:
            job.receive(run_file_job(job))
        else:
            if job.function is inference.segment_learned:
                self.proposed.append(job)
            job.receive(self.models.run(job.function, *job.args, lane=job.lane, tell=job.receive))

    def _on_cancelled(self, job: Job) -> None:
        if job.lane is Lane.TRAINING:
            self.trainings.cancel(job)

    def pump(self, until, patience: float = PATIENCE_S) -> None:
        """Hand the training's messages to the session until something holds."""
        end = time.monotonic() + patience
        while not until():
            goes_on = [learner.training for learner in self.session.prompt_predictor.peers]
            assert time.monotonic() < end, (goes_on, self.notes)
            try:
                job, word = self.messages.get(timeout=0.2)
                job.receive(word)
            except queue.Empty:
                continue

    def train(self) -> None:
        """Train to the end."""
        self.session.prompt_predictor.train()
        self.pump(lambda: self.session.prompt_predictor.training is None)

    def tune(self) -> None:
        """Tune the detector to the end."""
        self.session.tuning.train()
        self.pump(lambda: self.session.tuning.training is None)

    def accept(self, image_id: str, labels) -> None:
        """Draw a label map by hand and accept it."""
        self.session.navigation.open_image(image_id)
        self.session.editing.painted(labels.copy())
        self.session.editing.accept()

    def close(self) -> None:
        self.session.close()
        self.trainings.close()
