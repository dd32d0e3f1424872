"""Stage of a training of an embedded model: the trainer, its validation and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ...learning.trainer import LOG_FILE, Task, TrainerSettings, TrainingLog, train

EMA = 0.999
"""Decay of the moving average of the weights, for trainings of a thousand steps."""
SAID_EVERY = 25
"""Steps between two lines for the person who waits."""


def run_stage(
    name: str,
    task: Task,
    settings: TrainerSettings,
    out: Path,
    validate: Callable[[], dict[str, float]],
    resume: bool,
    say: Callable[[str], None],
) -> None:
    """Train the task's model in place, to its averaged weights, and validate these.

    Args:
        name: of the state's file and of the lines in the log.
        task: what is learned.
        settings: how.
        out: the run's folder.
        validate: measures the model as it is now.
        resume: go on from the state in ``out``.
        say: told the figures now and then.
    """

    def check(step: int) -> dict[str, float]:
        return {f"val/{figure}": value for figure, value in validate().items()}

    def told(step: int, steps: int, figures: dict[str, float]) -> None:
        if step % SAID_EVERY == 0:
            shown = {figure: round(value, 4) for figure, value in figures.items()}
            say(json.dumps({"stage": name, "step": step, **shown}))

    trained = train(task, settings, out, name=name, check=check, resume=resume, progress=told)
    task.model.load_state_dict(trained.weights, strict=False)
    final = check(trained.step)
    TrainingLog(out / LOG_FILE, name).add(trained.step, final)
    say(json.dumps({"stage": name, "step": trained.step, **final}))
