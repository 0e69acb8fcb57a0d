"""HBONE by hand: TLS by OpenSSL, HTTP/2 by python's h2. A peer that shares no code with Warren."""

import socket
import ssl

import h2.config
import h2.connection
import h2.events
import h2.settings
import warrenlab


class Refused(Exception):
    """The server took the connection and ended it: during the handshake or right after it."""


class Tunnel:
    """One connection to port 15008 with a client certificate, or without one."""

    def __init__(self, netns, address, certificate, roots, alpn=("h2",), maximum=None, timeout=5.0):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(roots)
        if certificate:
            context.load_cert_chain(certificate[1], certificate[0])
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if maximum:
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.maximum_version = maximum
        with netns.inside():
            raw = socket.create_connection((address, 15008), timeout=timeout)
        try:
            # No server name: HBONE sends none.
            self.socket = context.wrap_socket(raw)
        except (ssl.SSLError, OSError) as error:
            raw.close()
            raise Refused(str(error)) from error
        self.machine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.machine.initiate_connection()
        self.events = []
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    @property
    def alternatives(self):
        """The SPIFFE URIs of the server's certificate."""
        return [value for kind, value in self.socket.getpeercert()["subjectAltName"] if kind == "URI"]

    def flush(self):
        try:
            self.socket.sendall(self.machine.data_to_send())
        except OSError as error:
            raise Refused(str(error)) from error

    def until(self, *kinds, stream=None):
        """Reads until an event of one of these kinds has come, of the stream if one is named."""
        while True:
            for index, event in enumerate(self.events):
                if isinstance(event, kinds) and stream in (None, getattr(event, "stream_id", None)):
                    return self.events.pop(index)
            try:
                data = self.socket.recv(1 << 16)
            except OSError as error:
                raise Refused(str(error)) from error
            if not data:
                raise Refused("end of the connection")
            self.events += self.machine.receive_data(data)
            self.flush()

    def request(self, headers, end=False):
        """Sends a request; (stream, status, headers), or (stream, None, error code) for a reset."""
        stream = self.machine.get_next_available_stream_id()
        self.machine.send_headers(stream, headers, end_stream=end)
        self.flush()
        answer = self.until(h2.events.ResponseReceived, h2.events.StreamReset, stream=stream)
        if isinstance(answer, h2.events.StreamReset):
            return stream, None, answer.error_code
        fields = dict(answer.headers)
        return stream, int(fields[":status"]), fields

    def connect(self, authority, **extra):
        return self.request([(":method", "CONNECT"), (":authority", authority), *extra.items()])

    def status(self, authority):
        return self.connect(authority)[1]

    def send(self, stream, data, end=False):
        while data or end:
            room = min(self.machine.local_flow_control_window(stream), self.machine.max_outbound_frame_size)
            if data and room == 0:
                self.until(h2.events.WindowUpdated)
                continue
            piece, data = data[:room], data[room:]
            self.machine.send_data(stream, piece, end_stream=end and not data)
            self.flush()
            if not data:
                return

    def receive(self, stream, count):
        """So many bytes of a stream, or those until its end."""
        data = b""
        while len(data) < count:
            event = self.until(h2.events.DataReceived, h2.events.StreamEnded, h2.events.StreamReset, stream=stream)
            if not isinstance(event, h2.events.DataReceived):
                break
            data += event.data
            self.machine.acknowledge_received_data(event.flow_controlled_length, stream)
            self.flush()
        return data

    def echoes(self, stream):
        message = warrenlab.nonce()
        self.send(stream, message)
        return self.receive(stream, len(message)) == message
