"""The loop that tunes an adapter, on ``accelerate``: one process or many, one command.

``training.loop`` keeps and averages whole networks, on one device. Here little is trained of much,
perhaps on several GPUs: state files hold the trained tensors alone, validation decides when to
stop, and every process draws samples of its own from (seed, step, part, process).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ..errors import Cancelled, CheckpointError
from ..models.lora import trained
from ..types import FloatArray
from .loop import Progress

Decay = Literal["cosine", "step"]
WEIGHT_DECAY = 0.01


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """How to tune.

    Attributes:
        steps: optimiser steps at most.
        lr: peak learning rate.
        batch: images of a process in a part of a step.
        accumulate: parts of a step.
        warmup: share of the steps with a rising rate.
        decay: "cosine" down to a fiftieth, or "step": a tenth after two thirds of the steps.
        check_every: steps between validations.
        patience: validations without a better score after which it is enough.
        minutes: stop after this long; 0 for no limit. The schedule follows whichever of steps and
            minutes is nearer its end.
        precision: "no", "bf16", "fp16", or "auto": bf16 on GPUs that have it, fp16 on others,
            none on a CPU, where half precision is slower.
        clip_norm: greatest norm of a step's gradients.
        seed: of everything random.
    """

    steps: int
    lr: float
    batch: int = 8
    accumulate: int = 1
    warmup: float = 0.08
    decay: Decay = "cosine"
    check_every: int = 20
    patience: int = 20
    minutes: float = 0.0
    precision: str = "auto"
    clip_norm: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a tuning ended: its last step, and the step and score of the best validation."""

    last_step: int
    best_step: int
    best: float


def make_accelerator(precision: str, accumulate: int, on_cpu: bool) -> Any:
    """The process's place among its fellows; alone where nothing launched several."""
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    if precision == "auto":
        cuda = torch.cuda.is_available() and not on_cpu
        precision = ("bf16" if torch.cuda.is_bf16_supported() else "fp16") if cuda else "no"
    return Accelerator(
        mixed_precision=precision,
        gradient_accumulation_steps=accumulate,
        cpu=on_cpu,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def tune(
    lesson: nn.Module,
    settings: TuneSettings,
    state_file: Path,
    accelerator: Any,
    *,
    check: Callable[[int], Sequence[float]],
    keep: Callable[[str, int, float], None],
    settle: Callable[[], None] = lambda: None,
    resume: bool = False,
    progress: Progress = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Tune until the steps, the minutes or the patience end.

    Args:
        lesson: called with (step, rng), gives a loss and figures.
        settings: how.
        state_file: what an interrupted tuning goes on from.
        accelerator: of ``make_accelerator``.
        check: this process's share of the validation scores, more is better; () where there are
            no images to validate on, and the last step is then the best.
        keep: called on the main process with ("best" or "last", step, score) to save the adapter.
        settle: called after each step of the optimiser.
        resume: go on from ``state_file``.
        progress: called on the main process after each step.
        cancelled: asked after each step.

    Raises:
        CheckpointError: ``state_file`` cannot be gone on from.
        Cancelled: ``cancelled()`` turned true in one of the processes; the state was saved.
    """
    parameters = trained(lesson)
    optimizer = torch.optim.AdamW(parameters.values(), lr=settings.lr, weight_decay=WEIGHT_DECAY)
    state = _State()
    if resume and state_file.exists():
        state = _load(state_file, parameters, optimizer, settings)
    wrapped, optimizer = accelerator.prepare(lesson, optimizer)
    started = time.monotonic() - state.seconds
    step, late = state.step, False
    while step < settings.steps and state.stale < settings.patience and not late:
        minutes = (time.monotonic() - started) / 60
        fraction = max(step / settings.steps, minutes / settings.minutes if settings.minutes else 0)
        rate = settings.lr * _schedule(step, fraction, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        figures = _step(
            wrapped, optimizer, accelerator, settings, step, list(parameters.values()), settle
        )
        step += 1
        figures = {**figures, "lr": rate, "minutes": minutes}
        stop = _any(accelerator, cancelled())
        late = _any(accelerator, 0 < settings.minutes <= (time.monotonic() - started) / 60)
        state.step, state.seconds = step, time.monotonic() - started
        if step % settings.check_every == 0 or step == settings.steps or late:
            score = float(mean_of_all(accelerator, np.reshape(check(step), (-1, 1)))[0])
            better = math.isnan(score) or score >= state.best
            state.stale = 0 if math.isnan(score) or score > state.best else state.stale + 1
            if better:
                state.best, state.best_step = (-math.inf if math.isnan(score) else score), step
            figures["validation"] = score
            if accelerator.is_main_process:
                for kind in ("best", "last") if better else ("last",):
                    keep(kind, step, score)
                _save(state_file, parameters, optimizer, settings, state)
        elif stop and accelerator.is_main_process:  # at once: who stops it does not wait long
            _save(state_file, parameters, optimizer, settings, state)
        if accelerator.is_main_process:
            progress(step, settings.steps, figures)
        if stop:
            raise Cancelled(f"stopped at step {step}; run again with --resume to go on")
    accelerator.wait_for_everyone()
    return Outcome(step, state.best_step, state.best)


@dataclass(slots=True)
class _State:
    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    best_step: int = 0
    stale: int = 0


def _step(
    wrapped: nn.Module,
    optimizer: Any,
    accelerator: Any,
    settings: TuneSettings,
    step: int,
    parameters: Sequence[torch.Tensor],
    settle: Callable[[], None],
) -> dict[str, float]:
    """One step of the optimiser; the means of its parts' figures."""
    sums: dict[str, list[float]] = {}
    place = accelerator.process_index
    for number in range(settings.accumulate):
        rng = np.random.default_rng([settings.seed, step, number, place])
        torch.manual_seed(settings.seed * 1_000_003 + step)
        with accelerator.accumulate(wrapped):
            loss, figures = wrapped(step, rng)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(parameters, settings.clip_norm)
                if not bool(torch.isfinite(norm)):
                    optimizer.zero_grad(set_to_none=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        settle()
        for name, value in {"loss": float(loss.detach()), **figures}.items():
            sums.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in sums.items()}


def _schedule(step: int, fraction: float, settings: TuneSettings) -> float:
    warmup = max(1, round(settings.warmup * settings.steps))
    if step < warmup:
        return (step + 1) / warmup
    if settings.decay == "step":
        return 1.0 if fraction < 2 / 3 else 0.1
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))


