import json
import shutil
from hashlib import sha256

import pytest

from tritstream.scripts.assurance.vectors import vectors
from tritstream.scripts.assurance.vectors.vector_set import build, chosen, differences

from support.vector_cases import all_vectors

ONE = ("give one of a directory to make (-o DIR), one to compare (--check DIR), and a device to "
       "try (--device SPEC)")


def refused(capsys, **options):
    """The one line that the command says on the way out."""
    with pytest.raises(SystemExit, match="^1$"):
        vectors(**options)
    return capsys.readouterr().err.removeprefix("error: ").removesuffix("\n")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Vectors of two lane counts and one depth."""
    place = tmp_path_factory.mktemp("vectors") / "small"
    vectors(place, lanes=[1, 4], depth=[3])
    return place


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def test_all_files_are_there_and_fit_the_manifest(whole, capsys):
    manifest = json.loads((whole / "manifest.json").read_bytes())
    assert (manifest["lanes"], manifest["depths"]) == ([1, 4], [3])
    there = {path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file()}
    assert there == {"manifest.json", *manifest["files"]}
    for path, digest in manifest["files"].items():
        assert sha256((whole / path).read_bytes()).hexdigest() == digest
    assert list(whole.parent.iterdir()) == [whole]
    vectors(check=whole)
    assert capsys.readouterr() == (f"{whole}: all files are those of this version\n", "")


def test_a_part_has_the_files_of_the_whole(whole):
    every = all_vectors()
    for path in whole.rglob("*"):
        name = path.relative_to(whole).as_posix()
        if path.is_file() and not name.startswith("packed/d") and name != "manifest.json":
            assert path.read_bytes() == every[name], name


def test_reports_as_json(tmp_path, capsys):
    vectors(tmp_path / "some", lanes=[2], depth=[1], as_json=True)
    report = json.loads(capsys.readouterr().out)
    sizes = [path.stat().st_size for path in (tmp_path / "some").rglob("*") if path.is_file()]
    assert report == {"output": str(tmp_path / "some"), "files": len(sizes), "bytes": sum(sizes)}
    vectors(check=tmp_path / "some", as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "checked": str(tmp_path / "some"), "differences": []}


def test_differences_are_listed(copy, capsys):
    damaged, missing = copy / "trits.json", copy / "words/L4/d3-ties.bin"
    damaged.write_bytes(damaged.read_bytes() + b"\n")
    missing.unlink()
    (copy / "more.bin").write_bytes(b"")
    assert refused(capsys, check=copy) == f"{copy}: 3 files are not those of this version"
    with pytest.raises(SystemExit, match="^1$"):
        vectors(check=copy, as_json=True)
    assert json.loads(capsys.readouterr().out)["differences"] == [
        {"path": "more.bin", "fault": "unknown"}, {"path": "trits.json", "fault": "differs"},
        {"path": "words/L4/d3-ties.bin", "fault": "missing"}]


def test_a_directory_can_be_compared_with_another_choice(copy, capsys):
    message = refused(capsys, check=copy, lanes=[4])
    found = differences(copy, build([4], [3]))
    assert message == f"{copy}: {len(found)} files are not those of this version"
    assert {each.fault for each in found} == {"unknown", "differs"}
    assert all("L1/" in each.path or each.path.startswith(("packed/d3", "products/d3/blocks1"))
               or each.path in ("manifest.json",) for each in found)


def test_choices_have_an_order(whole):
    assert build([4, 1, 4], [3]) == build([1, 4], [3])
    assert chosen([], []) == ((1, 2, 4, 8, 16, 32, 64), (1, 2, 3, 4))


def test_nothing_is_overwritten(copy, tmp_path, capsys):
    before = sorted(path.stat().st_mtime_ns for path in copy.rglob("*"))
    assert refused(capsys, output=copy) == (
        f"{copy}: exists already; compare it with --check, or choose another")
    assert sorted(path.stat().st_mtime_ns for path in copy.rglob("*")) == before
    file = tmp_path / "file"
    file.write_text("mine")
    assert refused(capsys, output=file) == (
        f"{file}: exists already; compare it with --check, or choose another")
    assert refused(capsys, output=file / "under").startswith(f"{file}: cannot write")
    assert file.read_text() == "mine"


def test_an_empty_directory_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    vectors(tmp_path / "empty", lanes=[1], depth=[1])
    vectors(check=tmp_path / "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_failure_leaves_nothing(tmp_path, monkeypatch, capsys):
    written = []

    def full(path, data):
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    monkeypatch.setattr("tritstream.scripts.assurance.vectors.command.write_bytes", full)
    assert refused(capsys, output=tmp_path / "out", lanes=[1], depth=[1]) == (
        f"{tmp_path}: cannot write out: No space left on device; free some space and run the same "
        "command again")
    assert len(written) == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options, message", [
    ({}, ONE),
    ({"output": 1, "check": 1}, ONE),
    ({"output": 1, "device": "sim"}, ONE),
    ({"output": 1, "lanes": [3]}, "lanes must be one of 1, 2, 4, 8, 16, 32, 64, not 3"),
    ({"output": 1, "depth": [5]}, "depth must be 1..4, not 5"),
    ({"check": 1}, "{place}: has no manifest.json; give a directory that -o made"),
])
def test_wrong_options(tmp_path, capsys, options, message):
    place = tmp_path / "none"
    options = {name: place if value == 1 else value for name, value in options.items()}
    assert refused(capsys, **options) == message.format(place=place)
    assert not place.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"lanes": [3], "depths": [1]}',
                                  '{"lanes": 4, "depths": [1]}', '{"lanes": [1], "depths": ["x"]}'])
def test_manifests_that_say_nothing(tmp_path, capsys, text):
    (tmp_path / "manifest.json").write_text(text)
    assert refused(capsys, check=tmp_path) == (
        f"{tmp_path / 'manifest.json'}: does not name lanes and depths; give a directory that -o "
        "made")
