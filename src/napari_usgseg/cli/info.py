"""``usgseg info``: the installation, as a report of a fault should describe it.

It names no folder and no file of the machine, so that it can be pasted where others read. It is
quick: versions are read from the packages' metadata, and nothing heavy is imported.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import __version__
from .common import JsonFile, print_table, report_writer

PACKAGES = (
    "torch", "torchvision", "transformers", "peft", "accelerate", "sam2", "timm", "numpy",
    "huggingface-hub", "napari", "qtpy", "PyQt6", "PySide6", "PyQt5", "openvino",
)  # fmt: skip


def info(json_file: JsonFile = None) -> None:
    """Say what is installed and found here; no path and no file name of this machine is in it."""
    write_report = report_writer(json_file)
    found = describe_installation()
    rows = [("napari-usgseg", found["napari_usgseg"]), ("Python", found["python"])]
    rows += [("platform", found["platform"]), *found["packages"].items()]
    rows += [("CPU", f"{found['cpu_cores']} cores")]
    rows += [("GPU", gpu) for gpu in found["gpus"] or ("none that NVIDIA's driver knows",)]
    rows += [
        (f"{model['kind']} {model['name']}", f"{model['source']}, {_megabytes(model['bytes'])}")
        for model in found["models"]
    ]
    rows += [
        (f"cache of {name}", f"{cache['files']} files, {_megabytes(cache['bytes'])}")
        for name, cache in found["caches"].items()
    ]
    print_table(rows)
    write_report(found)


def describe_installation() -> dict[str, Any]:
    """Versions, devices, models on this machine, and caches with their sizes in bytes."""
    import platform

    from huggingface_hub.constants import HF_HUB_CACHE

    from ..io.outputs import cache_folder
    from ..models.registry import list_models

    return {
        "schema": 1,
        "napari_usgseg": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES if _version(name)},
        "cpu_cores": os.cpu_count(),
        "gpus": _gpus(),
        "models": [
            {
                "name": model.name,
                "kind": model.kind,
                "source": model.source,
                "bytes": model.size_bytes,
            }
            for model in list_models()
            if model.present
        ],
        "caches": {
            "converted networks": _size(cache_folder()),
            "the Hugging Face hub": _size(Path(HF_HUB_CACHE)),
        },
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpus() -> list[str]:
    """Names and memory by NVIDIA's own tool: torch, which knows them too, takes seconds to load."""
    import shutil
    import subprocess

    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    asked = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # no driver is loaded
        return []
    return done.stdout.splitlines()


def _size(folder: Path) -> dict[str, int]:
    """How many files a folder holds, links not counted, and their bytes together."""
    sizes = []
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # another process has removed it meanwhile
                status = os.lstat(os.path.join(place, name))
                if not stat.S_ISLNK(status.st_mode):
                    sizes.append(status.st_size)
    return {"files": len(sizes), "bytes": sum(sizes)}


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
