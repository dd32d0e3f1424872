"""Tuning of a detector to new targets with LoRA.

<out>/adapter_config.json, adapter_model.safetensors, README.md, usgseg.json   the best adapter
<out>/last/     that of the last step
<out>/training.json, training.pt, log.jsonl   the run (``learning.trainer``)
<out>/losses.png, validation.png, tensorboard/
<out>/fold-N/   the trainings of a cross-validation, the same again
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.errors import ModelError
from ...io.datasets import Dataset, Split
from ...models.grounding.grounding_dino import GroundingDino
from ...models.grounding.nano_detector import (
    SAME_PHRASE,
    NanoDetector,
    PhraseNet,
    load_sentence_encoder,
)
from ...models.interfaces import Detector
from ...models.lora.adapter import (
    DINO_PRESETS,
    GUARDED,
    NANO_PRESETS,
    add_adapter,
    find_preset,
)
from ...models.lora.card import AdapterCard, is_adapter, read_adapter_card, write_adapter_card
from ...models.registry import embedded_detector, load_detector, resolve_device
from ..cross_validation import Fold, Score, cross_validate, folds
from ..labelled import LabelledImage
from ..trainer import (
    VALIDATION,
    Decay,
    Progress,
    Task,
    TrainerSettings,
    begin,
    finish,
    is_done,
    is_same,
    make_accelerator,
    train,
)
from .data import (
    Questioner,
    TuningData,
    UnrelatedPhrases,
    choose_images,
    strange_images,
    tuning_data,
)
from .tasks import DinoTask, NanoTask
from .validation import Pictures, Validation, set_thresholds

WARMUP = 0.08
"""Share of the steps with a rising rate."""
CHECK_EVERY = 20
"""Steps between two validations."""
DENSE, DINO = (1e-3, 8, 240), (5e-4, 4, 240)
"""Peak learning rate, images in a step, and steps for a hundred images."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Everything about a tuning but its images. None takes what suits the detector.

    Attributes:
        preset: which layers (``models.lora.adapter``).
        rank: of the matrices.
        alpha: their product is scaled by ``alpha / rank``; None takes ``rank``.
        steps: of the optimiser, at most.
        epochs: times that each image is seen, instead of ``steps``.
        batch: images of a process in a part of a step.
        accumulate: parts of a step.
        lr: peak learning rate.
        decay, patience, minutes: as in ``TrainerSettings``.
        precision: as in ``make_accelerator``.
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


# -- the detector ----------------------------------------------------------------------------------


class TunableDetector:
    """A detector that LoRA can be put on; what differs between the two kinds is here.

    Args:
        name: of a detector, or its folder.
        device: "cpu", "cuda", ...; the `nano` detector is always on the CPU.

    Attributes:
        image_size: side in pixels of the square that is trained on. A Grounding DINO that keeps an
            image's aspect sees squares as long as its shortest edge; augmentation stretches by more
            than the difference.
        box_threshold: the least score of a box that it goes by itself.
        lr, batch, steps: peak learning rate, images in a step, and steps for a hundred images.

    Raises:
        ModelError: an adapter is tuned no further, or the detector cannot be loaded.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        folder = Path(name)
        self.base = str(folder.resolve()) if folder.is_dir() else name
        self.detector = load_detector(name, device=device)
        self.base_id = self.detector.model_id
        if "+" in self.base_id:
            raise ModelError(f"{name} is an adapter: merge it first (usgseg models merge-lora)")
        assert isinstance(self.detector, NanoDetector | GroundingDino)
        self.box_threshold = self.detector.box_threshold
        if isinstance(self.detector, NanoDetector):
            self.presets, (self.lr, self.batch, self.steps) = NANO_PRESETS, DENSE
            self.on_cpu = True
            self.image_size: int = self.detector.net.image_size
        else:
            self.presets, (self.lr, self.batch, self.steps) = DINO_PRESETS, DINO
            self.on_cpu = device == "cpu"
            size = self.detector.image_processor.size
            self.image_size = int(size.shortest_edge or size.height) // 32 * 32

    @property
    def encoder(self) -> Any:
        """Says which phrases are related: the detector's own, or the embedded one."""
        if isinstance(self.detector, NanoDetector):
            return self.detector.encoder
        return load_sentence_encoder(embedded_detector())

    def prepare(self, data: TuningData, settings: LoraSettings, batch: int) -> tuple[Any, Task]:
        """Put LoRA on, teach the phrases, and make the task.

        Returns:
            PEFT's model around the network, and what it learns.
        """
        guard: PhraseGuard | None = None
        absent = UnrelatedPhrases(data.targets, self.encoder)
        pool = [*data.training, *strange_images(data, absent, settings.seed)]
        side = settings.image_size or self.image_size
        questioner = Questioner(pool, side, batch, absent=absent)
        preset = find_preset(settings.preset, self.presets)
        rank, alpha = settings.rank, settings.alpha or settings.rank
        if isinstance(self.detector, NanoDetector):
            found = self.detector
            learned = found.known.learned
            found.known = found.known.taught(data.targets, data.phrases, found.encoder)
            tuned = add_adapter(found.net, preset, rank, alpha, self.base)
            task: Task = NanoTask(found.net, found.encoder, questioner)
            if settings.preset == GUARDED:  # what means none of the new phrases may not change
                new = found.encoder(list(data.phrases))
                guard = PhraseGuard(found.net, learned[(learned @ new.T).amax(1) < SAME_PHRASE])
        else:
            dino = self.detector
            assert isinstance(dino, GroundingDino)
            tuned = add_adapter(dino.model, preset, rank, alpha, self.base)
            task = DinoTask(dino.model, dino.tokenizer, questioner)
        # Batch norms and dropout of the base stay as they are: few images would spoil their
        # statistics.
        tuned.eval()
        return tuned, AdapterTask(task, guard)


