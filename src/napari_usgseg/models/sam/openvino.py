"""SAM 2.1's image encoder in OpenVINO: the same embeddings on the same CPU, in less time.

OpenVINO runs attention without writing its weights down and joins the small operations between two
matrix products (``docs/cpu-speed.md`` has the figures). Only the encoder is converted. Prompt
encoder and mask decoder stay torch's, and so whatever takes an embedding works unchanged.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.errors import CheckpointError, LabelWriteError, ModelError
from ...io.outputs import CACHE_VARIABLE, cache_folder
from ..checkpoints import (
    read_checksums,
    sha256_of,
    write_checksums,
)
from .sam import SamNet, SamSegmenter
from .sam2 import Sam2Net


class Conversions:
    """Converted networks by key; safe from several threads and several processes.

    Args:
        folder: where they are; None takes ``converted`` in the `cache_folder`.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = cache_folder() / "converted" if folder is None else Path(folder)

    def get(self, key: str) -> Path | None:
        """The folder of a conversion, its files checked; None where it is not kept or not whole."""
        place = self._place(key)
        return place if _is_whole(place) else None

    def put(self, key: str, write: Callable[[Path], None]) -> Path | None:
        """Have a conversion written, and keep it.

        Args:
            key: names the weights and the manner of conversion.
            write: puts the files into an empty folder.

        Returns:
            Its folder; None where the disk does not take it, which costs time and is warned of.
        """
        place = self._place(key)
        # In the same folder as the result, for a rename is atomic within one file system only.
        scratch = self.folder / f".{secrets.token_hex(8)}.tmp"
        try:
            scratch.mkdir(parents=True)
            write(scratch)
            write_checksums(scratch)
            return _move_in(scratch, place)
        except (OSError, LabelWriteError, RuntimeError) as error:  # OpenVINO's of a full disk
            warnings.warn(
                f"{place}: the converted model could not be kept ({error}); it will be converted "
                f"at each start. Free some space, or set {CACHE_VARIABLE} to another folder",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _place(self, key: str) -> Path:
        return self.folder / re.sub(r"[^A-Za-z0-9_.@+-]", "_", key)


def _is_whole(place: Path) -> bool:
    try:
        expected = read_checksums(place)
        return bool(expected) and all(sha256_of(place / n) == d for n, d in expected.items())
    except (OSError, CheckpointError):
        return False


def _move_in(scratch: Path, place: Path) -> Path:
    """Rename ``scratch`` to ``place``; what another process put there meanwhile stays if whole."""
    try:
        os.replace(scratch, place)
    except OSError:
        if not _is_whole(place):
            shutil.rmtree(place, ignore_errors=True)
            os.replace(scratch, place)
    return place


FORMAT = 1
"""Part of a conversion's key: to be raised when the conversion changes."""
GRAPH = "encoder.xml"
TOLERANCE = 1e-3
"""Largest relative error (Euclidean) of an embedding; with more it would be another model's."""
SETTINGS = {
    # The default is bfloat16 or float16 where the CPU has it: relative errors of some hundredths.
    "INFERENCE_PRECISION_HINT": "f32",
    "PERFORMANCE_HINT": "LATENCY",
    # Bound to cores, its threads would wait for whatever else runs there, a training or napari.
    "ENABLE_CPU_PINNING": False,
}


def import_openvino() -> Any:
    """The ``openvino`` module, without the reports that it would send to its makers.

    Raises:
        ModelError: it is not installed.
    """
    # openvino sends usage statistics when it is imported and at each conversion, without asking;
    # it does without where this module cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise ModelError(
            f"models that end in @openvino need OpenVINO, which cannot be imported ({error}): "
            "pip install 'napari-usgseg[openvino]', or choose the name without @openvino"
        ) from error
    return openvino


