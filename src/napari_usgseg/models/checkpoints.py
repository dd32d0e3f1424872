"""The embedded models' files: where they are, how they are written, read and checked.

The segmenter is one safetensors file in half precision. Its header says which network it belongs
to ("arch") and at which size it was trained ("image_size"). Batch-norm statistics stay in single
precision: they are few, and half precision would lose the small ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import CheckpointError, ModelNotFoundError
from ..io.atomic import write_atomically
from ..io.names import hidden_or_appledouble

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .sam.sam import SamSegmenter

NANO_ARCH = "nano-sam-1"
NANO_FILE = "nano-segmenter.safetensors"
CHECKSUMS_FILE = "SHA256SUMS.json"


def weights_folder() -> Path:
    """The folder of the embedded weights, inside the installed package."""
    return Path(__file__).resolve().parent.parent / "weights"


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    paths = sorted(folder.rglob("*"))
    files = [path for path in paths if path.is_file() and not hidden_or_appledouble(path)]
    sums = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in files
        if path.name != CHECKSUMS_FILE and path.suffix not in {".py", ".pyc"}
    }
    text = json.dumps(sums, indent=1) + "\n"
    write_atomically(folder / CHECKSUMS_FILE, text.encode(), overwrite=True)


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


def save_nano_segmenter(net: nn.Module, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write a `NanoSam` in half precision, through a temporary file and an atomic rename.

    Args:
        net: the network, on any device.
        path: where to; an existing file is replaced.
        metadata: what to keep in the header beside "arch" and "image_size" (command, seed, ...).

    Raises:
        CheckpointError: a weight is not finite, or too large for half precision.
        LabelWriteError: the file cannot be written.
    """
    from safetensors.torch import save

    path = Path(path)
    tensors = {name: _to_half(name, tensor) for name, tensor in net.state_dict().items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name} is not finite in half precision; not written")
    header = {**metadata, "arch": NANO_ARCH, "image_size": str(net.image_size)}
    write_atomically(path, save(tensors, metadata=header), overwrite=True)


def load_nano_segmenter(path: str | Path, device: str = "cpu") -> SamSegmenter:
    """The nano segmenter from its file.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: the file is damaged, or belongs to another network.
    """
    from .sam.nano import NanoSam
    from .sam.sam import SamSegmenter

    file = Path(path)
    header, tensors = _read_safetensors(file)
    image_size = _image_size(header, file)
    net = NanoSam(image_size)
    try:
        net.load_state_dict(tensors, strict=True)  # copies into single precision
    except RuntimeError as error:
        raise CheckpointError(
            f"{file}: its tensors do not fit {NANO_ARCH}: {' '.join(str(error).split())[:300]}"
        ) from error
    return SamSegmenter(net, f"nano-{sha256_of(file)[:8]}", device)


def _read_safetensors(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise ModelNotFoundError(
            f"{file}: no such file; the embedded models come with the package: reinstall "
            "napari-usgseg, or give the path of a nano segmenter"
        )
    try:
        with safe_open(file, framework="pt") as handle:
            header = dict(handle.metadata() or {})
            return header, {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file}: not a whole safetensors file ({error}); download it or reinstall again"
        ) from error


def _image_size(header: Mapping[str, str], file: Path) -> int:
    arch, size = header.get("arch"), header.get("image_size", "")
    if arch != NANO_ARCH:
        raise CheckpointError(f"{file}: expected a {NANO_ARCH}, its header says {arch!r}")
    if not size.isdecimal() or int(size) == 0 or int(size) % 32:
        raise CheckpointError(f"{file}: image_size {size!r} is not a positive multiple of 32")
    return int(size)


def _to_half(name: str, tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().clone().contiguous()
    is_statistic = name.endswith((".running_mean", ".running_var"))
    return tensor.half() if tensor.is_floating_point() and not is_statistic else tensor
