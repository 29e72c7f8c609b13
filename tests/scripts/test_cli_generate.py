import json
import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.host.model.load import load_model, load_tokenizer
from tritstream.host.model.sampling import PossibleToken
from tritstream.scripts.running.generate import generate
from tritstream.scripts.running.generation_report import project

from support.cli_helpers import run_command, tritstream
from support.golden_helpers import run_python
from support.model_helpers import MODEL, PROMPT, prompt_ids

PHASE = {"cycles": 5_000_000, "cycles_per_token": 1e6, "bytes_per_token": 8e6,
         "host_seconds_per_token": 0.03}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d3"
    pack_checkpoint(MODEL, path, 3)
    return path


def shown(capsys, packed, **options):
    """Standard output of the command, run in this process: importing torch takes seconds."""
    generate(packed, PROMPT, **options)
    out, err = capsys.readouterr()
    assert err in ("", "building the simulated device (half a minute the first time)\n")
    return out


def refused(capsys, packed, **options):
    """The one line that the command says on the way out."""
    with pytest.raises(SystemExit, match="^1$"):
        generate(packed, PROMPT, **options)
    return capsys.readouterr().err.splitlines()[-1].removeprefix("error: ")


def test_device_and_golden_give_the_same_text(packed, capsys):
    code, out, err = tritstream("generate", packed, "--prompt", PROMPT, "--json", "--tokens", 6,
                                "--clock", 100, "--link", 400)
    assert code == 0, err
    device = json.loads(out)
    golden = json.loads(shown(capsys, packed, tokens=6, backend="golden", as_json=True))
    assert device["token_ids"] == golden["token_ids"]
    assert device["text"] == golden["text"]
    assert golden["device"] is None and golden["projection"] is None
    assert device["device"]["lanes"] == 8
    assert device["prefill"]["tokens"] == 9 and device["decode"]["tokens"] == 5
    assert device["decode"]["words"] == 5 * device["prefill"]["words"] / 9
    assert device["decode"]["bytes_per_token"] == device["decode"]["words"] * 8 / 5
    assert device["decode"]["retries"] == device["decode"]["input_stalls"] == 0
    assert 0 < 5 * device["decode"]["host_seconds_per_token"] < device["decode"]["seconds"]
    # Rows of 64 and 128 leave a part of a block of 40 empty.
    streamed = device["decode"]["bytes_per_token"]
    assert device["weight_bytes"]["packed"] < streamed < 1.2 * device["weight_bytes"]["packed"]
    assert device["projection"]["bound"] == "link"


def test_two_devices_give_the_same_text_in_fewer_cycles(packed, capsys):
    one, two = (json.loads(shown(capsys, packed, tokens=2, device=device, as_json=True))
                for device in ("sim", "sim,sim"))
    assert two["token_ids"] == one["token_ids"]
    assert (one["device"]["lanes"], two["device"]["lanes"]) == (8, 16)
    assert two["decode"]["cycles"] < 0.6 * one["decode"]["cycles"]
    assert two["decode"]["bytes_per_token"] == one["decode"]["bytes_per_token"]


def test_text_and_figures(packed, capsys):
    out = shown(capsys, packed, tokens=4, backend="reference")
    text, figures = out.split("\n\n", 1)
    assert text == " deal of c"
    assert re.search(r"^prefill +9 +\d+\.\d\d +\d+\.\d\d$", figures, re.M)
    assert re.search(r"^decode +3 +\d+\.\d\d +\d+\.\d\d$", figures, re.M)
    assert "weights of a token: 0.509 MB packed, 0.267 MB kept by the host (head 0.262 MB" in out
    assert "65.6% packed" in out


def test_interrupt_ends_the_text_in_one_line(packed):
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tritstream.scripts.cli", "generate", packed,
         "--prompt", PROMPT, "--tokens", "400"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.read(8)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert re.search(r"^error: interrupted after \d+ tokens\n$", err, re.M)
    assert "cycles/token" in out


@pytest.mark.parametrize(("clock", "link", "bound", "device"), [
    (100e6, 0, "clock", 100.0), (0, 400e6, "link", 50.0), (100e6, 400e6, "link", 50.0),
    (10e6, 400e6, "clock", 10.0)])
def test_projection(clock, link, bound, device):
    projection = project(PHASE, clock, link)
    assert projection["bound"] == bound
    assert projection["device_tokens_per_second"] == pytest.approx(device)
    assert projection["tokens_per_second"] == pytest.approx(1 / (1 / device + 0.03))


def test_no_projection_without_a_rate_or_a_device():
    assert project(PHASE, 0, 0) is None
    assert project({"seconds": 1.0}, 1e6, 1e6) is None


def test_bits_for_some_modules(packed, capsys):
    out = shown(capsys, packed, tokens=2, backend="golden", as_json=True,
                activation_bits_for=["*.mlp.*=16", "*.up_proj=8"])
    assert json.loads(out)["activation_bits"] == {"*": 8, "*.mlp.*": 16, "*.up_proj": 8}


@pytest.mark.parametrize("rule", ["16", "=16", "*.mlp.*", "*.mlp.*=wide"])
def test_wrong_rule_of_bits(packed, capsys, rule):
    assert refused(capsys, packed, activation_bits_for=[rule]) == (
        f"--activation-bits-for must be GLOB=BITS, not {rule!r}")


def test_wrong_bits_or_names(packed, capsys):
    assert refused(capsys, packed, activation_bits=12) == "activation bits must be 8 or 16, not 12"
    assert refused(capsys, packed, activation_bits_for=["*.experts.*=16"]) == (
        f"{packed}: no matrix fits '*.experts.*'; `tritstream inspect` lists them")


