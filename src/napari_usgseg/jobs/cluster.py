"""Cluster: pure functions at work on the machines of a Dask scheduler, answers in order.

What is done may be done again: where a worker is lost its chunk goes to another one, and where the
scheduler is lost all that is under way is asked for again as soon as one is at the same address.
Nothing is written there; who asked writes.

Dask's processes send one another pickles, so that whoever reaches a scheduler or a worker can run
code there: it belongs in a network of trusted people, or behind TLS (Dask's own settings,
``distributed.comm.require-encryption``).
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import Any, Self, TypeVar

from ..core.errors import ClusterError, UsgsegError

A = TypeVar("A")
B = TypeVar("B")
RETRIES = 2
"""So often a chunk is tried again that failed for no fault of a worker."""
AHEAD = 4
"""Chunks under way for each thread of the workers, so that none waits."""
PATIENCE = 120.0
"""Seconds that a lost scheduler, or the last worker, is waited for."""
_LOOK_AGAIN = 5.0
"""Seconds between two looks at how many workers there are."""


class Cluster:
    """The workers of a scheduler; a context manager.

    Args:
        address: of the scheduler, such as "tcp://10.0.0.5:8786".
        patience: seconds that a scheduler or a worker is waited for.

    Raises:
        ClusterError: Dask distributed is not installed, or nothing answers at the address.
    """

    def __init__(self, address: str, patience: float = PATIENCE) -> None:
        self.address, self.patience = address, patience
        self._client = self._connected(min(patience, 10.0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def map(self, function: Callable[[A], B], chunks: Iterable[A]) -> Iterator[B | UsgsegError]:
        """As the builtin ``map``, on the workers; a few chunks ahead are taken and kept.

        Args:
            function: pure, a module's own or a record with a ``__call__``; what it raises ends all.
            chunks: small; a file is named and not sent.

        Yields:
            The answers in order; a ``ClusterError`` for a chunk that ended one worker after the
            other, which the others are not to suffer from.

        Raises:
            ClusterError: a worker cannot do this at all, or scheduler or workers stay away.
        """
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker

        ahead = iter(chunks)
        waiting: deque[tuple[A, Any]] = deque()
        try:
            while True:
                for chunk in itertools.islice(ahead, max(0, self._room() - len(waiting))):
                    waiting.append((chunk, self._submit(function, chunk)))
                if not waiting:
                    return
                # Always the oldest one: answers must come in order, and the others go on meanwhile.
                future = waiting[0][1]
                try:
                    # A short timeout, because a chunk whose last worker has gone waits for ever
                    # without an error; _room notices that.
                    found = future.result(timeout=_LOOK_AGAIN)
                except TimeoutError:
                    self._room()
                    continue
                except KilledWorker:
                    found = ClusterError(
                        "ended each worker that tried it (too little memory there?); try it alone"
                    )
                except (FutureCancelledError, OSError):
                    self._leave()
                    self._client = self._connected(self.patience)
                    # The scheduler's memory is gone with it. Chunks are pure, so asking for all of
                    # them again is safe; this is why the chunks are kept beside their futures.
                    waiting = deque((chunk, self._submit(function, chunk)) for chunk, _ in waiting)
                    continue
                except Exception as error:
                    raise ClusterError(
                        f"a worker of {self.address} cannot do this ({type(error).__name__}: "
                        f"{error}); {_SAME}"
                    ) from error
                waiting.popleft()
                future.release()
                yield found
        finally:
            with contextlib.suppress(Exception):
                self._client.cancel([future for _, future in waiting])

    def _submit(self, function: Callable[[A], B], chunk: A) -> Any:
        ours = version("napari-usgseg")
        # pure=False: Dask would otherwise answer equal arguments from an earlier call, although the
        # files that they name may have changed.
        return self._client.submit(_answer, ours, function, chunk, pure=False, retries=RETRIES)

    def _connected(self, patience: float) -> Any:
        try:
            from distributed import Client
        except ImportError as error:
            raise ClusterError(
                "--scheduler needs Dask distributed: pip install 'napari-usgseg[cluster]'"
            ) from error
        end = time.monotonic() + patience
        while True:
            try:
                self._looked, self._threads, self._seen = -_LOOK_AGAIN, 0, time.monotonic()
                # set_as_default=False leaves a Dask client that the person's own script made the
                # default one.
                return Client(self.address, timeout=min(patience, 5.0), set_as_default=False)
            except (OSError, ValueError, TimeoutError) as error:
                if isinstance(error, ValueError) or time.monotonic() > end:
                    raise ClusterError(
                        f"no scheduler answers at {self.address}; start one (dask scheduler) and "
                        "give the address that it prints; the same command goes on where this "
                        "one stopped"
                    ) from error
                time.sleep(0.5)

    def _leave(self) -> None:
        with contextlib.suppress(Exception):
            self._client.close(timeout=1)

    def _room(self) -> int:
        """How many chunks may be under way.

        Raises:
            ClusterError: there has been no worker for long.
        """
        now = time.monotonic()
        if now - self._looked > _LOOK_AGAIN or not self._threads:
            with contextlib.suppress(Exception):  # a lost scheduler is told of by its futures
                self._threads = sum(self._client.nthreads().values())
            self._looked = now
            if self._threads:
                self._seen = now
            elif now - self._seen > self.patience:
                raise ClusterError(
                    f"no worker at the scheduler {self.address}; start some (dask worker "
                    f"{self.address}); the same command goes on where this one stopped"
                )
        # With no worker yet a few chunks are asked for all the same: they wait at the scheduler.
        return AHEAD * max(self._threads, 1)


_SAME = "install the same napari-usgseg, with the same model files, on each machine"


def _answer(ours: str, function: Callable[[A], B], chunk: A) -> B:
    """What a worker does.

    Raises:
        ClusterError: it has another version of the program.
    """
    here = version("napari-usgseg")
    if here != ours:
        raise ClusterError(f"it has napari-usgseg {here} and not {ours}")
    return function(chunk)
