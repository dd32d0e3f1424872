"""Every model by name: what there is, what is on this machine, how to get it and how to load it.

A name stands for files in the package or on the Hugging Face hub; what they hold is read from the
files themselves, so a name and a person's own path are loaded in the same way. Light to import.
"""

from __future__ import annotations

import difflib
import shutil
import socket
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

from ..core.errors import CheckpointError, ModelError, ModelNotFoundError
from ..io.outputs import check_model_folder
from . import checkpoints
from .checkpoints import CHECKSUMS_FILE, CONFIG_FILE, WEIGHTS_FILE
from .lora.card import ADAPTER_CONFIG, base_of, is_adapter

if TYPE_CHECKING:
    from .grounding.grounding_dino import GroundingDino
    from .grounding.nano_detector import NanoDetector
    from .grounding.sam3 import Sam3Detector
    from .interfaces import Detector, Segmenter
    from .sam.sam import SamSegmenter

Kind = Literal["segmenter", "detector"]

OPENVINO = "@openvino"
"""End of a SAM 2.1's name, or of its file's, that asks for the encoder in OpenVINO."""

CONNECT_SECONDS = 5.0
"""How long to wait for the hub to answer at all."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that has a name.

    Attributes:
        name: to pass to `load_segmenter` or `load_detector`.
        kind: what it does.
        weights: the file of its weights in ``repo``; of an embedded model, its file or folder in
            the package's ``weights/``.
        repo: "owner/name" on the Hugging Face hub; "" for an embedded model.
        megabytes: about what a download takes.
        others: further files of ``repo`` without which it cannot be loaded.
        licence: of the weights.
    """

    name: str
    kind: Kind
    weights: str
    repo: str = ""
    megabytes: int = 0
    others: tuple[str, ...] = ()
    licence: str = "Apache-2.0"

    @property
    def source(self) -> Literal["embedded", "hub"]:
        """Where it comes from: the package, or the Hugging Face hub."""
        return "hub" if self.repo else "embedded"

    @property
    def path(self) -> Path | None:
        """The weights on this machine, or None where any of the model's files is missing."""
        if not self.repo:
            embedded = checkpoints.weights_folder() / self.weights
            return embedded if embedded.exists() else None
        from huggingface_hub import try_to_load_from_cache

        files = (self.weights, *self.others)
        found = [try_to_load_from_cache(self.repo, file) for file in files]
        return Path(str(found[0])) if all(isinstance(file, str) for file in found) else None

    @property
    def present(self) -> bool:
        """True where it is on this machine."""
        return self.path is not None

    @property
    def size_bytes(self) -> int:
        """Of its weights on this machine; where absent, about what a download takes."""
        path = self.path
        if path is None:
            return self.megabytes * 10**6
        return sum(file.stat().st_size for file in checkpoints.files_below(path, path).values())

    @property
    def sha256(self) -> str | None:
        """Of the weights as the package or the hub's cache recorded it, or None."""
        path = self.path
        if self.repo:
            # The cache names the blob of a large file by it, and links to it from the snapshot.
            blob = path.resolve().name if path else ""
            return blob if len(blob) == 64 and set(blob) <= set("0123456789abcdef") else None
        try:
            expected = self._expected()
        except CheckpointError:
            return None
        digests = [digest for name, digest in expected.items() if name.endswith(".safetensors")]
        return digests[0] if len(digests) == 1 else None

    def fetch(self) -> Path:
        """The weights on this machine, downloaded with the other files where one is missing.

        Raises:
            ModelNotFoundError: it is not here, and cannot be had.
        """
        path = self.path
        if path is not None:
            return path
        if not self.repo:
            raise ModelNotFoundError(
                f"{checkpoints.weights_folder() / self.weights}: missing; the embedded models come "
                "with the package: reinstall napari-usgseg"
            )
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError

        # The base error of the HTTP library, which differs between versions of huggingface_hub.
        http_error: Any = HfHubHTTPError.__bases__[0]
        patterns = [self.weights, *self.others]
        if self.others:
            patterns += ["*.json", "vocab.txt"]  # what else a processor may read
        try:
            _check_reachable(constants.ENDPOINT, offline=constants.HF_HUB_OFFLINE)
            folder = Path(snapshot_download(self.repo, allow_patterns=patterns))
            for file in (self.weights, *self.others):
                if not (folder / file).is_file():
                    raise FileNotFoundError(f"there is no {file}")
            return folder / self.weights
        except (OSError, http_error) as error:
            root = error.__cause__ or error  # huggingface_hub wraps a lost connection in advice
            cause = (str(root) or type(root).__name__).splitlines()[0].rstrip(".")
            raise ModelNotFoundError(
                f"{self.name} is not on this machine and could not be fetched from "
                f"{constants.ENDPOINT}/{self.repo}: {cause}. Run `usgseg models download "
                f"{self.name}` on a machine with network and copy its cache folder to "
                f"{constants.HF_HUB_CACHE}, or pass the path of a checkpoint instead of the name"
            ) from error

    def verify(self) -> tuple[bool, str]:
        """Whether its files are what they should be, and what was found.

        Every file of an embedded model is compared with the package's list. Of a model of the hub
        the weights are, where the cache kept their checksum (it does for large files, on systems
        with symbolic links).
        """
        if not self.repo:
            return self._verify_embedded()
        path, recorded = self.path, self.sha256
        if path is None:
            return False, f"not on this machine; usgseg models download {self.name}"
        if recorded is None:
            return True, "in the cache, which kept no checksum of it"
        if checkpoints.sha256_of(path) != recorded:
            return False, f"{path} differs from its checksum; delete it and download again"
        return True, f"{self.weights} matches the hub's checksum"

    def _verify_embedded(self) -> tuple[bool, str]:
        cure = "reinstall napari-usgseg"
        root = checkpoints.weights_folder()
        try:
            expected = self._expected()
        except CheckpointError as error:
            return False, str(error)
        if not expected:
            return False, f"no checksum of it in {CHECKSUMS_FILE}; {cure}"
        here = checkpoints.files_below(root / self.weights, root)
        for name, digest in expected.items():
            if name not in here:
                return False, f"{name} is missing; {cure}"
            if checkpoints.sha256_of(here[name]) != digest:
                return False, f"{name} differs from its checksum; {cure}"
        strangers = sorted(set(here) - set(expected))
        if strangers:
            return False, f"{strangers[0]} is not among the checksums; {cure}"
        return True, f"{len(expected)} of {len(expected)} files match their checksums"

    def _expected(self) -> dict[str, str]:
        """The recorded SHA-256 of each file of an embedded model."""
        sums = checkpoints.read_checksums(checkpoints.weights_folder())
        inside = f"{self.weights}/"
        return {n: d for n, d in sums.items() if n == self.weights or n.startswith(inside)}


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


