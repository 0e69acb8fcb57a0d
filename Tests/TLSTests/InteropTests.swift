import Address
import Glibc
import Linux
import TLSTestSupport
import Testing

@testable import TLS

/// Our sessions against the command-line programs of two other TLS implementations, over real sockets.
@Suite(.serialized) struct InteropTests {
    static let realm = Result { try Realm() }
    let realm: Realm
    let folder: Folder

    init() throws {
        realm = try Self.realm.get()
        folder = try Folder()
        try folder.write("root.pem", realm.authority.certificate.pem)
        let bob = try realm.bundle("bob", hosts: ["localhost"])
        try folder.write("cert.pem", bob.leaf.pem)
        try folder.write("key.pem", bob.key.pem())
    }

    static let message = [UInt8](repeating: UInt8(ascii: "x"), count: 100_000) + Array("\n".utf8)

    @Test(.bothRecordLayers, arguments: [true, false])
    func `openssl s_server echoes what our client sends`(expectsRightly: Bool) throws {
        let port = try freePort()
        var options = ChildProcess.Options()
        options.output = .discarded
        options.error = .discarded
        let server = try ChildProcess.start(
            "openssl",
            [
                "s_server", "-accept", "127.0.0.1:\(port)", "-cert", folder.path("cert.pem"), "-key",
                folder.path("key.pem"), "-CAfile", folder.path("root.pem"), "-Verify", "3",
                "-verify_return_error",
                "-alpn", "h2", "-rev", "-tls1_3",
            ], options)
        defer { server.end() }
        let context = try TLSContext(realm.client(realm.bundle("alice")))
        let expected = expectsRightly ? realm.uri("bob") : realm.uri("carol")
        let line = Array("abc".utf8)
        let exchange = { () throws -> [UInt8] in
            let connection = try Wire(TLSSession(context, expecting: [expected]), connectingTo: port)
            try connection.handshake()
            try connection.send(line + [10])
            return try connection.receive(4)
        }
        if expectsRightly {
            #expect(try exchange() == Array("cba\n".utf8))
        } else {
            #expect(throws: TLSError.unexpectedIdentity(got: realm.uri("bob"), expected: [expected])) {
                try exchange()
            }
        }
    }

    @Test(.bothRecordLayers) func `gnutls-serv echoes what our client sends`() throws {
        let port = try freePort()
        var options = ChildProcess.Options()
        options.output = .discarded
        options.error = .discarded
        let server = try ChildProcess.start(
            "gnutls-serv",
            [
                "--port", "\(port)", "--echo", "--x509certfile", folder.path("cert.pem"), "--x509keyfile",
                folder.path("key.pem"), "--x509cafile", folder.path("root.pem"), "--require-client-cert",
                "--verify-client-cert", "--alpn", "h2", "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.3",
            ], options)
        defer { server.end() }
        let context = try TLSContext(realm.client(realm.bundle("alice")))
        let connection = try Wire(TLSSession(context, expecting: [realm.uri("bob")]), connectingTo: port)
        try connection.handshake()
        for _ in 0..<3 {
            connection.session.renewKeys()
            try connection.send(Array("hello\n".utf8))
            #expect(try connection.receive(6) == Array("hello\n".utf8))
        }
        connection.session.close()
        try connection.flush()
    }

    struct Client: Sendable, CustomStringConvertible {
        let description: String
        let program: String
        let arguments: [String]
        let isAccepted: Bool
    }

    static let clients = [
        Client(
            description: "openssl", program: "openssl",
            arguments: [
                "s_client", "-connect", "127.0.0.1:PORT", "-cert", "FOLDER/cert.pem", "-key",
                "FOLDER/key.pem", "-CAfile",
                "FOLDER/root.pem", "-verify_return_error", "-alpn", "h2", "-quiet",
            ], isAccepted: true),
        Client(
            description: "openssl with a record limit", program: "openssl",
            arguments: [
                "s_client", "-connect", "127.0.0.1:PORT", "-cert", "FOLDER/cert.pem", "-key",
                "FOLDER/key.pem", "-CAfile",
                "FOLDER/root.pem", "-alpn", "h2", "-quiet", "-max_send_frag", "512", "-groups", "P-384",
                "-ciphersuites",
                "TLS_AES_256_GCM_SHA384",
            ], isAccepted: true),
        Client(
            description: "openssl without a certificate", program: "openssl",
            arguments: ["s_client", "-connect", "127.0.0.1:PORT", "-alpn", "h2", "-quiet"], isAccepted: false),
        Client(
            description: "openssl with TLS 1.2", program: "openssl",
            arguments: [
                "s_client", "-connect", "127.0.0.1:PORT", "-cert", "FOLDER/cert.pem", "-key",
                "FOLDER/key.pem", "-alpn",
                "h2", "-quiet", "-tls1_2",
            ], isAccepted: false),
        Client(
            description: "openssl with ChaCha20 only", program: "openssl",
            arguments: [
                "s_client", "-connect", "127.0.0.1:PORT", "-cert", "FOLDER/cert.pem", "-key",
                "FOLDER/key.pem", "-alpn",
                "h2", "-quiet", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256",
            ], isAccepted: false),
        Client(
            description: "gnutls", program: "gnutls-cli",
            arguments: [
                "--port", "PORT", "127.0.0.1", "--x509cafile", "FOLDER/root.pem", "--no-ca-verification",
                "--x509certfile", "FOLDER/cert.pem", "--x509keyfile", "FOLDER/key.pem", "--alpn", "h2",
                "--logfile", "/dev/null", "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.3",
            ], isAccepted: true),
    ]

    @Test(.bothRecordLayers, arguments: clients)
    func `our server answers`(client: Client) throws {
        let listener = try Socket.listen(on: loopback(0), ListenOptions())
        let port = listener.localAddress?.port ?? 0
        var options = ChildProcess.Options()
        options.input = .piped
        options.output = .discarded
        options.error = .discarded
        let arguments = client.arguments.map { argument in
            argument == "PORT"
                ? "\(port)"
                : argument == "127.0.0.1:PORT" ? "127.0.0.1:\(port)" : folder.expand(argument)
        }
        let process = try ChildProcess.start(client.program, arguments, options)
        defer { process.end() }
        let context = try TLSContext(realm.server(realm.bundle("bob")))
        let connection = try Wire(TLSSession(context), acceptingFrom: listener)
        guard client.isAccepted else {
            #expect(throws: TLSError.self) { try connection.handshake() }
            return
        }
        try connection.handshake()
        #expect(connection.session.peer?.identity?.uri == realm.uri("bob"))
        let text = Array("hello from a stranger\n".utf8)
        let isWritten = unsafe text.withUnsafeBytes { bytes in
            unsafe process.standardInput?.write(bytes) == .bytes(text.count)
        }
        #expect(isWritten)
        #expect(try connection.receive(text.count) == text)
        try connection.send(Self.message)
        connection.session.close()
        try connection.flush()
    }

    /// `k` changes openssl's sending key, `K` asks us to change ours as well; we do so by ourselves too.
    @Test(.bothRecordLayers, arguments: ["s_client", "s_server"])
    func `keys are renewed by openssl and by us`(side: String) throws {
        let listener = try Socket.listen(on: loopback(0), ListenOptions())
        let port = try side == "s_client" ? listener.localAddress?.port ?? 0 : freePort()
        var options = ChildProcess.Options()
        options.input = .piped
        options.output = .piped
        options.error = .discarded
        let process = try ChildProcess.start(
            "openssl",
            [
                side, side == "s_client" ? "-connect" : "-accept", "127.0.0.1:\(port)", "-cert",
                folder.path("cert.pem"), "-key", folder.path("key.pem"), "-CAfile", folder.path("root.pem"),
                "-alpn", "h2", "-tls1_3",
            ] + (side == "s_client" ? [] : ["-Verify", "3", "-num_tickets", "0"]), options)
        defer { process.end() }
        let connection =
            try side == "s_client"
            ? Wire(TLSSession(TLSContext(realm.server(realm.bundle("bob")))), acceptingFrom: listener)
            : Wire(
                TLSSession(TLSContext(realm.client(realm.bundle("alice"))), expecting: [realm.uri("bob")]),
                connectingTo: port)
        try connection.handshake()
        let type = { (text: String) in
            let bytes = Array(text.utf8)
            let isWritten = unsafe bytes.withUnsafeBytes { bytes in
                unsafe process.standardInput?.write(bytes) == .bytes(bytes.count)
            }
            #expect(isWritten)
        }
        for round in 0..<6 {
            type(round % 2 == 0 ? "k\n" : "K\n")
            #expect(try connection.receiveSome().isEmpty)
            if round >= 3 { connection.session.renewKeys() }
            try connection.send(Array("round \(round) for openssl\n".utf8))
            type("round \(round) for us\n")
            let text = "round \(round) for us\n"
            #expect(try connection.receive(text.utf8.count) == Array(text.utf8))
        }
        let shown = try Self.read(process, until: "round 5 for openssl")
        for round in 0..<6 { #expect(shown.contains("round \(round) for openssl")) }
    }

    private static func read(_ process: borrowing ChildProcess, until wanted: String) throws -> String {
        let epoll = try Epoll()
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4_096)
        while !String(decoding: text, as: UTF8.self).contains(wanted) {
            let result = unsafe buffer.withUnsafeMutableBytes {
                unsafe process.standardOutput?.read(into: $0) ?? .end
            }
            switch result {
            case .bytes(let count): text += buffer.prefix(count)
            case .wouldBlock: _ = epoll.wait(milliseconds: 5)
            case .end, .failed: throw TLSError.truncated
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    @Test func `openssl reads what our authority makes`() throws {
        #expect(
            try run(
                "openssl",
                ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "root.pem", "cert.pem"]) == 0)
        #expect(
            try run(
                "openssl",
                ["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "root.pem", "cert.pem"]) == 0)
        #expect(try run("openssl", ["pkey", "-in", "key.pem", "-noout", "-check"]) == 0)
        try folder.write("csr.pem", CertificateRequest.make(key: .generate(), uri: realm.uri("bob")).pem)
        #expect(try run("openssl", ["req", "-in", "csr.pem", "-verify", "-noout"]) == 0)
    }

    @Test(arguments: [
        ("rsa:2048", true), ("rsa:1024", false), ("rsa:4096", true), ("ec:P-256", true), ("ec:P-384", true),
        ("ec:P-521", false), ("ec:secp256k1", false), ("ed25519:", true), ("ed448:", false),
    ])
    func `a request is certified by the kind of its key`(kind: String, isCertified: Bool) throws {
        let parts = kind.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let generation =
            switch parts[0] {
            case "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:\(parts[1])"]
            case "ec": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:\(parts[1])"]
            default: ["-algorithm", parts[0]]
            }
        #expect(try run("openssl", ["genpkey", "-out", "k.pem"] + generation) == 0)
        #expect(try run("openssl", ["req", "-new", "-key", "k.pem", "-subj", "/CN=x", "-out", "r.pem"]) == 0)
        let text = try folder.read("r.pem")
        guard isCertified else {
            #expect(throws: TLSError.self) { try CertificateRequest(pem: text) }
            return
        }
        let request = try CertificateRequest(pem: text)
        let key = try PrivateKey(pem: folder.read("k.pem"))
        #expect(request.publicKey == key.publicKey)
        let leaf = try realm.authority.sign(request.publicKey, uri: realm.uri("alice"), validity: 60)
        let bundle = try CertificateBundle(key: key, chain: realm.authority.chain(for: leaf))
        try Pair(
            client: realm.client(bundle), server: realm.server(realm.bundle("bob")),
            expecting: [realm.uri("bob")]
        )
        .establish()
    }

    private func run(_ program: String, _ arguments: [String]) throws -> Int32 {
        var options = ChildProcess.Options()
        options.output = .discarded
        options.error = .discarded
        let process = try ChildProcess.start(
            program, arguments.map { $0.hasSuffix(".pem") ? folder.path($0) : $0 }, options)
        guard case .exited(let status) = try process.wait() else { return -1 }
        return status
    }

    /// A port that nobody listens on, from below those that the kernel gives out: none of the other tests' connections takes it meanwhile.
    private func freePort() throws -> UInt16 {
        let candidates = (0..<100).lazy.map { _ in UInt16.random(in: 10_000..<30_000) }
        return try #require(
            candidates.first { port in (try? Socket.listen(on: loopback(port), ListenOptions())) != nil })
    }
}

