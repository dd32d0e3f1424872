"""Records, geometry, metrics, errors and notes that everything else is written in."""
