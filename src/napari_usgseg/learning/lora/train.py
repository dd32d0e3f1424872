"""Tune a detector to new targets with LoRA; what ``usgseg train lora`` and the window call.

<out>/adapter_config.json, adapter_model.safetensors, README.md, usgseg.json   the best adapter
<out>/last/          that of the last step
<out>/training.json  what is trained on, so that only the same training is resumed
<out>/training.pt    the state of an unfinished training
<out>/log.jsonl, losses.png, validation.png, tensorboard/
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ...core.errors import Cancelled, CheckpointError
from ...core.types import FloatArray
from ...io.datasets import Dataset, Split
from ...models.grounding.nano_detector import PhraseGrounder, load_sentence_encoder
from ...models.lora.adapter import save_adapter, trained
from ...models.lora.card import AdapterCard, is_adapter, read_adapter_card, write_adapter_card
from ...models.registry import embedded_grounder, resolve_device
from ..resuming import DONE, is_done, is_same, write_request
from ..trainer import Progress
from .check import THRESHOLDS, Answer, ask, choose_threshold
from .data import TuningData, UnrelatedPhrases, choose_images
from .pictures import Pictures
from .ways import TunableDetector, Way

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


Say = Callable[[str], None]

STATE = "training.pt"


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Everything about a tuning but its images. None takes what suits the detector.

    Attributes:
        preset: which layers (``models.lora_presets``).
        rank: of the matrices.
        alpha: their product is scaled by ``alpha / rank``; None takes ``rank``.
        steps: of the optimiser, at most.
        epochs: times that each image is seen, instead of ``steps``.
        batch: images of a process in a part of a step.
        accumulate: parts of a step.
        lr: peak learning rate.
        decay, patience, minutes, precision: as in ``lora_loop.TuneSettings``.
        image_size: side in pixels of the square that is trained on.
        seed: of everything random.
    """

    preset: str = "decoder"
    rank: int = 32
    alpha: float | None = None
    steps: int | None = None
    epochs: int | None = None
    batch: int | None = None
    accumulate: int = 1
    lr: float | None = None
    decay: Decay = "cosine"
    patience: int = 20
    minutes: float = 0.0
    precision: str = "auto"
    image_size: int | None = None
    seed: int = 0


