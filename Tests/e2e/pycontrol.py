"""A control component by other hands: grpcio, Google's protobuf and OpenSSL, behaving as istiod does towards ztunnel.

    warren-node ══ TLS ══▶ Front (OpenSSL) ─── 127.0.0.1 ──▶ grpcio ──▶ PyControl
                                                                         ├ delta xDS: Stream, one for each node
                                                                         └ CA: Authority

It serves `istio.workload.Address`, `istio.security.Authorization` and `warren.v1.LocalPod`, collects
`warren.v1.CaptureReport`, issues certificates, writes down all that it is asked, and misbehaves when it is told to.

The front is there because grpcio's python server can only demand client certificates or not look at them, where a node
comes without one first and with one later. With `front=False` grpcio does TLS itself (BoringSSL) and callers prove
themselves by their bearer token alone, as ztunnels do.
"""

import concurrent.futures
import contextlib
import os
import pathlib
import queue
import re
import socket
import ssl
import tempfile
import threading
import time

import grpc
import meshca
from pyauthority import Authority, Caller, Front
from wireresources import (
    ADDRESS, CA, CLASSES, LOCAL_POD, POLICY, REPORT, XDS, CertificateRequest, CertificateResponse, Request, Response,
    encoded, local_pod, node_uri, uid, workload)


class Sent:
    """A response and what came back for it."""

    def __init__(self, type_url, names):
        self.type_url, self.names = type_url, names
        #: None until it is answered, then "" for an ACK, or the NACK's message.
        self.answer = None


class Stream:
    """One stream of one node, with everything that was said on it."""

    def __init__(self, control, caller):
        self.control, self.caller = control, caller
        self.opened_at = time.monotonic()
        self.requests, self.sent = [], {}
        #: Type URL: the first request for it.
        self.subscribed = {}
        self.is_open = True
        #: Whether the control component was the one to end it.
        self.was_ended = False
        self._outbox = queue.Queue()
        self._held = []

    node = property(lambda self: self.caller.node)
    metadata = property(lambda self: {
        key: value.string_value for key, value in self.requests[0].node.metadata.fields.items()})

    def of(self, type_url):
        """The requests of a type, in order."""
        return [request for request in self.requests if request.type_url == type_url]

    nacks = property(lambda self: [sent.answer for sent in list(self.sent.values()) if sent.answer])
    is_settled = property(lambda self: all(sent.answer is not None for sent in list(self.sent.values())))

    # What the server does.

    def send(self, response):
        """Queues a response, or raw bytes in place of one."""
        with self.control.lock:
            if not isinstance(response, bytes):
                response.nonce = response.nonce or self.control.next_nonce()
                response.system_version_info = response.nonce
                self.sent[response.nonce] = Sent(
                    response.type_url, [resource.name for resource in response.resources])
                if response.type_url in self.control.holding:
                    self._held.append(response)
                    return response.nonce
            self._outbox.put(response)
            return None if isinstance(response, bytes) else response.nonce

    def release(self, holding):
        held, self._held = self._held, []
        for response in held:
            if response.type_url in holding:
                self._held.append(response)
            else:
                self._outbox.put(response)

    def end(self, status=grpc.StatusCode.OK, details=""):
        self.was_ended = True
        self._outbox.put((status, details))

    def closed(self):
        self.is_open = False
        self._outbox.put(None)

    def responses(self, context):
        """What grpcio sends, until the stream ends."""
        while self.is_open:
            item = self._outbox.get()
            if item is None:
                return
            if isinstance(item, tuple):
                if item[0] is not grpc.StatusCode.OK:
                    context.abort(*item)
                return
            yield item

    def read(self, requests):
        try:
            for request in requests:
                self.received(request)
        except Exception:  # grpcio says by various exceptions that the peer has gone
            pass
        self.closed()

    def received(self, request):
        with self.control.lock:
            self.requests.append(request)
            if len(self.requests) == 1 and not re.fullmatch(r"ztunnel~[^~]+~[^~]+\.[^~.]+~[^~]+", request.node.id):
                return self.end(grpc.StatusCode.INVALID_ARGUMENT, f"not a node id: {request.node.id!r}")
            if request.type_url == REPORT:
                return self.control.reported(self, request)
            if request.response_nonce:
                sent = self.sent.get(request.response_nonce)
                if sent and sent.type_url == request.type_url:
                    sent.answer = request.error_detail.message if request.HasField("error_detail") else ""
                return None
            if request.type_url not in self.subscribed:
                self.subscribed[request.type_url] = request
                self.send(self._first(request))
            return None

    def _first(self, request):
        """Everything that the client does not have, and the names of what is gone. Always an answer, even an empty one."""
        visible = self.control.visible(request.type_url, self.node)
        known = dict(request.initial_resource_versions)
        return Response(
            type_url=request.type_url,
            resources=[one.wire() for name, one in visible.items() if known.get(name) != one.version],
            removed_resources=sorted(name for name in known if name not in visible))

    def changed(self, type_url, resources, removed):
        mine = [one.wire() for one in resources if one.node in (None, self.node)]
        if type_url in self.subscribed and (mine or removed):
            self.send(Response(type_url=type_url, resources=mine, removed_resources=removed))


