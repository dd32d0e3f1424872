"""An annotation as a document: its state, what a person can do to it, and the way back."""
