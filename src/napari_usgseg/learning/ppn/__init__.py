"""Prompt predictors (PPN): views, task and training."""
