"""What is awaited, and the one line that says what is going on."""

from __future__ import annotations

from dataclasses import dataclass

ORDER = (
    "open", "phantoms", "load", "step", "text", "use", "propose", "prompt", "left", "prior",
    "objects", "alike", "delete class", "warm", "embed", "export", "save", "warm text", "journal",
    "ahead", "prefetch", "propose ahead", "present", "shelf",
)  # fmt: skip
"""What the line names first when several things go on."""
USE, DELETE_CLASS = "use", "delete class"
"""Whether a class is in use is looked up: after a search, and before the class goes."""
PROPOSING = ("text", USE, "propose", "prompt", "left", "prior", "objects", "alike", DELETE_CLASS)
"""What ends with a proposal; until then there is nothing to accept, and it can be cancelled."""
MODELS = ("propose", "prompt", "left", "objects", "alike", "warm", "embed")
"""What fails where a model, or the process that it is in, does; loading it anew may be the cure."""
MENDS = {"text": ("text", *MODELS), **dict.fromkeys(MODELS, MODELS)}
"""Whose failures are over when one of a kind succeeds; of any other kind its own are."""
QUIET = (
    "warm text", "journal", "ahead", "prefetch", "propose ahead", "present", "shelf",
)  # fmt: skip
"""What goes on behind the person's back and is not worth a word."""


def family(kind: str) -> str:
    """A kind without what it was about: "save" of "save:scans"."""
    return kind.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Status:
    """The status line: ``text``, whether something goes on, and whether something failed."""

    text: str
    busy: bool = False
    error: bool = False


class Progress:
    """Generation numbers and what is awaited under them."""

    def __init__(self) -> None:
        self._generation = 0
        self._awaited: dict[str, tuple[int, str]] = {}

    @property
    def generation(self) -> int:
        """The last generation that was given out."""
        return self._generation

    def begin(self, kind: str, text: str = "") -> int:
        """A new generation for a kind of work; an older one of that kind is no longer awaited."""
        self._generation += 1
        self._awaited[kind] = (self._generation, text)
        return self._generation

    def end(self, generation: int) -> str | None:
        """The kind that waited for this generation, now done; None for a stale answer."""
        for kind, (awaited, _) in self._awaited.items():
            if awaited == generation:
                del self._awaited[kind]
                return kind
        return None

    def drop(self, *kinds: str) -> bool:
        """Await these kinds no more; True where one was awaited."""
        dropped = [self._awaited.pop(kind, None) for kind in kinds]
        return any(item is not None for item in dropped)

    def drop_all(self, prefix: str) -> None:
        """Await no kind any more that begins so ("propose ahead:")."""
        for kind in [kind for kind in self._awaited if kind.startswith(prefix)]:
            del self._awaited[kind]

    def awaits(self, *kinds: str) -> bool:
        """True where one of these kinds is awaited."""
        return any(kind in self._awaited for kind in kinds)

    def text(self) -> str:
        """What goes on, or "" where nothing does that is worth a word."""

        def rank(kind: str) -> int:
            return ORDER.index(family(kind))

        loud = [kind for kind in self._awaited if family(kind) not in QUIET]
        return self._awaited[min(loud, key=rank)][1] if loud else ""