class PyControl:
    """The control component. `directory` gets `root-cert.pem` and `tokens/NODE`, as warren-control's state has them."""

    def __init__(self, directory, nodes, address="127.0.0.1", port=0, inside=contextlib.nullcontext, front=True, ca=None):
        self.directory = pathlib.Path(directory)
        self.address, self.port, self._inside, self._has_front = address, port, inside, front
        self.lock = threading.RLock()
        self.ca = Authority(ca or meshca.MeshCA("pycontrol"))
        self.streams, self.reports, self.report_log = [], {}, []
        self.holding = set()
        #: Whether the workload of a pod that was captured is published as reachable by HBONE from then on.
        self.follows_reports = True
        #: What refuses a stream: called with its Caller, gives (status, details) or None.
        self.refusal = lambda caller: None
        self._resources = {ADDRESS: {}, POLICY: {}, LOCAL_POD: {}}
        self._pods = {}
        self._nonces = 0
        self._server = self.front = None
        (self.directory / "tokens").mkdir(parents=True, exist_ok=True)
        (self.directory / "root-cert.pem").write_bytes(meshca.pem(self.ca.issuer.root))
        self.tokens = {}
        for node in nodes:
            self.new_token(node)
        self._key, certificate = self.ca.issuer.issue(hosts=[address, "istiod.istio-system.svc"], usages=["server"])
        self._chain = meshca.pem(certificate) + meshca.pem(self.ca.issuer.certificate)

    def new_token(self, node, end=""):
        """Writes another token for a node and forgets its earlier ones; `end` is what the file holds behind it."""
        self.tokens = {token: name for token, name in self.tokens.items() if name != node}
        token = f"token-of-{node}-{os.urandom(8).hex()}"
        self.tokens[token] = node
        (self.directory / "tokens" / node).write_text(token + end)
        return token

    # Life.

    def start(self):
        server = grpc.server(
            concurrent.futures.ThreadPoolExecutor(64, "pycontrol"),
            # As istiod's: whoever pings more often than this is told to calm down.
            options=[("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 15_000),
                     ("grpc.max_receive_message_length", 4 << 20), ("grpc.max_send_message_length", -1)])
        server.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler(XDS, {"DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(
                self._delta, Request.FromString, encoded)}),
            grpc.method_handlers_generic_handler(CA, {"CreateCertificate": grpc.unary_unary_rpc_method_handler(
                self._create_certificate, CertificateRequest.FromString, encoded)})))
        if self._has_front:
            self._make_front(server.add_insecure_port("127.0.0.1:0"))
            server.start()
            self.front.start()
        else:
            credentials = grpc.ssl_server_credentials([(meshca.pem(self._key), self._chain)])
            with self._inside():
                self.port = server.add_secure_port(f"{self.address}:{self.port}", credentials)
                server.start()
        self._server = server
        return self

    def _make_front(self, inner_port):
        with self._inside():
            listener = socket.create_server((self.address, self.port), backlog=256)
        self.port = listener.getsockname()[1]
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.set_alpn_protocols(["h2"])
        self._context.verify_mode = ssl.CERT_OPTIONAL
        with tempfile.NamedTemporaryFile() as file:
            file.write(meshca.pem(self._key) + self._chain)
            file.flush()
            self._context.load_cert_chain(file.name)
        self._context.load_verify_locations(cadata=self.ca.bundle)
        self.front = Front(listener, self._context, inner_port)

    def issue_by(self, issuer, roots):
        """Issues by another authority from now on, and names these roots."""
        self.ca.issuer, self.ca.roots = issuer, roots
        if self.front:
            self._context.load_verify_locations(cadata=self.ca.bundle)

    def stop(self):
        """Ends as a process that is killed: connections end, streams are not told why."""
        if self._server is None:
            return
        with self.lock:
            for stream in self.open_streams():
                stream.was_ended = True
        if self.front:
            self.front.stop()
            self.front = None
        self._server.stop(0).wait(10)
        self._server = None

    is_running = property(lambda self: self._server is not None)

    def restart(self):
        self.stop()
        self.start()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    # What is published.

    def set(self, *resources, push=True):
        """Publishes resources, new or changed: one response for each type and stream."""
        with self.lock:
            for one in resources:
                self._resources[one.type_url][one.name] = one
            if push:
                for type_url in self._resources:
                    mine = [one for one in resources if one.type_url == type_url]
                    for stream in self.open_streams() if mine else ():
                        stream.changed(type_url, mine, [])

    def remove(self, type_url, *names, push=True):
        with self.lock:
            for name in names:
                self._resources[type_url].pop(name, None)
            for stream in self.open_streams() if push else ():
                stream.changed(type_url, [], list(names))

    def enroll(self, pod, **fields):
        """Publishes a pod to its node and, once it is captured, to everybody as reachable by HBONE."""
        with self.lock:
            self._pods[uid(pod)] = (pod, fields)
            state, _ = self.reports.get(uid(pod), ("", ""))
            self.set(workload(pod, hbone=state == "STATE_CAPTURED", **fields), local_pod(pod))

    def leave(self, pod, push=True):
        """Takes a pod out of the mesh and forgets it."""
        with self.lock:
            self._pods.pop(uid(pod), None)
            self.remove(LOCAL_POD, uid(pod), push=push)
            self.remove(ADDRESS, uid(pod), push=push)

    def is_captured(self, pod):
        return self.reports.get(uid(pod), ("", ""))[0] == "STATE_CAPTURED"

    def uncaptured(self):
        """The enrolled pods that are not captured, with what was reported of them last."""
        return {name: self.reports.get(name) for name, (pod, _) in list(self._pods.items()) if not self.is_captured(pod)}

    def visible(self, type_url, node):
        return {name: one for name, one in self._resources.get(type_url, {}).items() if one.node in (None, node)}

    def identities_on(self, node):
        return {f"spiffe://{pod.identity}" for pod, _ in list(self._pods.values()) if pod.node.name == node}

    @contextlib.contextmanager
    def held(self, *types):
        """Responses of these types, or of all, wait meanwhile."""
        self.hold(*types)
        try:
            yield
        finally:
            self.release(*types)

    def hold(self, *types):
        with self.lock:
            self.holding |= set(types or self._resources)

    def release(self, *types):
        with self.lock:
            self.holding -= set(types or self._resources)
            for stream in self.open_streams():
                stream.release(self.holding)

    # Who is there.

    def open_streams(self):
        return [stream for stream in list(self.streams) if stream.is_open]

    def stream(self, node):
        """The stream of a node that has subscribed; None while there is none."""
        return next((one for one in reversed(self.open_streams()) if one.node == node and one.subscribed), None)

    def is_settled(self, *nodes):
        """Whether each of the nodes has a stream, and has answered everything that was sent on it."""
        streams = [self.stream(node) for node in nodes]
        return all(stream and len(stream.subscribed) == len(self._resources) and stream.is_settled for stream in streams)

    def end_streams(self, status=grpc.StatusCode.OK, details=""):
        for stream in self.open_streams():
            stream.end(status, details)

    def next_nonce(self):
        self._nonces += 1
        return f"nonce-{self._nonces}"

    def reported(self, stream, request):
        for detail in request.error_detail.details:
            report = CLASSES["warren.v1.CaptureReport"].FromString(detail.value)
            state = report.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number[report.state].name
            self.report_log.append((stream, report.uid, state, report.reason))
            self.reports[report.uid] = (state, report.reason)
            if self.follows_reports and report.uid in self._pods:
                pod, fields = self._pods[report.uid]
                told = self._resources[ADDRESS].get(report.uid)
                now = workload(pod, hbone=state == "STATE_CAPTURED", **fields)
                if told is None or told.version != now.version:
                    self.set(now)

    # The services.

    def _caller(self, context):
        headers = {key: value for key, value in context.invocation_metadata()}
        uris = self.front.uris(context.peer()) if self.front else []
        by_certificate = [self._node(uri) for uri in uris if self._node(uri)]
        scheme, _, token = headers.get("authorization", "").partition(" ")
        by_token = self.tokens.get(token) if scheme.lower() == "bearer" else None
        return Caller(by_certificate[0] if by_certificate else by_token, headers, uris)

    @staticmethod
    def _node(uri):
        start = node_uri("")
        return uri[len(start):] if uri.startswith(start) else None

    def _delta(self, requests, context):
        caller = self._caller(context)
        if caller.node is None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "authentication failure")
        if refusal := self.refusal(caller):
            context.abort(*refusal)
        stream = Stream(self, caller)
        context.add_callback(stream.closed)
        with self.lock:
            self.streams.append(stream)
        context.send_initial_metadata(())
        threading.Thread(target=stream.read, args=(requests,), daemon=True).start()
        yield from stream.responses(context)

    def _create_certificate(self, request, context):
        caller = self._caller(context)
        if caller.node is None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "authentication failure")
        status, result = self.ca.create(
            request, caller, self.identities_on(caller.node), context.is_active)
        if status is not grpc.StatusCode.OK:
            context.abort(status, result)
        return CertificateResponse(cert_chain=result)
