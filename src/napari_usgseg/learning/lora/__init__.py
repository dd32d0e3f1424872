"""LoRA adapters of detectors: data, tasks, training, promotion."""
