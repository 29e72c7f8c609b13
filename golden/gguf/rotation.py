"""Rotation of activations that a GGUF file of Prism describes: the keys ``prism.hadamard.*``."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tritstream.golden.errors import CheckpointError
from tritstream.golden.gguf.reader import Gguf
from tritstream.golden.gguf.tensors import GgufTensor
from tritstream.golden.rotation import Rotation

__all__ = ["read_rotation"]

_START = "prism.hadamard."
#: The only known values.
_FIXED = {"version": 1, "transform": "normalized-sylvester-walsh-hadamard",
          "axis": "input-last-dimension"}
_NAMES, _INVERSE = "weight_names", "inverse_weight_names"
#: All keys. The last one is about the input of ``ssm_out``, which Hugging Face's models have in
#: the grouped order already.
_KEYS = {*_FIXED, "block_size", "sign_mode", "sign_widths", "sign_values", _NAMES, _INVERSE,
         "gdn_v_grouped"}
_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"
_ADVICE = "use a model without a rotation"


def read_rotation(gguf: Gguf, tensors: Mapping[str, GgufTensor]) -> Rotation | None:
    """Return the rotation of a file, None if there is none.

    ``tensors`` are those of the model by Hugging Face's names.

    Raises :class:`.CheckpointError` for another transform or version, and for a rotation that is
    not complete or does not fit the tensors, because such a model would compute something else.
    """
    fields = {key.removeprefix(_START): value for key, value in gguf.metadata.items()
              if key.startswith(_START)}
    if not fields:
        return None
    reader = _Reader(gguf, fields)
    named = {tensor.raw.name: tensor for tensor in tensors.values()}
    names = {**dict.fromkeys(reader.names(_NAMES), False),
             **dict.fromkeys(reader.names(_INVERSE), True)}
    modules = {name: reader.module(name, inverse, named) for name, inverse in names.items()}
    rotation = Rotation(reader.block(), reader.signs(), frozenset(modules.values()))
    for name in modules:
        if fault := rotation.fault(named[name].shape[-1]):
            raise reader.wrong(f"{name}, which is to be rotated, {fault}")
    if _EMBEDDING in modules and _HEAD not in gguf.tensors:
        raise reader.wrong("rotates an embedding that is the output as well")
    return rotation


class _Reader:
    """Values of the keys, checked."""

    def __init__(self, gguf: Gguf, fields: Mapping[str, Any]):
        self._path, self._fields = gguf.path, fields
        for key, value in _FIXED.items():
            if fields.get(key) != value:
                raise self._unknown(key, f"{value!r}")
        for key in sorted(fields.keys() - _KEYS):
            raise self.wrong(f"has {_START}{key}, which is not known")
        if not isinstance(fields.get("gdn_v_grouped", False), bool):
            raise self._unknown("gdn_v_grouped", "true or false")

    def wrong(self, fault: str) -> CheckpointError:
        return CheckpointError(f"{self._path}: {fault}; {_ADVICE}")

    def block(self) -> int:
        block = self._fields.get("block_size")
        if type(block) is not int or block < 2 or block & (block - 1):
            raise self._unknown("block_size", "a power of two")
        return block

    def signs(self) -> dict[int, np.ndarray]:
        """Return the signs by number of columns, empty in mode identity."""
        mode = self._fields.get("sign_mode")
        if mode not in ("identity", "explicit"):
            raise self._unknown("sign_mode", "'identity' or 'explicit'")
        widths, values = self._fields.get("sign_widths", []), self._fields.get("sign_values", [])
        if mode == "identity":
            if widths or values:
                raise self.wrong(f"has signs, but {_START}sign_mode is 'identity'")
            return {}
        if not (_integers(widths) and _integers(values) and widths and min(widths) > 0
                and len(set(widths)) == len(widths) and sum(widths) == len(values)
                and set(values) <= {-1, 1}):
            raise self.wrong(f"{_START}sign_widths and {_START}sign_values must be different "
                             "widths, and as many signs of 1 or -1")
        parts = np.split(np.array(values, np.int8), np.cumsum(widths)[:-1])
        return dict(zip(widths, parts, strict=True))

    def names(self, key: str) -> list[str]:
        """Return a list of tensors, which must not be missing or empty."""
        names = self._fields.get(key)
        if not (isinstance(names, list) and names and all(isinstance(one, str) for one in names)):
            raise self._unknown(key, "a list of tensors")
        return names

    def module(self, name: str, inverse: bool, named: Mapping[str, GgufTensor]) -> str:
        """Return the module in Hugging Face of a tensor that can be rotated."""
        if name not in named:
            raise self.wrong(f"rotates {name}, which it does not have")
        if len(named[name].shape) != 2 or (name == _EMBEDDING) != inverse:
            how = "back" if inverse else "before a product"
            raise self.wrong(f"rotates {name} {how}, which is not supported")
        return named[name].name.removesuffix(".weight")

    def _unknown(self, key: str, known: str) -> CheckpointError:
        value = self._fields.get(key)
        actual = "missing" if value is None else f"{value!r:.40}"
        return self.wrong(f"{_START}{key} must be {known}, not {actual}")


def _integers(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int for value in values)
