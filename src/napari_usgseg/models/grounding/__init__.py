"""Detectors: from a phrase to boxes."""
