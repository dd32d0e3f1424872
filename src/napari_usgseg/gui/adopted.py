"""An image layer of the person's own that is labelled where it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image
from napari.viewer import Viewer
from numpy.typing import NDArray

from .tagged import TAG


class AdoptedImage:
    """The person's image layer that stands in the place of ours, if there is one.

    Args:
        viewer: the napari viewer.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._layer: Image | None = None

    @property
    def layer(self) -> Image | None:
        """The layer, as long as it is in the viewer."""
        return self._layer if self._layer in self._viewer.layers else None

    def take(self, layer: Image | None) -> None:
        """Use a layer; None uses none."""
        self._layer = layer

    def candidate(self) -> Image | None:
        """The image that "use the open image" means: the selected one, else the top one."""
        candidates = [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Image) and TAG not in layer.metadata
        ]
        active = self._viewer.layers.selection.active
        if active in candidates:
            return active
        return candidates[-1] if candidates else None

    def current_slice(self, layer: Image) -> NDArray[Any]:
        """The last two dimensions (and the channels) of an image layer at the viewer's sliders.

        Whoever takes it computes it, where the layer's data are lazy: that may take long.
        """
        data = layer.data[0] if layer.multiscale else layer.data
        extra = data.ndim - (3 if layer.rgb else 2)
        world = self._viewer.dims.point[-layer.ndim :]
        at = np.clip(
            np.round(layer.world_to_data(world)[:extra]), 0, np.array(data.shape[:extra]) - 1
        )
        part: NDArray[Any] = data[tuple(int(index) for index in at)]
        return part
