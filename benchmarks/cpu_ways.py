"""Ways to run SAM 2.1's encoder and decoder on a CPU, for `cpu_speed.py`."""

from __future__ import annotations

import contextlib
import copy
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_usgseg.core.types import ImageEmbedding
from napari_usgseg.models.sam import openvino as sam2_openvino
from napari_usgseg.models.sam.sam2 import Sam2Net


class RuntimeEncoder(nn.Module):
    """Sam2Net's encoder as any function of an array (1, 3, S, S) to three arrays."""

    def __init__(self, net: Sam2Net, function: Callable[[np.ndarray], list[np.ndarray]]) -> None:
        super().__init__()
        self.image_size, self.function = net.image_size, function
        self.prompt_encoder, self.mask_decoder = net.prompt_encoder, net.mask_decoder

    def encode(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalised pixels to image embedding and features."""
        embed, *high_res = map(torch.from_numpy, self.function(pixels.numpy()))
        return embed, high_res


class ChannelsLast(Sam2Net):
    """Weights and pixels in channels-last order."""

    def __init__(self, net: Sam2Net) -> None:
        super().__init__(copy.deepcopy(net.sam))
        self.to(memory_format=torch.channels_last)

    def encode(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalised pixels to image embedding and features."""
        return super().encode(pixels.contiguous(memory_format=torch.channels_last))


class Compiled(Sam2Net):
    """The encoder through torch.compile."""

    def __init__(self, net: Sam2Net) -> None:
        super().__init__(copy.deepcopy(net.sam))
        self.compiled = torch.compile(super().encode)

    def encode(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalised pixels to image embedding and features."""
        return self.compiled(pixels)


class FlatEncoder(nn.Module):
    """Pixels to a flat tuple, for ONNX."""

    def __init__(self, net: Sam2Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Image embedding, then the features."""
        embed, high_res = self.net.encode(pixels)
        return embed, *high_res


class FlatDecoder(nn.Module):
    """MaskDecoder.predict_masks with flat arguments; ``position`` is the same for every click."""

    def __init__(self, net: Sam2Net) -> None:
        super().__init__()
        self.decoder = net.mask_decoder
        self.register_buffer("position", net.prompt_encoder.get_dense_pe())

    def forward(
        self, embed: Tensor, sparse: Tensor, dense: Tensor, fine: Tensor, middle: Tensor
    ) -> tuple[Tensor, ...]:
        """Masks, their predicted IoU, and what else the decoder gives."""
        return self.decoder.predict_masks(
            embed, self.position, sparse, dense, False, [fine, middle]
        )


def with_decoder(net: Sam2Net, function: Callable[..., list[np.ndarray]]) -> Sam2Net:
    """A copy of the net whose decoder's network is ``function`` of FlatDecoder's arguments."""
    changed = Sam2Net(copy.deepcopy(net.sam))

    def predict_masks(**given: Any) -> list[Tensor]:
        tensors = [
            given["image_embeddings"],
            given["sparse_prompt_embeddings"],
            given["dense_prompt_embeddings"].contiguous(),
            *given["high_res_features"],
        ]
        return [torch.from_numpy(a) for a in function(*(tensor.numpy() for tensor in tensors))]

    changed.mask_decoder.predict_masks = predict_masks
    return changed


def export_onnx(module: nn.Module, inputs: dict[str, Tensor], path: Path, **more: Any) -> Path:
    """Write a module as ONNX."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            dynamo=False,
            opset_version=18,
            **more,
        )
    return path


def onnxruntime_function(path: Path, threads: int) -> Callable[..., list[np.ndarray]]:
    """A function of a graph's inputs in order."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def openvino_function(
    graph: Any, threads: int, precision: str = "f32"
) -> Callable[..., list[np.ndarray]]:
    """A function of a graph's inputs in order."""
    openvino = sam2_openvino.import_openvino()
    settings = {**sam2_openvino.SETTINGS, "INFERENCE_PRECISION_HINT": precision}
    settings["INFERENCE_NUM_THREADS"] = threads
    request = openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()
    return lambda *arrays: list(request.infer(list(arrays)).to_tuple())


def encoders(net: Sam2Net, threads: int, folder: Path, compiled: bool) -> dict[str, Any]:
    """Every net with another encoder, by the way's name."""
    pixels = torch.randn(1, 3, net.image_size, net.image_size)
    nets: dict[str, Any] = {"ours, torch": net, "ours, torch channels-last": ChannelsLast(net)}
    if compiled:
        nets["ours, torch.compile"] = Compiled(net)
    if find_spec("onnxruntime") and find_spec("onnx"):
        path = export_onnx(FlatEncoder(net), {"pixels": pixels}, folder / "encoder.onnx")
        run = onnxruntime_function(path, threads)
        nets["ONNX Runtime, float32"] = RuntimeEncoder(net, run)
        from onnxruntime.quantization import quantize_dynamic

        # A convolution in dynamic int8 has no kernel for signed weights: only matrix products.
        quantize_dynamic(path, folder / "encoder8.onnx", op_types_to_quantize=["MatMul", "Gemm"])
        run = onnxruntime_function(folder / "encoder8.onnx", threads)
        nets["ONNX Runtime, dynamic int8"] = RuntimeEncoder(net, run)
    if find_spec("openvino"):
        nets |= openvino_encoders(net, threads, pixels)
    return nets


def openvino_encoders(net: Sam2Net, threads: int, pixels: Tensor) -> dict[str, Any]:
    """OpenVINO as the project uses it, and what it could do beyond."""
    openvino = sam2_openvino.import_openvino()
    graph = sam2_openvino.convert(net)
    nets = {
        "OpenVINO, float32 (@openvino)": RuntimeEncoder(net, openvino_function(graph, threads)),
    }
    if threads > 1:
        nets["OpenVINO, float32, 1 thread"] = RuntimeEncoder(net, openvino_function(graph, 1))
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        run = openvino_function(graph, threads, "bf16")
        nets["OpenVINO, bfloat16"] = RuntimeEncoder(net, run)
    if find_spec("nncf"):
        import nncf

        noise = nncf.Dataset([torch.randn_like(pixels).numpy() for _ in range(3)])
        with contextlib.redirect_stdout(sys.stderr):  # its progress bars
            small = nncf.quantize(
                graph, noise, subset_size=3, model_type=nncf.ModelType.TRANSFORMER
            )
        nets["OpenVINO, int8 (NNCF)"] = RuntimeEncoder(net, openvino_function(small, threads))
    return nets


def decoders(
    net: Sam2Net, embedding: ImageEmbedding, threads: int, folder: Path
) -> dict[str, Sam2Net]:
    """Every net with another decoder, by the way's name."""
    grid = embedding.features["image_embed"].shape[-2:]
    inputs = {
        "embed": embedding.features["image_embed"],
        "sparse": torch.randn(1, 2, 256),
        "dense": torch.randn(1, 256, *grid),
        "fine": embedding.features["high_res_0"],
        "middle": embedding.features["high_res_1"],
    }
    inputs = {name: tensor.clone() for name, tensor in inputs.items()}
    nets = {"ours, torch": net}
    flat = FlatDecoder(net)
    if find_spec("onnxruntime") and find_spec("onnx"):
        path = folder / "decoder.onnx"
        export_onnx(flat, inputs, path, dynamic_axes={"sparse": {1: "prompts"}})
        nets["ONNX Runtime, float32"] = with_decoder(net, onnxruntime_function(path, threads))
    if find_spec("openvino"):
        openvino = sam2_openvino.import_openvino()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(flat, tuple(inputs.values()), check_trace=False)
            shapes = [openvino.PartialShape(list(tensor.shape)) for tensor in inputs.values()]
            shapes[1] = openvino.PartialShape([1, -1, 256])
            graph = openvino.convert_model(traced, input=shapes)
        nets["OpenVINO, float32"] = with_decoder(net, openvino_function(graph, threads))
    return nets
