"""How the embedded detector's limits were chosen: on the validation side, on phrases of their own.

    python benchmarks/grounder_limits.py phrases
    python benchmarks/grounder_limits.py boxes DATASET... [--split benchmarks/splits.json]
        [--phantoms 40]

"phrases" prints, for limits on the similarity of a phrase to what was learned, which share of
synonyms is asked of the network and which share of foreign organs is refused. None of these phrases
is trained on, and none is in the lists that the tests use.
"boxes" prints, for thresholds on a box's score, Dice by data set on the validation side, how many
images without the target stay empty ("normal"; "beside": the part of an image with a lesion that
lies beside it), and how many answers to phrases for what is not there do.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from napari_usgseg.core.metrics import dice
from napari_usgseg.core.types import TextPrompt
from napari_usgseg.io.datasets import read_dataset, read_splits
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.learning.phrases import CONCEPTS, HELD_OUT_ABSENT, absent_phrases, concept_of
from napari_usgseg.models.grounding import nano_detector
from napari_usgseg.models.registry import load_detector, load_segmenter
from napari_usgseg.phantoms.phantom import make_phantom
from napari_usgseg.segmentation.postprocess import PostprocessSettings
from napari_usgseg.segmentation.propose import propose_text

SYNONYMS = {
    "breast tumor": (
        "carcinoma of the breast",
        "breast fibroadenoma",
        "lesion within the breast",
        "tumor of breast tissue",
        "solid breast lesion",
        "breast malignancy",
        "abnormal mass in breast",
        "invasive ductal carcinoma of the breast",
    ),
    "thyroid nodule": (
        "thyroid carcinoma",
        "thyroid adenoma",
        "papillary thyroid cancer",
        "solid nodule of the thyroid gland",
        "thyroid gland abnormality",
        "suspicious thyroid nodule",
        "cold nodule in the thyroid",
    ),
    "fetal head": (
        "fetal calvarium",
        "fetal skull outline",
        "head of the embryo",
        "fetal head contour",
        "skull bone of the fetus",
        "prenatal skull",
        "cross section of the fetal head",
    ),
    "aponeurosis": (
        "deep fascia",
        "superficial fascia",
        "fascial layer of the muscle",
        "muscle sheath",
        "lower aponeurosis",
        "upper aponeurosis",
    ),
    "nerve": (
        "nerve fiber",
        "nerve tissue",
        "axillary nerve",
        "common peroneal nerve",
        "saphenous nerve",
        "nerve root",
    ),
    "blood vessel": (
        "radial artery",
        "jugular vein",
        "popliteal vein",
        "lumen of the vein",
        "cross section of an artery",
        "cephalic vein",
    ),
    "cyst": ("fluid filled lesion", "cystic mass", "sac filled with liquid", "small cysts"),
    "left ventricle": (
        "ventricle of the left heart",
        "lumen of the left ventricle",
        "left ventricular blood pool",
        "left heart chamber",
    ),
    "left ventricle myocardium": (
        "myocardial wall",
        "left ventricle wall",
        "lv myocardium",
        "myocardial tissue",
    ),
    "left atrium": (
        "atrium of the left heart",
        "left atrial blood pool",
        "left atrium of the heart",
        "lumen of the left atrium",
    ),
}
"""What a person may call a target; nothing of it is trained on or used by the tests."""

FOREIGN = (
    *("hippocampus", "larynx", "tonsil", "pituitary gland", "seminal vesicle", "epididymis"),
    *("bile duct", "duodenum", "colon", "peritoneum", "patella", "clavicle", "scapula"),
    *("intervertebral disc", "patellar tendon", "quadriceps tendon", "cornea", "lacrimal gland"),
    *("tongue", "amniotic fluid", "fetal spine", "fetal kidney", "fetal foot", "gestational sac"),
    *("yolk sac", "hepatocellular carcinoma", "renal cell carcinoma", "ovarian follicle"),
    *("prostate cancer", "lung consolidation", "pleural effusion", "ascites", "aortic valve"),
    *("tricuspid valve", "pericardium", "wrist", "elbow", "hernia", "abscess", "hair"),
    *("bicycle", "elephant", "cloud", "mountain", "computer", "chair", "pacemaker", "screw"),
)
"""What no training image shows; nothing of it is trained on or used by the tests."""

THRESHOLDS = (0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85)
BESIDE_MARGIN, BESIDE_WIDTH = 15, 0.35
"""Pixels kept from a target, and the least part of an image's width."""
OTHERS = ("fetal head", "breast tumor", "aponeurosis", "left ventricle")
"""Asked of every image whose own targets are of another family."""


def check_that_phrases_are_fresh() -> None:
    """Stop where a phrase is trained on or is one of the tests'."""
    ours = {p for phrases in SYNONYMS.values() for p in phrases} | set(FOREIGN)
    used = {p for c in CONCEPTS for p in (c.name, *c.phrases, *c.held_out)}
    both = ours & (used | set(HELD_OUT_ABSENT) | set(absent_phrases()))
    if both:
        raise SystemExit(f"not fresh: {', '.join(sorted(both))}")


