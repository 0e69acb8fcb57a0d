"""The server of the gates: on each connection, over and over, eight bytes that say how many bytes follow, and how many to answer."""

import socket
import struct
import sys
import threading

BLOCK = b"w" * (1 << 16)


def receive(connection, count, buffer):
    while count > 0:
        got = connection.recv_into(buffer, min(count, len(buffer)))
        if got == 0:
            return False
        count -= got
    return True


def serve(connection):
    buffer = bytearray(1 << 18)
    with connection:
        while receive(connection, 8, buffer):
            up, down = struct.unpack_from("!II", buffer)
            if not receive(connection, up, buffer):
                return
            while down > 0:
                sent = connection.send(BLOCK[:down])
                down -= sent


class Caller:
    """The other end: one connection, and exchanges on it one after another."""

    def __init__(self, connection):
        self.connection, self.buffer = connection, bytearray(1 << 18)
        connection.settimeout(60)

    def exchange(self, up, down):
        self.connection.sendall(struct.pack("!II", up, down) + b"w" * up)
        assert receive(self.connection, down, self.buffer), "the connection has ended"

    def end(self):
        """Both directions end, ours first."""
        self.connection.shutdown(socket.SHUT_WR)
        assert self.connection.recv(1) == b""
        self.connection.close()


if __name__ == "__main__":
    with socket.create_server(("", int(sys.argv[1])), backlog=4096) as listener:
        print("ready", flush=True)
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
