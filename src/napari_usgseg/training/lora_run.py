"""What happens between the steps of a tuning: validation, pictures, log, adapters."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..models.lora import save_adapter
from ..models.lora_card import AdapterCard, write_adapter_card
from .lora_check import THRESHOLDS, Answer, ask, choose_threshold
from .lora_data import TuningData
from .lora_loop import Progress, mean_of_all
from .lora_pictures import Pictures
from .lora_ways import Way

LOG_EVERY = 10


class Run:
    """What happens between the steps: validation, pictures, log, adapters."""

    def __init__(
        self,
        way: Way,
        data: TuningData,
        out: Path,
        card: AdapterCard,
        pictures: Pictures | None,
        progress: Progress,
        accelerator: Any,
    ) -> None:
        self.way, self.data, self.out, self.card = way, data, out, card
        self.pictures, self.progress, self.accelerator = pictures, progress, accelerator
        self.sums: dict[str, list[float]] = {}

    def check(self, step: int) -> list[float]:
        """The scores of this process's share of the images to stop by; [] where there are none.

        Each is at the threshold that suits its phrase best on all of them, which the card keeps.
        """
        share = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
        images = self.data.asked
        answers = ask(self.way.detector, images[share])
        asked = sorted({phrase for image in images for phrase in image.phrases.values()})
        places = {phrase: self._place(phrase, answers) for phrase in asked}
        thresholds = {phrase: round(float(THRESHOLDS[at]), 2) for phrase, at in places.items()}
        self.card = replace(self.card, box_thresholds=thresholds)
        if not self.data.checking:
            answers = []
        judged = [answer.at(places[answer.phrase]) for answer in answers]
        if self.pictures is not None:
            self.pictures.checked(step, judged)
        return [answer.score for answer in judged]

    def _place(self, phrase: str, answers: list[Answer]) -> int:
        """The place of the threshold of a phrase that some image was asked for."""
        own = [answer.dice for answer in answers if answer.phrase == phrase]
        means = mean_of_all(self.accelerator, np.reshape(own, (-1, len(THRESHOLDS))))
        count = sum(phrase in image.phrases.values() for image in self.data.asked)
        return choose_threshold(means, count, self.way.box_threshold)

    def keep(self, kind: str, step: int, score: float) -> None:
        """Save the adapter as it is now."""
        folder = self.out if kind == "best" else self.out / "last"
        save_adapter(self.way.tuned, folder)
        scores = {} if math.isnan(score) else {"validation": round(score, 4)}
        write_adapter_card(folder, replace(self.card, scores={**scores, "step": step}))

    def step(self, step: int, steps: int, figures: dict[str, float]) -> None:
        """Log, draw, tell."""
        for name, value in figures.items():
            self.sums.setdefault(name, []).append(value)
        if step % LOG_EVERY == 0 or "validation" in figures:
            means = {
                name: round(float(np.nanmean(values)), 5)
                for name, values in self.sums.items()
                if not np.isnan(values).all()
            }
            with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **means}) + "\n")
            self.sums.clear()
        if self.pictures is not None:
            self.pictures.step(step, figures)
        self.progress(step, steps, figures)

    def close(self) -> None:
        """Finish the pictures."""
        if self.pictures is not None:
            self.pictures.close()
