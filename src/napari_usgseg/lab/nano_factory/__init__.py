"""Factory of the embedded models."""