class OpenVinoEncoder(nn.Module):
    """Pixels to the image embedding and the [stride 4, stride 8] features, on the CPU.

    Several threads may call it at once.

    Args:
        graph: an ``openvino.Model``, or the path of a saved one.

    Raises:
        ModelError: OpenVINO is missing or refuses the graph.
    """

    def __init__(self, graph: Any) -> None:
        super().__init__()
        openvino = import_openvino()
        settings = {**SETTINGS, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        try:
            self._compiled = openvino.Core().compile_model(graph, "CPU", settings)
        except RuntimeError as error:
            cause = str(error).strip().splitlines()[-1]
            raise ModelError(
                f"OpenVINO {openvino.__version__} cannot run this model here ({cause}): choose the "
                "name without @openvino"
            ) from error
        self._idle: SimpleQueue[Any] = SimpleQueue()

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalised pixels (1, 3, S, S) to image embedding and features, float32."""
        try:
            # An inference request holds buffers and serves one thread at a time; they are kept for
            # reuse, and there are as many as threads ever called at once.
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        try:
            outputs = request.infer([np.ascontiguousarray(pixels.numpy())])
            # infer copies its outputs (share_outputs is off), so the next call does not write over
            # an embedding.
            image_embed, *high_res = (torch.from_numpy(array) for array in outputs.to_tuple())
        finally:
            self._idle.put(request)
        return image_embed, high_res


class OpenVinoNet(SamNet):
    """A `Sam2Net` whose image encoder is OpenVINO's, as `SamSegmenter` wants it.

    It takes ``net`` over: the encoder's weights in torch are let go.
    """

    def __init__(self, net: Sam2Net, encoder: OpenVinoEncoder) -> None:
        super().__init__()
        self.image_size = net.image_size
        self.prompt_encoder = net.prompt_encoder
        self.mask_decoder = net.mask_decoder
        self.encoder = encoder
        # Two encoders in memory would be the price of the faster one.
        net.sam.image_encoder = None

    def encode(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalised pixels (1, 3, S, S) to image embedding and [stride 4, stride 8] features."""
        # One call: it cannot stand still between two parts, as torch's encoder does for a click
        # (``jobs.loaded_models.pausing``).
        return self.encoder(pixels)


def with_openvino(segmenter: SamSegmenter, conversions: Conversions | None = None) -> SamSegmenter:
    """A segmenter of SAM 2.1 that encodes with OpenVINO; ``segmenter`` cannot be used afterwards.

    The conversion is done once for each weights file (`Conversions`), and checked against torch.
    ``model_id`` stays the same, for so do the embeddings (relative error below `TOLERANCE`).

    Args:
        segmenter: from `load_sam2_checkpoint`, on the CPU.
        conversions: where to keep them; None takes the person's cache folder.

    Raises:
        ModelError: it is no SAM 2.1; OpenVINO is missing, cannot convert it, or computes
            something else.
    """
    import_openvino()
    net = segmenter.net
    if not isinstance(net, Sam2Net):
        raise ModelError(f"{segmenter.model_id}: only SAM 2.1 can be had with @openvino")
    conversions = conversions or Conversions()
    key = f"{segmenter.model_id}-openvino-{FORMAT}"
    place = conversions.get(key)
    if place is None:
        graph = convert(net)
        encoder = OpenVinoEncoder(graph)
        _check(segmenter.model_id, net, encoder)
        conversions.put(key, lambda folder: _save(graph, folder))
    else:
        encoder = OpenVinoEncoder(place / GRAPH)
    return SamSegmenter(OpenVinoNet(net, encoder), segmenter.model_id)


def convert(net: Sam2Net) -> Any:
    """The image encoder as an ``openvino.Model`` in float32, for one image of the net's own size.

    Raises:
        ModelError: OpenVINO is missing or cannot convert it.
    """
    openvino = import_openvino()
    pixels = torch.zeros(1, 3, net.image_size, net.image_size)
    trunk = net.sam.image_encoder.trunk
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, on sizes that become constants: they may
            grid = trunk.patch_embed(pixels).shape[1:3]
            # Else it is resized at each start: a reference loop of OpenVINO's, many seconds long.
            position = trunk._get_pos_embed(grid).contiguous()
            trunk._get_pos_embed = lambda hw: position
            traced = torch.jit.trace(_Encode(net), pixels, check_trace=False)
            return openvino.convert_model(traced, input=[tuple(pixels.shape)])
    except Exception as error:  # whatever the converter stumbles over, the cure is the same
        cause = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"OpenVINO {openvino.__version__} cannot convert this model ({cause}): choose the name "
            "without @openvino"
        ) from error
    finally:
        trunk.__dict__.pop("_get_pos_embed", None)


class _Encode(nn.Module):
    """`Sam2Net.encode` as a forward pass with a flat tuple, which is what can be traced."""

    def __init__(self, net: Sam2Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        image_embed, high_res = self.net.encode(pixels)
        return image_embed, *high_res


def _save(graph: Any, folder: Path) -> None:
    import_openvino().save_model(graph, folder / GRAPH, compress_to_fp16=False)


def _check(model_id: str, net: Sam2Net, encoder: OpenVinoEncoder) -> None:
    """Compare both encoders on noise.

    Raises:
        ModelError: they differ.
    """
    pixels = torch.randn(
        1, 3, net.image_size, net.image_size, generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode():
        (embed, high_res), (found, found_high_res) = net.encode(pixels), encoder(pixels)
    error = max(
        relative_error(one, other)
        for one, other in zip((found, *found_high_res), (embed, *high_res), strict=True)
    )
    if not error <= TOLERANCE:  # also where it is not a number
        raise ModelError(
            f"{model_id}: OpenVINO computes other embeddings than torch on this machine (relative "
            f"error {error:.1e}, at most {TOLERANCE:.0e} expected): choose the name without "
            "@openvino"
        )


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Euclidean distance of two tensors over the length of the second."""
    return float((found - expected).norm() / expected.norm())
