"""Model card, README.md, of packed and of exported checkpoints."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritstream.golden.checkpoints.hub import is_hub_name, snapshot_name
from tritstream.golden.packed.metadata import grouping_of
from tritstream.golden.quantizers.grouping import GROUPING
from tritstream.golden.scales import CODED
from tritstream.golden.write_errors import writing

__all__ = ["BaseModel", "base_of", "write_exported_card", "write_packed_card"]

_CARD = "README.md"

_FRONT = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$\n?", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(r"([A-Za-z_]\w*)[ \t]*:(?=\s|$)")
#: Fields of YAML that hold for the quantized weights, too.
_KEPT = ("license", "license_name", "license_link", "language", "pipeline_tag")
#: Fields that name the base model of a packed checkpoint.
_BASE = ("base_model", "base_model_relation")
_TAGS = "tags:\n- quantized\n- ternary\n- tritstream"
#: Heading before the text of the original card.
_ORIGINAL = "## Card of the original model"

_TEXT = """\
# {title}

{about}

```python
{imports}from transformers import AutoTokenizer, {loader}

path = "DIRECTORY"  # of this file, or its name on the Hub
model = {loader}.from_pretrained(path)
tokenizer = AutoTokenizer.from_pretrained(path)
```
"""
_PACKED = """\
The linear layers{of} are packed as balanced ternary digits, {depth} per weight{some}{groups}. All
other tensors are unquantized. `import tritstream` registers the format with transformers:

    pip install 'tritstream[torch]'\
"""
_EXPORTED = """\
The linear layers{of} were quantized to balanced ternary digits, {depth} per weight{some}, by
tritstream, and dequantized again. transformers loads them without tritstream:\
"""


@dataclass(frozen=True)
class BaseModel:
    """Name of the unquantized model on the Hub, and the commit, empty if unknown.

    Raises :class:`ValueError` for a name that is not OWNER/NAME.
    """

    name:   str
    commit: str = ""

    def __post_init__(self) -> None:
        if not is_hub_name(self.name):
            raise ValueError("the base model must be OWNER/NAME, as on the Hub, not "
                             f"{self.name!r}")


def base_of(path: Path, name: str | None) -> BaseModel | None:
    """Return the model of that name, by default the one whose snapshot in the Hub's cache is read.
    """
    known = snapshot_name(path)
    return BaseModel(name) if name else BaseModel(*known) if known else None


def write_packed_card(
    directory: Path, config: Mapping[str, Any], source: Path, base: BaseModel | None,
) -> None:
    """Write the card of a packed checkpoint, whose ``config.json`` is given, into its directory.

    Licence, language and task are as in the card of the source. The text of that follows the new
    text.
    """
    fields, text = _read(source)
    kept = {name: fields[name] for name in _KEPT if name in fields}
    if base:
        kept |= {"base_model": f"base_model: {base.name}",
                 "base_model_relation": "base_model_relation: quantized"}
    _write(directory, config, kept, text, base)


def write_exported_card(directory: Path, config: Mapping[str, Any], packed: Path) -> None:
    """Write the card of an exported checkpoint into its directory.

    ``config`` is the configuration of the packed checkpoint, whose path is ``packed``.
    """
    fields, text = _read(packed)
    names: tuple[str, ...] = _KEPT
    if fields.get("tags") == _TAGS:
        # Otherwise the card is a copy of the source's, as tritstream 0.1.0 made it.
        names, text = (*_KEPT, *_BASE), text.partition(f"\n{_ORIGINAL}\n\n")[2]
    kept = {name: fields[name] for name in names if name in fields}
    base = kept.get("base_model", "").removeprefix("base_model: ")
    _write(directory, config, kept, text, BaseModel(base) if is_hub_name(base) else None,
           packed=False)


def _read(source: Path) -> tuple[dict[str, str], str]:
    """Return the fields of the YAML of a card, each with its lines, and the text after the YAML.

    The lines are copied and not interpreted, so that no value changes. A source without a card,
    such as a GGUF file, has neither.
    """
    path = source / _CARD
    # Bytes that are not UTF-8 are written as they were read.
    card = path.read_bytes().decode("utf-8", "surrogateescape") if path.is_file() else ""
    found = _FRONT.match(card)
    fields: dict[str, str] = {}
    name = None
    for line in found[1].splitlines() if found else ():
        if start := _FIELD.match(line):
            name = start[1]
            fields[name] = line
        elif name:
            fields[name] += f"\n{line}"
    return fields, card[found.end():] if found else card


def _write(
    directory: Path, config: Mapping[str, Any], fields: Mapping[str, str], text: str,
    base: BaseModel | None, packed: bool = True,
) -> None:
    loader = _loader(config)
    fields = {"library_name": "library_name: transformers", "tags": _TAGS, **fields}
    if loader == "AutoModelForCausalLM":
        fields = {"pipeline_tag": "pipeline_tag: text-generation", **fields}
    quantization = config["quantization_config"]
    card = "\n".join(["---", *(fields[name] for name in sorted(fields)), "---", ""])
    about = (_PACKED if packed else _EXPORTED).format(
        of=_of(base), depth=quantization["depth"],
        some=" unless config.json says otherwise" if quantization.get("depths") else "",
        groups=_groups(quantization))
    title = base.name.partition("/")[2] if base else "Quantized model"
    card += "\n" + _TEXT.format(title=title, about=about, loader=loader,
                                imports="import tritstream\n" if packed else "")
    if text.strip():
        card += f"\n{_ORIGINAL}\n\n{text.lstrip()}"
    with writing(directory / _CARD):
        (directory / _CARD).write_bytes(card.encode("utf-8", "surrogateescape"))


def _of(base: BaseModel | None) -> str:
    if base is None:
        return ""
    at = f" (commit {base.commit})" if base.commit else ""
    return f" of [{base.name}](https://huggingface.co/{base.name}){at}"


def _groups(fields: Mapping[str, Any]) -> str:
    """Return group length and kind of scales in words, empty for the usual ones."""
    grouping = grouping_of(fields)
    if grouping == GROUPING:
        return ""
    kind = "one of 27 scales" if grouping.scales == CODED else "a float16 scale"
    return f", with {kind} per {grouping.group} weights"


def _loader(config: Mapping[str, Any]) -> str:
    """Return the class of transformers that loads a model."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else ""
    if not isinstance(name, str) or not (name.isascii() and name.isidentifier()):
        return "AutoModel"
    return "AutoModelForCausalLM" if name.endswith("ForCausalLM") else name