def _any(accelerator: Any, flag: bool) -> bool:
    """Whether ``flag`` is set in any process, so that all of them do the same."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)) > 0)


def mean_of_all(accelerator: Any, rows: FloatArray) -> FloatArray:
    """The mean of the rows (N, T) of all processes, (T,); not numbers where nobody has a row."""
    total = torch.tensor([*rows.sum(0), len(rows)], dtype=torch.float32, device=accelerator.device)
    total = accelerator.reduce(total).cpu()
    return np.asarray(total[:-1] / total[-1], np.float32)


def _save(
    path: Path,
    parameters: dict[str, torch.Tensor],
    optimizer: Any,
    settings: TuneSettings,
    state: _State,
) -> None:
    scratch = path.with_suffix(".tmp")
    torch.save(
        {
            "seed": settings.seed,
            "state": [state.step, state.seconds, state.best, state.best_step, state.stale],
            "weights": {name: tensor.detach().cpu() for name, tensor in parameters.items()},
            "optimizer": optimizer.state_dict(),
        },
        scratch,
    )
    scratch.replace(path)


def _load(
    path: Path, parameters: dict[str, torch.Tensor], optimizer: Any, settings: TuneSettings
) -> _State:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        weights = saved["weights"]
        if saved["seed"] != settings.seed or set(weights) != set(parameters):
            raise ValueError("it is of another training")
        with torch.no_grad():
            for name, tensor in parameters.items():
                tensor.copy_(weights[name])
        optimizer.load_state_dict(saved["optimizer"])
        return _State(*saved["state"])
    except (KeyError, RuntimeError, ValueError, TypeError, EOFError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be resumed ({type(error).__name__}: {error}); use another --out"
        ) from error
