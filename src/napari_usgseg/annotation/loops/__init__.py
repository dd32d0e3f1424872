"""Loops: images that share a path; their frames, propagation among them, and areas over time."""
