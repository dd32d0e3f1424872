"""Records, geometry, metrics and errors that everything else is written in."""
