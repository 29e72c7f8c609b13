"""Names of the files that hold the weights of a checkpoint, plain or packed.

Readers of plain checkpoints must not take packed weights for their own, because they would fill in
random numbers for the matrices that they do not find. Packed weights therefore have file names that
no other reader looks for, and two signs refuse them with :data:`REFUSAL` as part of the message:
``transformers_weights`` in config.json, which transformers reads since version 4.53, and an index
of a file that does not exist, which every version and other readers follow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "INDEX", "PACKED", "PLAIN", "QUANT_METHOD", "REFUSAL", "REFUSAL_FIELD", "REFUSAL_INDEX",
    "SINGLE", "WEIGHTS", "WeightFiles", "is_packed", "packed_name", "plain_name", "weight_files",
]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
QUANT_METHOD = "tritstream"
#: Field of the ``quantization_config`` with the name of the file that holds or lists the weights.
WEIGHTS = "weights"
#: What a reader of plain checkpoints shows in its error.
REFUSAL = ("this model is packed by tritstream - pip install tritstream, then import tritstream "
           "before from_pretrained")
#: Field of config.json by which transformers finds the weights.
REFUSAL_FIELD = "transformers_weights"
#: Contents of model.safetensors.index.json in a packed checkpoint.
REFUSAL_INDEX = {"metadata": {"total_size": 0},
                 "weight_map": {QUANT_METHOD: f"{REFUSAL}.safetensors"}}


@dataclass(frozen=True)
class WeightFiles:
    """Names of a single file of weights, and of the index of several."""

    single: str
    index:  str


PLAIN = WeightFiles(SINGLE, INDEX)
PACKED = WeightFiles("packed.safetensors", "packed.safetensors.index.json")


def is_packed(config: Mapping[str, Any]) -> bool:
    """Return whether a config.json is that of a packed checkpoint."""
    fields = config.get("quantization_config")
    return isinstance(fields, dict) and fields.get("quant_method") == QUANT_METHOD


def weight_files(config: Mapping[str, Any]) -> WeightFiles:
    """Return the names for the checkpoint of a config.json.

    Packed checkpoints of tritstream 0.1.0, whose ``quantization_config`` does not name a file, have
    the names of plain checkpoints.
    """
    fields = config.get("quantization_config")
    file = fields.get(WEIGHTS) if isinstance(fields, dict) else None
    named = file in (PACKED.single, PACKED.index) or (file is not None and is_packed(config))
    return PACKED if named else PLAIN


def packed_name(file: str) -> str:
    """Return the name of a packed file: ``packed`` in place of ``model``."""
    return "packed" + file.removeprefix("model")


def plain_name(file: str) -> str:
    """Return the name of a plain file: ``model`` in place of ``packed``."""
    return "model" + file.removeprefix("packed") if file.startswith("packed") else file