class AdapterTask(Task):
    """A detector's own task, of which only the LoRA matrices are trained."""

    def __init__(self, task: Task, guard: PhraseGuard | None = None) -> None:
        self.model = task.model
        self._task, self._guard = task, guard

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The detector's."""
        return self._task.loss(step, rng)

    def after_step(self) -> None:
        """Hold the matrices where the guarded phrases have no part."""
        if self._guard is not None:
            self._guard.hold()


ENERGY = 1 - 1e-5
"""Share of the old vectors' energy that is kept from changes."""
BY_VECTOR = r"text\.0"
BY_CONDITION = r"(block(32|16|8|4)|context)\.film|query|presence\.0"
"""Layers that take the phrase's vector, or at their end what ``PhraseNet.text`` makes of it."""


class PhraseGuard:
    """Holds the LoRA matrices of a net where the given phrases have no part.

    Args:
        net: with its LoRA on, as it starts (B is 0).
        phrases: (N, 384) vectors of the phrases whose answers stay.
    """

    @torch.no_grad()
    def __init__(self, net: PhraseNet, phrases: Tensor) -> None:
        phrases = phrases.clone()
        free_vector, free_condition = _free(phrases), _free(net.text(phrases))
        self.held: list[tuple[Tensor, Tensor]] = []
        for name, layer in net.named_modules():
            if not hasattr(layer, "lora_A"):
                continue
            matrix = layer.lora_A["default"].weight
            if re.fullmatch(BY_VECTOR, name):
                self.held.append((matrix, free_vector))
            elif re.fullmatch(BY_CONDITION, name):
                wide = torch.zeros(matrix.shape[1], matrix.shape[1])
                wide[-len(free_condition) :, -len(free_condition) :] = free_condition
                self.held.append((matrix, wide))
        self.hold()

    @torch.no_grad()
    def hold(self) -> None:
        """Take out what a step of the optimiser has put where it may not be."""
        for matrix, free in self.held:
            matrix.copy_(matrix @ free)


def _free(vectors: Tensor) -> Tensor:
    """(N, D) vectors to the (D, D) projection onto what is orthogonal to (nearly) all of them."""
    _, sizes, directions = torch.linalg.svd(vectors, full_matrices=False)
    energy = (sizes**2).cumsum(0) / (sizes**2).sum()
    basis = directions[: int((energy < ENERGY).sum()) + 1]
    # LoRA adds B A x: with A projected onto what is orthogonal to the old phrases, A x is 0 for
    # them, whatever B learns, and their answers stay exactly as they were.
    return torch.eye(vectors.shape[1]) - basis.T @ basis


# -- training --------------------------------------------------------------------------------------


