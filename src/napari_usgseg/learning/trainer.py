"""One training loop for every task. It knows no model, no data set and no window.

A task says what a step's loss is; the loop owns the optimiser, the schedule, the moving average
of the weights, the checkpoints and the clock. Everything random in step ``n`` is drawn from
``(seed, n)``, so a run that was interrupted and resumed sees the same samples as one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import Cancelled, CheckpointError


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


Progress = Callable[[int, int, dict[str, float]], None]

FINAL_LR = 0.02


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How to train.

    Attributes:
        steps: optimiser steps in all.
        lr: peak learning rate; each parameter group multiplies it by its own ``lr_scale``.
        warmup: steps of linear warm-up, then a cosine to ``FINAL_LR`` times the peak.
        weight_decay: AdamW's.
        clip_norm: greatest norm of a step's gradients.
        ema: decay of the moving average of the weights, 0 for none.
        save_every: steps between checkpoints.
        minutes: stop (with a checkpoint) after this long; 0 for no limit. The schedule follows
            whichever of steps and minutes is nearer its end.
        seed: of everything random.
    """

    steps: int
    lr: float
    warmup: int = 100
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.999
    save_every: int = 200
    minutes: float = 0.0
    seed: int = 0


class Task(Protocol):
    """What a model learns from."""

    @property
    def model(self) -> nn.Module:
        """The network whose state a checkpoint holds."""
        ...

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """AdamW groups: ``params`` and ``lr_scale``."""
        ...

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of one step and figures for the log."""
        ...


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Copies of every floating-point tensor of ``model``: what the moving average follows."""
    return {k: v.detach().clone() for k, v in model.state_dict().items() if v.is_floating_point()}


def run(
    task: Task,
    settings: LoopSettings,
    checkpoint: Path,
    *,
    resume: bool = False,
    progress: Progress = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Tensor]:
    """Train, and return the averaged weights (the plain ones where ``ema`` is 0).

    Raises:
        CheckpointError: ``resume`` is asked for and ``checkpoint`` is of another run.
        Cancelled: ``cancelled()`` turned true; a checkpoint was written first.
    """
    groups = list(task.parameter_groups())
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay)
    average = trainable_state(task.model)
    first, spent = 0, 0.0
    if resume and checkpoint.exists():
        first, spent = _load(checkpoint, task.model, optimizer, average, settings)
    started = time.monotonic() - spent
    for step in range(first, settings.steps):
        minutes = (time.monotonic() - started) / 60
        fraction = step / settings.steps
        if settings.minutes:
            fraction = max(fraction, minutes / settings.minutes)
        if fraction >= 1:
            break
        for group in optimizer.param_groups:
            scale = _schedule(step, fraction, settings)
            group["lr"] = settings.lr * scale * group.get("lr_scale", 1.0)
        torch.manual_seed(settings.seed * 1_000_003 + step)
        loss, figures = task.loss(step, np.random.default_rng([settings.seed, step]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, settings.clip_norm)
        if bool(torch.isfinite(norm)):
            optimizer.step()
        _update_average(average, task.model, settings.ema, step)
        last = step + 1
        progress(
            last, settings.steps, {"loss": float(loss.detach()), "minutes": minutes, **figures}
        )
        stop = cancelled()
        if stop or last % settings.save_every == 0 or last == settings.steps:
            _save(checkpoint, task.model, optimizer, average, settings, last, started)
        if stop:
            raise Cancelled(f"stopped at step {last}; run again with --resume to go on")
    return average if settings.ema else trainable_state(task.model)


def _schedule(step: int, fraction: float, settings: LoopSettings) -> float:
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    cosine = 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))
    return FINAL_LR + (1 - FINAL_LR) * cosine


@torch.no_grad()
def _update_average(average: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    decay = min(decay, (1 + step) / (10 + step))
    for name, tensor in model.state_dict().items():
        if name in average:
            average[name].lerp_(tensor, 1 - decay)


def _save(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    settings: LoopSettings,
    step: int,
    started: float,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    torch.save(
        {
            "step": step,
            "seconds": time.monotonic() - started,
            "seed": settings.seed,
            "model": model.state_dict(),
            "average": average,
            "optimizer": optimizer.state_dict(),
        },
        scratch,
    )
    scratch.replace(path)


def _load(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    settings: LoopSettings,
) -> tuple[int, float]:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if saved["seed"] != settings.seed:
            raise CheckpointError(
                f"{path} was started with seed {saved['seed']}, not {settings.seed}; "
                "use the same --seed, or another --out"
            )
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average.update(saved["average"])
        return int(saved["step"]), float(saved["seconds"])
    except (KeyError, RuntimeError, ValueError, EOFError) as error:
        raise CheckpointError(
            f"{path} cannot be resumed ({type(error).__name__}: {error}); use another --out"
        ) from error
