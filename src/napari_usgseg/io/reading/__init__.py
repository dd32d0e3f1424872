"""Decoders: from a file to the values that are stored in it."""
