"""Files from the Hugging Face hub: the cached copy first, a download otherwise.

``HF_HUB_OFFLINE``, ``HF_HOME`` and ``HF_ENDPOINT`` are huggingface_hub's own and are honoured.
A cached copy is used without asking the network.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from ..core.errors import ModelNotFoundError

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
