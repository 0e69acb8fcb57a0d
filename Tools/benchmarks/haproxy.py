"""HAProxy at both ends, as a TCP proxy with mutual TLS 1.3 and no tunnel to share: a full handshake for every connection.

      client's pod: nftables ─▶ HAProxy ══ TLS 1.3 ══▶ HAProxy ─▶ 127.0.0.1
"""

from .load import BULK, HTTP
from .stage import Contender, pair, redirect

# What a port is called while captured, and at the other end.
CAPTURED = {HTTP: 15001, BULK: 15002}
RECEIVED = {HTTP: 15101, BULK: 15102}
# The cipher that the others use, and no session to resume.
COMMON = """
global
    nbthread 1
    maxconn 9500
    tune.ssl.cachesize 0
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
    ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
    ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
    ssl-default-server-options ssl-min-ver TLSv1.3 no-tls-tickets
defaults
    mode tcp
    maxconn 9500
    backlog 4096
    timeout connect 5s
    timeout client 10m
    timeout server 10m
"""


def client(certificates, server_address):
    text = COMMON
    for port in (HTTP, BULK):
        text += f"""
listen captured-{port}
    bind :{CAPTURED[port]}
    server peer {server_address}:{RECEIVED[port]} ssl verify required ca-file {certificates.root} crt {certificates.both("client")} no-ssl-reuse
"""
    return text


def server(certificates):
    text = COMMON
    for port in (HTTP, BULK):
        text += f"""
listen received-{port}
    bind :{RECEIVED[port]} ssl crt {certificates.both("server")} ca-file {certificates.root} verify required
    server app 127.0.0.1:{port}
"""
    return text


class HAProxyPair(Contender):
    def __init__(self):
        super().__init__("haproxy-mtls", "HAProxy at both ends, one thread each; TLS 1.3 with a handshake for every connection",
                         *pair("haproxy", 50), handshakes=True)

    def start(self, programs, certificates, _):
        ends = (("client", self.client, CAPTURED[BULK], client(certificates, self.address)),
                ("server", self.server, RECEIVED[BULK], server(certificates)))
        for side, pod, port, content in ends:
            file = programs.directory / f"{pod.name}-haproxy.cfg"
            file.write_text(content)
            child = programs.start(pod, f"{pod.name}-haproxy", "haproxy", "-db", "-f", file)
            self.pids[side] = [child.pid]
            programs.wait(pod, port, child)
        redirect(self.client, *CAPTURED.items())
