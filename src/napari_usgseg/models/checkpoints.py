"""Files of models: where the embedded ones are, checksums, and readers that run no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import CheckpointError, ModelNotFoundError
from ..io.atomic import sha256_of, write_atomically
from ..io.names import hidden_or_appledouble

if TYPE_CHECKING:
    from torch import Tensor

CHECKSUMS_FILE = "SHA256SUMS.json"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
"""The two files of a model in transformers' format."""


def weights_folder() -> Path:
    """The folder of the embedded weights, inside the installed package."""
    return Path(__file__).resolve().parent.parent / "weights"


def read_checksums(folder: str | Path) -> dict[str, str]:
    """What `write_checksums` wrote: file (relative, with "/") -> SHA-256; {} where there is none.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = Path(folder) / CHECKSUMS_FILE
    try:
        sums = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(digest) for name, digest in sums.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: not a list of checksums ({error}); reinstall napari-usgseg"
        ) from error


def write_checksums(folder: str | Path) -> None:
    """Write ``SHA256SUMS.json`` with the SHA-256 of every other file in ``folder`` but hidden ones.

    Raises:
        LabelWriteError: it cannot be written.
    """
    folder = Path(folder)
    sums = {
        name: sha256_of(path)
        for name, path in files_below(folder, folder).items()
        if path.name != CHECKSUMS_FILE and path.suffix not in {".py", ".pyc"}
    }
    text = json.dumps(sums, indent=1) + "\n"
    write_atomically(folder / CHECKSUMS_FILE, text.encode(), overwrite=True)


def files_below(location: Path, root: Path) -> dict[str, Path]:
    """The file at ``location``, or those in that folder, by their names from ``root`` on."""
    inside = sorted(location.rglob("*")) if location.is_dir() else [location]
    paths = [path for path in inside if path.is_file() and not hidden_or_appledouble(path)]
    return {path.relative_to(root).as_posix(): path for path in paths}


def read_tensors(path: str | Path, *entries: str) -> dict[str, Tensor]:
    """The tensors of a PyTorch or safetensors file by name, on the CPU; no code in it is run.

    Args:
        path: the file; one that ends in ``.safetensors`` is read as such.
        entries: keys under one of which a PyTorch file may hold the tensors ("model", ...).

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: it is damaged, or holds anything but tensors there.
    """
    import torch
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # weights_only: checkpoints from the net are pickles, which run code otherwise.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip files and safetensors have a dozen of their own
        raise CheckpointError(
            f"{path}: not a readable file of tensors alone ({' '.join(str(error).split())[:200]}); "
            "download it again, or save its dictionary of tensors anew with torch.save"
        ) from error
    held = content if isinstance(content, dict) else {}
    state = next((held[entry] for entry in entries if entry in held), content)
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        where = " or ".join(map(repr, entries))
        raise CheckpointError(f"{path}: expected a dictionary with tensors under {where}")
    return state


def model_type_of(folder: str | Path) -> str | None:
    """Which model of transformers a folder's ``config.json`` is of; None where it says nothing."""
    try:
        card = json.loads((Path(folder) / CONFIG_FILE).read_text(encoding="utf-8"))
        return str(card["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def folder_id(folder: Path, name: str | None = None) -> str:
    """``model_id`` of a folder in transformers' format: a name, and a hash of its weights.

    Args:
        folder: with ``model.safetensors``.
        name: in the catalogue; else that of the folder.
    """
    return f"{name or folder.resolve().name}-{sha256_of(folder / WEIGHTS_FILE)[:8]}"


def read_pretrained(folder: Path, model_class: Any, *others: Any) -> tuple[Any, ...]:
    """A model in single precision from a folder in transformers' format, and what else it brings.

    Only safetensors are read, and every weight of the model must be there.

    Args:
        folder: as ``save_pretrained`` writes it.
        model_class: transformers' class of the model.
        others: further classes with ``from_pretrained`` (a processor).

    Raises:
        ModelNotFoundError: there is no such folder.
        CheckpointError: a file is missing, damaged or another model's.
    """
    import torch
    from safetensors import SafetensorError

    kind = model_class.config_class.model_type
    if not folder.is_dir():
        raise ModelNotFoundError(f"{folder}: no such folder")
    for file in (WEIGHTS_FILE, CONFIG_FILE):
        if not (folder / file).is_file():
            raise CheckpointError(
                f"{folder / file}: missing; expected a folder of a {kind} as save_pretrained of "
                "transformers writes it, with safetensors"
            )
    if model_type_of(folder) != kind:
        raise CheckpointError(f"{folder / CONFIG_FILE}: model_type is not {kind!r}")
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
            f"{folder}: cannot be read as a {kind} ({' '.join(str(error).split())[:300]}); "
            "download it again"
        ) from error
    # transformers makes up what a file lacks, and says so in a log at most.
    gone = sorted(info["missing_keys"]) + sorted(key for key, *_ in info["mismatched_keys"])
    if gone:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE}: {len(gone)} weights are missing or of another shape, "
            f"for instance {gone[0]}; the file and {CONFIG_FILE} do not belong together"
        )
    return model, *rest
