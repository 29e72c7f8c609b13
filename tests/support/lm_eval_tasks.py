"""Two tasks of lm-eval on the opening of a novel that the shipped model was not trained on."""

import json
from pathlib import Path

__all__ = ["write_tasks"]

_TEXT = Path(__file__).with_name("opening.txt")

_CHOICE = """\
task: opening_choice
dataset_path: json
dataset_kwargs: {data_files: {test: CHOICES}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{begin}}"
doc_to_choice: "{{ends}}"
doc_to_target: "{{answer}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
_PERPLEXITY = """\
task: opening_perplexity
dataset_path: json
dataset_kwargs: {data_files: {test: PARAGRAPHS}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
"""


def write_tasks(folder):
    """Write the tasks ``opening_choice`` and ``opening_perplexity``, and return their folder.

    The choice: which of four orders of the next eight words continues the begin of a paragraph.
    """
    paragraphs = _TEXT.read_text(encoding="utf-8").splitlines()
    choices = [_choice(paragraph.split(), part) for paragraph in paragraphs for part in (1, 2)]
    for name, docs, task in (("CHOICES", choices, _CHOICE),
                             ("PARAGRAPHS", [{"text": one} for one in paragraphs], _PERPLEXITY)):
        data = folder / f"{name.lower()}.jsonl"
        data.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
        (folder / f"{name.lower()}.yaml").write_text(task.replace(name, str(data)))
    return folder


def _choice(words, part):
    """A document of the choice, whose begin is one or two thirds of the words of a paragraph."""
    place = part * len(words) // 3
    end = words[place:place + 8]
    orders = [end[4:] + end[:4], end, end[::-1], end[1::2] + end[::2]]
    return {"begin": " ".join(words[:place]), "ends": [" ".join(one) for one in orders],
            "answer": 1}
