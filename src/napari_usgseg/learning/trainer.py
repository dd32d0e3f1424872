"""Trainer of every task, and the folder that an interrupted training goes on from.

A task says what a step's loss is. The trainer owns the optimiser, the rate, the moving average of
the weights, validation, early stopping, the state on disk and the clock; it knows no model, no data
set and no window. Everything random in step ``n`` is drawn from ``(seed, n)``, so a run that was
interrupted and resumed sees the same samples as one that was not.

    <out>/training.json   the request: what is trained on, so that only the same training is resumed
    <out>/training.pt     the state of an unfinished training
    <out>/log.jsonl       means of the figures over some steps, a line for each validation too
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..core.errors import Cancelled, CheckpointError
from ..core.types import FloatArray
from ..io.atomic import write_atomically

if TYPE_CHECKING:
    from accelerate import Accelerator

Progress = Callable[[int, int, dict[str, float]], None]
"""Told of (step, steps, figures) after each step."""
Decay = Literal["cosine", "step"]

REQUEST_FILE, LOG_FILE = "training.json", "log.jsonl"
DONE = "done"
"""Added to a request when its training has ended; it makes no other request of it."""
VALIDATION = "validation"
"""The figure of a validation, more is better, that decides which step is best and when to stop."""
FINAL_RATE = 0.02
"""Of the peak learning rate, at the end of a cosine."""


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """Settings of the trainer.

    Attributes:
        steps: optimiser steps, at most.
        lr: peak learning rate; each parameter group multiplies it by its own ``lr_scale``.
        warmup: steps with a linearly rising rate.
        decay: after them "cosine" down to ``FINAL_RATE`` of the peak, or "step": a tenth of it
            after two thirds of the steps.
        weight_decay: AdamW's.
        clip_norm: greatest norm of a step's gradients.
        accumulate: losses of a step, whose gradients are averaged.
        ema: decay of the moving average of the weights, 0 for none.
        save_every: steps between two writings of the state.
        check_every: steps between two validations, 0 for none.
        patience: validations without a better ``VALIDATION`` that are enough, 0 for no limit.
        minutes: stop after this long; 0 for no limit. The rate follows whichever of steps and
            minutes is nearer its end.
        log_every: steps between two lines of the log.
        seed: of everything random.
    """

    steps: int
    lr: float
    warmup: int = 100
    decay: Decay = "cosine"
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    accumulate: int = 1
    ema: float = 0.0
    save_every: int = 200
    check_every: int = 0
    patience: int = 0
    minutes: float = 0.0
    log_every: int = 10
    seed: int = 0


class Task(ABC):
    """Task that a model learns.

    Attributes:
        model: the network that is trained, on the device where it is trained.
    """

    model: nn.Module

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """AdamW's groups: ``params``, and ``lr_scale`` where their rate is not the peak rate."""
        return [{"params": [p for p in self.model.parameters() if p.requires_grad]}]

    @abstractmethod
    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of one batch, and figures for the log."""

    def after_step(self) -> None:
        """Called after each step of the optimiser, before anything is measured or saved."""
        return


@dataclass(slots=True)
class Trained:
    """State of a training, or of one that ended.

    Attributes:
        step: the last one.
        seconds: that it took, over all its runs.
        best: the highest ``VALIDATION``; minus infinity where there was none.
        best_step: its step, or the last one.
        stale: validations since then.
        weights: what training changed, by name: the moving average where there is one.
    """

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    best_step: int = 0
    stale: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)


def make_accelerator(precision: str, accumulate: int, on_cpu: bool) -> Accelerator:
    """The process's place among its fellows; alone where nothing launched several.

    Args:
        precision: "no", "bf16", "fp16", or "auto": bf16 on GPUs that have it, fp16 on others, none
            on a CPU, where half precision is slower.
        accumulate: losses of a step.
        on_cpu: whether the model is there.
    """
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


def train(
    task: Task,
    settings: TrainerSettings,
    out: Path,
    *,
    name: str = "training",
    accelerator: Accelerator | None = None,
    check: Callable[[int], dict[str, float]] | None = None,
    keep: Callable[[str, int, float], None] | None = None,
    resume: bool = False,
    progress: Progress = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train until the steps, the minutes or the patience end.

    Args:
        task: what is learned.
        settings: how.
        out: the run's folder.
        name: of the state's file, and of the lines in the log where one folder has several stages.
        accelerator: of ``make_accelerator``; None takes one of a single process.
        check: called with the step, measures; its figures join those of the step. A ``VALIDATION``
            that is no number stands for no images to measure on: then the last step is the best.
        keep: called on the main process at each validation with ("best" or "last", step, score), to
            save the model. Where it is given, the last step is validated, too.
        resume: go on from the state in ``out``.
        progress: called on the main process after each step.
        cancelled: asked after each step.

    Raises:
        CheckpointError: the state in ``out`` cannot be gone on from.
        Cancelled: ``cancelled()`` turned true in one of the processes; the state was saved.
    """
    groups = list(task.parameter_groups())
    optimizer: Any = torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if accelerator is None:
        on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
        accelerator = make_accelerator("no", settings.accumulate, on_cpu)
    average = moving_average(task.model, settings.ema) if settings.ema else None
    state_file, state = out / f"{name}.pt", Trained()
    if resume and state_file.exists():
        state = _load(state_file, task.model, optimizer, average, settings.seed)
    placed = accelerator.num_processes > 1  # a single process trains where its model is
    wrapped, optimizer = accelerator.prepare(_Loss(task), optimizer, device_placement=[placed] * 2)
    log = TrainingLog(out / LOG_FILE, name if name != "training" else "")
    started, late = time.monotonic() - state.seconds, False
    while state.step < settings.steps and not late:
        if settings.patience and state.stale >= settings.patience:
            break
        minutes = (time.monotonic() - started) / 60
        rate = settings.lr * _rate(state.step, minutes, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        figures = _step(wrapped, optimizer, parameters, accelerator, settings, state.step)
        task.after_step()
        if average is not None:
            average.update_parameters(task.model)
        state.step += 1
        state.seconds = time.monotonic() - started
        figures |= {"lr": rate, "minutes": minutes}
        # Asked of all processes: if one alone left the loop, the others would wait for its
        # gradients for ever.
        late = _any(accelerator, 0 < settings.minutes <= state.seconds / 60)
        ended = late or state.step == settings.steps
        due = settings.check_every and state.step % settings.check_every == 0
        if check is not None and (due or (ended and keep is not None)):
            figures |= check(state.step)
        if VALIDATION in figures:
            for kind in _judge(state, figures[VALIDATION]):
                if keep is not None and accelerator.is_main_process:
                    keep(kind, state.step, figures[VALIDATION])
        if accelerator.is_main_process:
            log.add(state.step, figures, now=due or ended or state.step % settings.log_every == 0)
            progress(state.step, settings.steps, figures)
        stop = _any(accelerator, cancelled())
        # A validation goes with the state, so that the best step is not forgotten.
        saved = VALIDATION in figures or state.step % settings.save_every == 0
        if accelerator.is_main_process and (saved or stop or ended):
            _save(state_file, task.model, optimizer, average, settings.seed, state)
        if stop:
            raise Cancelled(f"stopped at step {state.step}; run again with --resume to go on")
    accelerator.wait_for_everyone()
    state.weights = _changing(task.model if average is None else average.module)
    return state


class _Loss(nn.Module):
    """A task as a module: one call is one loss, which is what several processes can share."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self._loss = task.loss

    def forward(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        return self._loss(step, rng)


def _step(
    wrapped: nn.Module,
    optimizer: Any,
    parameters: list[Tensor],
    accelerator: Accelerator,
    settings: TrainerSettings,
    step: int,
) -> dict[str, float]:
    """One step of the optimiser; the means of its losses' figures."""
    sums: dict[str, list[float]] = {}
    for part in range(settings.accumulate):
        rng = np.random.default_rng([settings.seed, step, part, accelerator.process_index])
        # Dropout draws from torch's generator. A large factor, so that two seeds do not share their
        # streams a few steps apart.
        torch.manual_seed(settings.seed * 1_000_003 + step)
        with accelerator.accumulate(wrapped):
            loss, figures = wrapped(step, rng)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                norm: Any = accelerator.clip_grad_norm_(parameters, settings.clip_norm)
                if not bool(torch.isfinite(norm)):  # without gradients AdamW changes nothing
                    optimizer.zero_grad(set_to_none=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        for name, value in {"loss": float(loss.detach()), **figures}.items():
            sums.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in sums.items()}


def _rate(step: int, minutes: float, settings: TrainerSettings) -> float:
    """Of the peak rate. No library's schedule, for those count steps and know no clock."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    gone = step / settings.steps
    if settings.minutes:
        gone = min(max(gone, minutes / settings.minutes), 1.0)
    if settings.decay == "step":
        return 1.0 if gone < 2 / 3 else 0.1
    return FINAL_RATE + (1 - FINAL_RATE) * (0.5 * (1 + math.cos(math.pi * gone)))


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Average of the weights and buffers that begins at ``model`` as it is now."""

    def averaged(average: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
        if not average.is_floating_point():
            return now
        # The first steps are forgotten sooner: an untrained model would weigh for long.
        return average.lerp(now, 1 - min(decay, int(count) / (9 + int(count))))

    average = AveragedModel(model, avg_fn=averaged, use_buffers=True)
    average.update_parameters(model)
    return average


def _judge(state: Trained, score: float) -> tuple[str, ...]:
    """Take a validation into ``state``; as what the model is to be kept."""
    if math.isnan(score):
        state.stale, state.best_step = 0, state.step
        return ("best", "last")
    # >= for the weights, > for the patience: of equal scores the later weights are kept, but no
    # progress is none.
    better = score >= state.best
    state.stale = 0 if score > state.best else state.stale + 1
    if better:
        state.best, state.best_step = score, state.step
    return ("best", "last") if better else ("last",)


def _any(accelerator: Accelerator, flag: bool) -> bool:
    """Whether ``flag`` is set in any process, so that all of them do the same."""
    if accelerator.num_processes == 1:
        return flag
    reduced: Any = accelerator.reduce(torch.tensor(float(flag), device=accelerator.device))
    return bool(reduced > 0)


def mean_of_all(accelerator: Accelerator, rows: FloatArray) -> FloatArray:
    """The mean of the rows (N, T) of all processes, (T,); not numbers where nobody has a row."""
    total: Any = torch.tensor(
        [*rows.sum(0), len(rows)], dtype=torch.float32, device=accelerator.device
    )
    total = accelerator.reduce(total).cpu()
    return np.asarray(total[:-1] / total[-1], np.float32)


def _changing(model: nn.Module) -> dict[str, Tensor]:
    """All of a model's state but what is frozen, which its owner has elsewhere."""
    frozen = {name for name, tensor in model.named_parameters() if not tensor.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def _save(
    path: Path,
    model: nn.Module,
    optimizer: Any,
    average: AveragedModel | None,
    seed: int,
    state: Trained,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # torch.save may be killed in the middle; the rename is atomic.
    scratch = path.with_suffix(".tmp")
    torch.save(
        {
            "seed": seed,
            "state": asdict(state),
            "model": _changing(model),
            "average": None if average is None else _changing(average),
            "optimizer": optimizer.state_dict(),
        },
        scratch,
    )
    scratch.replace(path)


def _load(
    path: Path, model: nn.Module, optimizer: Any, average: AveragedModel | None, seed: int
) -> Trained:
    try:
        # weights_only: a file of this name may be anybody's, and a plain pickle runs code.
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if saved["seed"] != seed:
            raise CheckpointError(
                f"{path} was started with seed {saved['seed']}, not {seed}; "
                "use the same --seed, or another --out"
            )
        _fill(model, saved["model"])
        if average is not None:
            _fill(average, saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        return Trained(**saved["state"])
    except (KeyError, RuntimeError, ValueError, TypeError, EOFError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be resumed ({type(error).__name__}: {error}); use another --out"
        ) from error


def _fill(model: nn.Module, saved: dict[str, Tensor]) -> None:
    if _changing(model).keys() != saved.keys():
        raise ValueError("it is of another training")
    # Not strict, for frozen tensors are not in the file; the names were compared above.
    model.load_state_dict(saved, strict=False)


class TrainingLog:
    """Lines of figures, JSON: means over the steps since the line before.

    Args:
        path: of the file; lines are added to it.
        stage: named in each line, where one file has several.
    """

    def __init__(self, path: Path, stage: str = "") -> None:
        self._path, self._stage = path, stage
        self._sums: dict[str, list[float]] = {}

    def add(self, step: int, figures: Mapping[str, float], now: bool = True) -> None:
        """Take the figures of a step, and write a line ``now`` or later."""
        for name, value in figures.items():
            if not math.isnan(value):
                self._sums.setdefault(name, []).append(value)
        if not now:
            return
        means = {name: round(float(np.mean(some)), 5) for name, some in self._sums.items()}
        self._sums.clear()
        stage = {"stage": self._stage} if self._stage else {}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**stage, "step": step, **means}) + "\n")


def read_log(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; what a kill has torn is passed over."""
    path = out / LOG_FILE
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    entries = []
    for line in lines:
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return [entry for entry in entries if isinstance(entry, dict) and "step" in entry]


def begin(out: Path, request: Mapping[str, Any], *, resume: bool) -> None:
    """Keep what is asked for, JSON values; what an earlier run left goes, unless it is resumed."""
    if not resume:
        for name in ("training.pt", LOG_FILE):
            (out / name).unlink(missing_ok=True)
    write_atomically(out / REQUEST_FILE, json.dumps(request).encode(), overwrite=True)


def finish(out: Path, request: Mapping[str, Any]) -> None:
    """Say that the training ended by itself, and drop its state."""
    begin(out, {**request, DONE: True}, resume=True)
    (out / "training.pt").unlink(missing_ok=True)


def is_same(out: Path, request: Mapping[str, Any]) -> bool:
    """Whether ``out`` holds a training that was asked for so, ended or not; False for none.

    Raises:
        CheckpointError: it holds another one, or what it was cannot be read.
    """
    earlier = read_run(out)
    if earlier is None:
        return False
    earlier.pop(DONE, None)
    wanted = json.loads(json.dumps(request))
    if earlier != wanted:
        keys = sorted(earlier.keys() | wanted.keys())
        changed = [key for key in keys if earlier.get(key) != wanted.get(key)]
        raise CheckpointError(
            f"{out} holds another training (it differs in {', '.join(changed)}); "
            "use another --out, or train without --resume"
        )
    return True


def is_done(out: Path) -> bool:
    """Whether the training in ``out`` ended by itself, where its request says so (`DONE`).

    Raises:
        CheckpointError: what it was cannot be read.
    """
    return bool((read_run(out) or {}).get(DONE))


def read_run(out: Path) -> dict[str, Any] | None:
    """What a training in ``out`` was asked for, or None where none was.

    Raises:
        CheckpointError: it cannot be read.
    """
    path = out / REQUEST_FILE
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); use another --out") from error
