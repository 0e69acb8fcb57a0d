// Our gRPC and HTTP/2 for Tests/interop: a server of echoes, and a client that plays one scenario.
//
//   grpc-interop grpc-server [--tls DIR]              calls of test.Echo, see EchoService.swift
//   grpc-interop http2-server [--tls DIR]             echoes content, answers GET, tunnels CONNECT to itself
//   grpc-interop client PORT SCENARIO [ARGUMENT] [--tls DIR]   see Scenarios.swift
//
// DIR holds cert.pem, key.pem and root.pem. Servers listen on a free port of 127.0.0.1 and print `port N` first.
import Address
import EventLoop
import Glibc
import Linux
import TLS
import Transport

struct Usage: Error {}

func takeTLSDirectory(_ arguments: inout [String]) throws -> String? {
    guard let flag = arguments.firstIndex(of: "--tls") else { return nil }
    guard flag + 1 < arguments.count else { throw Usage() }
    let directory = arguments[flag + 1]
    arguments.removeSubrange(flag...flag + 1)
    return directory
}

func makeTLS(_ directory: String?, isServer: Bool) throws -> TLSContext? {
    guard let directory else { return nil }
    func text(_ name: String) throws -> String {
        String(decoding: try readFile("\(directory)/\(name)"), as: UTF8.self)
    }
    let bundle = try CertificateBundle(
        key: PrivateKey(pem: text("key.pem")), chain: Certificate.all(inPEM: text("cert.pem")))
    let roots = try Certificate.all(inPEM: text("root.pem"))
    return try TLSContext(
        isServer
            ? .controlServer(bundle, clientRoots: roots) : .controlClient(bundle, roots: roots))
}

func say(_ line: String) {
    print(line)
    fflush(nil)
}

/// Listens on a free port and hands over connections with their TLS session.
func listen(
    on loop: EventLoop, _ tls: TLSContext?,
    _ handler: @escaping (consuming Socket, TLSSession?) throws -> Void
) throws -> Listener {
    let any = SocketAddress(.loopbackIPv4, 0)
    let socket = try Socket.listen(on: any)
    say("port \(socket.localAddress?.port ?? 0)")
    return try Listener(on: loop, socket) { accepted in
        do {
            let session = try tls.map { try TLSSession($0) }
            try handler(accepted.socket, session)
        } catch {
            say("refused \(error)")
        }
    }
}

do {
    var arguments = Array(CommandLine.arguments.dropFirst())
    let directory = try takeTLSDirectory(&arguments)
    let loop = try EventLoop(name: "main")
    switch arguments.first {
    case "grpc-server":
        let service = EchoService(on: loop)
        let listener = try listen(on: loop, makeTLS(directory, isServer: true)) { socket, session in
            try service.server.accept(socket, tls: session)
        }
        withExtendedLifetime((service, listener)) { loop.run() }
    case "http2-server":
        let server = EchoHTTP2(on: loop)
        let listener = try listen(on: loop, makeTLS(directory, isServer: true)) { socket, session in
            try server.accept(socket, tls: session)
        }
        withExtendedLifetime((server, listener)) { loop.run() }
    case "client":
        guard arguments.count >= 3, let port = UInt16(arguments[1]) else { throw Usage() }
        let scenario = try Scenario(
            on: loop, port: port, tls: makeTLS(directory, isServer: false), name: arguments[2],
            argument: arguments.count > 3 ? Int(arguments[3]) ?? 0 : 0)
        scenario.start()
        withExtendedLifetime(scenario) { loop.run() }
    default:
        throw Usage()
    }
} catch {
    say("error \(error)")
    exit(1)
}
