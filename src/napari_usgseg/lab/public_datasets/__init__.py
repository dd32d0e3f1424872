"""Public data sets: what there is, and their original folders as one layout."""
