"""A training's log: a line of JSON now and then, with a validation every so often."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np


class TrainingLog:
    """Collects the figures of each step and writes their means to ``path`` and to ``say``."""

    LINE_EVERY, CHECK_EVERY = 25, 500

    def __init__(
        self,
        path: Path,
        stage: str,
        validate: Callable[[], dict[str, float]],
        say: Callable[[str], None],
    ) -> None:
        self.path, self.stage, self.validate, self.say = path, stage, validate, say
        self.sums: dict[str, list[float]] = {}

    def step(self, step: int, steps: int, figures: dict[str, float]) -> None:
        """Called by the loop after each step."""
        for name, value in figures.items():
            self.sums.setdefault(name, []).append(value)
        if step % self.LINE_EVERY == 0:
            means = {k: round(float(np.nanmean(v)), 4) for k, v in self.sums.items()}
            self._write({"step": step, **means})
            self.sums.clear()
        if step % self.CHECK_EVERY == 0:
            self.check(step)

    def check(self, step: int) -> None:
        """Validate and write."""
        self._write({"step": step, "val": self.validate()})

    def _write(self, line: dict[str, object]) -> None:
        text = json.dumps({"stage": self.stage, **line})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        self.say(text)
