"""A session without a window, whose jobs are done at once or when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np

from napari_usgseg.annotation.session import AnnotationSession
from napari_usgseg.annotation.settings import Settings
from napari_usgseg.core.types import Detections, ImageEmbedding, Prediction
from napari_usgseg.jobs import Job, Lane
from napari_usgseg.jobs.files import run_file_job
from napari_usgseg.jobs.loaded_models import LoadedModels

SIZE_HW = (60, 80)


class DiscSegmenter:
    """A rule in the place of a network: discs at positive points minus discs at negative ones, or
    the ellipse of the box."""

    model_id = "discs"

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def embed(self, image, image_id=""):
        self.embedded.append(image_id)
        return ImageEmbedding(image_id, self.model_id, image.shape[:2], {})

    def predict(self, embedding, prompts, multimask=None):
        y, x = np.mgrid[: embedding.size_hw[0], : embedding.size_hw[1]]
        mask = np.zeros(embedding.size_hw, bool)
        if prompts.box is not None:
            x0, y0, x1, y1 = prompts.box
            a, b = max((x1 - x0) / 2, 1), max((y1 - y0) / 2, 1)
            mask |= ((x - (x0 + x1) / 2) / a) ** 2 + ((y - (y0 + y1) / 2) / b) ** 2 <= 1
        points = [*zip(prompts.point_coords, prompts.point_labels, strict=True)]
        points += [(point, sign) for line, sign in prompts.scribbles for point in line]
        for (px, py), sign in points:
            disc = (x - px) ** 2 + (y - py) ** 2 <= 36
            mask = mask | disc if sign else mask & ~disc
        logits = np.where(mask, 5.0, -5.0).astype(np.float32)
        return Prediction(mask[None], np.array([0.9], np.float32), logits[None])


class BoxDetector:
    """Finds "cyst" in one place and "nodule" in another, and nothing else."""

    model_id = "boxes"
    places: ClassVar = {"cyst": (10, 10, 30, 30), "nodule": (45, 20, 70, 50)}

    def detect(self, image, prompt):
        phrases = [part.strip().casefold() for part in prompt.text.split(".") if part.strip()]
        found = [phrase for phrase in phrases if phrase in self.places]
        boxes = np.array([self.places[phrase] for phrase in found], np.float32).reshape(-1, 4)
        scores = np.linspace(0.9, 0.8, len(found)).astype(np.float32)
        return Detections(boxes, scores, tuple(found))


class Bench:
    """A session and its workers, on one thread; ``hold`` keeps jobs back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.segmenter = DiscSegmenter()

        def load(name: str) -> DiscSegmenter:
            if name == "missing":
                from napari_usgseg.core.errors import ModelNotFoundError

                raise ModelNotFoundError("no model 'missing'; choose another")
            return self.segmenter

        self.detector = BoxDetector()
        self.models = LoadedModels(load, lambda name: self.detector)
        self.session = AnnotationSession(Settings(weak_proposals=False))
        self.hold = False
        self.held: list[Job] = []
        self.notes: list[tuple[str, str]] = []
        self.session.requested.connect(self._on_job)
        self.session.notified.connect(lambda level, text: self.notes.append((level, text)))

    def _on_job(self, job: Job) -> None:
        if self.hold:
            self.held.append(job)
        else:
            self.answer(job)

    def answer(self, job: Job) -> None:
        if job.lane is Lane.FILES:
            job.receive(run_file_job(job))
        elif job.lane is not Lane.TRAINING:
            how = {"lane": job.lane, "is_dropped": lambda: not job.is_awaited}
            job.receive(self.models.run(job.function, *job.args, tell=job.receive, **how))

    def held_for(self, function: Callable) -> list[Job]:
        """The jobs of a function that are held back."""
        return [job for job in self.held if job.function is function]

    def release(self) -> None:
        self.hold = False
        held, self.held = self.held, []
        for job in held:
            self.answer(job)


def opened_again(bench: Bench, **how) -> Bench:
    """The folder of a bench in a new session."""
    bench.session.close()
    again = Bench(bench.folder)
    again.session.navigation.open_folder(bench.folder, **how)
    return again


def with_square(labels: np.ndarray, at: int = 5) -> np.ndarray:
    """The label map with a square of the first class in it."""
    new = labels.copy()
    new[at : at + 4, at : at + 4] = 1
    return new


def act(session: AnnotationSession, action: str, x: int, y: int) -> None:
    """Do one thing that a person does, at XY."""
    match action:
        case "point":
            session.prompting.add_point(x, y)
        case "negative":
            session.prompting.add_point(x, y, positive=False)
        case "box":
            session.prompting.add_box((x, y), (x + 15, y + 12))
        case "find":
            session.prompting.find("cyst. nodule")
        case "accept":
            session.editing.accept()
        case "paint":
            painted = session.labels.copy()
            painted[y % 50 : y % 50 + 4, x : x + 6] = 1 + x % 3
            session.editing.painted(painted)
        case "class":
            session.editing.add_class(f"class at {x}")
        case "next" | "previous":
            session.navigation.step(1 if action == "next" else -1)
        case "undo":
            session.undo()
        case "redo":
            session.redo()
        case "skip":
            session.navigation.skip()
        case _:
            raise ValueError(f"nobody knows how to do '{action}'")
