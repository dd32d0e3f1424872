"""Scores of models, baselines and predictions on labelled data sets, and reports of them."""
