"""What a tuning's folder is of, so that only the same tuning is gone on with there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..io.atomic import write_atomically
from ..models.lora_card import is_adapter

REQUEST = "training.json"
DONE = "done"


def write_request(out: Path, request: dict[str, Any]) -> None:
    """Write down what a tuning in ``out`` is of."""
    write_atomically(out / REQUEST, json.dumps(request).encode(), overwrite=True)


def _read_request(out: Path) -> dict[str, Any] | None:
    path = out / REQUEST
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); use another --out") from error


def is_same(out: Path, request: dict[str, Any]) -> bool:
    """True where ``out`` holds the same tuning, ended or not; False where it holds none.

    Raises:
        CheckpointError: it holds another one.
    """
    earlier = _read_request(out)
    if earlier is None:
        return False
    earlier.pop(DONE, None)
    if earlier != json.loads(json.dumps(request)):
        changed = sorted(key for key in request if earlier.get(key) != request[key])
        raise CheckpointError(
            f"{out} holds another training (it differs in {', '.join(changed)}); "
            "use another --out, or train without --resume"
        )
    return True


def is_done(out: Path) -> bool:
    """True where the same training was ended by itself; one that was killed has more to do."""
    earlier = _read_request(out)
    return earlier is not None and bool(earlier.get(DONE)) and is_adapter(out)
