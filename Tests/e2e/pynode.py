"""A node by other hands: what ztunnel says to its control component, said by grpcio and Google's protobuf."""

import queue
import threading

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from warrenlab import wait
from wireresources import (
    ADDRESS, CA, CLASSES, LOCAL_POD, POLICY, REPORT, XDS, CertificateRequest, CertificateResponse, Request, Response, new)


class Node:
    """A connection to a control component at `address` (HOST:PORT), and on it a delta stream and calls of the CA.

    It proves itself by a token, or by `pair`: PEM of a key and of a certificate with its chain.
    """

    def __init__(self, address, roots, token=None, pair=None, name="node-a", answers=True):
        self.name, self.answers = name, answers
        self.headers = [("clusterid", "Kubernetes")] + ([("authorization", f"Bearer {token}")] if token else [])
        self.channel = grpc.secure_channel(
            address, grpc.ssl_channel_credentials(roots, *(pair or ())), options=[("grpc.max_receive_message_length", -1)])
        self.outbox, self.responses, self.error = queue.Queue(), [], None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.channel.close()

    # Discovery.

    def open(self, known=None, wanted=(ADDRESS, POLICY, LOCAL_POD), subscribe=(), unsubscribe=(), **metadata):
        """Opens the stream with one request for each of the types; `known` are the versions held, by type and name."""
        call = self.channel.stream_stream(
            f"/{XDS}/DeltaAggregatedResources", Request.SerializeToString, Response.FromString)
        self.call = call(iter(self.outbox.get, None), metadata=self.headers)
        for type_url in wanted:
            request = Request(
                type_url=type_url, initial_resource_versions=(known or {}).get(type_url, {}),
                resource_names_subscribe=subscribe, resource_names_unsubscribe=unsubscribe)
            request.node.id = f"ztunnel~1.1.1.1~{self.name}.warren-system~warren-system.svc.cluster.local"
            request.node.metadata.update({"NODE_NAME": self.name, "NAMESPACE": "warren-system", **metadata})
            self.outbox.put(request)
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def _read(self):
        try:
            for response in self.call:
                if self.answers:
                    self.answer(response)
                self.responses.append(response)
        except grpc.RpcError as error:
            self.error = error

    def answer(self, response, error=None):
        request = Request(type_url=response.type_url, response_nonce=response.nonce)
        if error is not None:
            request.error_detail.message = error
        self.outbox.put(request)

    def ask(self, type_url, *names):
        self.outbox.put(Request(type_url=type_url, resource_names_subscribe=names))

    def report(self, uid, state, reason=""):
        request = Request(type_url=REPORT)
        report = new("warren.v1.CaptureReport", uid=uid, state=state, reason=reason)
        request.error_detail.details.add(type_url=REPORT).value = report.SerializeToString()
        self.outbox.put(request)

    def of(self, type_url, count=1, timeout=20):
        """The newest of so many responses of a type."""
        return wait(
            lambda: (mine := [one for one in self.responses if one.type_url == type_url])[count - 1:] and mine[-1],
            f"{count} responses of {type_url}", timeout)

    def held(self, type_url):
        """{name: (version, message)} after all that was received."""
        held = {}
        for response in [one for one in self.responses if one.type_url == type_url]:
            for one in response.resources:
                message = CLASSES[type_url.rpartition("/")[2]].FromString(one.resource.value)
                held[one.name] = (one.version, message)
            for name in response.removed_resources:
                held.pop(name, None)
        return held

    def ended(self):
        """Waits for the end of the stream; its status."""
        return wait(lambda: self.error, "the end of the stream").code()

    # Certificates.

    def certificate(self, identity=None, key=None, csr=None, life=0):
        """(key, chain of PEM texts) of the CA for an identity, or for the node itself."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        if csr is None:
            builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://what/the/csr/says")]), True)
            csr = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        request = CertificateRequest(csr=csr, validity_duration=life)
        if identity is not None:
            request.metadata.update({"ImpersonatedIdentity": identity})
        call = self.channel.unary_unary(
            f"/{CA}/CreateCertificate", CertificateRequest.SerializeToString, CertificateResponse.FromString)
        return key, list(call(request, metadata=self.headers, timeout=10).cert_chain)
