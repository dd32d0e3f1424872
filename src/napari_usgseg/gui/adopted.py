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
        self._frame: tuple[int, ...] = ()

    @property
    def layer(self) -> Image | None:
        """The layer, as long as it is in the viewer."""
        return self._layer if self._layer in self._viewer.layers else None

    @property
    def is_away(self) -> bool:
        """True while the viewer's sliders show another frame of it than the one that was taken."""
        layer = self.layer
        return layer is not None and self.frame(layer) != self._frame

    def take(self, layer: Image | None, frame: tuple[int, ...] = ()) -> None:
        """Use a frame of a layer; None uses none."""
        self._layer, self._frame = layer, frame

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

    def frame(self, layer: Image) -> tuple[int, ...]:
        """Where the viewer's sliders are along the dimensions of a layer before its last two."""
        shape = _whole(layer).shape
        extra = len(shape) - (3 if layer.rgb else 2)
        world = self._viewer.dims.point[-layer.ndim :]
        at = np.round(layer.world_to_data(world)[:extra])
        return tuple(int(index) for index in np.clip(at, 0, np.array(shape[:extra]) - 1))

    def current_slice(self, layer: Image) -> NDArray[Any]:
        """The last two dimensions (and the channels) of an image layer at the viewer's sliders.

        Whoever takes it computes it, where the layer's data are lazy: that may take long.
        """
        part: NDArray[Any] = _whole(layer)[self.frame(layer)]
        return part


def _whole(layer: Image) -> Any:
    """A layer's data in full resolution."""
    return layer.data[0] if layer.multiscale else layer.data