/// A temporary folder, removed with its owner.
final class Folder: Sendable {
    private let root: String

    init() throws {
        var template = Array("/tmp/tls-tests-XXXXXX".utf8CString)
        root = try unsafe #require(mkdtemp(&template).map { unsafe String(cString: $0) })
    }

    deinit {
        for name in (try? listDirectory(root)) ?? [] { try? removeFile(path(name)) }
        unsafe rmdir(root)
    }

    func path(_ name: String) -> String { "\(root)/\(name)" }

    func expand(_ text: String) -> String {
        text.hasPrefix("FOLDER/") ? path(String(text.dropFirst("FOLDER/".utf8.count))) : text
    }

    func write(_ name: String, _ text: String) throws {
        try writeFileAtomically(path(name), Array(text.utf8), mode: 0o600)
    }

    func read(_ name: String) throws -> String {
        try String(decoding: readFile(path(name), limit: 1 << 16), as: UTF8.self)
    }
}

extension ChildProcess {
    borrowing func end() {
        send(.kill)
        _ = try? wait()
    }
}

/// A session joined to a socket, waiting where it must: what Transport does without waiting.
final class Wire {
    let session: TLSSession
    private let socket: Socket
    private let epoll: Epoll
    private var unread: [UInt8] = []
    private static let patience: Int32 = 10_000

