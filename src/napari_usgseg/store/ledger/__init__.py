"""The effort ledger: what labelling took, made from the history alone."""
