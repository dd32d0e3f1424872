"""What is known of a model's files on this machine, and whether they are sound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError
from ..io.names import hidden_or_appledouble
from . import checkpoints, hub
from .catalogue import EmbeddedModel, HubModel, Kind, Source


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that can be asked for by name.

    Attributes:
        name: to pass to ``load_segmenter`` or ``load_detector``.
        kind: what it does.
        source: in the package, on the Hugging Face hub, or a file of the person's own.
        repo: repository on the hub, or None.
        present: True where its files are on this machine.
        size_bytes: of its files on this machine; where absent, about what a download takes.
        licence: of the weights.
        sha256: of the weights as recorded by the package or by the hub's cache, or None.
    """

    name: str
    kind: Kind
    source: Source
    repo: str | None
    present: bool
    size_bytes: int
    licence: str
    sha256: str | None


def describe(model: EmbeddedModel | HubModel) -> ModelInfo:
    """What is known of a model without reading its weights."""
    if isinstance(model, HubModel):
        path = model.cached()
        return ModelInfo(
            name=model.name,
            kind=model.kind,
            source="hub",
            repo=model.repo,
            present=path is not None,
            size_bytes=path.stat().st_size if path else model.megabytes * 10**6,
            licence=model.licence,
            sha256=hub.recorded_sha256(path) if path else None,
        )
    files = _files(model.path)
    return ModelInfo(
        name=model.name,
        kind=model.kind,
        source="embedded",
        repo=None,
        present=bool(files),
        size_bytes=sum(file.stat().st_size for file in files.values()),
        licence="see MODEL_CARD.md",
        sha256=_recorded(model),
    )


def verify(model: EmbeddedModel | HubModel) -> tuple[bool, str]:
    """Whether a model's files are what they should be, and what was found.

    Every file of an embedded model is compared with the package's list. Of a cached hub model
    the weights are, where the cache kept their checksum (it does for large files, on systems
    with symbolic links).
    """
    if isinstance(model, EmbeddedModel):
        return _verify_embedded(model)
    path = model.cached()
    if path is None:
        return False, f"not on this machine; usgseg models download {model.name}"
    recorded = hub.recorded_sha256(path)
    if recorded is None:
        return True, "in the cache, which kept no checksum of it"
    if checkpoints.sha256_of(path) != recorded:
        return False, f"{path} differs from its checksum; delete it and download again"
    return True, f"{model.weights} matches the hub's checksum"


def _verify_embedded(model: EmbeddedModel) -> tuple[bool, str]:
    cure = "reinstall napari-usgseg"
    try:
        expected = _expected(model)
    except CheckpointError as error:
        return False, str(error)
    here = _files(model.path)
    if not expected:
        return False, f"no checksum of it in {checkpoints.CHECKSUMS_FILE}; {cure}"
    for name, digest in expected.items():
        if name not in here:
            return False, f"{name} is missing; {cure}"
        if checkpoints.sha256_of(here[name]) != digest:
            return False, f"{name} differs from its checksum; {cure}"
    strangers = sorted(set(here) - set(expected))
    if strangers:
        return False, f"{strangers[0]} is not among the checksums; {cure}"
    return True, f"{len(expected)} of {len(expected)} files match their checksums"


def _files(location: Path) -> dict[str, Path]:
    """The files at an embedded model's location, by their name in the list of checksums."""
    inside = sorted(location.rglob("*")) if location.is_dir() else [location]
    paths = [path for path in inside if path.is_file() and not hidden_or_appledouble(path)]
    folder = checkpoints.weights_folder()
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _expected(model: EmbeddedModel) -> dict[str, str]:
    sums = checkpoints.read_checksums(checkpoints.weights_folder())
    folder = f"{model.location}/"
    return {
        name: digest
        for name, digest in sums.items()
        if name == model.location or name.startswith(folder)
    }


def _recorded(model: EmbeddedModel) -> str | None:
    """The checksum of an embedded model that has a single weights file."""
    try:
        expected = _expected(model)
    except CheckpointError:
        return None
    digests = [digest for name, digest in expected.items() if name.endswith(".safetensors")]
    return digests[0] if len(digests) == 1 else None
