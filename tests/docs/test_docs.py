"""The pages: the site builds, links and commands exist, figures are current."""

import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from tritstream.hw.soc.registers import REGISTERS
from tritstream.scripts.cli import app
from tritstream.scripts.reports.plot.style import drawn_from

from support.pages import PAGES, ROOT, anchors, commands, examples, links, spans

DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorial.md"
#: Commands whose output has times, or sums of floats.
VARYING = {"run", "generate", "eval"}
FOLDERS = ("docs", "golden", "host", "hw", "models", "scripts", "sim", "tests")


@pytest.fixture(scope="module")
def docs_modules():
    """The scripts in docs/."""
    sys.path.insert(0, str(DOCS))
    import diagrams
    import errors
    sys.path.remove(str(DOCS))
    return diagrams, errors


def page_id(page):
    return str(page.relative_to(ROOT))


def test_the_site_builds_without_a_warning():
    done = subprocess.run([sys.executable, str(DOCS / "build.py")], capture_output=True, text=True,
                          timeout=600)
    assert done.returncode == 0, done.stderr
    for page in DOCS.glob("*.md"):
        assert (ROOT / "build" / "docs" / "docs" / f"{page.stem}.html").is_file()


def test_every_package_has_its_reference():
    packages = {".".join(path.parent.relative_to(ROOT).parts)
                for name in ("golden", "hw", "sim", "host")
                for path in (ROOT / name).rglob("__init__.py")}
    assert packages == {path.stem for path in (DOCS / "api").glob("*.rst")}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    for target in links(page):
        name, _, anchor = target.partition("#")
        place = page.parent / name if name else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_files_that_are_named_exist(page):
    for span in spans(page):
        if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./*-]*", span):
            assert list(ROOT.glob(span)), span


def find_command(words):
    """The command that some words call, and the words behind it."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        names, *words = words
        for name in names.split("|"):
            assert name in command.commands, name
        command = command.commands[name]
    return command, words


def unknown_options(line):
    """Return the options of a command line that its command does not have.

    A command that passes its options to another program has none of its own to check.
    """
    command, rest = find_command(re.sub(r"[][]|\.\.+", " ", line).split()[1:])
    if command.context_settings.get("ignore_unknown_options"):
        return []
    known = {option for parameter in command.params
             for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    return [word for word in rest if re.match(r"--?[A-Za-z]", word) and word not in known]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_and_their_options_exist(page):
    for line in commands(page):
        assert not unknown_options(line), line


def test_a_wrong_command_is_found():
    assert unknown_options("tritstream run P --vectors 3 [--lines L]..") == ["--lines"]
    with pytest.raises(AssertionError, match="^walk"):
        unknown_options("tritstream hw walk")
    assert len({line for page in PAGES for line in commands(page)}) > 60


def test_registers_are_described_as_in_the_gateware():
    rows = [f"| `{name}` | {text} |" for name, text in REGISTERS.items()]
    assert "\n".join(rows) in (DOCS / "soc.md").read_text()


def test_diagrams_are_what_the_script_draws(docs_modules):
    diagrams, _ = docs_modules
    from tritstream.scripts.reports.plot.style import digest
    for name, spec in diagrams.DIAGRAMS.items():
        assert drawn_from(diagrams.FIGURES / f"{name}.svg") == digest(spec), (
            f"{name}: run `python docs/diagrams.py`")


def test_diagrams_are_drawn_alike_twice(docs_modules, tmp_path):
    diagrams, _ = docs_modules
    for folder in ("once", "twice"):
        diagrams.main(folder=tmp_path / folder)
    for path in (tmp_path / "once").iterdir():
        assert path.read_bytes() == (tmp_path / "twice" / path.name).read_bytes()


def test_figures_of_the_errors(docs_modules):
    _, errors = docs_modules
    page = (DOCS / "numbers-and-errors.md").read_text().splitlines()
    for line in errors.table().splitlines():
        head, *cells = line.strip("| ").split(" | ")
        found = next(one for one in page if one.startswith(f"| {head} | "))
        for cell, shown_cell in zip(cells, found.strip("| ").split(" | ")[1:], strict=True):
            # Sums of floats differ in their last digits from machine to machine.
            assert cell == shown_cell or float(shown_cell) == pytest.approx(float(cell), rel=0.1)


def shown(text, varying):
    """Lines with their spaces, and numbers that vary, made alike."""
    if varying:
        text = re.sub(r"\d+\.\d+(e-?\d+)?", "#", text)
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.fixture
def run_examples(tmp_path, monkeypatch):
    """Function that runs the examples of a page, but those of some commands, and compares."""
    for name in ("models", "LICENSE"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)

    def run(page, but=()):
        chosen = [one for one in examples(page) if one.command[1] not in but]
        assert chosen
        for example in chosen:
            run_example(*example.command, lines=example.lines)

    return run


def run_example(tool, *arguments, lines):
    assert tool == "tritstream"
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    varying = arguments[0] in VARYING
    come = iter(shown(done.stdout, varying))
    for line in shown("\n".join(lines), varying):
        assert line in come, f"{' '.join(arguments)}: no such line: {line}"


def test_the_tutorial_does_what_it_shows(run_examples):
    run_examples(TUTORIAL, but=("generate", "eval"))


@pytest.mark.long
def test_the_whole_tutorial_does_what_it_shows(run_examples):
    run_examples(TUTORIAL)
