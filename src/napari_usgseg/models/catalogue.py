"""The names of all models and where their files come from; light to import."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

import platformdirs

from ..core.errors import ModelNotFoundError
from . import catalogue as hub
from . import checkpoints

CACHE_VARIABLE = "USGSEG_CACHE"


def cache_folder() -> Path:
    """The person's folder for what can be made anew: ``USGSEG_CACHE``, or the system's own."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    return platformdirs.user_cache_path("napari-usgseg", appauthor=False, opinion=False)


Kind = Literal["segmenter", "detector"]
Source = Literal["embedded", "hub", "path"]

OPENVINO = "@openvino"
"""End of a SAM 2.1's name, or of its file's, that asks for the encoder in OpenVINO."""

DINO_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json")
"""What a Grounding DINO needs beside its weights."""


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A model in the package; ``location`` is its file or folder under ``weights/``."""

    name: str
    kind: Kind
    location: str

    @property
    def path(self) -> Path:
        """The file or folder; it is there in every whole installation."""
        return checkpoints.weights_folder() / self.location


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the Hugging Face hub.

    Attributes:
        name: short name.
        kind: what it does.
        repo: "owner/name".
        weights: the file of its weights.
        megabytes: about what a download takes.
        others: further files without which it cannot be loaded.
        licence: of the weights, as the repository states it.
    """

    name: str
    kind: Kind
    repo: str
    weights: str
    megabytes: int
    others: tuple[str, ...] = ()
    licence: str = "Apache-2.0"

    @property
    def files(self) -> tuple[str, ...]:
        """All files that have to be there."""
        return (self.weights, *self.others)

    def cached(self) -> Path | None:
        """The cached weights file, where all of the model's files are cached."""
        folder = hub.cached_folder(self.repo, self.files)
        return None if folder is None else folder / self.weights

    def fetch(self) -> Path:
        """The weights file on this machine, downloaded with the others where one is missing.

        Raises:
            ModelNotFoundError: not all are cached, and they cannot be had.
        """
        if not self.others:
            return hub.fetch_file(self.name, self.repo, self.weights)
        patterns = (self.weights, "*.json", "vocab.txt")
        folder = hub.fetch_folder(self.name, self.repo, self.files, patterns)
        return folder / self.weights


EMBEDDED = (
    EmbeddedModel("nano", "segmenter", checkpoints.NANO_FILE),
    EmbeddedModel("nano", "detector", "nano-grounder"),
    EmbeddedModel("nano-dino", "detector", "nano-dino"),
)

SAM2_HUB = {
    f"sam2.1-hiera-{size}": HubModel(
        f"sam2.1-hiera-{size}",
        "segmenter",
        f"facebook/sam2.1-hiera-{size}",
        f"sam2.1_hiera_{size.replace('-', '_')}.pt",
        megabytes,
    )
    for size, megabytes in (("tiny", 156), ("small", 184), ("base-plus", 324), ("large", 898))
}

SAM2_OPENVINO = tuple(
    replace(model, name=f"{model.name}{OPENVINO}")
    for model in SAM2_HUB.values()
    if find_spec("openvino") is not None
)
"""The same files run otherwise; offered where that can be."""

SAM1_HUB = {
    f"sam-vit-{size}": HubModel(
        f"sam-vit-{size}",
        "segmenter",
        f"facebook/sam-vit-{size}",
        "model.safetensors",
        megabytes,
        ("config.json",),
    )
    for size, megabytes in (("base", 375), ("large", 1250), ("huge", 2564))
} | {
    "medsam-vit-base": HubModel(
        "medsam-vit-base",
        "segmenter",
        "wanglab/medsam-vit-base",
        "model.safetensors",
        375,
        ("config.json",),
    )
}
"""SAM's first version, and MedSAM (arXiv 2304.12306): one that was tuned on medical images."""

