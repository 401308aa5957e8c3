"""IP packets: taking requests apart and building the answers."""

from __future__ import annotations

import struct
from typing import NamedTuple

ICMP, TCP, ICMP6 = 1, 6, 58
ECHO_REQUESTS = {ICMP: 8, ICMP6: 128}
ECHO_REPLIES = {ICMP: 0, ICMP6: 129}
SYN, RST, ACK = 0x02, 0x04, 0x10
_FIN = 0x01

_tcp_header = struct.Struct("!HHIIBBHHH")
_echo_header = struct.Struct("!BBHHH")


class Packet(NamedTuple):
    """An IP packet without its header; addresses are 4 or 16 bytes."""

    source: bytes
    target: bytes
    protocol: int
    payload: bytes


class Echo(NamedTuple):
    """An ICMP or ICMPv6 echo, request or reply."""

    kind: int
    code: int
    identifier: int
    sequence: int
    data: bytes


class Segment(NamedTuple):
    """What matters of a TCP segment; ``length``: what it takes of the sequence space."""

    source_port: int
    target_port: int
    sequence: int
    acknowledged: int
    flags: int
    length: int = 0


def parse(data: bytes) -> Packet | None:
    """Return the packet in ``data``, None when it is none of ours to read."""
    if data[0] >> 4 == 4 and len(data) >= 20:
        return Packet(data[12:16], data[16:20], data[9], data[(data[0] & 0x0F) * 4 :])
    if data[0] >> 4 == 6 and len(data) >= 40:
        return Packet(data[8:24], data[24:40], data[6], data[40:])
    return None


def build(packet: Packet) -> bytes:
    """Return the octets of a packet, its header in front."""
    size = len(packet.payload)
    if len(packet.source) == 16:
        header = struct.pack("!IHBB", 6 << 28, size, packet.protocol, 64)
        return header + packet.source + packet.target + packet.payload
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, 64, packet.protocol, 0)
    header += packet.source + packet.target
    return header[:10] + checksum(header) + header[12:] + packet.payload


def checksum(data: bytes) -> bytes:
    """Return the Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def _pseudo_header(source: bytes, target: bytes, protocol: int, size: int) -> bytes:
    if len(source) == 16:
        return source + target + struct.pack("!IHBB", size, 0, 0, protocol)
    return source + target + struct.pack("!BBH", 0, protocol, size)


def parse_echo(packet: Packet) -> Echo | None:
    """Return the echo request in a packet, if it is one and its checksum is right."""
    if packet.protocol not in ECHO_REQUESTS or len(packet.payload) < _echo_header.size:
        return None
    kind, code, _, identifier, sequence = _echo_header.unpack_from(packet.payload)
    if kind != ECHO_REQUESTS[packet.protocol] or not _sums_up(packet):
        return None
    return Echo(kind, code, identifier, sequence, packet.payload[_echo_header.size :])


def _sums_up(packet: Packet) -> bool:
    data = packet.payload
    if packet.protocol != ICMP:
        data = _pseudo_header(packet.source, packet.target, packet.protocol, len(data)) + data
    return checksum(data) == b"\0\0"


def echo(source: bytes, target: bytes, message: Echo) -> bytes:
    """Return a packet with this echo, its checksums right."""
    protocol = ICMP if len(source) == 4 else ICMP6
    data = _echo_header.pack(*message[:2], 0, *message[2:4]) + message.data
    covered = data
    if protocol == ICMP6:
        covered = _pseudo_header(source, target, protocol, len(data)) + data
    return build(Packet(source, target, protocol, data[:2] + checksum(covered) + data[4:]))


def parse_segment(packet: Packet) -> Segment | None:
    """Return the TCP segment in a packet, if it is one and its checksum is right."""
    if packet.protocol != TCP or len(packet.payload) < _tcp_header.size or not _sums_up(packet):
        return None
    source, target, sequence, acknowledged, offset, flags, *_ = _tcp_header.unpack_from(
        packet.payload
    )
    length = len(packet.payload) - (offset >> 4) * 4 + bool(flags & SYN) + bool(flags & _FIN)
    return Segment(source, target, sequence, acknowledged, flags, length)


def segment(source: bytes, target: bytes, message: Segment) -> bytes:
    """Return a packet with this TCP segment, its checksums right."""
    ports = message.source_port, message.target_port
    numbers = message.sequence, message.acknowledged
    data = _tcp_header.pack(*ports, *numbers, 5 << 4, message.flags, 65_535, 0, 0)
    covered = _pseudo_header(source, target, TCP, len(data)) + data
    return build(Packet(source, target, TCP, data[:16] + checksum(covered) + data[18:]))
