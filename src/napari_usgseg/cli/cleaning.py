"""The switches of post-processing; what is not given keeps its default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..pipeline.postprocess import PostprocessSettings

Cleaning = Annotated[bool, typer.Option(help="Clean the masks at all.")]
Keep = Annotated[
    str | None, typer.Option(help="Pieces to keep: prompted (the default), largest or all.")
]
MinArea = Annotated[int | None, typer.Option(help="Drop pieces with fewer pixels.")]
FillHoles = Annotated[
    float | None, typer.Option(help="Fill holes up to this fraction of the area; 1 fills all.")
]
Opening = Annotated[int | None, typer.Option(help="Cut off spurs: radius in pixels.")]
Closing = Annotated[int | None, typer.Option(help="Bridge gaps: radius in pixels.")]
Smoothing = Annotated[float | None, typer.Option(help="Round the border: deviation in pixels.")]
Dilation = Annotated[int | None, typer.Option(help="Grow the result by so many pixels.")]


def read_settings(**given: Any) -> PostprocessSettings:
    """The settings with what was given on the command line.

    Raises:
        UsgsegError: a value that means nothing.
    """
    from ..pipeline.postprocess import PostprocessSettings

    return PostprocessSettings(
        **{name: value for name, value in given.items() if value is not None}
    )
