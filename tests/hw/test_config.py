import re
from dataclasses import FrozenInstanceError

import pytest

from tritstream.hw.config import LANE_COUNTS, DeviceConfig


def message(text):
    return f"^{re.escape(text)}$"


@pytest.mark.parametrize("lanes", LANE_COUNTS)
def test_lane_counts(lanes):
    config = DeviceConfig(lanes=lanes)
    assert config.word_bits == 8 * lanes
    assert config.sums_per_word == {16: 2, 32: 4, 64: 8}.get(lanes, 1)


def test_defaults_serve_the_longest_vector():
    config = DeviceConfig()
    assert (config.lanes, config.columns, config.max_k) == (8, 1, 32768)
    assert config.max_groups == 2048
    assert (config.clock_hz, config.build_id) == (0, 0)


def test_ends_of_ranges():
    config = DeviceConfig(columns=255, max_k=16, clock_hz=2**32 - 1, build_id=2**32 - 1)
    assert config.max_groups == 1


def test_is_frozen():
    with pytest.raises(FrozenInstanceError, match=r"^cannot assign to field 'lanes'$"):
        DeviceConfig().lanes = 4


@pytest.mark.parametrize("lanes", [0, 3, 128, -1])
def test_wrong_lanes(lanes):
    with pytest.raises(ValueError, match=message(
            f"Lanes must be one of (1, 2, 4, 8, 16, 32, 64), not {lanes}")):
        DeviceConfig(lanes=lanes)


@pytest.mark.parametrize("columns", [0, 256, -1])
def test_wrong_columns(columns):
    with pytest.raises(ValueError, match=message(f"Columns must be 1..255, not {columns}")):
        DeviceConfig(columns=columns)


@pytest.mark.parametrize("max_k", [0, 8, 24, 32784, -16])
def test_wrong_max_k(max_k):
    with pytest.raises(ValueError, match=message(
            f"Maximum K must be a multiple of 16 up to 32768, not {max_k}")):
        DeviceConfig(max_k=max_k)


@pytest.mark.parametrize("name", ["clock_hz", "build_id"])
@pytest.mark.parametrize("value", [-1, 1 << 32])
def test_wrong_info_words(name, value):
    with pytest.raises(ValueError, match=message(f"{name} must fit 32 bits, not {value}")):
        DeviceConfig(**{name: value})


@pytest.mark.parametrize("name", ["lanes", "columns", "max_k", "clock_hz", "build_id"])
@pytest.mark.parametrize("value", ["8", 8.0, None])
def test_wrong_type(name, value):
    if (name, value) == ("build_id", None):
        assert DeviceConfig(build_id=None).build_id is None     # the digest of the RTL
        return
    with pytest.raises(TypeError, match=message(
            f"'{type(value).__name__}' object cannot be interpreted as an integer")):
        DeviceConfig(**{name: value})
