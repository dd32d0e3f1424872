"""The public data sets: what they are, and their original folders as one layout."""
