import asyncio

import numpy as np
import pytest
from host_cases import matrix_of, multiply, vectors

from golden.gemv import gemv
from host.opening import open_device
from host.records import Info
from hw.config import DeviceConfig


def test_simulated_device():
    async def use():
        async with open_device("sim:lanes=4,columns=2", DeviceConfig(8, 3, max_k=512)) as device:
            info = await device.identify()
            return info, await multiply(device, matrix, x)

    matrix, x = matrix_of(45, 64), vectors(3, 64)
    info, ((product,), _) = asyncio.run(use())
    assert info == Info(version=1, lanes=4, columns=2, max_k=512, clock_hz=0, build_id=0)
    np.testing.assert_array_equal(product, gemv(matrix, x))


@pytest.mark.parametrize(("spec", "message"), [
    ("", "no device ''; there are sim"),
    ("sims", "no device 'sims'; there are sim"),
    ("sim:lanes", "no device 'sim:lanes'; there are sim"),
    ("sim://x", "sim://x: a simulated device has no address; write sim"),
    ("sim,4", "sim,4: option '4' must be NAME=VALUE"),
    ("sim:lane=4", "sim:lane=4: no option 'lane'; there are lanes, columns, max_k"),
    ("sim:lanes=4,max_k=x", "sim:lanes=4,max_k=x: max_k must be a number, not 'x'"),
    ("sim:lanes=3", r"Lanes must be one of \(1, 2, 4, 8, 16, 32, 64\), not 3"),
])
def test_wrong_spec(spec, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        open_device(spec)
