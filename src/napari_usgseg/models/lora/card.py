"""Card of a LoRA adapter, a small file beside PEFT's own two; light to import.

<folder>/adapter_config.json, adapter_model.safetensors   PEFT's
<folder>/usgseg.json   this card; an adapter from elsewhere has none, and works without
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import CheckpointError, ModelNotFoundError
from ...io.atomic import write_atomically

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
CARD_FILE = "usgseg.json"


@dataclass(frozen=True, slots=True)
class AdapterCard:
    """Card of an adapter: what it was trained for, on what and how.

    Attributes:
        base: the detector that it belongs to: a name, or the folder where it was.
        base_id: that detector's ``model_id``.
        targets: what was learned, as a person would type it.
        phrases: all phrasings of the targets that were learned.
        images: ids of the images that were learned from or chosen by.
        preset: which layers were tuned (``lora.adapter``).
        rank: of the matrices.
        source: names of the data sets or of the project.
        seed: of everything random.
        training: the settings.
        scores: "validation" and what else was measured.
        box_thresholds: target -> least score of a box, where it is not the detector's own.
    """

    base: str
    base_id: str
    targets: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    preset: str = ""
    rank: int = 0
    source: str = ""
    seed: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    box_thresholds: dict[str, float] = field(default_factory=dict)

    def least_score(self, own: float) -> float:
        """The least score that a box of any target needs; ``own`` is the detector's own."""
        return min((self.box_thresholds.get(target, own) for target in self.targets), default=own)


def write_adapter_card(folder: Path, card: AdapterCard) -> None:
    """Write ``usgseg.json``; an older one is replaced."""
    text = json.dumps({"schema": 1, **asdict(card)}, indent=1) + "\n"
    write_atomically(folder / CARD_FILE, text.encode(), overwrite=True)


def read_adapter_card(folder: Path) -> AdapterCard | None:
    """The card of an adapter, or None where it brings none.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / CARD_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content.pop("schema")
        for name in ("targets", "phrases", "images"):
            content[name] = tuple(str(value) for value in content[name])
        return AdapterCard(**content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not an adapter's card ({error}); train it again") from error


def is_adapter(folder: str | Path) -> bool:
    """True where a folder holds both of PEFT's files."""
    return all((Path(folder) / file).is_file() for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS))


def check_adapter(folder: Path) -> None:
    """Raise ModelNotFoundError where the folder or one of PEFT's two files is missing."""
    for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / file).is_file():
            raise ModelNotFoundError(
                f"{folder / file}: missing; a LoRA adapter is a folder with {ADAPTER_CONFIG} and "
                f"{ADAPTER_WEIGHTS}, as `usgseg train lora` writes it"
            )


def base_of(folder: str | Path) -> str:
    """The name or folder of the detector that an adapter belongs to.

    Raises:
        ModelNotFoundError: there is no adapter.
        CheckpointError: it does not say.
    """
    folder = Path(folder)
    check_adapter(folder)
    card = read_adapter_card(folder)
    if card is not None:
        return card.base
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        base = config["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / ADAPTER_CONFIG}: cannot be read ({error})") from error
    if not base:
        raise CheckpointError(
            f"{folder}: does not say which detector it belongs to; name the detector, and give "
            "this folder as its adapter"
        )
    return str(base)


def find_adapters(folders: Iterable[Path]) -> Iterator[Path]:
    """Every adapter in ``folders`` and below, in order."""
    for folder in folders:
        for config in sorted(folder.rglob(ADAPTER_CONFIG)):
            if is_adapter(config.parent):
                yield config.parent
