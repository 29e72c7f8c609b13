"""The C example of the memory-mapped core, compiled and run against the simulation."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.layout.prepare import prepare
from tritstream.host.protocol.operands import mantissa_bytes
from tritstream.hw.axi.package import package_files
from tritstream.hw.protocol import GemvArguments
from tritstream.scripts.console import write_text

from support.axi_linux import CONFIG
from support.gemv_example import run_example
from support.host_cases import matrix_of, vectors
from support.pages import code_blocks

WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
PAGE = Path(__file__).parents[2] / "docs" / "axi-driver.md"
SIMULATED = Path(__file__).parents[1] / "support" / "gemv_simulated.c"


def compiled(*arguments):
    done = subprocess.run(["gcc", *WARNINGS, *map(str, arguments)], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The package, as `tritstream hw axi` writes it."""
    folder = tmp_path_factory.mktemp("package")
    for name, text in package_files(CONFIG)[0].items():
        write_text(folder / name, text)
    return folder


@pytest.fixture(scope="module")
def library(folder):
    path = folder / "gemv.so"
    compiled("-O1", "-shared", "-fPIC", "-Dmain=example_main", "-o", path, f"-I{folder}",
             folder / "gemv.c", folder / "gemv_main.c", SIMULATED)
    return path


@pytest.fixture
def run(library, tmp_path, capfd):
    """Function that runs the example on the files of a folder; exit code and output."""
    def run(*arguments):
        code = run_example(library, CONFIG, tmp_path, *arguments)
        return code, *capfd.readouterr()
    return run


@pytest.fixture
def multiply(run, tmp_path):
    """Function that writes the files of a product, and runs the example."""
    def multiply(matrix, x, spoil=lambda words: words):
        prepared = prepare(matrix, CONFIG.lanes, CONFIG.device.max_k, fold_words=None)
        part, = prepared.parts
        padded_x = np.pad(x, (0, -len(x) % 16))
        for name, data in (("mantissas", mantissa_bytes(prepared.mantissas)),
                           ("activations", padded_x),
                           ("words", spoil(bytes(part.payload(0, part.blocks))))):
            (tmp_path / name).write_bytes(bytes(data))
        arguments = GemvArguments(prepared.depth, part.groups, 1, part.blocks).pack()
        return run(*arguments, matrix.rows)
    return multiply


@pytest.mark.parametrize(("rows", "columns", "depth"), [(100, 250, 3), (7, 16, 1), (8000, 64, 2)])
def test_the_example_multiplies(multiply, rows, columns, depth):
    """The last matrix has more results than the ring holds."""
    matrix, x = matrix_of(rows, columns, depth), vectors(columns)
    code, out, err = multiply(matrix, x)
    assert code == 0, err
    np.testing.assert_array_equal(np.array(out.split(), np.int64), gemv(matrix, x))


def test_words_that_are_missing_are_an_error(multiply):
    assert multiply(matrix_of(100, 250, 3), vectors(250), lambda words: words[:-64]) == (
        1, "", "the product failed\n")


def test_the_page_writes_a_folder(run, tmp_path, monkeypatch, capfd):
    text, = (text for language, text in code_blocks(PAGE) if language == "python")
    found = {}
    monkeypatch.chdir(tmp_path)
    exec(text.replace("32, 32768", f"{CONFIG.lanes}, {CONFIG.device.max_k}"), found)
    code, out, err = run(*capfd.readouterr().out.split())
    assert code == 0, err
    np.testing.assert_array_equal(np.array(out.split(), np.int64),
                                  gemv(found["weights"], found["x"]))


def test_the_platform_of_linux_compiles(folder, tmp_path):
    compiled("-D_GNU_SOURCE", "-o", tmp_path / "gemv", f"-I{folder}",
             *(folder / name for name in ("gemv.c", "gemv_main.c", "gemv_uio.c")))
