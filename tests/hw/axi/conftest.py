import pytest

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.package import package_files
from tritstream.hw.config import DeviceConfig


@pytest.fixture(scope="session")
def package():
    """Files of a package with two channels of 8 lanes, by path."""
    return package_files(AxiConfig(DeviceConfig(8, 1, 64, 300_000_000), channels=2))[0]


@pytest.fixture
def package_folder(package, tmp_path):
    """A folder with the files of the package."""
    for name, text in package.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path
