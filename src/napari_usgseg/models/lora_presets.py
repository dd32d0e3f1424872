"""Which layers a LoRA adapter changes: one full-match regular expression for each preset.

PEFT takes a list of names as suffixes: "fc1" would also catch the encoder and the text backbone. A
string it matches whole, so these say exactly what is meant. Tests compare them with the real
classes, so that a release which renames a layer is noticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import ModelError

GUARDED = "phrase"
"""The preset that forgets nothing, whatever is done with the adapter."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Layers by name.

    Attributes:
        targets: those that get LoRA matrices.
        saved: those that are trained and saved whole.
    """

    targets: str
    saved: str

    def saved_names(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that are saved whole (PEFT's ``modules_to_save``)."""
        return [name for name in names if name and re.fullmatch(self.saved, name)]


_DECODER = (
    r"model\.text_projection"
    r"|model\.decoder\.layers\.\d+\.("
    r"encoder_attn\.(sampling_offsets|attention_weights|value_proj|output_proj)"
    r"|encoder_attn_text\.out_proj|self_attn\.out_proj|fc[12])"
    r"|(model\.decoder\.)?bbox_embed\.\d+\.layers\.[01]"
)
_ENCODER = (
    r"model\.encoder\.layers\.\d+\."
    r"(deformable_layer\.fc[12]|text_enhancer_layer\.(fc[12]|self_attn\.out_proj))"
)
_LAST_BOX_LAYER = r"(model\.decoder\.)?bbox_embed\.\d+\.layers\.2"

DINO_PRESETS = {
    "decoder": Preset(_DECODER, _LAST_BOX_LAYER),
    "paper": Preset(f"{_DECODER}|{_ENCODER}", _LAST_BOX_LAYER),
}
"""For Grounding DINO. "decoder" is what GroundingDINO-US-SAM (arXiv 2506.23903) says that it tunes;
"paper" is what its list of suffixes caught: the feed-forward layers of the encoder and of the text
enhancer, and the text enhancer's attention output, too."""

_PHRASE = r"text\.0|(block(32|16|8|4)|context)\.film|query|presence\.0"
_CONVOLUTIONS = r"(block(32|16|8|4)|context)\.conv|narrow|laterals\.[0-3]\.0"

GROUNDER_PRESETS = {
    "decoder": Preset(f"{_PHRASE}|{_CONVOLUTIONS}", r"presence\.2"),
    "phrase": Preset(_PHRASE, ""),
}
"""For the phrase grounder, which has no attention. "decoder": the layers of neck and head; merged
for good it forgets what was known, so an adapter answers its own phrases only
(``models.lora_routing``). "phrase": only where the phrase steers the image's features, and held
where old phrases do not feel it (``training.lora_guard``): weaker, but it may be merged."""


def find_preset(name: str, presets: dict[str, Preset]) -> Preset:
    """A preset by name.

    Raises:
        ModelError: this kind of detector has no such preset.
    """
    if name not in presets:
        raise ModelError(f"no preset {name!r} for this grounder: use {' or '.join(presets)}")
    return presets[name]
