// Our HBONE server and client for Tests/interop, on one loop.
//
//   hbone-peer DIR             serves tunnels
//   hbone-peer DIR --to PORT   also carries what connects to it through tunnels to 127.0.0.1:PORT
//
// Into DIR it writes the certificates of a mesh of its own: root.pem, and NAME-cert.pem and NAME-key.pem for `client`,
// `server` and `stranger` (another trust domain under the same root). It prints `port N` (and `outbound N`), then a line
// for every connection that ends: `inbound REASON`, `outbound REASON` or `failed REASON`.
//
// An authority `127.0.0.1:PORT` is dialled, `denied:1` is refused by policy, `held:1` gets no answer, what is no address
// is malformed.
import Address
import EventLoop
import Glibc
import HTTP2
import Linux
import Mesh
import TLS
import Transport
import Tunnel

func say(_ line: String) {
    print(line)
    fflush(nil)
}

func identity(_ name: String, _ trustDomain: String = "cluster.local") -> Identity {
    Identity(trustDomain: trustDomain, namespace: "shop", serviceAccount: name)
}

/// A mesh's authority and what it certifies, in files for the other side.
struct Certificates {
    let roots: [Certificate]
    let client: CertificateBundle
    let server: CertificateBundle

    init(writingTo directory: String) throws {
        let authority = try CertificateAuthority.createRoot(organization: "cluster.local")
        func bundle(_ name: String, _ identity: Identity) throws -> CertificateBundle {
            let key = try PrivateKey.generate()
            let leaf = try authority.sign(key.publicKey, uri: identity.uri, validity: 3_600)
            let bundle = try CertificateBundle(key: key, chain: authority.chain(for: leaf))
            try writeFileAtomically("\(directory)/\(name)-cert.pem", Array(leaf.pem.utf8), mode: 0o644)
            try writeFileAtomically("\(directory)/\(name)-key.pem", Array(key.pem().utf8), mode: 0o600)
            return bundle
        }
        client = try bundle("client", identity("client"))
        server = try bundle("server", identity("server"))
        _ = try bundle("stranger", identity("client", "other.example"))
        roots = authority.roots
        try writeFileAtomically(
            "\(directory)/root.pem", Array(authority.certificate.pem.utf8), mode: 0o644)
    }
}

/// Accepts tunnels and connects what they ask for.
final class Inbound: TunnelServerDelegate {
    private let loop: EventLoop
    private let context: TLSContext
    private var listener: Listener?
    private var held: [TunnelRequest] = []

    init(_ loop: EventLoop, _ certificates: Certificates, _ socket: consuming Socket) throws {
        self.loop = loop
        context = try TLSContext(
            .meshServer(certificates.server, roots: certificates.roots, trustDomains: ["cluster.local"]))
        listener = try Listener(on: loop, socket) { [unowned self] accepted in
            do {
                _ = try TunnelServer(loop: loop, socket: accepted.socket, context: context, delegate: self)
            } catch { say("failed \(error)") }
        }
    }

    func tunnel(_ server: TunnelServer, refused request: TunnelRequest, _ reason: CloseReason) {
        // The client has its answer, which is what the tests look at.
    }

    func tunnel(_ server: TunnelServer, requested request: TunnelRequest) {
        if request.authority == "denied:1" { return request.refuse(.unmatchedByAllow) }
        if request.authority == "held:1" { return held.append(request) }
        guard let address = SocketAddress(request.authority) else {
            return request.refuse(.invalidAuthority(request.authority))
        }
        do {
            _ = try Connector(on: loop, try Socket.connect(to: address)) { [loop] result in
                switch consume result {
                case .connected(let socket):
                    guard let stream = request.accept(headers: [Header("baggage", "service.name=server")]),
                        let relay = StreamRelay.inbound(
                            server: socket, stream: stream, share: TurnShare(loop))
                    else { return }
                    relay.onEnd = { say("inbound \($0)") }
                    relay.start()
                case .failed(let number): request.refuse(.connectFailed(errorText(number)))
                case .timedOut: request.refuse(.connectTimedOut)
                case .cancelled: break
                }
            }
        } catch { request.refuse(.connectFailed("\(error)")) }
    }

    func tunnelClosed(_ server: TunnelServer, _ reason: ChannelClose) { say("tunnel \(reason)") }
}

/// Carries what connects to it through tunnels.
final class Outbound {
    private let pool: TunnelPool
    private let context: TLSContext
    private var listener: Listener?

    init(
        _ loop: EventLoop, _ certificates: Certificates, _ socket: consuming Socket, to address: SocketAddress
    ) throws {
        let pool = TunnelPool(loop: loop) { address throws(SystemCallError) in
            try Socket.connect(to: address)
        }
        let context = try TLSContext(.meshClient(certificates.client, roots: certificates.roots))
        (self.pool, self.context) = (pool, context)
        listener = try Listener(on: loop, socket) { accepted in
            let application = SocketBox(accepted.socket)
            let target = TunnelTarget(
                source: identity("client"), expected: [identity("server")], address: address,
                authority: "10.0.0.1:80", headers: [Header("baggage", "service.name=client")])
            pool.open(target, context: context) { outcome in
                switch outcome {
                case .failed(let reason), .lost(let reason): say("failed \(reason)")
                case .opened(let stream, headers: _, peer: _):
                    guard let socket = application.take(),
                        let relay = StreamRelay.outbound(
                            client: socket, stream: stream, share: TurnShare(loop))
                    else { return }
                    relay.onEnd = { say("outbound \($0)") }
                    relay.start()
                }
            }
        }
    }
}

/// A socket on its way through a closure.
final class SocketBox {
    private var socket: Socket?
    init(_ socket: consuming Socket) { self.socket = .some(socket) }
    func take() -> Socket? { socket.take() }
}

func run() throws {
    let arguments = CommandLine.arguments
    guard arguments.count == 2 || (arguments.count == 4 && arguments[2] == "--to"),
        let any = SocketAddress("127.0.0.1:0")
    else {
        say("usage: hbone-peer DIR [--to PORT]")
        exit(2)
    }
    ignoreSIGPIPE()
    let certificates = try Certificates(writingTo: arguments[1])
    let loop = try EventLoop(name: "peer")
    let socket = try Socket.listen(on: any)
    let port = socket.localAddress?.port ?? 0
    let inbound = try Inbound(loop, certificates, socket)
    var outbound: Outbound?
    say("port \(port)")
    if arguments.count == 4, let target = SocketAddress("127.0.0.1:\(arguments[3])") {
        let socket = try Socket.listen(on: any)
        let port = socket.localAddress?.port ?? 0
        outbound = try Outbound(loop, certificates, socket, to: target)
        say("outbound \(port)")
    }
    withExtendedLifetime((inbound, outbound)) { loop.run() }
}

do {
    try run()
} catch {
    say("failed \(error)")
    exit(1)
}
