"""Label ultrasound data sets in napari: a phrase, a click, a PNG.

    import napari_usgseg as us

    image = us.read_image("scan.png")
    for found in us.segment_text(image, "thyroid nodule").items:
        print(found.phrase, found.score, found.box, found.mask.sum())

The names below are the public face; docs/api.md shows them at work. They are imported when they are
first asked for, so that ``import napari_usgseg`` alone stays light.
"""

TYPE_CHECKING = False  # true to a type checker; the module typing costs as much as all the rest

if TYPE_CHECKING:
    from .api import export, import_labels, segment_prompts, segment_text, segment_trace
    from .io.images import read_image, read_regions
    from .models.registry import load_detector, load_segmenter
    from .project.project import Project

__version__ = "0.1.0"

__all__ = [
    "Project",
    "export",
    "import_labels",
    "load_detector",
    "load_segmenter",
    "read_image",
    "read_regions",
    "segment_prompts",
    "segment_text",
    "segment_trace",
]

_HOME = {
    "Project": ("project.project", "Project"),
    "export": ("api", "export"),
    "import_labels": ("api", "import_labels"),
    "load_detector": ("models.registry", "load_detector"),
    "load_segmenter": ("models.registry", "load_segmenter"),
    "read_image": ("io.images", "read_image"),
    "read_regions": ("io.images", "read_regions"),
    "segment_prompts": ("api", "segment_prompts"),
    "segment_text": ("api", "segment_text"),
    "segment_trace": ("api", "segment_trace"),
}
"""Where each public name is defined: module below this package, name there."""

if not TYPE_CHECKING:  # to a type checker, a name that is not above is none

    def __getattr__(name):
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        module, attribute = _HOME[name]
        return getattr(import_module(f"{__name__}.{module}"), attribute)

    def __dir__():
        return sorted([*globals(), *__all__])
