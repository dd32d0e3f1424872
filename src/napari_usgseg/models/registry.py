"""Every model by name: what there is, what is on this machine, how to get it and how to load it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import CheckpointError, ModelError, ModelNotFoundError
from ..io.names import hidden_or_appledouble
from . import catalogue as hub
from . import checkpoints
from .catalogue import (
    CATALOGUE,
    EMBEDDED,
    OPENVINO,
    SAM1_HUB,
    EmbeddedModel,
    HubModel,
    Kind,
    Source,
)
from .lora.card import ADAPTER_CONFIG, base_of, is_adapter, read_adapter_card

if TYPE_CHECKING:
    from .interfaces import Detector, Segmenter
    from .sam.sam import SamSegmenter


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


__all__ = [
    "ModelInfo",
    "download_model",
    "list_models",
    "load_detector",
    "load_segmenter",
    "resolve_device",
    "verify_models",
]


def list_models() -> list[ModelInfo]:
    """All models with a name, embedded ones first."""
    return [describe(model) for model in CATALOGUE]


def load_segmenter(name: str | Path = "nano", device: str = "cpu") -> Segmenter:
    """A segmenter by name, or from a checkpoint file.

    Args:
        name: "nano", "sam2.1-hiera-tiny|small|base-plus|large", a ``.safetensors`` file that
            ``usgseg train nano-segmenter`` wrote, an official SAM 2.1 checkpoint (``.pt``),
            "sam-vit-base|large|huge" (SAM's first version), "medsam-vit-base", or a folder with
            such a model in transformers' format (or the ``model.safetensors`` in it).
            "@openvino" after a SAM 2.1's name or file encodes with OpenVINO, faster on a CPU.
        device: "cpu", "cuda", "cuda:1", ..., or "auto" for a GPU where there is one; OpenVINO
            always runs on the CPU.

    Raises:
        ModelNotFoundError: no such name or file, or it cannot be downloaded.
        CheckpointError: the file is damaged or of another model.
        ModelError: the device is not there; OpenVINO is not installed, or is no help here.
    """
    plain = str(name).removesuffix(OPENVINO)
    if plain == str(name):
        return _load_segmenter(name, resolve_device(device))
    if device not in ("cpu", "auto"):
        raise ModelError(f"{name} runs on the CPU only: use device cpu, or {plain} on {device}")
    from .sam.openvino import import_openvino, with_openvino

    import_openvino()
    return with_openvino(_load_segmenter(plain, "cpu"))


def _load_segmenter(name: str | Path, device: str) -> SamSegmenter:
    from .sam.sam1 import SAM1, load_sam1
    from .transformers_folder import WEIGHTS_FILE

    model = _find(name, "segmenter")
    if isinstance(model, HubModel):
        if model.name in SAM1_HUB:
            return load_sam1(model.name, device)
        from .sam.sam2 import load_sam2

        return load_sam2(model.name, device)
    path = model.path if model else Path(name).absolute()  # a folder may have a name of the hub
    if path.is_dir():
        return load_sam1(path, device)
    if path.name == WEIGHTS_FILE and SAM1.has(path.parent):
        return load_sam1(path.parent, device)
    if path.suffix == ".safetensors":
        from .checkpoints import load_nano_segmenter

        return load_nano_segmenter(path, device)
    from .sam.sam2 import load_sam2_checkpoint

    return load_sam2_checkpoint(path, device)


def load_detector(
    name: str | Path = "nano", adapter: str | Path | None = None, device: str = "cpu"
) -> Detector:
    """A detector by name, or from a folder.

    Args:
        name: "nano", "nano-dino", "grounding-dino-tiny|base", a folder of either kind, or the
            folder of a LoRA adapter, which brings the detector that it was trained on.
        adapter: folder of a LoRA adapter. It answers what it was taught; every other phrase is
            answered as without it (``lora.routing``).
        device: "cpu", "cuda", "cuda:1", ..., or "auto" for a GPU where there is one; the
            "nano" detector always runs on the CPU.

    Raises:
        ModelNotFoundError: no such name, folder or adapter, or it cannot be downloaded.
        CheckpointError: the files are damaged or of another model.
        ModelError: the device is not there, or there are two adapters.
    """
    device = resolve_device(device)
    model = _find(name, "detector")
    from .grounding.grounding_dino import DINO
    from .grounding.nano_detector import CARD_FILE
    from .transformers_folder import CONFIG_FILE

    if isinstance(model, HubModel):
        return _dino(model.name, adapter, device)
    folder = model.path if model else Path(name).absolute()
    if is_adapter(folder):
        if adapter is not None:
            raise ModelError(f"{name} is a LoRA adapter itself: give one, or merge it first")
        return load_detector(base_of(folder), folder, device)
    if model and not folder.is_dir():
        raise _incomplete(model)
    if DINO.has(folder):
        return _dino(folder, adapter, device)
    if not (folder / CARD_FILE).is_file():
        raise CheckpointError(
            f"{folder}: no detector here; expected {CARD_FILE} (the nano detector), the "
            f"{CONFIG_FILE} of a Grounding DINO, or {ADAPTER_CONFIG} (a LoRA adapter)"
        )
    return _nano(folder, adapter)


def _dino(name: str | Path, adapter: str | Path | None, device: str) -> Detector:
    from .grounding.grounding_dino import load_grounding_dino

    tuned = load_grounding_dino(name, adapter, device)
    card = read_adapter_card(Path(adapter)) if adapter is not None else None
    if card is None or not card.phrases:
        return tuned
    from .grounding.nano_detector import learned_phrases, load_sentence_encoder
    from .lora.routing import RoutedDetector, TaughtPhrases, share_tensors

    base = load_grounding_dino(name, device=device)
    share_tensors(tuned.model, base.model)
    folder = embedded_detector()  # "breast tumor" is near "thyroid nodule", and another thing
    encoder, known = load_sentence_encoder(folder), learned_phrases(folder)
    taught = TaughtPhrases(card.phrases, encoder, known, card.box_thresholds)
    return RoutedDetector(base, tuned, taught, taught.least_score)


def _nano(folder: Path, adapter: str | Path | None) -> Detector:
    from .grounding.nano_detector import load_nano_detector

    tuned = load_nano_detector(folder, adapter)
    card = read_adapter_card(Path(adapter)) if adapter is not None else None
    if card is None or not card.phrases:
        return tuned
    from .lora.routing import RoutedDetector, TaughtPhrases, share_tensors

    base = load_nano_detector(folder)
    share_tensors(tuned.net, base.net)
    taught = TaughtPhrases(card.phrases, base.encoder, base.known.learned, card.box_thresholds)
    base.known = replace(base.known, names=tuned.known.names, words=tuned.known.words)
    return RoutedDetector(base, tuned, taught, taught.least_score)


def embedded_detector() -> Path:
    """The folder of the embedded `nano` detector, and of its sentence encoder."""
    return next(m.path for m in EMBEDDED if (m.name, m.kind) == ("nano", "detector"))


def download_model(name: str) -> tuple[Path, ...]:
    """Fetch a model of the hub into the cache; what is there already is left alone.

    Args:
        name: of `list_models`.

    Returns:
        Where the model's weights are; for an embedded name, a file or folder for each kind.

    Raises:
        ModelNotFoundError: no such name, or it cannot be downloaded.
    """
    paths = []
    for model in CATALOGUE:
        if model.name == name:
            if isinstance(model, EmbeddedModel) and not model.path.exists():
                raise _incomplete(model)
            paths.append(model.fetch() if isinstance(model, HubModel) else model.path)
    if not paths:
        raise _unknown(name, None)
    return tuple(paths)


def verify_models() -> list[tuple[ModelInfo, bool, str]]:
    """Check the files of every embedded model, and of every hub model that is on this machine.

    Returns:
        (model, whether it is sound, what was found) for each.
    """
    infos = [(model, describe(model)) for model in CATALOGUE]
    return [
        (info, *verify(model))
        for model, info in infos
        if (isinstance(model, EmbeddedModel) or info.present) and not info.name.endswith(OPENVINO)
    ]


def resolve_device(device: str) -> str:
    """Make "auto" "cuda" where there is one, else "cpu"; check and pass on anything else.

    Raises:
        ModelError: the device is malformed or not on this machine.
    """
    if device == "cpu":
        return device
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if count else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"no device {device!r}: use cpu, cuda, cuda:1 or auto") from error
    if wanted.type == "cuda" and (wanted.index or 0) >= count:
        raise ModelError(
            f"device {device} is not on this machine ({count} CUDA devices): use cpu or auto"
        )
    return device


def _find(name: str | Path, kind: Kind) -> EmbeddedModel | HubModel | None:
    """The catalogue's model, or None for a path that exists; a detector is always a folder."""
    for model in CATALOGUE:
        if model.kind == kind and model.name == str(name):
            return model
    path = Path(name)
    if path.is_dir() or (kind == "segmenter" and path.is_file()):
        return None
    raise _unknown(str(name), kind)


def _unknown(name: str, kind: Kind | None) -> ModelNotFoundError:
    names = list(dict.fromkeys(m.name for m in CATALOGUE if kind in (None, m.kind)))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    what = {
        None: "model",
        "segmenter": "segmenter, file or folder",
        "detector": "detector or folder",
    }
    return ModelNotFoundError(f"no {what[kind]} {name!r}.{hint} Names: {', '.join(names)}")


def _incomplete(model: EmbeddedModel) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"{model.path}: missing; the embedded models come with the package: reinstall napari-usgseg"
    )