_SAM2 = [
    Model(f"sam2.1-hiera-{size}", "segmenter", f"sam2.1_hiera_{size.replace('-', '_')}.pt",
          f"facebook/sam2.1-hiera-{size}", megabytes)
    for size, megabytes in (("tiny", 156), ("small", 184), ("base-plus", 324), ("large", 898))
]  # fmt: skip

# SAM's first version, and MedSAM (arXiv 2304.12306): one that was tuned on medical images.
_SAM1 = [
    Model(name, "segmenter", WEIGHTS_FILE, f"{owner}/{name}", megabytes, (CONFIG_FILE,))
    for owner, name, megabytes in (
        ("facebook", "sam-vit-base", 375),
        ("facebook", "sam-vit-large", 1250),
        ("facebook", "sam-vit-huge", 2564),
        ("wanglab", "medsam-vit-base", 375),
    )
]

# MedSAM2 (arXiv 2504.03600): SAM 2.1 tiny, tuned on medical images and loops at half the side.
_MEDSAM2 = Model(
    "medsam2", "segmenter", "MedSAM2_latest.pt", "wanglab/MedSAM2", 156,
    licence="see the repository: for research",
)  # fmt: skip

# EdgeTAM (arXiv 2501.07256): a light SAM 2, which remembers the frames of a loop too.
_EDGETAM = Model("edgetam", "segmenter", WEIGHTS_FILE, "yonigozlan/EdgeTAM-hf", 56, (CONFIG_FILE,))

# MobileSAM (arXiv 2306.14289): SAM's first version on a TinyViT.
_MOBILE_SAM = Model("mobile-sam", "segmenter", "mobile_sam.pt", "dhkim2810/MobileSAM", 41)

_DINO_FILES = (CONFIG_FILE, "preprocessor_config.json", "tokenizer.json")
_DINO = [
    Model(f"grounding-dino-{size}", "detector", WEIGHTS_FILE,
          f"IDEA-Research/grounding-dino-{size}", megabytes, _DINO_FILES)
    for size, megabytes in (("tiny", 690), ("base", 940))
]  # fmt: skip
_MM_DINO = Model(
    "mm-grounding-dino-tiny", "detector", WEIGHTS_FILE,
    "openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det", 690, _DINO_FILES,
)  # fmt: skip

# The same files run otherwise; offered where that can be.
_OPENVINO = [replace(model, name=f"{model.name}{OPENVINO}") for model in _SAM2]

