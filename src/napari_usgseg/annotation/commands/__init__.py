"""Commands on an image, one verb a module."""
