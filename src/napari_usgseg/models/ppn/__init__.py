"""The prompt predictor network of Sam2Rad."""
