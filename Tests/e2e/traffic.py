"""Ordinary TCP and UDP programs for the labs: they know nothing of a mesh.

traffic.py serve
    8080 echo                     9080 HTTP: 200 and the peer's address
    8081 hash: reads to the end, answers SHA-256 in hex, closes
    8082 source: reads a line with a number, sends that many bytes of warrenlab.chunks, closes
    8083 banner: speaks first, then echoes
    8084 resets: reads once, then resets
    8085 journal: reads to the end and prints how it ended: "ended COUNT" or "reset COUNT"
    8086 lingers: reads to the end, then still sends "late" and closes
    8087 UDP echo
    8088 deaf: accepts and never reads
traffic.py burst HOST PORT COUNT CONCURRENCY
    opens that many echo connections, each for one message; prints JSON {ok, failed, seconds, errors}
traffic.py hold HOST PORT COUNT
    opens that many echo connections and keeps them; prints "open", reads a line, has each echo, prints JSON as above
traffic.py load HOST PORT NONCE
    opens echo connections that carry NONCE one after another until it is killed; prints a line for each that worked,
    and for each attempt, successful or not, that took longer than a second "waited SECONDS"
traffic.py steal ADDRESS[,ADDRESS…] PORT[,PORT…]
    tries by every means of root's to listen there; prints "got …" for each listener, "stole PORT" for each connection
    that comes to one, and "tried" when it is through
"""

import asyncio
import hashlib
import itertools
import json
import selectors
import socket
import struct
import sys
import time

import warrenlab


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, source):
        self.transport.sendto(data, source)


class Banner(Echo):
    def connection_made(self, transport):
        super().connection_made(transport)
        transport.write(b"220 hello, I speak first\r\n")


async def hash_(reader, writer):
    sum_ = hashlib.sha256()
    while data := await reader.read(1 << 18):
        sum_.update(data)
    writer.write(sum_.hexdigest().encode())
    writer.close()


async def source(reader, writer):
    count = int(await reader.readline())
    try:
        for chunk in warrenlab.chunks(count):
            writer.write(chunk)
            await writer.drain()
        writer.close()
    except ConnectionError:
        pass


async def resets(reader, writer):
    await reader.read(1024)
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def journal(reader, writer):
    count = 0
    try:
        while data := await reader.read(1 << 16):
            count += len(data)
        print("ended", count, flush=True)
    except ConnectionError:
        print("reset", count, flush=True)
    writer.close()


async def lingers(reader, writer):
    while await reader.read(1 << 16):
        pass
    writer.write(b"late")
    writer.close()


# Or the garbage collector would end them.
DEAF = []


async def deaf(reader, writer):
    writer.transport.pause_reading()
    DEAF.append((reader, writer))


async def http(reader, writer):
    while (await reader.readline()).strip():
        pass
    peer, own = (writer.get_extra_info(name)[0].removeprefix("::ffff:").encode() for name in ("peername", "sockname"))
    writer.write(
        b"HTTP/1.1 200 OK\r\nx-served-by: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (own, len(peer)) + peer)
    writer.close()


async def serve():
    loop = asyncio.get_running_loop()

    def listener(port):
        made = socket.socket(socket.AF_INET6)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::", port))
        return made

    for port, protocol in {8080: Echo, 8083: Banner}.items():
        await loop.create_server(protocol, sock=listener(port), backlog=4096)
    for port, handler in {
            8081: hash_, 8082: source, 8084: resets, 8085: journal, 8086: lingers, 8088: deaf, 9080: http}.items():
        await asyncio.start_server(handler, sock=listener(port), backlog=4096)
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        made = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, 8087))
        await loop.create_datagram_endpoint(Datagrams, sock=made)
    print("ready", flush=True)
    await asyncio.Event().wait()


async def exchange(reader, writer, number):
    message = b"message %d" % number
    writer.write(message)
    return await asyncio.wait_for(reader.readexactly(len(message)), 30) == message


def summary(results, started):
    errors = [repr(result) for result in results if result is not True]
    print(json.dumps({
        "ok": len(results) - len(errors), "failed": len(errors), "seconds": round(time.monotonic() - started, 2),
        "errors": sorted(set(errors))[:5]}), flush=True)


async def burst(host, port, count, concurrency):
    numbers, results, started = iter(range(count)), [], time.monotonic()

    async def worker():
        for number in numbers:
            try:
                reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 30)
                results.append(await exchange(reader, writer, number))
                writer.close()
            except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
                results.append(error)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    summary(results, started)


async def hold(host, port, count):
    started, gate = time.monotonic(), asyncio.Semaphore(100)

    async def opened():
        async with gate:
            return await asyncio.wait_for(asyncio.open_connection(host, port), 30)

    connections = await asyncio.gather(*(opened() for _ in range(count)), return_exceptions=True)
    print("open", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

    async def used(number, connection):
        return connection if isinstance(connection, BaseException) else await exchange(*connection, number)

    results = await asyncio.gather(
        *(used(*numbered) for numbered in enumerate(connections)), return_exceptions=True)
    summary(results, started)


def load(host, port, nonce):
    number = 0
    while True:
        number, started = number + 1, time.monotonic()
        try:
            with socket.create_connection((host, port), timeout=30) as connection:
                connection.sendall(nonce)
                if warrenlab.receive(connection, len(nonce)) == nonce:
                    print("worked", number, flush=True)
        except OSError:
            # Refused or cut while a daemon is away: what matters is where the bytes did not go.
            time.sleep(0.005)
        if time.monotonic() - started > 1:
            print("waited", time.monotonic() - started, flush=True)


def steal(addresses, ports):
    got = selectors.DefaultSelector()
    transparent = {socket.AF_INET: (socket.SOL_IP, 19), socket.AF_INET6: (socket.IPPROTO_IPV6, 75)}
    options = {
        "REUSEPORT": lambda family: (socket.SOL_SOCKET, socket.SO_REUSEPORT, 1),
        "REUSEADDR": lambda family: (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
        "TRANSPARENT": lambda family: (*transparent[family], 1),
        "V6ONLY": lambda family: (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1),
        "BINDTODEVICE": lambda family: (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0"),
    }
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        names = [name for name in options if name != "V6ONLY" or family == socket.AF_INET6]
        for count in range(len(names) + 1):
            for chosen in itertools.combinations(names, count):
                for port in ports:
                    made = socket.socket(family)
                    try:
                        for name in chosen:
                            made.setsockopt(*options[name](family))
                        made.bind((address, port))
                        made.listen(4096)
                    except OSError:
                        made.close()
                        continue
                    print("got", address, port, *chosen, flush=True)
                    got.register(made, selectors.EVENT_READ, port)
    print("tried", flush=True)
    while True:
        for key, _ in got.select(None if got.get_map() else 3600):
            key.fileobj.accept()[0].close()
            print("stole", key.data, flush=True)


if __name__ == "__main__":
    mode, arguments = sys.argv[1], sys.argv[2:]
    if mode == "load":
        load(arguments[0], int(arguments[1]), arguments[2].encode())
    elif mode == "steal":
        steal(arguments[0].split(","), [int(port) for port in arguments[1].split(",")])
    elif mode == "serve":
        asyncio.run(serve())
    else:
        numbers = [int(one) for one in arguments[1:]]
        asyncio.run({"burst": burst, "hold": hold}[mode](arguments[0], *numbers))
