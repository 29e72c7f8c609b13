"""A server that is killed in the middle of a generation changes no token."""

import re

import pytest

from support.killed_servers import Trial


@pytest.mark.long
def test_kills_at_random_places(tmp_path):
    trial = Trial(tmp_path)
    try:
        for seed in range(6):
            outcome, text = trial.run(seed)
            assert outcome == "survived", text
            assert re.match(r"server \d+: model\.layers\.\d\..*: the server closed the connection: "
                            r".*; its rows go to server \d+$", text), text
        assert trial.run(6, spare=False)[0] == "survived"
        outcome, text = trial.run(7, spare=False)
        assert outcome == "refused"
        assert text.startswith("no device is left (server ")
    finally:
        trial.close()
