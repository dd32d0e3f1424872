"""LoRA adapters of detectors."""
