"""The registry of public data sets: ``registry.toml`` as records.

The eighteen of GroundingDINO-US-SAM (arXiv 2506.23903) with the paper's counts, fifteen that its
model was tuned on ("seen") and three that it was only tested on; and some extras.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources
from typing import Any

from ..errors import DatasetError
from .records import KnownDataset, LabelRule, Layout, MaskRule, TableRule


@cache
def known_datasets() -> tuple[KnownDataset, ...]:
    """All of them, the paper's first and in its order."""
    text = resources.files(__package__).joinpath("registry.toml").read_text(encoding="utf-8")
    return tuple(_entry(card) for card in tomllib.loads(text)["dataset"])


def known_dataset(name: str) -> KnownDataset:
    """One by its name; case, hyphens and underscores do not matter.

    Raises:
        DatasetError: there is none of that name.
    """
    found = find_dataset(name)
    if found is None:
        names = ", ".join(item.name for item in known_datasets())
        raise DatasetError(name, f"no data set of that name is known; there are {names}")
    return found


def find_dataset(name: str) -> KnownDataset | None:
    """One by its name, as in ``known_dataset``, or None."""
    return next((d for d in known_datasets() if _plain(d.name) == _plain(name)), None)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def _entry(card: dict[str, Any]) -> KnownDataset:
    target, merged = card["target"], tuple(card.pop("merged", ["object"]))
    kept = tuple(LabelRule(k["name"], tuple(k["classes"])) for k in card.pop("kept", []))
    split = card.pop("split", None)
    return KnownDataset(
        phrases=(target, *card.pop("phrases", ())),
        merged=merged,
        kept=kept or (LabelRule(target, merged),),
        images=card.pop("images", None),
        split=tuple(split) if split else None,
        seen=card.pop("seen", None),
        note=card.pop("note", ""),
        layout=_layout(card.pop("layout")),
        **card,
    )


def _layout(card: dict[str, Any]) -> Layout:
    table = card.pop("table", None)
    masks = tuple(_mask_rule(each) for each in card.pop("masks"))
    return Layout(
        image=tuple(card.pop("image")),
        files=card.pop("files"),
        masks=masks,
        table=TableRule(**table) if table else None,
        ignore=tuple(card.pop("ignore", ())),
        empty_findings=tuple(card.pop("empty_findings", ())),
        **card,
    )


def _mask_rule(card: dict[str, Any]) -> MaskRule:
    classes = card.pop("classes", None)
    if classes is not None:
        classes = {key: tuple(v) if isinstance(v, list) else v for key, v in classes.items()}
    return MaskRule(classes=classes, **card)
