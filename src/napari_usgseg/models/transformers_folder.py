"""Checkpoints as transformers' folders: safetensors only, and every weight of the model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError, ModelNotFoundError
from .catalogue import HubModel
from .checkpoints import sha256_of

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True, slots=True)
class TransformersKind:
    """One architecture of transformers, as a checkpoint's folder says it.

    Attributes:
        what: in a person's words, for errors.
        model_type: as in ``config.json``.
        published: the checkpoints that have a name.
    """

    what: str
    model_type: str
    published: dict[str, HubModel]

    def has(self, folder: str | Path) -> bool:
        """True where a folder's ``config.json`` is that of such a model."""
        try:
            card = json.loads((Path(folder) / CONFIG_FILE).read_text(encoding="utf-8"))
            return card["model_type"] == self.model_type
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def find(self, name_or_path: str | Path) -> tuple[Path, str]:
        """The checked folder of a model, fetched where it has a name, and its ``model_id``.

        Raises:
            ModelNotFoundError: no such folder; or it is not cached and there is no network.
            CheckpointError: a file is missing, or the folder is another model's.
        """
        published = self.published.get(str(name_or_path))
        folder = published.fetch().parent if published else Path(name_or_path)
        self._check(folder)
        name = published.name if published else folder.resolve().name
        return folder, f"{name}-{sha256_of(folder / WEIGHTS_FILE)[:8]}"

    def _check(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ModelNotFoundError(
                f"{folder}: no such model or folder; names are {', '.join(self.published)}"
            )
        for file in (WEIGHTS_FILE, CONFIG_FILE):
            if not (folder / file).is_file():
                raise CheckpointError(
                    f"{folder / file}: missing; expected a {self.what} folder as save_pretrained "
                    "of transformers writes it, with safetensors"
                )
        if not self.has(folder):
            raise CheckpointError(f"{folder / CONFIG_FILE}: model_type is not {self.model_type!r}")

    def read(self, folder: Path, model_class: Any, *others: Any) -> tuple[Any, ...]:
        """A model in single precision, and what else its folder brings (a processor).

        Args:
            folder: from `find`.
            model_class: transformers' class of the model.
            others: further classes with ``from_pretrained``.

        Raises:
            CheckpointError: a file is damaged, or not every weight is in it.
        """
        import torch
        from safetensors import SafetensorError

        try:
            model, info = model_class.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
            rest = [other.from_pretrained(folder, local_files_only=True) for other in others]
        except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
            raise CheckpointError(
                f"{folder}: cannot be read as a {self.what} "
                f"({' '.join(str(error).split())[:300]}); download it again"
            ) from error
        _check_whole(folder, info["missing_keys"], info["mismatched_keys"])
        return model, *rest


def _check_whole(folder: Path, missing: Iterable[str], mismatched: Iterable[Any]) -> None:
    gone = sorted(missing) + sorted(key for key, *_ in mismatched)
    if gone:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE}: {len(gone)} weights are missing or of another shape, "
            f"for instance {gone[0]}; the file and {CONFIG_FILE} do not belong together"
        )
