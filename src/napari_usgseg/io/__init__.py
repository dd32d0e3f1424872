"""Images, label maps, data sets and exports on disk."""
