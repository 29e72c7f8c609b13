"""A packed directory in a program that does not have this package."""

import json
import shutil
from pathlib import Path

import pytest

from tritstream import registration
from tritstream.golden.checkpoints.weight_files import REFUSAL
from tritstream.golden.packed.pack import pack_checkpoint

from support.forked import TORCH, run_forked
from support.golden_helpers import make_checkpoint, run_python
from support.model_helpers import MODEL

#: Loads argv[1] in several ways by transformers alone; prints each error, or that there is none.
STOCK = """
import json, sys, warnings
warnings.resetwarnings()

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tritstream":
            raise ImportError(name)

sys.meta_path.insert(0, Without())
import transformers
from transformers import (AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification,
                          Qwen2Config, Qwen2ForCausalLM, pipeline)

path, found = sys.argv[1], {}
ways = {
    "causal": lambda: AutoModelForCausalLM.from_pretrained(path),
    "base": lambda: AutoModel.from_pretrained(path),
    "classifier": lambda: AutoModelForSequenceClassification.from_pretrained(path),
    "class": lambda: Qwen2ForCausalLM.from_pretrained(path, use_safetensors=True),
    "pipeline": lambda: pipeline("text-generation", path),
    "other config": lambda: Qwen2ForCausalLM.from_pretrained(path, config=Qwen2Config()),
}
for name, load in ways.items():
    try:
        load()
        found[name] = None
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
assert "tritstream" not in sys.modules
print(json.dumps(found))
"""


def load_by_stock(path):
    """The errors of transformers alone, in a process of its own, by the way of loading."""
    finished = run_forked(STOCK, path, modules=TORCH)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d1"
    pack_checkpoint(MODEL, path, 1)
    return path


def test_stock_transformers_refuses_it_and_names_the_cure(packed):
    errors = load_by_stock(packed)
    assert "pip install tritstream" in REFUSAL
    assert errors.keys() == {"causal", "base", "classifier", "class", "pipeline", "other config"}
    for way, error in errors.items():
        assert error and REFUSAL in error, way
    assert errors["causal"] == (
        "ValueError: The transformers file in the config seems to be incorrect: it is neither a "
        "safetensors file (*.safetensors) nor a safetensors index file (*.safetensors.index.json): "
        f"{REFUSAL}")
    for page in ("packed-format", "transformers"):
        text = (Path(__file__).parents[3] / "docs" / f"{page}.md").read_text()
        assert REFUSAL in " ".join(text.split())
    # With another config.json, the index of a file that is not there refuses.
    assert errors["other config"] == (
        f"FileNotFoundError: No such file or directory: {packed / REFUSAL}.safetensors")


def test_no_reader_finds_weights_under_the_usual_names(tmp_path):
    for sharded in (False, True):
        make_checkpoint(tmp_path / f"m{sharded}", sharded=sharded)
        pack_checkpoint(tmp_path / f"m{sharded}", tmp_path / f"o{sharded}", 2)
        names = {path.name for path in (tmp_path / f"o{sharded}").glob("*.safetensors")}
        assert all(name.startswith("packed") for name in names)
        index = json.loads((tmp_path / f"o{sharded}/model.safetensors.index.json").read_text())
        for name in index["weight_map"].values():
            assert not (tmp_path / f"o{sharded}" / name).exists()


#: Imports in the order of argv[2:], then loads argv[1].
ORDERS = """
import importlib, sys, warnings
warnings.resetwarnings()
for name in sys.argv[2:]:
    importlib.import_module(name)
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
print(type(model.model.layers[0].mlp.up_proj).__name__)
"""


@pytest.mark.parametrize("names", [
    ["tritstream"], ["transformers", "tritstream"],
    ["transformers.modeling_utils", "tritstream"], ["transformers.quantizers", "tritstream"],
    ["tritstream.host.model.quantizer"], ["tritstream.host.model.load"],
])
def test_the_import_is_enough_in_any_order(packed, names):
    finished = run_forked(ORDERS, packed, *names, modules=TORCH)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "TritLinear\n"


def test_the_import_loads_neither_torch_nor_transformers():
    finished = run_python(
        "import sys, tritstream; print({'torch', 'transformers'} & {*sys.modules})")
    assert (finished.stdout, finished.stderr) == ("set()\n", "")


def test_a_transformers_that_is_too_old_goes_on_working(monkeypatch):
    monkeypatch.setattr(registration, "_HOOKS", "tritstream.host.model.none")
    with pytest.warns(UserWarning, match=r"^tritstream cannot load packed models by this transf"
                                         r"ormers \(ModuleNotFoundError.*install transformers>=5"):
        registration.register()


def as_before(packed, path):
    """A packed checkpoint as tritstream 0.1.0 wrote it."""
    shutil.copytree(packed, path)
    (path / "packed.safetensors").rename(path / "model.safetensors")
    (path / "model.safetensors.index.json").unlink()
    config = json.loads((path / "config.json").read_text())
    del config["transformers_weights"], config["quantization_config"]["weights"]
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_a_directory_of_before_is_loaded_once_tritstream_is_imported(packed, tmp_path):
    path = as_before(packed, tmp_path / "old")
    finished = run_forked(ORDERS, path, "tritstream", modules=TORCH)
    assert (finished.returncode, finished.stdout) == (0, "TritLinear\n")
