"""UDP over Ethernet by LiteEth, with registers between its layers."""

from types import SimpleNamespace

from liteeth.common import convert_ip
from liteeth.core.arp import LiteEthARP
from liteeth.core.ip import LiteEthIP
from liteeth.core.udp import LiteEthUDP
from liteeth.mac import LiteEthMAC
from litex.gen import LiteXModule
from litex.soc.interconnect import stream

__all__ = ["Network"]

_WIDTH = 32


class Network(LiteXModule):
    """MAC, ARP, IPv4 and UDP, 32 bits wide.

    What LiteEth's own ``LiteEthUDPIPCore`` is, without ICMP, and with a register stage between the
    layers both ways: their handshakes go through all of them at once, which at the clock of an
    ECP5's DDR3 they have no time for.

    Parameters
    ----------
    phy
        Of LiteEth.
    mac_address : int
    ip_address : str
    clock_hz : int

    Members
    -------
    udp : LiteEthUDP
    """

    def __init__(self, phy, mac_address, ip_address, clock_hz) -> None:
        address  = convert_ip(ip_address)
        self.mac = LiteEthMAC(phy=phy, dw=_WIDTH, interface="crossbar", endianness="big",
                              hw_mac=mac_address, with_preamble_crc=True, with_sys_datapath=True)
        mac      = self._staged(self.mac)
        self.arp = LiteEthARP(mac, mac_address, address, clock_hz, dw=_WIDTH)
        self.ip  = LiteEthIP(mac, mac_address, address, self.arp.table, dw=_WIDTH)
        self.udp = LiteEthUDP(self._staged(self.ip), address, dw=_WIDTH)

    def _staged(self, layer):
        """The layer, as far as those above look at it; its ports have registers."""
        def get_port(number, dw):
            port = layer.crossbar.get_port(number, dw)
            source, sink = (self._stage(end) for end in (port.source, port.sink))
            self.comb += [port.source.connect(source.sink), sink.source.connect(port.sink)]
            return SimpleNamespace(source=source.source, sink=sink.sink)

        return SimpleNamespace(crossbar=SimpleNamespace(get_port=get_port))

    def _stage(self, endpoint):
        stage = stream.Buffer(endpoint.description, pipe_valid=True, pipe_ready=True)
        self.submodules += stage
        return stage
