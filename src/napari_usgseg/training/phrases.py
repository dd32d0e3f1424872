"""What a sonographer may type: many phrasings of every target, and of what is not there.

A concept is what one label of a data set means. Its phrasings are made from small grammars; some
words and word orders are kept out of training (``HELD_OUT``) and serve as the test of whether the
text is understood rather than looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing that can be asked for.

    Attributes:
        name: the target phrase as data set cards give it.
        family: concepts of one family are never negatives of one another, because nobody can
            tell a lesion without its surroundings (thyroid nodule, breast tumor).
        organ: words for the organ alone; asked for where the organ's only target is this one.
        phrases: complete phrasings for training.
        held_out: complete phrasings for the test of understanding, never trained on.
    """

    name: str
    family: str
    organ: str
    phrases: tuple[str, ...]
    held_out: tuple[str, ...] = field(default=())


def _compose(nouns: Sequence[str], organs: Sequence[str]) -> tuple[str, ...]:
    """For every pair: "breast tumor", "tumors of the breast", "tumor in the breast" and so on."""
    made = []
    for noun, organ in product(nouns, organs):
        plural = (
            noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun[-1] in "sx" else "s")
        )
        made += [
            f"{organ} {noun}",
            f"{organ} {plural}",
            f"{noun} in the {organ}",
            f"{plural} of the {organ}",
            f"the {organ} {noun}",
            f"{noun} of the {organ}",
        ]
    return tuple(made)


_LESIONS = ("tumor", "lesion", "mass", "nodule")
GENERIC_LESIONS = ("tumor", "lesion", "mass", "nodule", "focal lesion", "lesions", "solid mass")

CONCEPTS = (
    Concept(
        "breast tumor",
        "lesion",
        "breast",
        (
            *_compose((*_LESIONS, "tumour"), ("breast",)),
            "breast cancer",
            "breast abnormality",
            "hypoechoic breast lesion",
            "a tumor in this breast",
            "suspicious breast mass",
            "breast cyst or tumor",
            *GENERIC_LESIONS,
        ),
        (
            "mammary tumor",
            "breast neoplasm",
            "neoplasm in the breast",
            "lump in the breast",
            "mass inside the breast",
            "breast growth",
            "mammary lesion",
        ),
    ),
    Concept(
        "thyroid nodule",
        "lesion",
        "thyroid",
        (
            *_compose((*_LESIONS, "tumour"), ("thyroid", "thyroid gland")),
            "hypoechoic thyroid nodule",
            "thyroid cancer",
            "thyroid abnormality",
            *GENERIC_LESIONS,
        ),
        (
            "nodule inside the thyroid",
            "thyroid neoplasm",
            "thyroid gland growth",
            "nodular lesion of thyroid",
            "thyroid lump",
        ),
    ),
    Concept(
        "fetal head",
        "fetal",
        "fetus",
        (
            "fetal head",
            "head of the fetus",
            "the fetal head",
            "fetal skull",
            "fetus head",
            "skull",
            "fetal heads",
            "baby head",
            "head of the baby",
            "head",
            "head circumference",
            "fetal head circumference",
            "skull of the fetus",
            "head of a fetus",
            "fetal cranium",
        ),
        (
            "foetal head",
            "cranium of the fetus",
            "head of the unborn baby",
            "baby's skull",
            "fetus skull",
            "the head of the foetus",
        ),
    ),
    Concept(
        "aponeurosis",
        "muscle",
        "muscle",
        (
            "aponeurosis",
            "aponeuroses",
            "muscle aponeurosis",
            "aponeurosis of the muscle",
            "superficial aponeurosis",
            "deep aponeurosis",
            "the aponeurosis",
            "muscle fascia",
            "superficial and deep aponeurosis",
            "aponeuroses of the muscle",
        ),
        ("muscular aponeurosis", "aponeuroses in the muscle", "fascia of the muscle"),
    ),
    Concept(
        "nerve",
        "nerve",
        "nerve",
        (
            "nerve",
            "nerves",
            "peripheral nerve",
            "peripheral nerves",
            "the nerve",
            "nerve bundle",
            "nerve fascicles",
            "median nerve",
            "ulnar nerve",
            "sciatic nerve",
            "femoral nerve",
            "brachial plexus",
            "a peripheral nerve",
            "nerve cross section",
        ),
        ("nerve trunk", "neural structure", "bundle of nerves", "radial nerve", "tibial nerve"),
    ),
    Concept(
        "blood vessel",
        "vessel",
        "vessel",
        (
            "blood vessel",
            "blood vessels",
            "vessel",
            "vessels",
            "artery",
            "vein",
            "arteries",
            "the blood vessel",
            "artery or vein",
            "arteries and veins",
            "veins",
            "femoral artery",
            "vascular structure",
        ),
        (
            "vasculature",
            "vascular lumen",
            "a vein or an artery",
            "arterial vessel",
            "brachial artery",
        ),
    ),
    Concept(
        "cyst",
        "cyst",
        "",
        ("cyst", "cysts", "simple cyst", "anechoic cyst", "the cyst", "fluid filled cyst"),
        ("cystic lesion", "cystic structure", "fluid collection"),
    ),
    Concept(
        "left ventricle",
        "lv",
        "heart",
        (
            "left ventricle",
            "left ventricle cavity",
            "left ventricular cavity",
            "lv cavity",
            "the left ventricle",
            "cavity of the left ventricle",
            "lv",
            "left ventricular chamber",
        ),
        ("chamber of the left ventricle", "left ventricular lumen"),
    ),
    Concept(
        "left ventricle myocardium",
        "myocardium",
        "heart",
        (
            "left ventricle myocardium",
            "myocardium",
            "left ventricular myocardium",
            "myocardium of the left ventricle",
            "left ventricular wall",
            "heart muscle",
            "heart wall",
        ),
        ("wall of the left ventricle", "cardiac muscle"),
    ),
    Concept(
        "left atrium",
        "atrium",
        "heart",
        ("left atrium", "the left atrium", "left atrial cavity", "atrium", "left atrium cavity"),
        ("cavity of the left atrium", "left atrial chamber"),
    ),
)

