"""The peer: LiteMedSAM's Dice for box prompts on the very objects that ``usgseg evaluate`` scores.

    python benchmarks/litemedsam.py DATASET... [--split benchmarks/splits.json --side test]
        [--limit N] [--model nano]

Needs the extra ``train``. Both models answer the tight box of every object; masks are scored as the
models give them, by the same code.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from napari_usgseg.errors import PromptError
from napari_usgseg.io.datasets import read_dataset, read_splits
from napari_usgseg.models.registry import load_segmenter
from napari_usgseg.pipeline.evaluate import EvaluationRequest, evaluate_dataset
from napari_usgseg.pipeline.postprocess import PostprocessSettings
from napari_usgseg.training.teacher import TEACHER_SIZE, load_teacher
from napari_usgseg.types import ImageEmbedding, Prediction, Prompts


class LiteMedSam:
    """LiteMedSAM behind the project's own interface, with the authors' preprocessing.

    The longer side becomes 256 pixels, the rest is zero padding, intensities run from 0 to 1.
    """

    model_id = "litemedsam"

    def __init__(self) -> None:
        self.net = load_teacher()

    @torch.inference_mode()
    def embed(self, image: NDArray[np.uint8], image_id: str = "") -> ImageEmbedding:
        """Encode an image, (H, W, 3) RGB uint8."""
        height, width = image.shape[:2]
        scale = TEACHER_SIZE / max(height, width)
        size = round(height * scale), round(width * scale)
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
        pixels = F.interpolate(pixels, size, mode="area")
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) / (high - low).clamp(min=1e-8)
        pixels = F.pad(pixels, (0, TEACHER_SIZE - size[1], 0, TEACHER_SIZE - size[0]))
        features = {"image_embed": self.net.image_encoder(pixels), "size": size}
        return ImageEmbedding(image_id, self.model_id, (height, width), features)

    @torch.inference_mode()
    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask: bool | None = None
    ) -> Prediction:
        """The mask of a box, which is all that LiteMedSAM was trained for."""
        if prompts.box is None:
            raise PromptError("LiteMedSAM answers boxes only")
        scale = TEACHER_SIZE / max(embedding.size_hw)
        box = torch.from_numpy(np.asarray(prompts.box, np.float32) * scale)[None, None]
        sparse, dense = self.net.prompt_encoder(points=None, boxes=box, masks=None)
        low_res, iou = self.net.mask_decoder(
            image_embeddings=embedding.features["image_embed"],
            image_pe=self.net.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        height, width = embedding.features["size"]
        full = F.interpolate(low_res[..., :height, :width], embedding.size_hw, mode="bilinear")
        return Prediction(full[0].numpy() > 0, iou[0].numpy(), low_res[0].numpy())


def main() -> None:
    """Print a table: data set, objects' mean Dice of LiteMedSAM and of ours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--split", type=Path)
    parser.add_argument("--side", default="test")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", default="nano")
    arguments = parser.parse_args()
    splits = read_splits(arguments.split) if arguments.split else {}
    theirs, ours = LiteMedSam(), load_segmenter(arguments.model)
    raw = PostprocessSettings(enabled=False)
    request = EvaluationRequest(prompt="box", settings=raw, limit=arguments.limit)
    print(f"{'data set':20} {'images':>6} {'LiteMedSAM':>10} {arguments.model:>10}")
    for folder in arguments.datasets:
        dataset = read_dataset(folder)
        if dataset.name in splits:
            dataset = dataset.only(getattr(splits[dataset.name], arguments.side))
        rows = [evaluate_dataset(dataset, model, None, request).scores for model in (theirs, ours)]
        means = [float(np.mean([score.dice for score in row])) for row in rows]
        print(f"{dataset.name:20} {len(rows[0]):6d} {means[0]:10.4f} {means[1]:10.4f}", flush=True)


if __name__ == "__main__":
    main()
