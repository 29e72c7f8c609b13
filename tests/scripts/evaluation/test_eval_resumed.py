"""Scores that are kept: runs resume, add models, and score again what has changed."""

import errno
import os
import re
import shutil
from itertools import permutations

import tritstream.host.model.load
import tritstream.host.quality
import tritstream.scripts.evaluation.scoring
from tritstream.scripts.evaluation.store import Scores

from support.eval_cases import CHUNKS, SCORED
from support.model_helpers import MODEL


def figures(rows):
    """Rows without what each run of the command measures anew."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_interrupted_run_resumes(places, evaluate, report, predicted, monkeypatch):
    arguments = (places / "d1", places / "d2", "--base", MODEL)
    write = tritstream.host.quality.kl_divergence
    calls = iter(range(100))

    def stop_at_the_sixth(*pair):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return write(*pair)

    monkeypatch.setattr(tritstream.scripts.evaluation.scoring, "kl_divergence", stop_at_the_sixth)
    assert evaluate(*arguments) == (130, "", "interrupted: run the command again to resume\n")
    assert len(predicted) == 9
    monkeypatch.setattr(tritstream.scripts.evaluation.scoring, "kl_divergence", write)
    found = report(*arguments)
    # The base's chunk was scored, but is wanted again for the model that was not.
    assert predicted[9:] == [("tiny-qwen2", 2), ("d2", 2)] + [
        (name, chunk) for chunk in (3, 4) for name in ("tiny-qwen2", "d1", "d2")]
    whole = report(*arguments, "-o", places / "whole")
    assert figures(found["models"]) == figures(whole["models"])


def test_a_model_is_added(places, report, predicted, monkeypatch):
    first = report(places / "d1", "--base", MODEL)
    assert len(predicted) == 2 * CHUNKS
    second = report(places / "d2", "--base", MODEL)
    assert [name for name, _ in predicted[2 * CHUNKS:]] == ["tiny-qwen2", "d2"] * CHUNKS
    assert [row["path"] for row in second["models"]] == [str(places / "d1"), str(places / "d2")]
    assert second["models"][0] == first["models"][0]

    monkeypatch.setattr(tritstream.host.model.load, "load_model", None)
    again = report(places / "d1", places / "d2", "--base", MODEL)
    assert figures(again["models"]) == figures(second["models"])


def test_other_chunks_start_another_table(places, report, predicted):
    report(places / "d1")
    more = report(places / "d2", "--tokens", (CHUNKS + 1) * SCORED)
    assert [row["path"] for row in more["models"]] == [str(places / "d2")]
    report(places / "d1", "--tokens", (CHUNKS + 1) * SCORED)
    assert predicted[-1:] == [("d1", CHUNKS)] and len(predicted) == 2 * CHUNKS + 2


def test_other_weights_are_scored_anew(places, report, predicted, tmp_path):
    shutil.copytree(places / "d2", tmp_path / "model")
    before = report(tmp_path / "model")
    shutil.rmtree(tmp_path / "model")
    shutil.copytree(places / "d1", tmp_path / "model")
    after = report(tmp_path / "model")
    assert len(predicted) == 2 * CHUNKS
    assert len(after["models"]) == 1
    assert before["models"][0]["perplexity"] != after["models"][0]["perplexity"]


def test_order_of_rules_counts(tmp_path):
    first, last = (Scores(tmp_path, {"activation_bits": dict(rules)}).path
                   for rules in permutations([("*.mlp.*", 8), ("*.down_proj", 16)]))
    assert first != last


def test_full_disk_leaves_nothing(places, fails, report, monkeypatch, tmp_path):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert re.fullmatch(
        r"\S+: cannot write settings\.json: No space left on device; free some space and run the "
        r"same command again", fails(places / "d2"))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_damaged_scores_are_made_again(places, report, tmp_path):
    first = report(places / "d2")["models"][0]
    [path] = (tmp_path / "out").rglob("00003.safetensors")
    complete = path.read_bytes()
    path.write_bytes(complete[:-8])
    again = report(places / "d2")["models"][0]
    assert again["perplexity"] == first["perplexity"]
    assert len(path.read_bytes()) == len(complete)