SEGMENTERS = {
    model.name: model
    for model in (
        Model("nano", "segmenter", "nano-segmenter.safetensors", licence="see MODEL_CARD.md"),
        *_SAM2,
        *(_OPENVINO if find_spec("openvino") is not None else ()),
        _MEDSAM2,
        _EDGETAM,
        _MOBILE_SAM,
        *_SAM1,
    )
}
DETECTORS = {
    model.name: model
    for model in (
        Model("nano", "detector", "nano-grounder", licence="see MODEL_CARD.md"),
        Model("nano-dino", "detector", "nano-dino", licence="see MODEL_CARD.md"),
        *_DINO,
        _MM_DINO,
    )
}


PUBLISHED_ADAPTERS = {"hmrasa/grounding.dino.sam.4.us.v1": "grounding-dino-tiny"}
"""LoRA adapters on the Hugging Face hub (GroundingDINO-US-SAM), and the detector of each.

They are fetched by hand, and what their authors wrote is converted (``usgseg models import-lora``).
"""


def list_models() -> list[Model]:
    """All models with a name, embedded ones first."""
    return sorted((*SEGMENTERS.values(), *DETECTORS.values()), key=lambda model: bool(model.repo))


def download_model(name: str) -> tuple[Path, ...]:
    """Fetch a model of the hub into the cache; what is there already is left alone.

    Args:
        name: of `list_models`.

    Returns:
        Where the model's weights are; for an embedded name, a file or folder for each kind.

    Raises:
        ModelNotFoundError: no such name, or it cannot be downloaded.
    """
    paths = tuple(model.fetch() for model in list_models() if model.name == name)
    if not paths:
        raise _unknown(name, "model", {**SEGMENTERS, **DETECTORS})
    return paths


def verify_models() -> list[tuple[Model, bool, str]]:
    """Check the files of every embedded model, and of every hub model that is on this machine.

    Returns:
        (model, whether it is sound, what was found) for each.
    """
    return [
        (model, *model.verify())
        for model in list_models()
        if (not model.repo or model.present) and not model.name.endswith(OPENVINO)
    ]


