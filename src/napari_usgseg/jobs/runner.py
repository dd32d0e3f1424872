"""Jobs: the one door of a session for work off its thread, with lanes, supersession and cancel.

``Jobs.submit`` makes a ``Job`` and hands it to whoever runs it: a window's workers, or a test on
the same thread. The runner calls ``Job.receive`` on the session's thread with what came of it; a
job that was superseded or cancelled meanwhile is dropped there, so no callback compares anything.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..core.errors import Cancelled, UsgsegError

Callback = Callable[[Any], None]


class Lane(StrEnum):
    """Lane of a job; the lanes run side by side, each does its jobs one by one.

    The first four are in the inference process: for what a click waits for, for searches, for
    images around the current one, and for loops. The last two stand still while one of the first
    two works.
    """

    CLICKS = "clicks"
    PHRASES = "phrases"
    PREFETCH = "prefetch"
    LOOPS = "loops"
    FILES = "files"
    TRAINING = "training"


IN_THE_BACKGROUND = (Lane.PREFETCH, Lane.LOOPS)
"""The lanes that give way to the person."""


class Scope(StrEnum):
    """Scope of a job: what it belongs to, and is dropped with."""

    PROPOSAL = "proposal"
    """It ends with a proposal; until then there is nothing to accept, and it can be cancelled."""
    IMAGE = "image"
    PREFETCH = "prefetch"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a job: the function's result, or what went wrong with its cure."""

    result: Any = None
    error: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """Message of a job on its way, from one process to another."""

    word: Any


def outcome_of(work: Callable[[], Any], remedy: str, memory: str, disk: str = "") -> Outcome:
    """Do work; whatever goes wrong becomes a sentence that says so.

    Args:
        work: to do.
        remedy: for a fault of the program, such as "try another model".
        memory: the sentence for too little memory.
        disk: the remedy where the system refuses something; "" takes that for any other fault.
    """
    try:
        return Outcome(work())
    # Cancelled is a BaseException, so the last clause would let it through and end the lane's
    # thread.
    except (UsgsegError, Cancelled) as error:
        return Outcome(error=str(error))
    except MemoryError:
        return Outcome(error=memory)
    except Exception as error:
        if disk and isinstance(error, OSError):
            return Outcome(error=f"{error}; {disk}")
        traceback.print_exc(file=sys.stderr)
        text = f"{type(error).__name__}: {error} (details on the terminal; {remedy})"
        return Outcome(error=text)


@dataclass(eq=False, slots=True)
class Job:
    """A function at work in a lane, and what is done on the session's thread when it has ended.

    Attributes:
        number: in the order of submission.
        function: module-level, so that its name can go to another process. In the inference lanes
            its first argument, which ``args`` lack, are the loaded models. In ``Lane.TRAINING`` it
            is the name of a module, which runs in a process of its own.
        args: plain values and records.
        lane: where it runs.
        key: a newer job of the same key supersedes it; "" stands beside all others.
        scope: what it is dropped with, or None.
        text: for the status line while it goes on; "" where it is not worth a word.
        aside: the text is shown only where nobody waits for anything else.
        done: called with the result.
        failed: called with the error, one sentence with the cure.
        late: called with the result of a job that was dropped, for what must not be lost.
        told: called with each message on the way; trainings have some, and propagation.
    """

    number: int
    function: Callable[..., Any] | str
    args: tuple[Any, ...]
    lane: Lane
    key: str
    scope: Scope | None
    text: str
    aside: bool
    done: Callback | None
    failed: Callback | None
    late: Callback | None
    told: Callback | None
    _jobs: Jobs

    @property
    def is_awaited(self) -> bool:
        """True until it has ended or was dropped."""
        return self.number in self._jobs.awaited

    def cancel(self) -> None:
        """Drop it: its result is not taken, and where it still waits it is not begun."""
        self._jobs.drop(self)

    def stop(self) -> None:
        """Have it end early; its outcome is awaited as before."""
        self._jobs.ended(self)

    def receive(self, word: Any) -> None:
        """Take a runner's word on the session's thread: the ``Outcome``, or a message before it."""
        if not isinstance(word, Outcome):
            if self.told is not None and self.is_awaited:
                self.told(word)
        # Dropped meanwhile: its key was asked for again, its image left, or the person cancelled.
        elif self._jobs.awaited.pop(self.number, None) is None:
            if self.late is not None and not word.error:
                self.late(word.result)
        elif word.error:
            if self.failed is not None:
                self.failed(word.error)
        elif self.done is not None:
            self.done(word.result)
        self._jobs.after()


class Jobs:
    """Jobs that are awaited, in the order of submission.

    Args:
        run: hands a new job to the one who runs it.
        ended: tells that one that a job was dropped, or is to end early.
        after: called after each word of a runner was taken.

    Attributes:
        awaited: the jobs that have neither ended nor been dropped, by their numbers.
    """

    def __init__(
        self,
        run: Callable[[Job], None],
        ended: Callable[[Job], None],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self._run, self.ended, self.after = run, ended, after
        self._last = 0
        self.awaited: dict[int, Job] = {}

    def submit(
        self,
        function: Callable[..., Any] | str,
        *args: Any,
        lane: Lane,
        key: str = "",
        scope: Scope | None = None,
        text: str = "",
        aside: bool = False,
        done: Callback | None = None,
        failed: Callback | None = None,
        late: Callback | None = None,
        told: Callback | None = None,
    ) -> Job:
        """Have ``function(*args)`` done in a lane; the parameters are ``Job``'s attributes."""
        if key:
            self.cancel(key)
        self._last += 1
        callbacks = done, failed, late, told
        job = Job(self._last, function, args, lane, key, scope, text, aside, *callbacks, self)
        self.awaited[job.number] = job
        self._run(job)
        return job

    def drop(self, job: Job) -> None:
        """Await a job no more."""
        if self.awaited.pop(job.number, None) is not None:
            self.ended(job)

    def cancel(self, *names: str) -> bool:
        """Drop the jobs of some keys or scopes; True where there was one."""
        found = self._named(names)
        for job in found:
            self.drop(job)
        return bool(found)

    def retell(self, key: str, text: str) -> None:
        """Say another text of the jobs of a key from now on."""
        for job in self._named((key,)):
            job.text = text

    def awaits(self, *names: str) -> bool:
        """True where a job of one of these keys or scopes is awaited."""
        return bool(self._named(names))

    def text(self) -> str:
        """What goes on, or "" where nothing does that is worth a word."""
        lanes = [Lane.FILES, Lane.PHRASES, Lane.CLICKS, Lane.PREFETCH, Lane.LOOPS, Lane.TRAINING]
        loud = [job for job in self.awaited.values() if job.text]
        first = min(loud, key=lambda job: (job.aside, lanes.index(job.lane)), default=None)
        return "" if first is None else first.text

    def _named(self, names: tuple[str, ...]) -> list[Job]:
        return [
            job
            for job in self.awaited.values()
            if (job.key and job.key in names) or job.scope in names
        ]
