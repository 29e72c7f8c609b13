import pytest

from tritstream.golden.recover.import_checkpoint import import_checkpoint

from support.published import write_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A checkpoint of dequantized weights in two files."""
    path = tmp_path_factory.mktemp("published") / "m"
    write_checkpoint(path, shards=2)
    return path


@pytest.fixture(scope="module")
def imported(model):
    """The import of the checkpoint, which tests must not change."""
    import_checkpoint(model, model.parent / "imported")
    return model.parent / "imported"
