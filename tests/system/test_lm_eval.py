"""The model of lm-eval, in this process and by the command."""

import json
import subprocess
import sys

import pytest

from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint

from support.cli_helpers import MODEL
from support.golden_helpers import message
from support.lm_eval_tasks import write_tasks

lm_eval = pytest.importorskip("lm_eval")

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]

TASKS = ["opening_choice", "opening_perplexity"]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The shipped model, packed and exported, and tasks."""
    root = tmp_path_factory.mktemp("lm_eval")
    pack_checkpoint(MODEL, root / "packed", 2)
    export(root / "packed", root / "exported")
    export(root / "packed", root / "exact", dtype="float32")
    (root / "tasks").mkdir()
    write_tasks(root / "tasks")
    return root


@pytest.fixture
def scores(places, tmp_path, monkeypatch):
    """Evaluate a model; returns the figures by task."""
    from lm_eval.tasks import TaskManager

    import tritstream.lm_eval  # noqa: F401

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    tasks = TaskManager(include_path=str(places / "tasks"), include_defaults=False)

    def run(path, limit=8, **options):
        found = lm_eval.simple_evaluate(
            "tritstream", model_args={"pretrained": str(path), "batch_size": 8} | options,
            tasks=TASKS,
            task_manager=tasks, limit=limit, bootstrap_iters=0)
        return {task: {name: value for name, value in found["results"][task].items()
                       if isinstance(value, float) and "stderr" not in name} for task in TASKS}
    return run


def bits(found):
    return found["opening_perplexity"]["bits_per_byte,none"]


def test_exported_and_reference_agree(places, scores):
    reference, golden = (scores(places / "packed", backend=backend)
                         for backend in ("reference", "golden"))
    assert scores(places / "exact") == reference
    exported, original = scores(places / "exported"), scores(MODEL)
    assert exported["opening_choice"] == reference["opening_choice"]
    assert bits(exported) == pytest.approx(bits(reference), rel=1e-5)
    assert bits(original) < bits(reference) - 1e-3
    assert 1e-6 < abs(bits(golden) - bits(reference)) < 0.05
    sixteen = scores(places / "packed", backend="golden", activation_bits=16)
    assert abs(bits(sixteen) - bits(reference)) < abs(bits(golden) - bits(reference)) / 10


def test_device_gives_what_golden_gives(places, scores):
    golden = scores(places / "packed", 1, backend="golden")
    assert scores(places / "packed", 1, backend="device", accelerator="sim:lanes=8") == golden


def test_batches_and_length(places, scores):
    single, batched = (scores(places / "packed", 4, batch_size=size) for size in (1, 4))
    assert bits(batched) == pytest.approx(bits(single), rel=1e-5)
    assert bits(scores(places / "packed", 4, max_length=48)) != bits(single)


def test_wrong_options(places, scores):
    with pytest.raises(ValueError, match=message(
            "the model tritstream has no option 'dtype'; it has add_bos_token, batch_size, "
            "chat_template_args, enable_thinking, logits_cache, max_batch_size, max_length, "
            "prefix_token_id, softmax_dtype, think_end_token, truncation")):
        scores(places / "packed", dtype="float16")
    with pytest.raises(ValueError, match="not packed, so only the reference backend can run it"):
        scores(MODEL, backend="golden")


def command(places, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "tritstream.lm_eval", "run", "--model", "tritstream", "--tasks",
         TASKS[1], "--include_path", str(places / "tasks"), "--limit", "2", *map(str, arguments)],
        capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr.splitlines()


def test_command(places, scores, tmp_path):
    code, _, err = command(places, "--model_args", f"pretrained={places / 'packed'}",
                             "--output_path", tmp_path / "out")
    assert code == 0, err
    [path] = (tmp_path / "out").rglob("results_*.json")
    found = json.loads(path.read_text())["results"]
    assert bits(found) == bits(scores(places / "packed", 2))
    code, _, err = command(places, "--model_args", f"pretrained={places / 'none'}")
    assert code == 1 and err[-1].startswith(f"error: {places / 'none'}: no such file or directory")
