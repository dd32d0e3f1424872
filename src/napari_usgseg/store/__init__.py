"""Where labels live: beside a person's images, or in memory for an image that has no file."""
