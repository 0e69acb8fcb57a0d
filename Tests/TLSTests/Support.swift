import Glibc
import Mesh
import TLSTestSupport
import TestSupport
import Testing

@testable import TLS

/// A trust domain's authority, made once a suite: key generation is most of what a test would cost.
struct Realm {
    let authority: CertificateAuthority
    let trustDomain: String

    /// WARREN_AES=libcrypto runs the tests with the other AES.
    static func chooseAES() { isAESChosen }

    private static let isAESChosen: Void = {
        guard let word = unsafe getenv("WARREN_AES") else { return }
        AES.use(AES.Choice(rawValue: unsafe String(cString: word)) ?? .auto)
    }()

    init(_ trustDomain: String = "cluster.local") throws {
        Self.chooseAES()
        self.trustDomain = trustDomain
        authority = try CertificateAuthority.createRoot(
            organization: trustDomain, now: .now - 7 * 86_400)
    }

    func uri(_ account: String) -> String {
        Identity(trustDomain: trustDomain, namespace: "shop", serviceAccount: account).uri
    }

    /// A workload's key and chain. `now` moves its validity of one hour.
    func bundle(
        _ account: String, uri: String? = nil, hosts: [String] = [],
        usages: Set<CertificateAuthority.Usage> = [.serverAuth, .clientAuth], now: UnixTime = .now
    ) throws -> CertificateBundle {
        let key = try PrivateKey.generate()
        let leaf = try authority.sign(
            key.publicKey, uri: uri ?? self.uri(account), hosts: hosts, validity: 3600, usages: usages,
            now: now)
        return try CertificateBundle(key: key, chain: authority.chain(for: leaf))
    }

    func server(_ bundle: CertificateBundle) -> TLSConfiguration {
        TLSConfiguration.meshServer(bundle, roots: authority.roots, trustDomains: [trustDomain]).tested
    }

    func client(_ bundle: CertificateBundle) -> TLSConfiguration {
        TLSConfiguration.meshClient(bundle, roots: authority.roots).tested
    }
}

extension TLSConfiguration {
    /// Over the records that are tested.
    var tested: TLSConfiguration {
        var configuration = self
        configuration.records = TestedRecords.layer
        return configuration
    }
}

/// Two sessions joined in memory.
final class Pair {
    let client: TLSSession
    let server: TLSSession

    /// Over the records that are tested.
    convenience init(
        client: TLSConfiguration, server: TLSConfiguration, expecting: Set<String> = [],
        serverName: String? = nil
    ) throws {
        try self.init(
            client: TLSContext(client.tested), server: TLSContext(server.tested), expecting: expecting,
            serverName: serverName)
    }

    init(client: TLSContext, server: TLSContext, expecting: Set<String>, serverName: String? = nil) throws {
        self.client = try TLSSession(client, expecting: expecting, serverName: serverName)
        self.server = try TLSSession(server)
    }

    /// How each side's handshake ended; nil for one that still waits.
    struct Outcome {
        var client: Result<TLSSession.Handshake, TLSError>?
        var server: Result<TLSSession.Handshake, TLSError>?
    }

    /// Exchanges flights, cut into pieces of `piece` bytes, until nobody has anything to say.
    func handshake(piece: Int = .max) -> Outcome {
        var outcome = Outcome()
        outcome.client = Self.advance(client, [], piece)
        while true {
            let toServer = client.takeOutput()
            if !toServer.isEmpty, outcome.server?.isFinal != true {
                outcome.server = Self.advance(server, toServer, piece)
            }
            let toClient = server.takeOutput()
            if toServer.isEmpty, toClient.isEmpty { return outcome }
            if !toClient.isEmpty {
                if outcome.client?.isFinal != true {
                    outcome.client = Self.advance(client, toClient, piece)
                } else if case .success = outcome.client {
                    // The server's verdict on our certificate arrives with the first read.
                    do { _ = try client.readAll(toClient) } catch { outcome.client = .failure(error) }
                }
            }
        }
    }

    /// A handshake that must succeed.
    func establish(piece: Int = .max) throws {
        let outcome = handshake(piece: piece)
        #expect(try outcome.client?.get() == .done)
        #expect(try outcome.server?.get() == .done)
    }

    private static func advance(
        _ session: TLSSession, _ bytes: [UInt8], _ piece: Int
    ) -> Result<TLSSession.Handshake, TLSError> {
        var rest = bytes[...]
        var last = TLSSession.Handshake.needsInput
        repeat {
            let part = Array(rest.prefix(piece))
            var consumed = 0
            do {
                last = try unsafe lend(part) { bytes throws(TLSError) in
                    try unsafe session.handshake(bytes, &consumed)
                }
            } catch { return .failure(error) }
            rest = rest.dropFirst(part.count)
            if last == .needsInput { #expect(consumed == part.count) }
        } while !rest.isEmpty && last == .needsInput
        return .success(last)
    }
}

extension Result where Success == TLSSession.Handshake, Failure == TLSError {
    var isFinal: Bool { self != .success(.needsInput) }
    var error: TLSError? { if case .failure(let error) = self { error } else { nil } }
}

extension TLSSession {
    /// Everything that waits, as if the socket had taken it.
    func takeOutput() -> [UInt8] {
        let bytes = unsafe Array(output.bytes)
        output.removeFirst(bytes.count)
        return bytes
    }

    func write(_ bytes: [UInt8]) throws(TLSError) {
        try unsafe lend(bytes) { bytes throws(TLSError) in try unsafe write(bytes) }
    }

    func read(_ input: [UInt8], _ consumed: inout Int, into area: inout [UInt8]) throws(TLSError)
        -> ReadResult
    {
        try unsafe lend(input) { input throws(TLSError) in
            try unsafe area.withUnsafeMutableBufferPointer { area throws(TLSError) in
                try unsafe read(input, &consumed, into: UnsafeMutableRawBufferPointer(area))
            }
        }
    }

    /// Reads until more input is needed; `closed` says whether close_notify came.
    func readAll(_ bytes: [UInt8], area: Int = 64 << 10) throws(TLSError) -> (plain: [UInt8], closed: Bool) {
        var plain: [UInt8] = []
        var rest = bytes[...]
        var buffer = [UInt8](repeating: 0, count: area)
        while true {
            var consumed = 0
            let input = Array(rest)
            let result = try read(input, &consumed, into: &buffer)
            rest = rest.dropFirst(consumed)
            switch result {
            case .bytes(let count): plain += buffer.prefix(count)
            case .needsInput:
                #expect(rest.isEmpty)
                return (plain, false)
            case .closed: return (plain, true)
            }
        }
    }
}

/// The bytes of an array, with the error's type kept.
func lend<Result>(
    _ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) throws(TLSError) -> Result
) throws(TLSError) -> Result {
    try unsafe bytes.withUnsafeBufferPointer { bytes throws(TLSError) in
        try unsafe body(UnsafeRawBufferPointer(bytes))
    }
}

extension SeededGenerator {
    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
    }
}
