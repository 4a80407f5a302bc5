"""The network behind the access point of an emulated Pico W: this machine's loopback address, and nothing else.

The board is 10.0.0.2. The gateway, 10.0.0.1, is the one other host there is, and stands for this machine: its UDP port
P is port P of 127.0.0.1. Each UDP port of the board has a socket here that lasts, so a peer sees one port for it from
the first datagram to the last, and what the peer sends to it finds the board, asked for or not. Port 5683 of the board
has the front socket: a client on 127.0.0.1:C is the gateway's port C to the board.

One exception: the gateway's port 5685 and the port that the collector really has stand for each other, so that the
board's configuration need not tell.

ARP and DHCP are answered. All else, TCP and DNS included, is dropped and counted; in place of rp2040py's own bridge,
which carries it to real hosts.
"""

import socket
from collections import Counter, OrderedDict

from rp2040py.external.cyw43 import net
from rp2040py.external.cyw43.nat import GATEWAY_IP, GATEWAY_MAC, GUEST_IP, ArpResponder, DhcpServer

from coaplet_tools.emulate.link import LOOPBACK, PORT, bound, datagrams
from coaplet_tools.emulate.models import COLLECTOR_PORT
from coaplet_tools.emulate.radio import Radio

_DNS = 53
_MULTICAST = 224  # RFC 1112 4; and broadcast
_MORE_OR_LATER = 0x3FFF  # of a fragment: RFC 791 3.1, flags and offset
_MOST_WAITING = 64  # frames on their way to the board: more is lost, as in any queue
_MOST_PORTS = 64  # of the board: the one unused for the longest time gives way


class WifiLink:
    """front: the socket of the board's port 5683; collector: an address of this machine."""

    def __init__(self, radio: Radio, front: socket.socket, collector: tuple[str, int]) -> None:
        self.dropped: Counter[str] = Counter()
        self._collector = collector[1]
        self._radio = radio
        self._arp = ArpResponder()
        self._dhcp = DhcpServer()
        self._board = b""  # its MAC address; none as long as it has not joined
        self._to_board = self._from_board = self._lost = 0
        self._front = front
        self._others: OrderedDict[int, socket.socket] = OrderedDict()  # by the board's ports
        radio.network = self

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        return self._front, *self._others.values()

    def take(self, sock: socket.socket) -> None:
        own = next((port for port, other in self._others.items() if other is sock), PORT)
        for datagram, (host, port) in datagrams(sock):
            if host != LOOPBACK:  # 127.0.0.2, say, whose port the gateway cannot stand for
                self.dropped["stray"] += 1
            elif not self._board or self._radio.waiting >= _MOST_WAITING:
                self._lost += 1
            else:
                self._to_board += 1
                udp = net.pack_udp(GATEWAY_IP, GUEST_IP, self._other_name(port), own, datagram)
                packet = net.pack_ipv4(GATEWAY_IP, GUEST_IP, net.IP_PROTO_UDP, udp)
                self._radio.give(net.pack_ethernet(self._board, GATEWAY_MAC, net.ETHERTYPE_IPV4, packet))

    def settle(self) -> None:
        """Nothing to do: what the board sends goes on at once."""

    def report(self) -> str:
        kinds = ("DNS", "TCP", "for other hosts", "multicast", "other", "stray")
        counts = ", ".join(f"{self.dropped[kind]} {kind}" for kind in kinds)
        return f"{self._to_board} datagrams to it, {self._from_board} from it; dropped: {counts}; {self._lost} lost"

    def close(self) -> None:
        for sock in self._others.values():
            sock.close()

    # --- the two that rp2040py calls, by its own names ---

    def reset(self) -> None:
        """Forget the board, which has left."""
        self._board = b""

    def handle_outbound_ethernet_frame(self, frame: bytes) -> None:
        """Take in what the board sends."""
        eth = net.parse_ethernet(frame)
        if eth is None:
            self.dropped["other"] += 1
            return
        self._board = eth.src_mac
        if eth.ethertype == net.ETHERTYPE_ARP:
            reply = self._arp.maybe_handle(eth)
        else:
            reply = self._dhcp.maybe_handle(eth)
            if reply is None:
                self._relay(eth)
        if reply is not None:
            self._radio.give(reply)

    def _relay(self, eth: net.EthernetFrame) -> None:
        ip = net.parse_ipv4(eth.payload) if eth.ethertype == net.ETHERTYPE_IPV4 else None
        whole = ip and not int.from_bytes(eth.payload[6:8], "big") & _MORE_OR_LATER
        udp = net.parse_udp(ip.payload) if ip and whole and ip.proto == net.IP_PROTO_UDP else None
        if ip and ip.dst_ip[0] >= _MULTICAST:  # mDNS, most often: the port announces the board's name by it
            self.dropped["multicast"] += 1
        elif ip is None or udp is None:
            self.dropped["TCP" if ip and ip.proto == net.IP_PROTO_TCP else "other"] += 1
        elif udp.dst_port == _DNS:
            self.dropped["DNS"] += 1
        elif ip.dst_ip != GATEWAY_IP:
            self.dropped["for other hosts"] += 1
        else:
            self._from_board += 1
            try:
                self._socket_of(udp.src_port).sendto(udp.payload, (LOOPBACK, self._other_name(udp.dst_port)))
            except OSError:
                self._lost += 1  # as on any network

    def _socket_of(self, port: int) -> socket.socket:
        if port == PORT:
            return self._front
        if port not in self._others:
            if len(self._others) >= _MOST_PORTS:
                self._others.popitem(last=False)[1].close()
            self._others[port] = bound(0)
        self._others.move_to_end(port)
        return self._others[port]

    def _other_name(self, port: int) -> int:
        """Return the port of this machine that one of the gateway stands for, and the other way round."""
        if port in (COLLECTOR_PORT, self._collector):
            return COLLECTOR_PORT + self._collector - port
        return port
