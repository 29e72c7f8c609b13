from pathlib import Path

import pytest

from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.journal import Journal, understood
from tritstream.golden.packed.report import TensorReport
from tritstream.golden.recover.survey import Survey
from tritstream.scripts.running.stream import MatrixRun

from support.golden_helpers import message

JOB = {"job": "count", "of": ["a", "b"]}


def test_lines_after_a_cut_line_count(tmp_path):
    path = tmp_path / "journal"
    with Journal(path) as journal:
        assert journal.begin(JOB) == {}
        journal.record("a", {"size": 1})
    with path.open("ab") as file:
        file.write(b'["b",{"si')
    with Journal(path) as journal:
        assert journal.begin(JOB) == {"a": {"size": 1}}
        journal.record("c", {"size": 3})
    with Journal(path) as journal:
        assert journal.begin(JOB) == {"a": {"size": 1}, "c": {"size": 3}}


def left(path):
    """A journal of three records."""
    with Journal(path) as journal:
        journal.begin(JOB)
        for name in "abc":
            journal.record(name, {"size": 1})
    return path.read_bytes()


@pytest.mark.parametrize("place", range(0, 115, 5))
def test_a_changed_byte_ends_what_counts(tmp_path, place):
    path = tmp_path / "journal"
    data = bytearray(left(path))
    ends = [data.index(b'["%c"' % name) for name in b"bc"] + [len(data)]
    before = [name for name, end in zip("abc", ends, strict=True) if end <= place]
    data[place] ^= 1
    path.write_bytes(data)
    with Journal(path) as journal:
        assert list(journal.begin(JOB)) == before


@pytest.mark.parametrize("line", [
    b"3", b"null", b"[]", b'["a",{}]', b'[3,{},"x"]', b'["d",3,"00000000"]', b"[" * 100000,
    b'["d",{"size":1},"00000000"]', b"\xff",
])
def test_a_line_that_is_no_record_does_not_count(tmp_path, line):
    path = tmp_path / "journal"
    data = left(path)
    path.write_bytes(data + line + b"\n" + data.splitlines(keepends=True)[-1])
    with Journal(path) as journal:
        assert list(journal.begin(JOB)) == ["a", "b", "c"]
    assert path.read_bytes() == data


def test_a_first_line_that_is_no_object_is_of_no_job(tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(b"3\n" + left(path))
    with Journal(path) as journal:
        assert not journal.is_of(JOB)
        assert journal.begin(JOB) == {}


@pytest.mark.parametrize("record", [{}, {"seconds": 3}, {"seconds": {}}, {"shape": 5}])
@pytest.mark.parametrize("make", [TensorReport.from_record, Survey.from_record, MatrixRun.of])
def test_records_of_another_version(make, record):
    with pytest.raises(CheckpointError, match=message("x: left by another version; remove it")):
        understood(make, record, Path("x"))
