"""Long encodings that let others go first: they stop between two parts of a network."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_here = threading.local()
_installed = threading.Lock()
_hook: Any = None


@contextmanager
def pausing(wait: Callable[[], None]) -> Iterator[None]:
    """Call ``wait`` before every part (``torch.nn.Module``) that this thread runs in the block.

    ``wait`` returns at once or later, or raises to give the work up. Other threads are not touched.
    """
    _install()
    before = getattr(_here, "wait", None)
    _here.wait = wait
    try:
        yield
    finally:
        _here.wait = before


def _install() -> None:
    """One hook for the process; without a ``wait`` in its thread it does nothing."""
    global _hook
    if "torch" not in sys.modules:
        return  # then no network of torch's can be what is about to run
    from torch.nn.modules.module import register_module_forward_pre_hook

    with _installed:
        if _hook is None:
            _hook = register_module_forward_pre_hook(_before)


def _before(module: Any, inputs: Any) -> None:
    wait = getattr(_here, "wait", None)
    if wait is not None:
        wait()