@torch.inference_mode()
def choose_phrase_limits() -> None:
    """Print shares for a grid of the two limits, and the best pair."""
    detector = load_detector("nano")
    known = detector.known
    synonyms = detector.encoder([p for phrases in SYNONYMS.values() for p in phrases])
    foreign = detector.encoder(list(FOREIGN))

    def distances(vectors: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        near = (vectors @ known.learned.T).amax(1)
        return near.numpy(), ((vectors @ known.absent.T).amax(1) - near).numpy()

    own_near, own_wrong = distances(synonyms)
    far_near, far_wrong = distances(foreign)
    print(f"{len(synonyms)} synonyms, {len(foreign)} foreign phrases")
    print(f"{'similarity':>10} {'margin':>7} {'asked':>6} {'refused':>8} {'mean':>6}")
    for least in np.arange(0.30, 0.66, 0.05):
        for margin in (-0.05, 0.0, 0.05, 0.10, 0.15, 0.20, 1.0):
            asked = np.mean((own_near >= least) & (own_wrong <= margin))
            refused = np.mean((far_near < least) | (far_wrong > margin))
            mean = (asked + refused) / 2
            print(f"{least:10.2f} {margin:7.2f} {asked:6.3f} {refused:8.3f} {mean:6.3f}")
    print(
        f"in use: similarity {nano_detector.LEAST_SIMILARITY}, "
        f"margin {nano_detector.ABSENT_MARGIN}, box score {nano_detector.BOX_THRESHOLD}"
    )


def beside_the_target(image: np.ndarray, truth: np.ndarray) -> np.ndarray | None:
    """The wider part of an image left or right of all targets; None where both are narrow."""
    columns = np.flatnonzero(truth.any(axis=0))
    width = image.shape[1]
    if not len(columns):
        return None
    left, right = columns[0] - BESIDE_MARGIN, width - columns[-1] - BESIDE_MARGIN
    if max(left, right) < BESIDE_WIDTH * width:
        return None
    return image[:, :left] if left > right else image[:, width - right :]


def choose_box_threshold(folders: list[Path], split: Path, phantoms: int) -> None:
    """Print Dice and emptiness for every threshold, on the validation side and on phantoms."""
    segmenter, detector = load_segmenter("nano"), load_detector("nano")
    splits = read_splits(split)
    scores: dict[str, list[list[float]]] = {}

    def ask(image: np.ndarray, phrase: str, truth: np.ndarray, name: str) -> None:
        found = propose_text(
            segmenter, detector, image, TextPrompt(phrase, 0.0), PostprocessSettings()
        )
        row = []
        for threshold in THRESHOLDS:
            answer = np.zeros(truth.shape, bool)
            for item in found.items:
                if item.score >= threshold:
                    answer |= item.mask
            row.append(dice(truth, answer) if truth.any() else float(not answer.any()))
        scores.setdefault(name, []).append(row)

    def ask_for_others(image: np.ndarray, families: set[str], name: str) -> None:
        for phrase in OTHERS:
            if concept_of(phrase).family not in families:
                ask(image, phrase, np.zeros(image.shape[:2], bool), name)

    for folder in folders:
        dataset = read_dataset(folder)
        if dataset.name not in splits or not splits[dataset.name].val:
            continue
        families = {concept_of(dataset.phrase(label)).family for label in dataset.labels}
        for item in dataset.only(splits[dataset.name].val).items:
            image, labels = read_image(item.image_path), read_labels(item.mask_path)
            for label in dataset.labels:
                truth = labels == label
                name = dataset.name if truth.any() else "normal"
                ask(image, dataset.phrase(label), truth, name)
            beside = beside_the_target(image, labels > 0)
            if families == {"lesion"} and beside is not None:
                empty = np.zeros(beside.shape[:2], bool)
                ask(beside, dataset.target, empty, "beside")
            ask_for_others(image, families, "absent")
    for seed in range(7000, 7000 + phantoms):
        phantom = make_phantom(seed)
        ask(phantom.image, phantom.phrase, phantom.labels == 1, "phantoms")
        families = {concept_of(name).family for name in phantom.names.values()}
        ask_for_others(phantom.image, families, "absent, phantoms")
    print(f"{'score':>6} " + " ".join(f"{name:>16}" for name in scores))
    print(f"{'n':>6} " + " ".join(f"{len(rows):16d}" for rows in scores.values()))
    for index, threshold in enumerate(THRESHOLDS):
        means = [np.mean([row[index] for row in rows]) for rows in scores.values()]
        print(f"{threshold:6.2f} " + " ".join(f"{mean:16.3f}" for mean in means))


def main() -> None:
    """Print the tables that a limit is chosen from."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["phrases", "boxes"])
    parser.add_argument("datasets", nargs="*", type=Path)
    parser.add_argument("--split", type=Path, default=Path("benchmarks/splits.json"))
    parser.add_argument("--phantoms", type=int, default=40)
    arguments = parser.parse_args()
    check_that_phrases_are_fresh()
    if arguments.what == "phrases":
        choose_phrase_limits()
    else:
        choose_box_threshold(arguments.datasets, arguments.split, arguments.phantoms)


if __name__ == "__main__":
    main()
