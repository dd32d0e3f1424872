"""Layers and mouse tools on napari's canvas."""
