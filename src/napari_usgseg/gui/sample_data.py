"""napari's File > Open Sample: phantoms with their truth."""

from __future__ import annotations

from typing import Any

from ..phantoms.phantom import make_phantom

LayerData = tuple[Any, dict[str, Any], str]


def phantoms() -> list[LayerData]:
    """Three phantoms, each with its true labels in a layer that is hidden at first."""
    layers: list[LayerData] = []
    for seed in range(3):
        phantom = make_phantom(seed)
        name = f"phantom {seed}: {phantom.phrase}"
        layers.append((phantom.image, {"name": name, "rgb": True, "visible": seed == 0}, "image"))
        layers.append((phantom.labels, {"name": f"{name} (truth)", "visible": False}, "labels"))
    return layers
