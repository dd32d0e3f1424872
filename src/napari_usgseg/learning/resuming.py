"""What a training was asked for, in its folder, so that only the same one is gone on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError
from ..io.atomic import write_atomically

REQUEST_FILE = "training.json"
DONE = "done"
"""Added to a request when its training has ended; it makes no other request of it."""


def write_request(out: Path, request: Mapping[str, Any]) -> None:
    """Keep what is asked for, JSON values, in the training's folder."""
    write_atomically(out / REQUEST_FILE, json.dumps(request).encode(), overwrite=True)


def is_same(out: Path, request: Mapping[str, Any]) -> bool:
    """Whether ``out`` holds a training that was asked for so, ended or not; False for none.

    Raises:
        CheckpointError: it holds another one, or what it was cannot be read.
    """
    earlier = _read_request(out)
    if earlier is None:
        return False
    earlier.pop(DONE, None)
    wanted = json.loads(json.dumps(request))
    if earlier != wanted:
        keys = sorted(earlier.keys() | wanted.keys())
        changed = [key for key in keys if earlier.get(key) != wanted.get(key)]
        raise CheckpointError(
            f"{out} holds another training (it differs in {', '.join(changed)}); "
            "use another --out, or train without --resume"
        )
    return True


def is_done(out: Path) -> bool:
    """Whether the training in ``out`` ended by itself, where its request says so (`DONE`).

    Raises:
        CheckpointError: what it was cannot be read.
    """
    return bool((_read_request(out) or {}).get(DONE))


def _read_request(out: Path) -> dict[str, Any] | None:
    path = out / REQUEST_FILE
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); use another --out") from error