def load_segmenter(name: str | Path = "nano", device: str = "cpu") -> Segmenter:
    """A segmenter by name, or from a checkpoint file.

    Args:
        name: "nano", "sam2.1-hiera-tiny|small|base-plus|large" (arXiv 2408.00714), a
            ``.safetensors`` file that ``usgseg train nano-segmenter`` wrote, an official SAM 2.1
            checkpoint (``.pt``), "sam-vit-base|large|huge" (SAM's first version, arXiv 2304.02643),
            "medsam-vit-base" (arXiv 2304.12306), "edgetam" (arXiv 2501.07256), "mobile-sam" (arXiv
            2306.14289) or its authors' file, or a folder with one of SAM's first version or EdgeTAM
            in transformers' format (or the ``model.safetensors`` in it).
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
    model = SEGMENTERS.get(str(name))
    path = model.fetch() if model else Path(name)
    if not path.exists():
        raise _unknown(str(name), "segmenter, file or folder", SEGMENTERS)
    # Of a model with a name the kind is known, so that a damaged config.json is said to be that.
    folder = path.parent if path.name == WEIGHTS_FILE else path
    kind = checkpoints.model_type_of(folder)
    if model is _EDGETAM or (model is None and kind == "edgetam_video"):
        from .sam.edgetam import load_edgetam

        return load_edgetam(folder, device, model.name if model else None)
    is_sam1 = path.name == WEIGHTS_FILE and (model is not None or kind == "sam")
    if is_sam1 or path.is_dir():
        from .sam.sam1 import load_sam1

        return load_sam1(path.parent if is_sam1 else path, device, model.name if model else None)
    if path.suffix == ".safetensors":
        from .sam.nano import load_nano_segmenter

        return load_nano_segmenter(path, device)
    from .sam.mobile_sam import is_mobile_sam_file, load_mobile_sam
    from .sam.sam2 import MEDSAM2_SIZE, SAM2_SIZE, load_sam2_checkpoint

    if model is _MOBILE_SAM or (model is None and is_mobile_sam_file(path)):
        return load_mobile_sam(path, device, model.name if model else None)
    medical = model is _MEDSAM2 or (model is None and path.name.startswith("MedSAM2"))
    return load_sam2_checkpoint(path, device, MEDSAM2_SIZE if medical else SAM2_SIZE)


def load_detector(
    name: str | Path = "nano", adapter: str | Path | None = None, device: str = "cpu"
) -> Detector:
    """A detector by name, or from a folder.

    Args:
        name: "nano", "nano-dino", "grounding-dino-tiny|base" (arXiv 2303.05499),
            "mm-grounding-dino-tiny" (arXiv 2401.02361), a folder of one of these kinds or of a
            SAM 3 (transformers' ``Sam3Model``; its weights are gated), or the folder of a LoRA
            adapter, which brings the detector that it was trained on.
        adapter: folder of a LoRA adapter. It answers what it was taught; every other phrase is
            answered as without it (``grounding.routing``).
        device: "cpu", "cuda", "cuda:1", ..., or "auto" for a GPU where there is one; the "nano"
            detector always runs on the CPU.

    Raises:
        ModelNotFoundError: no such name, folder or adapter, or it cannot be downloaded.
        CheckpointError: the files are damaged or of another model.
        ModelError: the device is not there, or there are two adapters.
    """
    device = resolve_device(device)
    if adapter is None and str(name) not in DETECTORS and is_adapter(name):
        name, adapter = base_of(name), name
    base = _load_detector(name, device)
    if adapter is None:
        return base
    from .grounding.routing import with_routed_adapter

    return with_routed_adapter(_tunable(base), Path(adapter), embedded_detector())


def _tunable(base: NanoDetector | GroundingDino | Sam3Detector) -> NanoDetector | GroundingDino:
    """The detector, where adapters can be put on it.

    Raises:
        ModelError: it is a SAM 3.
    """
    from .grounding.sam3 import Sam3Detector

    if isinstance(base, Sam3Detector):
        raise ModelError(f"{base.model_id} takes no LoRA adapter: tune a Grounding DINO or nano")
    return base


def _load_detector(name: str | Path, device: str) -> NanoDetector | GroundingDino | Sam3Detector:
    """A detector without an adapter."""
    model, folder = _detector_folder(name)
    if is_adapter(folder):
        raise ModelError(f"{name} is a LoRA adapter itself: give one, or merge it first")
    if model is not None:  # a damaged config.json is said to be that
        kind = "grounding-dino" if model.name != "nano" else ""
    else:
        kind = checkpoints.model_type_of(folder) or ""
    if kind == "sam3":
        from .grounding.sam3 import load_sam3

        return load_sam3(folder, device)
    if kind in ("grounding-dino", "mm-grounding-dino"):
        from .grounding.grounding_dino import load_grounding_dino

        return load_grounding_dino(folder, device, model.name if model else None)
    from .grounding.nano_detector import CARD_FILE, load_nano_detector

    if not (folder / CARD_FILE).is_file():
        raise CheckpointError(
            f"{folder}: no detector here; expected {CARD_FILE} (the nano detector), the "
            f"{CONFIG_FILE} of a Grounding DINO, an MM Grounding DINO or a SAM 3, or "
            f"{ADAPTER_CONFIG} (a LoRA adapter)"
        )
    return load_nano_detector(folder)


def _detector_folder(name: str | Path) -> tuple[Model | None, Path]:
    """The model that has the name, if one has, and the folder of its files."""
    model = DETECTORS.get(str(name))
    path = model.fetch() if model else Path(name)
    folder = path.parent if path.name == WEIGHTS_FILE else path
    if not folder.is_dir():
        raise _unknown(str(name), "detector or folder", DETECTORS)
    return model, folder


def embedded_detector() -> Path:
    """The folder of the embedded `nano` detector, and of its sentence encoder."""
    return checkpoints.weights_folder() / DETECTORS["nano"].weights


def merge_to_folder(adapter: Path, out: Path, base: str | None = None) -> Path:
    """Write the detector with ``adapter`` merged, in single precision, to ``out``.

    A merged detector answers every phrase with the tuned weights; what that costs the other phrases
    is measured in docs/lora-study.md.

    Args:
        adapter: folder of the adapter.
        out: a new folder, or an empty one.
        base: name or folder of its detector; None takes the one that it says.

    Raises:
        LabelWriteError: ``out`` holds something.
        ModelNotFoundError: the adapter or its detector is not there.
        CheckpointError: they do not belong together.
    """
    from .grounding.nano_detector import TEXT_FILES, NanoDetector, save_nano_detector

    check_model_folder(out)
    name = base or base_of(adapter)
    tuned = _tunable(_load_detector(name, "cpu")).with_adapter(adapter)
    if isinstance(tuned, NanoDetector):
        save_nano_detector(tuned, out, half=False)
        _, folder = _detector_folder(name)
        for file in TEXT_FILES:
            shutil.copyfile(folder / file, out / file)
    else:
        for part in (tuned.model, tuned.tokenizer, tuned.image_processor):
            part.save_pretrained(out)
    return out


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


def _unknown(name: str, what: str, models: dict[str, Model]) -> ModelNotFoundError:
    near = difflib.get_close_matches(name, models, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return ModelNotFoundError(f"no {what} {name!r}.{hint} Names: {', '.join(models)}")