DINO_HUB = {
    f"grounding-dino-{size}": HubModel(
        f"grounding-dino-{size}",
        "detector",
        f"IDEA-Research/grounding-dino-{size}",
        "model.safetensors",
        megabytes,
        DINO_FILES,
    )
    for size, megabytes in (("tiny", 690), ("base", 940))
}

CATALOGUE: tuple[EmbeddedModel | HubModel, ...] = (
    *EMBEDDED,
    *SAM2_HUB.values(),
    *SAM2_OPENVINO,
    *SAM1_HUB.values(),
    *DINO_HUB.values(),
)


CONNECT_SECONDS = 5.0
"""How long to wait for the hub to answer at all."""


def cached_file(repo: str, filename: str) -> Path | None:
    """The newest cached copy of a repository's file, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, filename)
    return Path(found) if isinstance(found, str) else None


def cached_folder(repo: str, filenames: tuple[str, ...]) -> Path | None:
    """The cached snapshot that holds all of ``filenames``, or None."""
    paths = [cached_file(repo, filename) for filename in filenames]
    first = paths[0]
    return first.parent if first is not None and None not in paths else None


def fetch_file(name: str, repo: str, filename: str) -> Path:
    """A repository's file on this machine, downloaded where it is not cached.

    Args:
        name: the model's name in messages.
        repo: "owner/name" on the hub.
        filename: the file's path in the repository.

    Raises:
        ModelNotFoundError: it is not cached and cannot be had.
    """
    from huggingface_hub import hf_hub_download

    cached = cached_file(repo, filename)
    if cached is not None:
        return cached
    return _fetch(name, repo, hf_hub_download, filename=filename)


def fetch_folder(
    name: str, repo: str, filenames: tuple[str, ...], patterns: tuple[str, ...]
) -> Path:
    """A repository's snapshot on this machine; downloads ``patterns`` where a file is missing.

    Raises:
        ModelNotFoundError: ``filenames`` are not all cached and cannot be had.
    """
    from huggingface_hub import snapshot_download

    cached = cached_folder(repo, filenames)
    if cached is not None:
        return cached
    return _fetch(name, repo, snapshot_download, allow_patterns=list(patterns))


def recorded_sha256(path: Path) -> str | None:
    """The SHA-256 that the hub recorded of a large cached file, or None where it kept none.

    The cache names the blob of a large file by it, and links to it from the snapshot.
    """
    blob = path.resolve().name
    is_sha256 = len(blob) == 64 and all(digit in "0123456789abcdef" for digit in blob)
    return blob if is_sha256 else None


def _fetch(name: str, repo: str, download: Callable[..., Any], **what: Any) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    # The base error of the HTTP library, which differs between versions of huggingface_hub.
    http_error: Any = HfHubHTTPError.__bases__[0]
    try:
        _check_reachable(constants.ENDPOINT, offline=constants.HF_HUB_OFFLINE)
        return Path(download(repo, **what))
    except (OSError, http_error) as error:
        root = error.__cause__ or error  # huggingface_hub wraps a lost connection in advice
        cause = (str(root) or type(root).__name__).splitlines()[0].rstrip(".")
        raise ModelNotFoundError(
            f"{name} is not on this machine and could not be fetched from "
            f"{constants.ENDPOINT}/{repo}: {cause}. Run `usgseg models download {name}` on a "
            f"machine with network and copy its cache folder to {constants.HF_HUB_CACHE}, "
            "or pass the path of a checkpoint instead of the name"
        ) from error


def _check_reachable(endpoint: str, offline: bool) -> None:
    """Fail at once where there is no network; huggingface_hub itself retries for half a minute.

    Behind a proxy only the proxy knows, so that case is left to huggingface_hub.

    Raises:
        OSError: offline mode is on, or nothing answers at ``endpoint``.
    """
    if offline:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    url = urlsplit(endpoint)
    if url.hostname is None or url.scheme in getproxies() or "all" in getproxies():
        return
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise ConnectionError(f"no connection to {url.hostname} ({error})") from None
