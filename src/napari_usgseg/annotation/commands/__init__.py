"""Commands: pure functions of an annotation's state, a subject a module."""
