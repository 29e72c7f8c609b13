from golden.journal import Journal

JOB = {"job": "count", "of": ["a", "b"]}


def test_what_follows_a_cut_line_counts(tmp_path):
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
