import json

import pytest

import tritstream.host.model.scoring
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.scripts.cli import app

from support.eval_cases import BUILDING, CHUNKS, CONTEXT, SCORED
from support.model_helpers import MODEL
from support.text_cases import make_text


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The shipped model, packed at two depths and exported, and a text."""
    root = tmp_path_factory.mktemp("eval")
    for depth in (1, 2):
        pack_checkpoint(MODEL, root / f"d{depth}", depth)
    export(root / "d2", root / "exported")
    (root / "words.txt").write_text(make_text(400), encoding="utf-8", newline="")
    return root


@pytest.fixture
def evaluate(places, tmp_path, capsys):
    """Run the command; gives its exit code, output and errors."""
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            app(["eval", "--text", str(places / "words.txt"), "--ctx", str(CONTEXT),
                 "--tokens", str(CHUNKS * SCORED), "-o", str(tmp_path / "out"),
                 *map(str, arguments)])
        return ended.value.code, *capsys.readouterr()
    return run


@pytest.fixture
def report(evaluate):
    """Run the command and give its report."""
    def run(*arguments):
        code, out, err = evaluate(*arguments, "--json")
        assert (code, err) == (0, BUILDING if "device" in arguments else "")
        return json.loads(out)
    return run


@pytest.fixture
def fails(evaluate):
    """Run the command and give the one line that it says."""
    def run(*arguments):
        code, out, err = evaluate(*arguments)
        assert (code, out) == (1, "")
        assert err.startswith("error: ") and err.count("\n") == 1
        return err.removeprefix("error: ").strip()
    return run


@pytest.fixture
def predicted(monkeypatch):
    """Models and chunks that are predicted from now on."""
    calls, predict = [], tritstream.host.model.scoring.predict

    def counted(model, chunks, chunk):
        calls.append((model.name_or_path.rpartition("/")[2], chunk))
        return predict(model, chunks, chunk)

    monkeypatch.setattr(tritstream.host.model.scoring, "predict", counted)
    return calls
