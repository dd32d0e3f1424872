"""What a person can do to an image, one verb a module."""
