"""Training of prompt predictors and adapters on a person's labels."""