def test_comparison_with_the_unquantized_model(packed, capsys):
    # Sampled tokens differ from the likeliest now and then.
    options = {"tokens": 24, "backend": "golden", "temperature": 1.0, "compare": MODEL}
    report = json.loads(shown(capsys, packed, **options, as_json=True))
    compared = report["compared"]
    model, ids = load_model(MODEL), prompt_ids()[0].tolist()
    for at, choice in enumerate(compared["choices"]):
        before = torch.tensor([ids + report["token_ids"][:at]])
        assert model(before).logits[0, -1].argmax() == choice
    same = [ours == theirs for ours, theirs in zip(report["token_ids"], compared["choices"],
                                                   strict=True)]
    assert 0 < compared["same"] == sum(same) < 24
    assert compared["first_difference"] == same.index(False)
    line = shown(capsys, packed, **options).splitlines()[-1]
    first = compared["first_difference"]
    assert line == (
        f"{MODEL} would have taken {sum(same)} of the 24 tokens; the first other is number "
        f"{first + 1}, {compared['choices_text'][first]!r} in place of "
        f"{compared['tokens_text'][first]!r}")


def test_comparison_without_a_difference(packed, capsys):
    out = shown(capsys, packed, tokens=2, backend="reference", compare=packed)
    assert out.endswith(f"\n{packed} would have taken 2 of the 2 tokens\n")


def test_stop_texts_and_sampling(packed, capsys):
    options = {"tokens": 8, "backend": "reference"}
    whole = shown(capsys, packed, **options).split("\n\n")[0]
    assert shown(capsys, packed, stop=["zz", "of"], **options).split("\n\n")[0] == (
        whole.partition("of")[0]) != whole
    sampled = {"temperature": 1.5, "backend": "reference", "tokens": 8, "as_json": True}
    texts = [json.loads(shown(capsys, packed, **sampled, **more))["token_ids"] for more in (
        {"top_k": 1}, {"top_p": 1e-6}, {"seed": 1}, {"seed": 1}, {"seed": 2})]
    greedy = json.loads(shown(capsys, packed, **options, as_json=True))["token_ids"]
    assert texts[0] == texts[1] == greedy
    assert texts[2] == texts[3] != texts[4]


def test_room_in_the_context_is_told_before_the_work(packed, capsys):
    generate(packed, "a" * 509, tokens=9, backend="reference", as_json=True)
    out, err = capsys.readouterr()
    assert err == ("warning: the prompt has 509 of the 512 tokens of the context, so at most 3 new "
                   "tokens follow, not 9\n")
    assert len(json.loads(out)["token_ids"]) == 3
    with pytest.raises(SystemExit, match="^1$"):
        generate(packed, "a" * 512, device="none")
    assert capsys.readouterr().err == (
        "error: the prompt has 512 tokens, and the context of the model is 512; give a shorter "
        "one\n")


def test_no_text_without_its_characters(packed, capsys, monkeypatch):
    """A text that ends within a character has no sign for broken bytes."""
    tokenizer = load_tokenizer(packed)
    ids = iter(tokenizer("a 漢字").input_ids)
    monkeypatch.setattr(PossibleToken, "__call__", lambda _, ids_, scores: torch.full_like(
        scores, -1.0).index_fill(1, torch.tensor([next(ids)]), 1.0))
    count = len(tokenizer("a 漢").input_ids) + 1
    out = shown(capsys, packed, tokens=count, backend="reference")
    assert out.split("\n\n")[0] == "a 漢"


def test_options_without_effect(packed, capsys):
    for options in ({"top_p": 0.9}, {"top_k": 5}):
        assert refused(capsys, packed, **options) == (
            "--top-p and --top-k need a --temperature above 0: at 0 the most likely token is taken")
    assert refused(capsys, packed, system="Be kind.") == (
        "a system message needs a chat template; give --chat too")
    assert refused(capsys, packed, tokens=0) == "--tokens must be at least 1, not 0"
    code, _, err = run_command("generate", packed, "--prompt", "x", "--stop", "")
    assert code == 2 and "a stop text must not be empty" in err
    code, _, err = run_command("generate", packed, "--prompt", "x", "--max-new-tokens", 0)
    assert (code, err) == (1, "error: --tokens must be at least 1, not 0\n")


def test_wrong_options(packed, tmp_path, capsys):
    bare = shutil.copytree(packed, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    assert refused(capsys, bare) == (
        f"{bare}: has no tokenizer; copy tokenizer.json and tokenizer_config.json of the model "
        "there")
    assert refused(capsys, packed, backend="fpga") == (
        "backend must be one of device, golden, cpu, cuda, reference, not 'fpga'")
    assert refused(capsys, packed, chat=True) == (
        f"{packed}: has no chat template; leave out --chat")
    assert refused(capsys, packed, device="fpga").startswith("no device 'fpga'; there are sim")
    assert refused(capsys, packed, lanes=3) == (
        "Lanes must be one of (1, 2, 4, 8, 16, 32, 64), not 3")


def test_without_torch_the_command_says_what_to_install():
    done = run_python(
        "import sys; sys.modules['torch'] = None\n"
        "sys.argv = ['tritstream', 'generate', sys.argv[1], '--prompt', 'x']\n"
        "from tritstream.scripts.cli import main; main()", MODEL)
    assert done.returncode == 1
    assert done.stderr == (
        "error: models need torch and transformers: pip install 'tritstream[torch]'\n")
