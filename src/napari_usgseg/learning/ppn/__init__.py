"""The prompt predictor (PPN): data, task, training, promotion."""
