"""Status line of a session, and the kinds of failure that it remembers."""

from __future__ import annotations

from dataclasses import dataclass

TEXT, MODEL = "text", "model"
"""What fails where a search does, and where a model does, or the process that it is in: loading it
anew may be the cure. Other work fails under its own key."""


@dataclass(frozen=True, slots=True)
class Status:
    """The status line: ``text``, whether something goes on, and whether something failed."""

    text: str
    busy: bool = False
    error: bool = False
