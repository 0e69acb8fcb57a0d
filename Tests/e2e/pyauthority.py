"""Certificates of pycontrol.py: TLS that asks for client certificates, and the CA."""

import asyncio
import collections
import contextlib
import threading
import time

import grpc
import meshca
from cryptography import x509
from wireresources import node_uri

DAY = 86_400


class Front:
    """Ends TLS with OpenSSL before a server on 127.0.0.1, and remembers who is behind each of its connections."""

    def __init__(self, listener, context, port):
        self._listener, self._context, self._port = listener, context, port
        self._peers, self._writers, self._tasks = {}, set(), set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="front", daemon=True)
        self._flowing = None

    def start(self):
        self._thread.start()
        self._call(self._serve())

    async def _serve(self):
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server = await asyncio.start_server(self._serve_one, sock=self._listener, ssl=self._context)

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _serve_one(self, reader, writer):
        own, directions = {writer}, []
        self._tasks.add(asyncio.current_task())
        try:
            inner_reader, inner = await asyncio.open_connection("127.0.0.1", self._port)
            own.add(inner)
            self._writers |= own
            names = (writer.get_extra_info("ssl_object").getpeercert() or {}).get("subjectAltName", ())
            self._peers[inner.get_extra_info("sockname")[1]] = [value for kind, value in names if kind == "URI"]
            directions = [asyncio.ensure_future(self._carry(*pair)) for pair in ((reader, inner), (inner_reader, writer))]
            self._tasks.update(directions)
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            for direction in directions:
                direction.cancel()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks -= {asyncio.current_task(), *directions}
            self._writers -= own
            for one in own:
                one.close()

    async def _carry(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()

    def uris(self, peer):
        """The URI names of the client certificate behind `ipv4:127.0.0.1:PORT`; empty without a certificate."""
        return self._peers.get(int(peer.rsplit(":", 1)[1]), [])

    @contextlib.contextmanager
    def frozen(self):
        """Takes and sends nothing meanwhile, as a process that hangs."""
        self._loop.call_soon_threadsafe(self._flowing.clear)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._flowing.set)

    async def _cut(self):
        for writer in list(self._writers):
            writer.transport.abort()

    def cut(self):
        """Ends every connection without a word."""
        self._call(self._cut())

    async def _stop(self):
        self._server.close()
        await self._cut()
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self):
        self._call(self._stop())
        self._listener.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


Caller = collections.namedtuple("Caller", "node headers uris")


class Asked:
    """A call of CreateCertificate."""

    def __init__(self, request, caller):
        self.at, self.answered_at, self.status = time.monotonic(), None, None
        self.message, self.caller = request, caller
        self.metadata = {key: value.string_value for key, value in request.metadata.fields.items()}
        self.identity = self.metadata.get("ImpersonatedIdentity")
        self.csr = None
        self.issued = None


class Authority:
    """The CA. Attributes may be set at any time; a call is served by what holds when its turn comes."""

    def __init__(self, issuer):
        self.issuer, self.roots = issuer, [issuer.root]
        #: Seconds that certificates last; None for as long as is asked. `lives` by SPIFFE id goes before.
        self.life, self.lives = None, {}
        #: What refuses a call: called with Asked, gives (status, details) or None.
        self.refusal = lambda asked: None
        #: What may change an answer: called with Asked and the list of PEM texts, gives another list.
        self.answer = lambda asked, chain: chain
        self.asked = []
        self.peak = 0
        self._in_flight = 0
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()

    def of(self, identity):
        """The calls for an identity (`ns/NS/sa/SA` or a whole SPIFFE id), in order."""
        whole = identity if identity.startswith("spiffe:") else f"spiffe://{identity}"
        return [asked for asked in self.asked if asked.identity == whole]

    @contextlib.contextmanager
    def held(self):
        """No call is answered meanwhile."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    in_flight = property(lambda self: self._in_flight)

    def create(self, request, caller, entitled, is_awaited=lambda: True):
        """A status with a chain, or with what is wrong."""
        asked = Asked(request, caller)
        with self._lock:
            self.asked.append(asked)
            self._in_flight += 1
            self.peak = max(self.peak, self._in_flight)
        try:
            while not self._open.wait(0.05) and is_awaited():
                pass
            asked.status, result = self._decide(asked, entitled)
            return asked.status, result
        finally:
            with self._lock:
                self._in_flight -= 1
            asked.answered_at = time.monotonic()

    def _decide(self, asked, entitled):
        try:
            asked.csr = x509.load_pem_x509_csr(asked.message.csr.encode())
        except ValueError as error:
            return grpc.StatusCode.INVALID_ARGUMENT, str(error)
        if not asked.csr.is_signature_valid:
            return grpc.StatusCode.INVALID_ARGUMENT, "the CSR's signature is not valid"
        if refusal := self.refusal(asked):
            return refusal
        if asked.identity is not None and asked.identity not in entitled:
            return grpc.StatusCode.UNAUTHENTICATED, "authentication failure"
        requested = asked.message.validity_duration if asked.message.validity_duration > 0 else DAY
        if requested > 90 * DAY:
            return grpc.StatusCode.INVALID_ARGUMENT, "the requested life is too long"
        # What the CSR names is of no account: the subject is who was authenticated.
        uri = asked.identity or node_uri(asked.caller.node)
        asked.issued = self.sign(asked.csr.public_key(), uri)
        chain = [meshca.pem(asked.issued).decode(), meshca.pem(self.issuer.certificate).decode(), self.bundle]
        return grpc.StatusCode.OK, self.answer(asked, chain)

    bundle = property(lambda self: "".join(meshca.pem(root).decode() for root in self.roots))

    def sign(self, public_key, *uris, begins=0.0, life=None):
        """A certificate from `begins` seconds from now on."""
        life = life or self.lives.get(uris[0] if uris else "") or self.life or DAY
        return self.issuer.sign(public_key, *uris, begins=begins / 3600, ends=(begins + life) / 3600)
