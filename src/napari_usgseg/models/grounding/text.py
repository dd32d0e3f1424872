"""Phrases to vectors: a small sentence encoder that ships with the package.

It is all-MiniLM-L6-v2 (Apache-2.0; a six-layer BERT, mean-pooled and normalised: Reimers and
Gurevych, arXiv 1908.10084) with its vocabulary cut down. Words that are no longer in it fall apart
into pieces and single letters, so no word is unknown and a new organ's name can be learned.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from ...core.errors import CheckpointError

MAX_TOKENS = 64


class SentenceEncoder(nn.Module):
    """A BERT whose mean-pooled, normalised last states stand for a phrase."""

    def __init__(self, config: dict[str, Any], tokenizer: Tokenizer) -> None:
        super().__init__()
        self.bert = BertModel(BertConfig(**config), add_pooling_layer=False)
        self.tokenizer = tokenizer
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)

    def forward(self, phrases: list[str]) -> Tensor:
        """Phrases to (N, 384) unit vectors."""
        encoded = self.tokenizer.encode_batch([phrase.lower() for phrase in phrases])
        ids = torch.tensor([e.ids for e in encoded])
        mask = torch.tensor([e.attention_mask for e in encoded])
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask[..., None].to(states.dtype)
        pooled = (states * weight).sum(1) / weight.sum(1)
        return nn.functional.normalize(pooled, dim=-1)

    def is_word(self, word: str) -> bool:
        """Whether the vocabulary holds a word, in small letters, as a whole."""
        return self.tokenizer.token_to_id(word) is not None


def load_sentence_encoder(folder: Path) -> SentenceEncoder:
    """Read ``text.json``, ``tokenizer.json`` and ``text.safetensors`` of ``folder``.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    try:
        config = json.loads((folder / "text.json").read_text(encoding="utf-8"))
        encoder = SentenceEncoder(config, Tokenizer.from_file(str(folder / "tokenizer.json")))
        state = {k: v.float() for k, v in load_file(folder / "text.safetensors").items()}
        encoder.load_state_dict(state)
    except Exception as error:  # tokenizers and safetensors raise bare exceptions of their own
        raise CheckpointError(
            f"{folder}: the sentence encoder cannot be read ({error}); reinstall the package, or "
            "check with 'usgseg models verify'"
        ) from error
    return encoder.eval()
