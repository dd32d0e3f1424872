"""What a person sets once, remembered with the folder."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from ..errors import UsgsegError
from ..io.instances import LABELLINGS, Labelling
from ..models.embedding_cache import DEFAULT_LIMIT_BYTES
from ..pipeline.postprocess import PostprocessSettings

DESPECKLING = ("off", "median", "lee")
TRAIN_AFTER = 10
MOST_TRAIN_AFTER = 10_000


class Mode(StrEnum):
    """What a trained prompt predictor (PPN) does; without one, all three are SAM as it is.

    ``AUTONOMOUS``: opening an image shows its masks of all classes, and prompts refine them.
    ``SEMI``: nothing is shown by itself; prompts are joined by those learned of their class.
    ``MANUAL``: the person's prompts only.
    """

    AUTONOMOUS = "autonomous"
    SEMI = "semi-autonomous"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class View:
    """How a person looks at images; nothing of it reaches a model or a label.

    Attributes:
        contours: accepted labels as contours, not filled.
        opacity: of accepted labels, 0 to 1.
        brightness: -100 to 100.
        contrast: -100 to 100.
        despeckling: "off", "median" or "lee" (``pipeline.despeckle``).
    """

    contours: bool = False
    opacity: float = 0.45
    brightness: int = 0
    contrast: int = 0
    despeckling: str = "off"

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> View:
        """From JSON values; what is missing or of a wrong type takes its default."""
        known: dict[str, Any] = {}
        if isinstance(values.get("contours"), bool):
            known["contours"] = values["contours"]
        opacity = values.get("opacity")
        if isinstance(opacity, int | float) and 0 <= opacity <= 1:
            known["opacity"] = float(opacity)
        for name in ("brightness", "contrast"):
            value = values.get(name)
            if isinstance(value, int) and -100 <= value <= 100:
                known[name] = value
        if values.get("despeckling") in DESPECKLING:
            known["despeckling"] = values["despeckling"]
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Settings:
    """Models, phrase, thresholds, cleaning.

    Attributes:
        segmenter: name or checkpoint path.
        detector: name or folder.
        phrase: that is looked for.
        box_threshold: least score of a box, or None for the detector's own.
        text_threshold: least score of a token, or None for the detector's own.
        find_on_open: look for the phrase on each untouched image as it opens.
        overwrite: an accepted object replaces other labels under it.
        labelling: one label for each class, or one for each object; see ``io.instances``.
        cache_gb: how large the embeddings kept on disk may grow, in GiB; 0 keeps none.
        view: how images and labels are shown.
        cleaning: of proposed masks.
        mode: what a trained prompt predictor does.
        train_after: committed images of a class after which a training is offered.
        train_by_itself: begin it then without asking.
    """

    segmenter: str = "nano"
    detector: str = "nano"
    phrase: str = ""
    box_threshold: float | None = None
    text_threshold: float | None = None
    find_on_open: bool = True
    overwrite: bool = False
    labelling: Labelling = "semantic"
    cache_gb: float = DEFAULT_LIMIT_BYTES / 2**30
    view: View = field(default_factory=View)
    cleaning: PostprocessSettings = field(default_factory=PostprocessSettings)
    mode: Mode = Mode.AUTONOMOUS
    train_after: int = TRAIN_AFTER
    train_by_itself: bool = False

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        """From JSON values; what is missing or of a wrong type takes its default."""
        default = cls()
        known: dict[str, Any] = {}
        for name in ("segmenter", "detector", "phrase"):
            if isinstance(values.get(name), str):
                known[name] = values[name]
        for name in ("find_on_open", "overwrite", "train_by_itself"):
            if isinstance(values.get(name), bool):
                known[name] = values[name]
        if values.get("labelling") in LABELLINGS:
            known["labelling"] = values["labelling"]
        for name in ("box_threshold", "text_threshold"):
            value = values.get(name)
            if isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1:
                known[name] = float(value)
        if values.get("mode") in list(Mode):
            known["mode"] = Mode(values["mode"])
        after = values.get("train_after")
        if type(after) is int and 1 <= after <= MOST_TRAIN_AFTER:
            known["train_after"] = after
        size = values.get("cache_gb")
        if isinstance(size, int | float) and math.isfinite(size) and 0 <= size <= 1e6:
            known["cache_gb"] = float(size)
        if isinstance(values.get("view"), dict):
            known["view"] = View.from_json(values["view"])
        cleaning = values.get("cleaning")
        if isinstance(cleaning, dict):
            names = {item.name for item in fields(PostprocessSettings)}
            kept = {name: value for name, value in cleaning.items() if name in names}
            try:
                known["cleaning"] = PostprocessSettings(**kept)
            except (TypeError, ValueError, UsgsegError):
                known["cleaning"] = default.cleaning
        return cls(**known)
