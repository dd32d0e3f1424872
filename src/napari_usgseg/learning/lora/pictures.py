"""Pictures of a tuning: losses and validation boxes, and TensorBoard.

Both are optional (extra "train"): without matplotlib or tensorboard a tuning runs all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .thresholds import Checked

SHOWN = 6
"""Images on the sheet of validation boxes."""


class Pictures:
    """Writes ``losses.png``, ``validation.png`` and ``tensorboard/`` into ``out`` as it goes.

    Args:
        out: the tuning's folder.
        say: told once what is not drawn, and why.
    """

    def __init__(self, out: Path, say: Callable[[str], None]) -> None:
        self.out = out
        self.history: dict[str, list[tuple[int, float]]] = {}
        self.writer: Any = None
        missing = [name for name in ("matplotlib", "tensorboard") if find_spec(name) is None]
        if missing:
            say(
                f"no {' and no '.join(missing)}: for pictures of the training, "
                "pip install 'napari-usgseg[train]'"
            )
        self.draws = "matplotlib" not in missing
        if "tensorboard" not in missing:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(out / "tensorboard"))

    def step(self, step: int, figures: dict[str, float]) -> None:
        """Take the figures of a step; the losses are drawn anew at each validation."""
        for name, value in figures.items():
            if value == value:
                self.history.setdefault(name, []).append((step, value))
                if self.writer is not None:
                    self.writer.add_scalar(name, value, step)
        if "validation" in figures and self.draws:
            self._draw_losses()

    def checked(self, step: int, answers: Sequence[Checked]) -> None:
        """Draw true boxes (dashed) and found ones over the first validation images."""
        if not self.draws or not answers:
            return
        from matplotlib.figure import Figure

        shown = answers[:SHOWN]
        figure = Figure(figsize=(3 * len(shown), 3.2), layout="constrained")
        for place, answer in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown):  # noqa: B905
            place.imshow(answer.image.image)
            place.set_axis_off()
            place.set_title(f"{answer.phrase}\nDice of boxes {answer.score:.2f}", fontsize=8)
            for boxes, style, colour in (
                (answer.wanted, "--", "white"),
                (answer.found, "-", "tab:orange"),
            ):
                for x0, y0, x1, y1 in boxes:
                    across, down = [x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0]
                    place.plot(across, down, style, color=colour, linewidth=1.2)
        figure.savefig(self.out / "validation.png", dpi=90)
        if self.writer is not None:
            self.writer.add_figure("validation boxes", figure, step)

    def close(self) -> None:
        """Write what is still in memory."""
        if self.writer is not None:
            self.writer.close()

    def _draw_losses(self) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for place, name in ((left, "loss"), (right, "validation")):
            points = self.history.get(name, [])
            place.plot([s for s, _ in points], [v for _, v in points], linewidth=1)
            place.set_xlabel("step")
            place.set_title("loss" if name == "loss" else "validation: Dice of boxes")
        figure.savefig(self.out / "losses.png", dpi=90)
