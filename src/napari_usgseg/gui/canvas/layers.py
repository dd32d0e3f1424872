"""Layers that bear our tag, and an image layer of the person's own in the place of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer, Points, Shapes
from napari.viewer import Viewer
from numpy.typing import NDArray
from psygnal import Signal

from ...core.types import Region
from ...io.reading.frames import RANGE_MM, FileAbout

TAG = "napari-usgseg"
NAMES = {
    "image": "ultrasound",
    "labels": "labels (accepted)",
    "proposal": "proposal",
    "names": "proposal: classes",
    "shapes": "prompts: boxes, scribbles",
    "points": "prompts: points",
}
"""Role -> the name that a new layer gets, from the bottom of the list to its top."""
FILL_OPACITY = 0.45
BRUSH_SIZE = 12
NAME_SIZE = 11


class TaggedLayers:
    """Makes and finds the layers of each role; layers without the tag are not touched.

    A layer that the person deletes is made again when it is needed; ``made`` carries the role and
    each new layer. New layers lie where the adopted image does, if there is one.
    """

    made = Signal(str, object)

    def __init__(self, viewer: Viewer, adopted: AdoptedImage) -> None:
        self.viewer = viewer
        self.adopted = adopted

    def find(self, role: str) -> Layer | None:
        """The layer of a role, or None."""
        return next((x for x in self.viewer.layers if x.metadata.get(TAG) == role), None)

    def ours(self) -> list[Layer]:
        """All layers that have the tag."""
        return [layer for layer in self.viewer.layers if TAG in layer.metadata]

    def bring_to_top(self) -> None:
        """Put our layers over all others, in their order."""
        layers = self.viewer.layers
        for layer in self.ours():
            layers.move(layers.index(layer), len(layers))

    def remove(self, role: str) -> None:
        """Take away the layer of a role."""
        for layer in [x for x in self.viewer.layers if x.metadata.get(TAG) == role]:
            self.viewer.layers.remove(layer)

    def place_like(self, image: Image) -> None:
        """Put our layers where an image is, all at once.

        In turns their units would differ for a while, and napari warns of that.
        """
        for layer in self.ours():
            place_like(layer, image)

    def release(self, role: str, name: str) -> None:
        """Leave the layer of a role to the person, hidden and under another name.

        It belongs to another image than the one that comes; ours is then made anew.
        """
        layer = self.find(role)
        if layer is not None:
            del layer.metadata[TAG]
            layer.name = name
            layer.visible = False

    def image(self, rgb: bool, levels: Sequence[NDArray[np.uint8]]) -> Image:
        """The image layer, made anew where colour and grey, or one size and several change places.

        Args:
            rgb: the levels are (H, W, 3), else (H, W).
            levels: the image, and smaller copies of it where it is very large.
        """
        layer, several = self.find("image"), len(levels) > 1
        if isinstance(layer, Image) and (layer.rgb, layer.multiscale) == (rgb, several):
            return layer
        self.remove("image")
        made = Image(
            list(levels) if several else levels[0],
            name=NAMES["image"],
            rgb=rgb,
            multiscale=several,
            metadata={TAG: "image"},
        )
        if not rgb:
            made.contrast_limits_range = (0, 255)
            made.contrast_limits = (0, 255)
        return self._insert(made, "image")

    def labels(self, role: str, shape: tuple[int, ...]) -> Labels:
        """The layer of a role: "labels" lies thinly over the image, "proposal" is opaque."""
        layer = self.find(role)
        if isinstance(layer, Labels):
            return layer
        self.remove(role)
        filled = role == "labels"
        made = Labels(
            np.zeros(shape, np.uint8),
            name=NAMES[role],
            metadata={TAG: role},
            opacity=FILL_OPACITY if filled else 1.0,
        )
        made.brush_size = BRUSH_SIZE
        return self._insert(made, role)

    def points(self) -> Points:
        """The layer of clicks."""
        layer = self.find("points")
        if isinstance(layer, Points):
            return layer
        self.remove("points")
        made = Points(
            np.zeros((0, 2)),
            name=NAMES["points"],
            metadata={TAG: "points"},
            ndim=2,
            border_color="white",
            border_width=0.15,
        )
        return self._insert(made, "points")

    def names(self) -> Points:
        """The layer of words: the class of each proposed object, at its contour."""
        layer = self.find("names")
        if isinstance(layer, Points):
            return layer
        self.remove("names")
        made = Points(
            np.zeros((0, 2)),
            name=NAMES["names"],
            metadata={TAG: "names"},
            ndim=2,
            size=1,
            face_color="transparent",
            border_color="transparent",
            features={"name": np.zeros(0, object), "color": np.zeros(0, object)},
            text={
                "string": "{name}",
                "color": {"feature": "color"},
                "size": NAME_SIZE,
                "anchor": "lower_left",
            },
        )
        return self._insert(made, "names")

    def shapes(self) -> Shapes:
        """The layer of boxes and scribbles."""
        layer = self.find("shapes")
        if isinstance(layer, Shapes):
            return layer
        self.remove("shapes")
        made = Shapes(None, name=NAMES["shapes"], metadata={TAG: "shapes"}, ndim=2)
        return self._insert(made, "shapes")

    def _insert(self, layer: Any, role: str) -> Any:
        """Put a layer above those of ours that belong below it, and leave the selection alone."""
        order = list(NAMES)
        below = set(order[: order.index(role)])
        layers, at = self.viewer.layers, 0 if role == "image" else len(self.viewer.layers)
        for index, other in enumerate(layers):
            if role != "image" and other.metadata.get(TAG) not in below | {None}:
                at = index
                break
        selected = layers.selection.active
        if role != "image":
            place_like(layer, self.adopted.layer)
        layers.insert(at, layer)
        if selected is not None and selected in layers:
            layers.selection.active = selected
        self.made.emit(role, layer)
        return layer


STEP = "napari-usgseg step"
"""In a layer of labels: this many pixels of the image along each axis are one of the layer."""


def step_of(layer: Layer | None) -> int:
    """Pixels of the image along each axis for one of a layer of ours; 1 unless it is reduced."""
    return 1 if layer is None else int(layer.metadata.get(STEP, 1))


MM = {"millimeter": 1.0, "centimeter": 10.0, "micrometer": 1e-3, "meter": 1e3}
"""Millimetres of the units that layers may have."""


def about_layer(layer: Image) -> FileAbout | None:
    """What an image layer says of regions and spacing, as our readers and others leave it there."""
    regions = layer.metadata.get("regions", ())
    if regions and all(isinstance(region, Region) for region in regions):
        return FileAbout("layer", layer.metadata.get("spacing_mm"), tuple(regions))
    sides = [
        float(step) * MM.get(str(unit), 0.0)
        for step, unit in zip(layer.scale[-2:], layer.units[-2:], strict=True)
    ]
    low, high = RANGE_MM
    known = all(low <= side <= high for side in sides)
    return FileAbout("layer", (sides[0], sides[1])) if known else None


def place_like(layer: Layer, image: Image | None, grain: float = 1.0) -> None:
    """Give a 2D layer the place in the world that the image's last two dimensions have.

    Units are part of it: napari warns of layers with different ones and then draws without any.

    Args:
        layer: to be placed.
        image: that it lies over; None is ours, which is as large as its pixels.
        grain: pixels of the layer for each of the image.
    """
    scale, translate, rotate = np.ones(2), np.zeros(2), np.eye(2)
    if image is not None:
        scale, translate = image.scale[-2:], image.translate[-2:]
        rotate = image.rotate[-2:, -2:]
    translate = translate + rotate @ (scale * (1 / grain - 1) / 2)  # it begins at the same corner
    scale = scale / grain
    for name, value in (("scale", scale), ("translate", translate), ("rotate", rotate)):
        if not np.allclose(getattr(layer, name), value):
            setattr(layer, name, value)
    units = ("pixel", "pixel") if image is None else image.units[-2:]
    if tuple(map(str, layer.units)) != tuple(map(str, units)):
        layer.units = units


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
        # The sliders are in the world; a stack may have a scale along them.
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
