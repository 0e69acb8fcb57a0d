"""What an independent capture (tcpdump) saw on a link: TCP streams put together again, TLS records counted, texts searched.

Reads pcap files as tcpdump writes them (Ethernet). Knows nothing of Warren.
"""

import dataclasses
import ipaddress
import struct

TLS_HANDSHAKE, TLS_APPLICATION_DATA = 22, 23
TLS_TYPES = range(20, 24)  # RFC 8446 §5.1


@dataclasses.dataclass
class Stream:
    """One direction of a TCP connection."""

    source: tuple  # (address, port)
    destination: tuple
    segments: list = dataclasses.field(default_factory=list)  # (sequence number, payload, time)
    opened: bool = False  # its SYN was seen

    def join(self):
        """The bytes in order with retransmissions dropped, and for each piece (offset, time)."""
        data, pieces, start = bytearray(), [], None
        for sequence, payload, time in sorted(self.segments, key=lambda piece: piece[0]):
            start = sequence if start is None else start
            have = len(data) - (sequence - start)  # bytes of this piece that are there already
            if have < 0:
                data += bytes(-have)  # the capture missed something: keep the distance
                have = 0
            if have < len(payload):
                pieces.append((len(data), time))
                data += payload[have:]
        return bytes(data), pieces

    def tls_records(self):
        """(type, length, time) of each record; None when the bytes are anything else than TLS records."""
        data, pieces = self.join()
        records, offset, piece = [], 0, 0
        while offset + 5 <= len(data):
            kind, version, length = struct.unpack_from("!BHH", data, offset)
            if kind not in TLS_TYPES or version not in (0x0301, 0x0303) or length > 16384 + 256:
                return None
            while piece + 1 < len(pieces) and pieces[piece + 1][0] <= offset:
                piece += 1
            records.append((kind, length, pieces[piece][1]))
            offset += 5 + length
        return records


class Capture:
    def __init__(self, path):
        self.streams, self.packet_count = {}, 0
        self.other = []  # payloads of packets that are not TCP
        with open(path, "rb") as file:
            self._read(file.read())

    def find(self, text):
        """The streams in which a text is to be read; packets that are not TCP count as one more."""
        needle = text.encode()
        found = [stream for stream in self.streams.values() if needle in stream.join()[0]]
        return found + (["not TCP"] if any(needle in payload for payload in self.other) else [])

    def to_port(self, port):
        return [stream for stream in self.streams.values() if port in (stream.source[1], stream.destination[1])]

    def connections_to(self, address, port, source=None):
        """Streams opened towards an address, from anywhere or from one address."""
        goal = (ipaddress.ip_address(address), port)
        return [stream for stream in self.streams.values() if stream.opened and stream.destination == goal
                and (source is None or stream.source[0] == ipaddress.ip_address(source))]

    def _read(self, data):
        magic = data[:4]
        if magic not in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"):
            raise ValueError("not a pcap file of this machine's byte order")
        unit = 1e-6 if magic[0] == 0xD4 else 1e-9
        offset = 24
        while offset + 16 <= len(data):
            seconds, fraction, length, _ = struct.unpack_from("<IIII", data, offset)
            frame = data[offset + 16 : offset + 16 + length]
            offset += 16 + length
            self.packet_count += 1
            self._frame(frame, seconds + fraction * unit)

    def _frame(self, frame, time):
        kind = int.from_bytes(frame[12:14], "big")
        packet = frame[14:]
        if kind == 0x0800 and len(packet) >= 20:
            header = (packet[0] & 15) * 4
            protocol, addresses = packet[9], (packet[12:16], packet[16:20])
            packet = packet[: int.from_bytes(packet[2:4], "big") or len(packet)]
        elif kind == 0x86DD and len(packet) >= 40:
            header, protocol, addresses = 40, packet[6], (packet[8:24], packet[24:40])
        else:
            self.other.append(packet)
            return
        segment = packet[header:]
        if protocol != 6 or len(segment) < 20:
            self.other.append(segment)
            return
        source_port, destination_port, sequence = struct.unpack_from("!HHI", segment)
        source = (ipaddress.ip_address(addresses[0]), source_port)
        destination = (ipaddress.ip_address(addresses[1]), destination_port)
        stream = self.streams.setdefault((source, destination), Stream(source, destination))
        flags, payload = segment[13], segment[(segment[12] >> 4) * 4 :]
        if flags & 2:
            stream.opened = stream.opened or not flags & 16
        elif payload:
            stream.segments.append((sequence, payload, time))