    /// Tries until somebody listens.
    init(_ session: TLSSession, connectingTo port: UInt16) throws {
        self.session = session
        let address = try loopback(port)
        let deadline = MonotonicTime.now() + .seconds(60)
        while true {
            let socket = try Socket.connect(to: address, from: nil, ConnectOptions())
            let epoll = try Epoll()
            try epoll.add(socket.reference, .writable, token: 0)
            _ = epoll.wait(milliseconds: Self.patience)
            if socket.connectError() == 0 {
                self.socket = socket
                self.epoll = epoll
                return
            }
            guard MonotonicTime.now() < deadline else { throw TLSError.truncated }
            _ = epoll.wait(milliseconds: 5)
        }
    }

    init(_ session: TLSSession, acceptingFrom listener: borrowing Socket) throws {
        self.session = session
        epoll = try Epoll()
        try epoll.add(listener.reference, .readable, token: 0)
        _ = epoll.wait(milliseconds: Self.patience)
        guard let accepted = try listener.accept() else { throw TLSError.truncated }
        try epoll.remove(listener.reference)
        socket = accepted.socket
        try epoll.add(socket.reference, .readable, token: 0)
    }

    func handshake() throws {
        defer { try? flush() }
        while true {
            var consumed = 0
            let result = try unsafe lend(unread) { bytes throws(TLSError) in
                try unsafe session.handshake(bytes, &consumed)
            }
            unread.removeFirst(consumed)
            try flush()
            if result == .done { return }
            try fill()
        }
    }

