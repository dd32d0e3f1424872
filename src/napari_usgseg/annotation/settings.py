"""Settings of a session, remembered with the folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from ..core.errors import UsgsegError
from ..io.labels import Labelling
from ..io.reading.frames import RANGE_MM
from ..models.embedding_cache import DEFAULT_LIMIT_BYTES
from ..segmentation.postprocess import PostprocessSettings

Despeckling = Literal["off", "median", "lee"]
DESPECKLING: tuple[Despeckling, ...] = get_args(Despeckling)
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Percent = Annotated[int, Field(ge=-100, le=100)]
Length = Annotated[FiniteFloat, Field(ge=RANGE_MM[0], le=RANGE_MM[1])]
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
    """View of the images, as a person chose it; nothing of it reaches a model or a label.

    Attributes:
        contours: accepted labels as contours, not filled.
        opacity: of accepted labels, 0 to 1.
        brightness: -100 to 100.
        contrast: -100 to 100.
        despeckling: "off", "median" or "lee" (``segmentation.despeckle``).
        regions: outlines of the parts of a picture that models look at.
        onion_skin: of a loop, contours of what is on the frame before.
    """

    contours: bool = False
    opacity: Share = 0.45
    brightness: Percent = 0
    contrast: Percent = 0
    despeckling: Despeckling = "off"
    regions: bool = True
    onion_skin: bool = False


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
        labelling: one label for each class, or one for each object; see ``io.labels``.
        cache_gb: how large the embeddings kept on disk may grow, in GiB; 0 keeps none.
        view: how images and labels are shown.
        cleaning: of proposed masks.
        crop_to_regions: models see the regions of tissue alone, where the scanner wrote them.
        mm_per_pixel: of pictures whose file does not say it, by their size ("480x640", rows first),
            scanner and depth (``segmentation.measuring.scale_key``).
        mode: what a trained prompt predictor does.
        train_after: accepted images of a class after which a training is offered.
        train_by_itself: begin it then without asking.
        weak_proposals: from the first accepted image on, until a prompt predictor is in use.
        tune_decoder: a prompt predictor's training tunes the mask decoder too (LoRA).
    """

    segmenter: str = "nano"
    detector: str = "nano"
    phrase: str = ""
    box_threshold: Share | None = None
    text_threshold: Share | None = None
    find_on_open: bool = True
    overwrite: bool = False
    labelling: Labelling = "semantic"
    cache_gb: Annotated[FiniteFloat, Field(ge=0, le=1e6)] = DEFAULT_LIMIT_BYTES / 2**30
    view: View = field(default_factory=View)
    cleaning: PostprocessSettings = field(default_factory=PostprocessSettings)
    crop_to_regions: bool = True
    mm_per_pixel: dict[str, Length] = field(default_factory=dict)
    mode: Mode = Mode.AUTONOMOUS
    train_after: Annotated[int, Field(ge=1, le=MOST_TRAIN_AFTER)] = TRAIN_AFTER
    train_by_itself: bool = False
    weak_proposals: bool = True
    tune_decoder: bool = False

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        """From JSON values; what is missing or makes no sense takes its default."""
        values = json.loads(json.dumps(values))
        while True:
            try:
                return _adapter().validate_json(json.dumps(values), strict=True)
            except ValidationError as error:
                for problem in error.errors():
                    _drop(values, problem["loc"])
            except UsgsegError:
                del values["cleaning"]


@cache
def _adapter() -> TypeAdapter[Settings]:
    return TypeAdapter(Settings)


def _drop(values: dict[str, Any], place: tuple[int | str, ...]) -> None:
    """Remove what is at a place, names from the outside in, of nested values."""
    for name in place[:-1]:
        values = values[str(name)]
    del values[str(place[-1])]
