"""From a phrase or prompts to masks: proposals, corrections, cleaning, batches."""
