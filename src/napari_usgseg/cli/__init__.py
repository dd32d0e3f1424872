"""The command line ``usgseg``: one module for each command or group."""
