"""One LoRA step on a random-weight Grounding DINO of the real tiny shape: seconds and memory.

    python benchmarks/lora_step.py [--side 800] [--preset paper] [--batch 1] [--steps 2] [--json F]

The model is transformers' own at its default (tiny) configuration, 172 million parameters, with
random weights: nothing is downloaded. The step is that of ``usgseg train lora``: the loss of every
stage on a phantom and its phrases, backward, AdamW.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import torch

from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.learning.lora.data import Questioner, choose_images
from napari_usgseg.learning.lora.tasks import DinoTask
from napari_usgseg.learning.lora.train import AdapterTask
from napari_usgseg.learning.trainer import TrainerSettings, train
from napari_usgseg.models.lora.adapter import DINO_PRESETS, add_adapter
from napari_usgseg.models.registry import load_detector
from napari_usgseg.phantoms.phantom import write_phantom_dataset


def main() -> None:
    """Run the steps and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=800)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

    torch.manual_seed(0)
    model = GroundingDinoForObjectDetection(GroundingDinoConfig()).eval()
    tokenizer = load_detector("nano-dino").tokenizer
    add_adapter(model, DINO_PRESETS[arguments.preset], 32, 32, "random")
    with tempfile.TemporaryDirectory() as folder:
        write_phantom_dataset(Path(folder) / "data", 4, seed=0)
        data = choose_images([read_dataset(Path(folder) / "data")], None, None, 0, arguments.side)
        task = AdapterTask(
            DinoTask(model, tokenizer, Questioner(data.training, arguments.side, arguments.batch))
        )
        started = time.perf_counter()
        seconds: list[float] = []
        train(
            task,
            TrainerSettings(arguments.steps, 1e-4, warmup=1),
            Path(folder),
            progress=lambda step, steps, figures: seconds.append(time.perf_counter() - started),
        )
    steps = [b - a for a, b in zip([0.0, *seconds], seconds, strict=False)]
    report = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "side": arguments.side,
        "batch": arguments.batch,
        "preset": arguments.preset,
        "threads": torch.get_num_threads(),
        "seconds_per_step": [round(value, 1) for value in steps],
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    print(json.dumps(report, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
