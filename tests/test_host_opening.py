import asyncio

import numpy as np
import pytest
from host_cases import matrix_of, multiply, vectors

from golden.gemv import gemv
from host.opening import open_device, parse_specs
from host.records import Info
from hw.config import DeviceConfig
from hw.export import export_device

THERE_ARE = "there are sim, sim:lanes=64,columns=4, tcp://HOST:PORT and udp://HOST"


def test_simulated_device():
    async def use():
        async with open_device("sim:lanes=4,columns=2", DeviceConfig(8, 3, max_k=512)) as device:
            info = await device.identify()
            return info, await multiply(device, matrix, x)

    matrix, x = matrix_of(45, 64), vectors(3, 64)
    info, ((product,), _) = asyncio.run(use())
    build_id = export_device(DeviceConfig(4, 2, 512, build_id=None))[1].build_id
    assert info == Info(version=1, lanes=4, columns=2, max_k=512, clock_hz=0, build_id=build_id)
    np.testing.assert_array_equal(product, gemv(matrix, x))


@pytest.mark.parametrize("specs", [
    "sim:lanes=2,columns=3,sim:lanes=4,max_k=64,sim",
    ["sim:lanes=2,columns=3", "sim:lanes=4,max_k=64", "sim"]])
def test_several(specs):
    assert [(spec.text, spec.options) for spec in parse_specs(specs)] == [
        ("sim:lanes=2,columns=3", {"lanes": "2", "columns": "3"}),
        ("sim:lanes=4,max_k=64", {"lanes": "4", "max_k": "64"}), ("sim", {})]


@pytest.mark.parametrize(("spec", "message"), [
    ("", f"no device ''; {THERE_ARE}"),
    ("sims", f"no device 'sims'; {THERE_ARE}"),
    ("sim:", f"no device 'sim:'; {THERE_ARE}"),
    ("sim:lanes", f"no device 'sim:lanes'; {THERE_ARE}"),
    ("sim,,sim", f"no device ''; {THERE_ARE}"),
    ("sim,4", f"no device '4'; {THERE_ARE}"),
    (["sim", "lanes=4"], f"no device 'sim,lanes=4'; {THERE_ARE}"),
    (["sim"] * 33, "33 devices are too many; 32 can work together"),
    ("sim://x", "sim://x: a simulated device has no address; write sim"),
    ("sim:lane=4", "sim:lane=4: no option 'lane'; there are lanes, columns, max_k"),
    ("sim:lanes=,max_k=x", "sim:lanes=,max_k=x: lanes must be a number, not ''"),
    ("sim:lanes=4,max_k=x", "sim:lanes=4,max_k=x: max_k must be a number, not 'x'"),
    ("sim:lanes=3", r"Lanes must be one of \(1, 2, 4, 8, 16, 32, 64\), not 3"),
])
def test_wrong_spec(spec, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        open_device(spec)
