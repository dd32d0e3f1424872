"""A project on disk: history, label maps, images, locks."""
