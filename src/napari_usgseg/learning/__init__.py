"""Training on accepted images, in one trainer: prompt predictors (``ppn``), adapters (``lora``).

Public: ``trainer.train`` and its ``Task`` and ``TrainerSettings``; ``labelled.LabelledImage``;
``ppn.train_ppn`` and ``lora.train.train_lora``; ``promotion.judge``, by which a new version
is promoted. Nothing is imported here, for that would import torch.
"""