    func send(_ bytes: [UInt8]) throws {
        try session.write(bytes)
        try flush()
    }

    func receive(_ count: Int) throws -> [UInt8] {
        var plain: [UInt8] = []
        while true {
            let read = try session.readAll(unread)
            unread = []
            plain += read.plain
            if plain.count >= count || read.closed { return plain }
            try fill()
        }
    }

    /// What the next bytes from the socket bring; they may bring none.
    func receiveSome() throws -> [UInt8] {
        if unread.isEmpty { try fill() }
        defer { unread = [] }
        return try session.readAll(unread).plain
    }

    func flush() throws {
        while !session.output.isEmpty {
            switch unsafe socket.write(session.output.bytes) {
            case .bytes(let count): session.output.removeFirst(count)
            case .wouldBlock: try wait(.writable)
            case .end, .failed: return session.output.removeFirst(session.output.count)
            }
        }
    }

    private func fill() throws {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            switch unsafe buffer.withUnsafeMutableBytes({ unsafe socket.read(into: $0) }) {
            case .bytes(let count):
                unread += buffer.prefix(count)
                return
            case .wouldBlock: try wait(.readable)
            case .end, .failed: return try session.endOfInput()
            }
        }
    }

    private func wait(_ events: Events) throws {
        try epoll.modify(socket.reference, events, token: 0)
        guard epoll.wait(milliseconds: Self.patience) > 0 else { throw TLSError.truncated }
    }
}

private func loopback(_ port: UInt16) throws -> SocketAddress {
    try #require(SocketAddress("127.0.0.1:\(port)"))
}
