"""The process that trains beside the window."""
