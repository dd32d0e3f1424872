"""Work off the session's thread: jobs and their lanes, and the three runners that do them."""

from .runner import Job, Jobs, Lane, Outcome, Scope

__all__ = ["Job", "Jobs", "Lane", "Outcome", "Scope"]
