import asyncio
from unittest.mock import AsyncMock

import numpy as np
import pytest

from tritstream.golden.gemv import gemv
from tritstream.host.device_spec import parse_specs
from tritstream.host.open_device import open_device
from tritstream.host.placement.work import Step, Work
from tritstream.host.protocol.records import Info
from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import VERSION
from tritstream.hw.tools.export import export_device

from support.host_cases import matrix_of, multiply, vectors

THERE_ARE = ("there are sim, sim:lanes=64,columns=4, axi-sim:channels=4,lanes=32, "
             "tcp://HOST:PORT, udp://HOST, dask://HOST:8786,devices=4, uio:uio0,buffer=udmabuf0, "
             "pcie:0000:03:00.0,buffer=udmabuf0, pynq:kv260.bit,memory=512, "
             "uartbone:/dev/ttyUSB0 and "
             "serial:/dev/ttyUSB0,baud=3000000")


def test_simulated_device():
    async def use():
        async with open_device("sim:lanes=4,columns=2", DeviceConfig(8, 3, max_k=512)) as device:
            info = await device.identify()
            return info, await multiply(device, matrix, x)

    matrix, x = matrix_of(45, 64), vectors(3, 64)
    info, ((product,), _) = asyncio.run(use())
    build_id = export_device(DeviceConfig(4, 2, 512, build_id=None))[1].build_id
    assert info == Info(version=VERSION, lanes=4, columns=2, max_k=512, clock_hz=0,
                        build_id=build_id)
    np.testing.assert_array_equal(product, gemv(matrix, x))


@pytest.mark.parametrize("specs", [
    "sim:lanes=2,columns=3,sim:lanes=4,max_k=64,sim",
    ["sim:lanes=2,columns=3", "sim:lanes=4,max_k=64", "sim"]])
def test_several(specs):
    assert [(spec.text, spec.options) for spec in parse_specs(specs)] == [
        ("sim:lanes=2,columns=3", {"lanes": "2", "columns": "3"}),
        ("sim:lanes=4,max_k=64", {"lanes": "4", "max_k": "64"}), ("sim", {})]


@pytest.mark.parametrize(("spec", "port", "options"), [
    ("serial:/dev/ttyUSB0", "/dev/ttyUSB0", {}),
    ("serial:///dev/ttyUSB0,baud=115200", "/dev/ttyUSB0", {"baud": "115200"}),
    ("serial:COM3,baud=115200,timeout=1", "COM3", {"baud": "115200", "timeout": "1"}),
    ("serial:/dev/serial/by-id/usb-FTDI_1:0-if01", "/dev/serial/by-id/usb-FTDI_1:0-if01", {}),
    ("serial:socket://host:4000,baud=9600", "socket://host:4000", {"baud": "9600"}),
    ("serial:rfc2217://host:4000?ign_set_control", "rfc2217://host:4000?ign_set_control", {}),
    ("serial:hwgrep://0403:6010&n=2", "hwgrep://0403:6010&n=2", {}),
])
def test_serial_ports(spec, port, options):
    last = {"scheme": "sim", "address": None, "options": {}}
    found, other = parse_specs(f"{spec},sim")
    assert (found.text, found.scheme, found.address, found.options) == (
        spec, "serial", port, options)
    assert vars(other).items() >= last.items()


@pytest.mark.parametrize(("specs", "layers"), [
    ("layers:sim:lanes=2,sim", True), (["layers:sim:lanes=2", "sim", "spare:sim"], True),
    ("sim:lanes=2,sim", False)])
def test_devices_with_complete_layers(specs, layers):
    """Matrices of two layers have their places on two devices, or on both."""
    async def places():
        async with open_device(specs) as group:
            infos = [Info(VERSION, lanes, 1, 512, 0, 0) for lanes in (2, 8)]
            for device, info in zip(group.devices, infos, strict=True):
                monkey.setattr(device, "info", AsyncMock(return_value=info))
            return await group.place([Step(f"layer {work.name}", (work,)) for work in works])

    works = [Work(f"model.layers.{layer}.mlp.down_proj", (4000, 64), 3) for layer in range(5)]
    with pytest.MonkeyPatch.context() as monkey:
        plan = asyncio.run(places())
    assert [sorted(share.unit for share in plan.shares[work.name]) for work in works] == (
        [[0]] + [[1]] * 4 if layers else [[0, 1]] * 5)


@pytest.mark.parametrize(("spec", "message"), [
    ("layers:sim", "layers:sim: one device has all layers; give several, or leave layers: out"),
    ("layers:sim,spare:sim", "layers:sim,spare:sim: one device has all layers; give several, or "
                             "leave layers: out"),
    ("", f"no device ''; {THERE_ARE}"),
    ("sims", f"no device 'sims'; {THERE_ARE}"),
    ("sim:", f"no device 'sim:'; {THERE_ARE}"),
    ("sim:lanes", f"no device 'sim:lanes'; {THERE_ARE}"),
    ("sim,,sim", f"no device ''; {THERE_ARE}"),
    ("sim,4", f"no device '4'; {THERE_ARE}"),
    (["sim", "lanes=4"], f"no device 'sim,lanes=4'; {THERE_ARE}"),
    (["sim"] * 33, "33 devices are too many; 32 can work together"),
    ("serial", f"no device 'serial'; {THERE_ARE}"),
    ("serial:", f"no device 'serial:'; {THERE_ARE}"),
    ("serial:baud=9600", f"no device 'serial:baud=9600'; {THERE_ARE}"),
    ("serials:/dev/ttyUSB0", f"no device 'serials:/dev/ttyUSB0'; {THERE_ARE}"),
    ("/dev/ttyUSB0", f"no device '/dev/ttyUSB0'; {THERE_ARE}; write serial:/dev/ttyUSB0"),
    ("COM3,baud=9600",
     f"no device 'COM3,baud=9600'; {THERE_ARE}; write serial:COM3,baud=9600"),
    ("socket://localhost:4000",
     f"no device 'socket://localhost:4000'; {THERE_ARE}; write serial:socket://localhost:4000"),
    ("serial:COM3,speed=9600",
     "serial:COM3,speed=9600: no option 'speed'; there are baud, timeout"),
    ("serial:COM3,baud=fast", "serial:COM3,baud=fast: baud must be a number, not 'fast'"),
    ("serial:COM3,baud=0", "COM3: baud must be a positive integer, not 0"),
    ("serial:COM3,timeout=inf", "COM3: timeout must be longer than .* not inf"),
    ("sim://x", "sim://x: a simulated device has no address; write sim"),
    ("sim:lane=4", "sim:lane=4: no option 'lane'; there are lanes, columns, max_k"),
    ("sim:lanes=,max_k=x", "sim:lanes=,max_k=x: lanes must be a number, not ''"),
    ("sim:lanes=4,max_k=x", "sim:lanes=4,max_k=x: max_k must be a number, not 'x'"),
    ("sim:lanes=3", r"Lanes must be one of \(1, 2, 4, 8, 16, 32, 64\), not 3"),
])
def test_wrong_spec(spec, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        open_device(spec)