def train_lora(
    datasets: Sequence[Dataset],
    out: Path,
    settings: LoraSettings,
    *,
    detector: str = "nano",
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
        detector: to tune: a name or a folder.
        images: so many of each data set, drawn by the seed; None takes all. Some of them are not
            learned from, but say when to stop.
        splits: where given, only training sides are drawn from.
        device: "auto", "cpu", "cuda", ...; the `nano` detector is tuned on the CPU.
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
    base = TunableDetector(detector, resolve_device(device))
    find_preset(settings.preset, base.presets)  # before anything is read
    side = settings.image_size or base.image_size
    data = choose_images(datasets, images, splits, settings.seed, side)
    return tune_lora(
        data,
        base,
        out,
        settings,
        source=", ".join(dataset.name for dataset in datasets),
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
    accelerator = make_accelerator(settings.precision, settings.accumulate, base.on_cpu)
    batch = settings.batch or base.batch
    how = _trainer(settings, base, len(data.training), batch * accelerator.num_processes)
    request = {
        "source": source,
        "grounder": base.base_id,
        "images": list(data.image_ids),
        "settings": {**asdict(settings), "minutes": 0},
        "steps": how.steps,
    }
    if resume and is_same(out, request) and is_done(out) and is_adapter(out):
        finished = read_adapter_card(out)
        if finished is not None:
            return finished
    main = accelerator.is_main_process
    if main:
        begin(out, request, resume=resume)
    accelerator.wait_for_everyone()
    torch.manual_seed(settings.seed)
    tuned, task = base.prepare(data, settings, batch)
    if main:
        count = sum(t.numel() for t in task.model.parameters() if t.requires_grad)
        say(
            f"{source}: {len(data.training)} images to learn {', '.join(data.targets)} from, "
            f"{len(data.checking)} to stop by; {count:,} numbers of {base.base_id} are tuned"
        )
    card = AdapterCard(
        base=base.base,
        base_id=base.base_id,
        targets=data.targets,
        phrases=data.phrases,
        images=data.image_ids,
        preset=settings.preset,
        rank=settings.rank,
        source=source,
        seed=settings.seed,
        training={**asdict(how), "batch": batch, "precision": settings.precision},
    )
    drawn = Pictures(out, say) if pictures and main else None
    validation = Validation(
        base.detector, tuned, base.box_threshold, data, out, card, drawn, accelerator
    )

    def told(step: int, steps: int, figures: dict[str, float]) -> None:
        if drawn is not None:
            drawn.step(step, figures)
        progress(step, steps, figures)

    trained = train(
        task,
        how,
        out,
        accelerator=accelerator,
        check=validation.check,
        keep=validation.keep,
        resume=resume,
        progress=told,
        cancelled=cancelled,
    )
    if drawn is not None:
        drawn.close()
    if main:
        say(f"best after {trained.best_step} of {trained.step} steps")
        finish(out, request)
    accelerator.wait_for_everyone()
    found = read_adapter_card(out)
    assert found is not None
    return found


def steps_for(images: int, base: TunableDetector) -> int:
    """Steps that suit so many images: more ask for more, by the square root."""
    return int(np.clip(base.steps * np.sqrt(images / 100), base.steps / 2, 4 * base.steps))


def _trainer(
    settings: LoraSettings, base: TunableDetector, images: int, at_once: int
) -> TrainerSettings:
    """The part that the trainer asks for, with steps that suit so many images where none are given.

    Args:
        settings: of the tuning.
        base: the detector.
        images: to learn from.
        at_once: of them, in all processes.
    """
    steps = settings.steps
    if steps is None and settings.epochs is not None:
        steps = math.ceil(settings.epochs * images / (at_once * settings.accumulate))
    if steps is None:
        steps = steps_for(images, base)
    every = min(CHECK_EVERY, steps)
    return TrainerSettings(
        steps=steps,
        lr=settings.lr or base.lr,
        warmup=max(1, round(WARMUP * steps)),
        decay=settings.decay,
        accumulate=settings.accumulate,
        save_every=every,
        check_every=every,
        patience=settings.patience,
        minutes=settings.minutes,
        seed=settings.seed,
    )


def cross_validate_lora(
    images: Sequence[LabelledImage],
    phrases: Mapping[int, str],
    detector: str,
    out: Path,
    settings: LoraSettings,
    scorer: Callable[[Detector], Score],
    *,
    source: str = "",
    progress: Progress = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> AdapterCard:
    """Tune in ``out``, with out-of-fold scores in the card.

    The same call goes on where an earlier one was stopped or killed. A training that does not get
    better any more ends before its steps are done.

    Args:
        images: all that are accepted.
        phrases: label value -> what a person would type.
        out: folder of the adapter; the trainings of a cross-validation are in ``fold-N`` in it.
        settings: of the training on all; those of a cross-validation have fewer steps.
        scorer: given a detector, measures what a person gets by the phrases.
        progress: (step, steps, figures) over all trainings together; "held_out_dice" is the Dice
            of boxes on the images to stop by.
        detector, source, cancelled: as in `train_lora`.

    Raises:
        DatasetError: all images are of one group, or nothing is there to learn.
        ModelError: the detector cannot be tuned.
        Cancelled: ``cancelled()`` turned true.
    """

    def train_fold(fold: Fold, told: Progress) -> Path:
        def shown(step: int, steps: int, figures: dict[str, float]) -> None:
            points = {"loss": figures["loss"]}
            if not math.isnan(figures.get(VALIDATION, math.nan)):
                points["held_out_dice"] = figures[VALIDATION]
            told(step, steps, points)

        base = TunableDetector(detector)
        side = settings.image_size or base.image_size
        learnt = [images[index] for index in fold.train]
        tune_lora(
            tuning_data(learnt, fold.classes, settings.seed, side),
            base,
            fold.folder,
            replace(settings, steps=fold.steps),
            source=source,
            resume=True,
            progress=shown,
            cancelled=cancelled,
        )
        if fold is needed[-1]:
            set_thresholds(needed, images, phrases, own)
        return fold.folder

    @lru_cache(1)
    def score_of(folder: Path) -> Score:
        return scorer(load_detector(folder))

    base = TunableDetector(detector)
    own, steps = base.box_threshold, settings.steps or steps_for(len(images), base)
    needed = folds(images, phrases, out, steps)
    _, scores = cross_validate(
        images, phrases, needed, train_fold, lambda folder, image: score_of(folder)(image), progress
    )
    card = read_adapter_card(out)
    assert card is not None  # it was written with the adapter
    card = replace(card, scores={**card.scores, **scores})
    write_adapter_card(out, card)
    return card
