"""UDP over Ethernet with LiteEth in a clock domain of its own, and registers between its layers."""

from types import SimpleNamespace

from liteeth.common import convert_ip
from liteeth.core.arp import LiteEthARP
from liteeth.core.ip import LiteEthIP
from liteeth.core.udp import LiteEthUDP
from liteeth.mac import LiteEthMAC
from litex.gen import LiteXModule
from litex.soc.interconnect import stream

__all__ = ["NETWORK", "NETWORK_HZ", "Network"]

#: Clock domain of LiteEth, and its frequency in Hz. 32 bits per cycle are 1.6 Gbit/s.
NETWORK, NETWORK_HZ = "net", 50_000_000
_WIDTH = 32


class Network(LiteXModule):
    """MAC, ARP, IPv4 and UDP, 32 bits wide, in the domain :data:`NETWORK`.

    The same as ``LiteEthUDPIPCore`` of LiteEth, but without ICMP, and with a register stage between
    the layers in both directions. Without these registers, the handshakes are combinational through
    all layers. LiteEth would still limit the clock of the system, which is why it has its own.

    Parameters
    ----------
    phy : LiteXModule
        Ethernet PHY of LiteEth.
    mac_address : int
        MAC address, 48 bits.
    ip_address : str
        IPv4 address.

    Members
    -------
    udp : LiteEthUDP
        UDP layer.
    """

    def __init__(self, phy: LiteXModule, mac_address: int, ip_address: str) -> None:
        address  = convert_ip(ip_address)
        self.mac = LiteEthMAC(phy=phy, dw=_WIDTH, interface="crossbar", endianness="big",
                              hw_mac=mac_address, with_preamble_crc=True, with_sys_datapath=True)
        mac      = self._staged(self.mac)
        self.arp = LiteEthARP(mac, mac_address, address, NETWORK_HZ, dw=_WIDTH)
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
