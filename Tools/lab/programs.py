#!/usr/bin/env python3
"""The ordinary programs of the example: they know nothing of a mesh.

    programs.py web PORT...                       HTTP: answers every GET with its path and who asked
    programs.py echo PORT                         TCP: sends back what it reads
    programs.py version NAME STATUS PORT          HTTP: answers every GET with this status, its name and the path
    programs.py ask ADDRESS PORT                  makes the requests that it reads, prints what comes of each
    programs.py say ADDRESS PORT TEXT [LOCAL-PORT]  sends a line to an echo server and prints the answer

Servers listen on IPv4 and IPv6 and print a line of JSON for each request: {"from": address, "said": text}. `ask` reads lines of JSON,
{"path": text, "host": text, "headers": {}, "keep": true where the connection is to be used again}, and prints for each {"status":
number, "answer": text}, with status 0 where there was no answer.
"""

import http.client
import http.server
import json
import socket
import socketserver
import sys
import threading


def note(address, said):
    plain = address.removeprefix("::ffff:")
    print(json.dumps({"from": plain, "said": said}), flush=True)
    return plain


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        who = note(self.client_address[0], self.path)
        body = f"hello {who}, you asked for {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def version(name, status):
    """A handler that says who it is. Its answer, like its status, is always the same but for the path."""
    class Version(Web):
        # An answer goes out whole. In two writes its second part would wait for the first to be acknowledged.
        wbufsize = -1

        def do_GET(self):
            note(self.client_address[0], self.path)
            body = f"{name} {self.path}\n".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Version


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            note(self.client_address[0], data.decode(errors="replace").strip())
            self.request.sendall(data)


class WebServer(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 128


class EchoServer(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = daemon_threads = True


def say(address, port, text, local_port=0):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(8)
        connection.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", local_port))
        connection.connect((address, port))
        connection.sendall(text.encode() + b"\n")
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    if answer.strip() != text.encode():
        sys.exit("no answer")
    print(answer.decode(), end="")


def ask(address, port):
    connection = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            connection = connection or http.client.HTTPConnection(address, port, timeout=20)
            connection.request("GET", request["path"], headers={"Host": request["host"], **request["headers"]})
            answer = connection.getresponse()
            result = {"status": answer.status, "answer": answer.read().decode(errors="replace").strip()}
        except (OSError, http.client.HTTPException) as error:
            result = {"status": 0, "answer": f"{type(error).__name__}: {error}"}
        if not request.get("keep") or not result["status"]:
            connection.close()
            connection = None
        print(json.dumps(result), flush=True)


def main(kind, *arguments):
    if kind == "ask":
        address, port = arguments
        return ask(address, int(port))
    if kind == "version":
        name, status, port = arguments
        return WebServer(("::", int(port)), version(name, int(status))).serve_forever()
    if kind == "say":
        address, port, text, *rest = arguments
        try:
            return say(address, int(port), text, *map(int, rest))
        except OSError as error:
            sys.exit(str(error))
    servers = [WebServer(("::", int(port)), Web) if kind == "web" else EchoServer(("::", int(port)), Echo)
               for port in arguments]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("web", "echo", "version", "ask", "say"):
        sys.exit(__doc__.strip())
    main(*sys.argv[1:])