ALIASES = {"left ventricle cavity": "left ventricle", "vessel": "blood vessel"}
"""What data set cards call a concept beside its name."""

ABSENT_ORGANS = (
    "kidney",
    "liver",
    "gallbladder",
    "spleen",
    "pancreas",
    "urinary bladder",
    "prostate",
    "uterus",
    "ovary",
    "testis",
    "lymph node",
    "tendon",
    "achilles tendon",
    "bone",
    "rib",
    "lung",
    "pleural line",
    "aorta",
    "carotid artery",
    "appendix",
    "bowel",
    "stomach",
    "placenta",
    "fetal abdomen",
    "fetal femur",
    "fetal heart",
    "umbilical cord",
    "eye",
    "optic disc",
    "salivary gland",
    "knee cartilage",
    "meniscus",
    "rotator cuff",
    "renal medulla",
    "renal cortex",
    "renal pelvis",
    "gallstone",
    "kidney stone",
    "hepatic vein",
    "portal vein",
    "right ventricle",
    "right atrium",
    "mitral valve",
    "endometrium",
    "fibroid",
    "cervix",
    "brain",
    "lumbar muscle",
    "diaphragm",
    "needle",
    "catheter",
    "tooth",
    "skin",
    "trachea",
    "esophagus",
    "adrenal gland",
    "hip joint",
    "finger",
    "hand",
    "cat",
    "dog",
    "car",
    "tree",
    "house",
    "person",
    "table",
    "bottle",
)
ABSENT_LESION_ORGANS = (
    "kidney",
    "liver",
    "prostate",
    "ovary",
    "uterus",
    "pancreas",
    "spleen",
    "bladder",
    "testis",
    "lung",
    "brain",
    "skin",
)
HELD_OUT_ABSENT = (
    "thymus",
    "parotid gland",
    "ureter",
    "biceps tendon",
    "fallopian tube",
    "ileum",
    "spinal cord",
    "airplane",
    "horse",
    "retina",
    "kidney cyst",
    "liver metastasis",
)


def concept_of(phrase: str) -> Concept:
    """The concept of a data set's phrase for a label; a new one, of its own family, if unknown."""
    key = phrase.lower().split("(")[0].strip()
    for concept in CONCEPTS:
        if concept.name == ALIASES.get(key, key):
            return concept
    made = (key, f"the {key}", f"{key}s", f"{key} in this image")
    return Concept(key, key, key, made)


def draw_phrase(concept: Concept, rng: np.random.Generator, finding: str | None = None) -> str:
    """A training phrasing of ``concept``; a third of the time its plain name.

    Where the finding is known ("benign", "malignant"), it is sometimes said.
    """
    if finding in ("benign", "malignant") and rng.random() < 0.15:
        noun = str(rng.choice(["tumor", "lesion", "mass"]))
        organ = str(rng.choice([f"{concept.organ} ", ""]))
        return f"{finding} {organ}{noun}"
    if rng.random() < 0.3:
        return concept.name
    return str(rng.choice(list(concept.phrases)))


def draw_absent(present: Sequence[Concept], rng: np.random.Generator) -> str:
    """A phrase for something that an image does not show, given the concepts that it may show."""
    draw = rng.random()
    families = {concept.family for concept in present}
    if "lesion" in families:  # a lesion may be a cyst
        families.add("cyst")
    others = [concept for concept in CONCEPTS if concept.family not in families]
    if draw < 0.5 and others:
        return draw_phrase(others[int(rng.integers(len(others)))], rng)
    if draw < 0.65:
        organ = str(rng.choice(ABSENT_LESION_ORGANS))
        return str(rng.choice(_compose(_LESIONS, (organ,))))
    return str(rng.choice(ABSENT_ORGANS))


def absent_phrases() -> tuple[str, ...]:
    """Everything that ``draw_absent`` may ask for of organs that no training image shows."""
    lesions = tuple(p for organ in ABSENT_LESION_ORGANS for p in _compose(_LESIONS, (organ,)))
    return (*ABSENT_ORGANS, *lesions)
