"""Label ultrasound data sets in napari: a phrase, a click, a PNG."""

__version__ = "0.1.0"
