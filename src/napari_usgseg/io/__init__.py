"""Images, label maps, data sets, exports and phantoms on disk."""
