"""UDP over Ethernet with LiteEth, and registers between its layers."""

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

    The same as ``LiteEthUDPIPCore`` of LiteEth, but without ICMP, and with a register stage between
    the layers in both directions. Without these registers, the handshakes are combinational through
    all layers, which is too slow for the clock of a DDR3 memory on an ECP5.

    Parameters
    ----------
    phy : LiteXModule
        Ethernet PHY of LiteEth.
    mac_address : int
        MAC address, 48 bits.
    ip_address : str
        IPv4 address.
    clock_hz : int
        Clock of the system in Hz.

    Members
    -------
    udp : LiteEthUDP
        UDP layer.
    """

    def __init__(self, phy: LiteXModule, mac_address: int, ip_address: str, clock_hz: int) -> None:
        address  = convert_ip(ip_address)
        self.mac = LiteEthMAC(phy=phy, dw=_WIDTH, interface="crossbar", endianness="big",
                              hw_mac=mac_address, with_preamble_crc=True, with_sys_datapath=True)
        mac      = self._staged(self.mac)
        self.arp = LiteEthARP(mac, mac_address, address, clock_hz, dw=_WIDTH)
        self.ip  = LiteEthIP(mac, mac_address, address, self.arp.table, dw=_WIDTH)
        self.udp = LiteEthUDP(self._staged(self.ip), address, dw=_WIDTH)

    def _staged(self, layer):
        """Return a stand-in for a layer, whose ports have registers."""
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
