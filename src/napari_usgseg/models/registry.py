"""Every model by name: what there is, what is on this machine, how to get it and how to load it."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError, ModelError, ModelNotFoundError
from .catalogue import CATALOGUE, EMBEDDED, OPENVINO, SAM1_HUB, EmbeddedModel, HubModel, Kind
from .lora_card import ADAPTER_CONFIG, base_of, is_adapter, read_adapter_card
from .verify import ModelInfo, describe, verify

if TYPE_CHECKING:
    from .base import Detector, Segmenter
    from .sam import SamSegmenter

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
    from .sam2_openvino import import_openvino, with_openvino

    import_openvino()
    return with_openvino(_load_segmenter(plain, "cpu"))


def _load_segmenter(name: str | Path, device: str) -> SamSegmenter:
    from .sam1 import SAM1, load_sam1
    from .transformers_folder import WEIGHTS_FILE

    model = _find(name, "segmenter")
    if isinstance(model, HubModel):
        if model.name in SAM1_HUB:
            return load_sam1(model.name, device)
        from .sam2 import load_sam2

        return load_sam2(model.name, device)
    path = model.path if model else Path(name).absolute()  # a folder may have a name of the hub
    if path.is_dir():
        return load_sam1(path, device)
    if path.name == WEIGHTS_FILE and SAM1.has(path.parent):
        return load_sam1(path.parent, device)
    if path.suffix == ".safetensors":
        from .checkpoints import load_nano_segmenter

        return load_nano_segmenter(path, device)
    from .sam2 import load_sam2_checkpoint

    return load_sam2_checkpoint(path, device)


def load_detector(
    name: str | Path = "nano", adapter: str | Path | None = None, device: str = "cpu"
) -> Detector:
    """A detector by name, or from a folder.

    Args:
        name: "nano", "nano-dino", "grounding-dino-tiny|base", a folder of either kind, or the
            folder of a LoRA adapter, which brings the detector that it was trained on.
        adapter: folder of a LoRA adapter. It answers what it was taught; every other phrase is
            answered as without it (``models.lora_routing``).
        device: "cpu", "cuda", "cuda:1", ..., or "auto" for a GPU where there is one; the phrase
            grounder ("nano") always runs on the CPU.

    Raises:
        ModelNotFoundError: no such name, folder or adapter, or it cannot be downloaded.
        CheckpointError: the files are damaged or of another model.
        ModelError: the device is not there, or there are two adapters.
    """
    device = resolve_device(device)
    model = _find(name, "detector")
    from .grounding_dino import DINO
    from .phrase_grounder import CARD_FILE
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
            f"{folder}: no detector here; expected {CARD_FILE} (the phrase grounder), the "
            f"{CONFIG_FILE} of a Grounding DINO, or {ADAPTER_CONFIG} (a LoRA adapter)"
        )
    return _grounder(folder, adapter)


def _dino(name: str | Path, adapter: str | Path | None, device: str) -> Detector:
    from .grounding_dino import load_grounding_dino

    tuned = load_grounding_dino(name, adapter, device)
    card = read_adapter_card(Path(adapter)) if adapter is not None else None
    if card is None or not card.phrases:
        return tuned
    from .lora_routing import RoutedDetector, TaughtPhrases, share_tensors
    from .phrase_grounder import learned_phrases
    from .text import load_sentence_encoder

    base = load_grounding_dino(name, device=device)
    share_tensors(tuned.model, base.model)
    folder = embedded_grounder()  # "breast tumor" is near "thyroid nodule", and another thing
    encoder, known = load_sentence_encoder(folder), learned_phrases(folder)
    taught = TaughtPhrases(card.phrases, encoder, known, card.box_thresholds)
    return RoutedDetector(base, tuned, taught, taught.least_score)


def _grounder(folder: Path, adapter: str | Path | None) -> Detector:
    from .phrase_grounder import load_phrase_grounder

    tuned = load_phrase_grounder(folder, adapter)
    card = read_adapter_card(Path(adapter)) if adapter is not None else None
    if card is None or not card.phrases:
        return tuned
    from .lora_routing import RoutedDetector, TaughtPhrases, share_tensors

    base = load_phrase_grounder(folder)
    share_tensors(tuned.net, base.net)
    taught = TaughtPhrases(card.phrases, base.encoder, base.known.learned, card.box_thresholds)
    base.known = replace(base.known, names=tuned.known.names, words=tuned.known.words)
    return RoutedDetector(base, tuned, taught, taught.least_score)


def embedded_grounder() -> Path:
    """The folder of the embedded phrase grounder, and of its sentence encoder."""
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
