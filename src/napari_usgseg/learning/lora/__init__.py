"""Adapters of detectors (LoRA): images, questions, tasks and tuning."""