def train_lora(
    datasets: Sequence[Dataset],
    out: Path,
    settings: LoraSettings,
    *,
    grounder: str = "nano",
    images: int | None = None,
    splits: dict[str, Split] | None = None,
    device: str = "cpu",
    resume: bool = False,
    pictures: bool = True,
    say: Say = lambda text: None,
    progress: Progress = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> AdapterCard:
    """Tune, save and return the card of the best adapter.

    Args:
        datasets: labelled images.
        out: folder of the adapter.
        settings: how.
        grounder: the detector to tune: a name or a folder.
        images: so many of each data set, drawn by the seed; None takes all. Some of them are not
            learned from, but say when to stop.
        splits: where given, only training sides are drawn from.
        device: "auto", "cpu", "cuda", ...; the phrase grounder is tuned on the CPU.
        resume: go on from ``out``.
        pictures: draw losses and validation boxes.
        say: told what happens, in lines for a person.
        progress: called after each step with (step, steps, figures); "validation" is among the
            figures now and then.
        cancelled: asked after each step.

    Raises:
        DatasetError: there are too few images, or none with a target.
        ModelError: the detector cannot be tuned, or not with this preset.
        CheckpointError: ``out`` holds another training, and ``resume`` is asked for.
        Cancelled: ``cancelled()`` turned true; the state is saved.
    """
    base = TunableDetector(grounder, resolve_device(device))
    base.check_preset(settings.preset)
    side = settings.image_size or base.image_size
    data = choose_images(datasets, images, splits, settings.seed, side)
    return tune_lora(
        data,
        base,
        out,
        settings,
        source=", ".join(dataset.name for dataset in datasets),
        on_cpu=base.on_cpu(device),
        resume=resume,
        pictures=pictures,
        say=say,
        progress=progress,
        cancelled=cancelled,
    )


def tune_lora(
    data: TuningData,
    base: TunableDetector,
    out: Path,
    settings: LoraSettings,
    *,
    source: str = "",
    on_cpu: bool = True,
    resume: bool = False,
    pictures: bool = False,
    say: Say = lambda text: None,
    progress: Progress = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> AdapterCard:
    """The same with images that were read already; ``base`` is of no use afterwards.

    Raises:
        ModelError: the detector has no such preset.
        CheckpointError: ``out`` holds another training, and ``resume`` is asked for.
        Cancelled: ``cancelled()`` turned true; the state is saved.
    """
    accelerator = make_accelerator(settings.precision, settings.accumulate, on_cpu)
    how = _loop(settings, base, len(data.training), accelerator.num_processes)
    request = _request(base, data, settings, source, how)
    if resume and is_same(out, request) and is_done(out) and is_adapter(out):
        card = read_adapter_card(out)
        if card is not None:
            return card
    main = accelerator.is_main_process
    if not resume and main:
        for name in (STATE, "log.jsonl"):
            (out / name).unlink(missing_ok=True)
    if main:
        write_request(out, request)
    accelerator.wait_for_everyone()

    import torch

    torch.manual_seed(settings.seed)
    way = base.prepare(
        data,
        UnrelatedPhrases(data.targets, _encoder(base)),
        preset=settings.preset,
        rank=settings.rank,
        alpha=settings.alpha or settings.rank,
        batch=how.batch,
        image_size=settings.image_size or base.image_size,
        seed=settings.seed,
    )
    count = sum(tensor.numel() for tensor in way.lesson.parameters() if tensor.requires_grad)
    if main:
        say(
            f"{source}: {len(data.training)} images to learn {', '.join(data.targets)} from, "
            f"{len(data.checking)} to stop by; {count:,} numbers of {way.base_id} are tuned"
        )
    card = AdapterCard(
        base=way.base,
        base_id=way.base_id,
        targets=data.targets,
        phrases=data.phrases,
        images=data.image_ids,
        preset=settings.preset,
        rank=settings.rank,
        source=source,
        seed=settings.seed,
        training=asdict(how),
    )
    drawn = Pictures(out, say) if pictures and main else None
    run = Run(way, data, out, card, drawn, progress, accelerator)
    outcome = tune(
        way.lesson,
        how,
        out / STATE,
        accelerator,
        check=run.check,
        keep=run.keep,
        settle=way.lesson.settle,
        resume=resume,
        progress=run.step,
        cancelled=cancelled,
    )
    run.close()
    if main:
        say(f"best after {outcome.best_step} of {outcome.last_step} steps")
        write_request(out, {**request, DONE: True})
        (out / STATE).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    found = read_adapter_card(out)
    assert found is not None
    return found


def _encoder(base: TunableDetector) -> Any:
    """Says which phrases are related: the detector's own, or the embedded one."""
    if isinstance(base.detector, PhraseGrounder):
        return base.detector.encoder
    return load_sentence_encoder(embedded_grounder())


def steps_for(images: int, base: TunableDetector) -> int:
    """Steps that suit so many images: more ask for more, by the square root."""
    return int(np.clip(base.steps * np.sqrt(images / 100), base.steps / 2, 4 * base.steps))


def _loop(
    settings: LoraSettings, base: TunableDetector, images: int, processes: int
) -> TuneSettings:
    """The loop's settings, with steps that suit so many images where none are given."""
    batch = settings.batch or base.batch
    at_once = batch * settings.accumulate * processes
    steps = settings.steps
    if steps is None and settings.epochs is not None:
        steps = math.ceil(settings.epochs * images / at_once)
    if steps is None:
        steps = steps_for(images, base)
    return TuneSettings(
        steps=steps,
        lr=settings.lr or base.lr,
        batch=batch,
        accumulate=settings.accumulate,
        decay=settings.decay,
        check_every=min(20, steps),
        patience=settings.patience,
        minutes=settings.minutes,
        precision=settings.precision,
        seed=settings.seed,
    )


def _request(
    base: TunableDetector,
    data: TuningData,
    settings: LoraSettings,
    source: str,
    how: TuneSettings,
) -> dict[str, Any]:
    return {
        "source": source,
        "grounder": base.base_id,
        "images": list(data.image_ids),
        "settings": {**asdict(settings), "minutes": 0},
        "steps": how.steps,
    }
