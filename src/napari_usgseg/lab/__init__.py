"""Evaluation, public data sets, the factory of the embedded models: for the command line alone."""
