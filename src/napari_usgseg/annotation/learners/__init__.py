"""The prompt predictor and the adapter that learn from accepted images, as the window sees them."""
