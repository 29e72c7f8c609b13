import pytest

from support.published import write_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A checkpoint of dequantized weights in two files."""
    path = tmp_path_factory.mktemp("published") / "m"
    write_checkpoint(path, shards=2)
    return path
