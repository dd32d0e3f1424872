"""What is asked for of every image of a batch, and whether it can be answered at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..core.errors import PromptError
from ..core.geometry import box_within
from ..core.types import LabelClass, Prompts, TextPrompt
from ..io.labels import default_color
from ..models.grounding.phrases import listed_phrases, split_phrases, wanted_phrases
from .postprocess import PostprocessSettings


@dataclass(frozen=True, slots=True, eq=False)
class BatchRequest:
    """What to do with every image.

    Attributes:
        text: phrases to look for; with ``objects`` they only name what these point at: one phrase
            all of them, several each its own, first to first.
        objects: a person's prompts, one record for each object; the same for every image.
        settings: cleaning of the masks.
        overlay: also write the labels drawn over the image.
        overwrite: replace what the program wrote.
        use_priors: see ``propose_text``.

    Raises:
        PromptError: the text has no phrase, or several and not as many as there are objects.
    """

    text: TextPrompt | None = None
    objects: tuple[Prompts, ...] = ()
    settings: PostprocessSettings = field(default_factory=PostprocessSettings)
    overlay: bool = False
    overwrite: bool = False
    use_priors: bool = True

    def __post_init__(self) -> None:
        if self.text is None:
            return
        wanted_phrases(self.text.text)
        if self.objects and len(self.names) != len(self.objects):
            raise PromptError(
                f"{len(self.names)} phrases for {_counted(self.objects)}: give one phrase for all, "
                "or one for each in the same order"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """What each of ``objects`` is called."""
        if self.text is None:
            return ("object",) * len(self.objects)
        phrases = listed_phrases(self.text.text)
        return phrases[:1] * len(self.objects) if len(set(phrases)) == 1 else phrases


def request_classes(request: BatchRequest) -> list[LabelClass]:
    """The classes of a request: its phrases in their order, else one class named "object"."""
    names = split_phrases(request.text.text) if request.text is not None else ("object",)
    return [LabelClass(i, name, default_color(i)) for i, name in enumerate(names, start=1)]


def check_prompts(prompts: Prompts, size_hw: tuple[int, int]) -> None:
    """Refuse a box or a point that shows no object of this image.

    Raises:
        PromptError: it names the box or the point.
    """
    size = f"the image of {size_hw[1]} x {size_hw[0]} pixels"
    if prompts.box is not None:
        x0, y0, x1, y1 = (float(value) for value in prompts.box)
        box = f"box {x0:g},{y0:g},{x1:g},{y1:g}"
        if x1 <= x0 or y1 <= y0:
            raise PromptError(f"{box} has no area: give two opposite corners of the object's box")
        inside = box_within(prompts.box, size_hw)
        if inside is None or inside[2] <= inside[0] or inside[3] <= inside[1]:
            raise PromptError(f"{box} is outside {size}: give one inside it")
    for x, y in np.asarray(prompts.point_coords, float).reshape(-1, 2):
        if not (-0.5 <= x <= size_hw[1] - 0.5 and -0.5 <= y <= size_hw[0] - 0.5):
            raise PromptError(f"point {x:g},{y:g} is outside {size}: give one inside it")


def _counted(objects: Sequence[Prompts]) -> str:
    kind = "box" if all(prompts.box is not None for prompts in objects) else "point"
    if len(objects) == 1:
        return f"1 {kind}"
    return f"{len(objects)} {'boxes' if kind == 'box' else 'points'}"
