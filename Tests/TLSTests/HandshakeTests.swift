import Mesh
import TLSTestSupport
import Testing

@testable import TLS

@Suite(.bothRecordLayers) struct HandshakeTests {
    static let realm = Result { try Realm() }
    static let other = Result { try Realm("other.example") }

    let realm: Realm
    let other: Realm

    init() throws {
        realm = try Self.realm.get()
        other = try Self.other.get()
    }

    /// A mesh handshake between `alice` and `bob`, with parts of it replaced.
    private func outcome(
        client: TLSConfiguration? = nil, server: TLSConfiguration? = nil, expecting: Set<String>? = nil
    ) throws -> Pair.Outcome {
        try Pair(
            client: client ?? realm.client(realm.bundle("alice")),
            server: server ?? realm.server(realm.bundle("bob")), expecting: expecting ?? [realm.uri("bob")]
        ).handshake()
    }

    @Test func `each side learns who the other is`() throws {
        let pair = try Pair(
            client: realm.client(realm.bundle("alice")), server: realm.server(realm.bundle("bob")),
            expecting: [realm.uri("bob"), realm.uri("carol")])
        try pair.establish()
        #expect(pair.client.peer?.identity?.uri == realm.uri("bob"))
        #expect(pair.server.peer?.identity?.uri == realm.uri("alice"))
        #expect(pair.client.applicationProtocol == "h2" && pair.server.applicationProtocol == "h2")
        #expect(pair.client.cipherSuite == "TLS_AES_128_GCM_SHA256")
        #expect(pair.server.peer?.chain.count == 2)
        #expect(pair.server.peer?.serial.count == 32)
    }

    @Test func `takes its input in pieces cut anywhere`() throws {
        let client = try TLSContext(realm.client(realm.bundle("alice")))
        let server = try TLSContext(realm.server(realm.bundle("bob")))
        for piece in 1...40 {
            try Pair(client: client, server: server, expecting: [realm.uri("bob")]).establish(piece: piece)
        }
    }

    @Test func `a server of another identity is refused, and hears of it`() throws {
        let outcome = try outcome(expecting: [realm.uri("mallory")])
        #expect(
            outcome.client?.error
                == .unexpectedIdentity(got: realm.uri("bob"), expected: [realm.uri("mallory")]))
        #expect(outcome.server?.error == .alert("bad certificate"))
    }

    @Test func `without an expected identity no server is good enough`() throws {
        #expect(
            try outcome(expecting: []).client?.error
                == .unexpectedIdentity(got: realm.uri("bob"), expected: []))
    }

    @Test func `a client of another trust domain is refused though its root is known`() throws {
        let mallory = try realm.bundle("mallory", uri: other.uri("mallory"))
        let outcome = try outcome(client: realm.client(mallory))
        #expect(outcome.server?.error == .wrongTrustDomain(got: "other.example", expected: ["cluster.local"]))
        #expect(outcome.client?.error == .alert("bad certificate"))
    }

    @Test func `a chain to another root is refused, on either side`() throws {
        let stranger = try other.bundle("bob", uri: realm.uri("bob"))
        guard case .untrusted = try outcome(server: realm.server(stranger)).client?.error else {
            Issue.record("accepted")
            return
        }
        let outcome = try outcome(client: realm.client(stranger))
        guard case .untrusted = outcome.server?.error else {
            Issue.record("accepted")
            return
        }
        #expect(outcome.client?.error == .alert("unknown CA"))
    }

    @Test func `a client without a certificate is refused`() throws {
        let pair = try Pair(
            client: .controlClient(nil, roots: realm.authority.roots),
            server: realm.server(realm.bundle("bob", hosts: ["bob.shop"])), serverName: "bob.shop")
        let outcome = pair.handshake()
        #expect(outcome.server?.error == .noPeerCertificate)
        #expect(outcome.client?.error == .alert("certificate required"))
    }

    @Test func `an expired certificate is refused, on either side`() throws {
        let past = UnixTime.now - 7200
        let old = try realm.bundle("bob", now: past)
        #expect(try outcome(server: realm.server(old)).client?.error == .expired(notAfter: past + 3600))
        let oldClient = try realm.bundle("alice", now: past)
        #expect(try outcome(client: realm.client(oldClient)).server?.error == .expired(notAfter: past + 3600))
    }

    @Test func `a certificate of tomorrow is refused`() throws {
        let future = UnixTime.now + 86_400
        let early = try realm.bundle("bob", now: future)
        #expect(
            try outcome(server: realm.server(early)).client?.error
                == .notYetValid(notBefore: future - CertificateAuthority.backdating))
    }

    @Test func `a certificate without a SPIFFE name is refused, on either side`() throws {
        let key = try PrivateKey.generate()
        let leaf = try realm.authority.sign(key.publicKey, uri: nil, hosts: ["bob.shop"], validity: 3600)
        let named = try CertificateBundle(key: key, chain: [leaf])
        #expect(try outcome(server: realm.server(named)).client?.error == .noSPIFFEIdentity(uris: []))
        #expect(try outcome(client: realm.client(named)).server?.error == .noSPIFFEIdentity(uris: []))
    }

    @Test func `two URI names are refused though each would do`() throws {
        let two = try Foreign.leaf(realm, uris: [realm.uri("bob"), realm.uri("alice")])
        let error = TLSError.noSPIFFEIdentity(uris: [realm.uri("bob"), realm.uri("alice")])
        #expect(try outcome(server: realm.server(two)).client?.error == error)
        #expect(try outcome(client: realm.client(two)).server?.error == error)
    }

    @Test(arguments: [
        "https://cluster.local/ns/shop/sa/bob", "spiffe://cluster.local/ns/shop/sa/bob/",
        "spiffe://cluster.local/ns/shop/sa/bob?x", "spiffe://cluster.local/ns//sa/bob",
        "SPIFFE://cluster.local/ns/shop/sa/bob", "spiffe://cluster.local/sa/shop/ns/bob",
    ])
    func `a URI that is almost an identity is refused`(uri: String) throws {
        let odd = try realm.bundle("bob", uri: uri)
        #expect(
            try outcome(server: realm.server(odd), expecting: [uri]).client?.error
                == .noSPIFFEIdentity(uris: [uri]))
    }

    @Test func `a certificate for servers only does not make a client`() throws {
        let bundle = try realm.bundle("alice", usages: [.serverAuth])
        guard case .untrusted = try outcome(client: realm.client(bundle)).server?.error else {
            Issue.record("accepted")
            return
        }
        let server = try realm.bundle("bob", usages: [.clientAuth])
        guard case .untrusted = try outcome(server: realm.server(server)).client?.error else {
            Issue.record("accepted")
            return
        }
    }

    @Test func `several roots are trusted at once, as during a rotation`() throws {
        let bob = try other.bundle("bob")
        let client = try TLSConfiguration.meshClient(
            realm.bundle("alice"), roots: realm.authority.roots + other.authority.roots)
        let server = TLSConfiguration.meshServer(
            bob, roots: other.authority.roots + realm.authority.roots, trustDomains: ["cluster.local"])
        try Pair(client: client, server: server, expecting: [other.uri("bob")]).establish()
    }

    @Test func `an intermediate is sent along and leads to the root`() throws {
        let key = try PrivateKey.generate()
        let intermediate = try Foreign.intermediate(realm, key)
        let authority = try CertificateAuthority(
            key: key, chain: [intermediate], roots: realm.authority.roots)
        let own = try PrivateKey.generate()
        let leaf = try authority.sign(own.publicKey, uri: realm.uri("bob"), validity: 3600)
        let bundle = try CertificateBundle(key: own, chain: authority.chain(for: leaf))
        #expect(bundle.chain.count == 2)
        let pair = try Pair(
            client: realm.client(realm.bundle("alice")), server: realm.server(bundle),
            expecting: [realm.uri("bob")])
        try pair.establish()
        #expect(
            pair.client.peer?.chain.map(\.der)
                == [leaf, intermediate, realm.authority.certificate].map(\.der))
    }

    @Test func `an authority's own certificate is no workload`() throws {
        let bundle = try CertificateBundle(
            key: realm.authority.key, chain: [realm.authority.certificate])
        guard case .untrusted = try outcome(client: realm.client(bundle)).server?.error else {
            Issue.record("accepted")
            return
        }
    }

    @Test func `a peer that speaks another protocol over TLS is refused`() throws {
        var client = try realm.client(realm.bundle("alice"))
        client.applicationProtocols = ["http/1.1"]
        #expect(try outcome(client: client).client?.error == .alert("no application protocol"))
        client.applicationProtocols = []
        #expect(try outcome(client: client).server?.error == .wrongApplicationProtocol(got: nil))
    }

    @Test func `verified chains are remembered, and only those`() throws {
        let workspace = TLSWorkspace(chains: 8)
        let server = try TLSContext(realm.server(realm.bundle("bob")), workspace: workspace)
        let alice = try TLSContext(realm.client(realm.bundle("alice")))
        for _ in 0..<3 { try Pair(client: alice, server: server, expecting: [realm.uri("bob")]).establish() }
        #expect(workspace.verifiedChainHits == 2 && workspace.verifiedChainCount == 1)

        let mallory = try TLSContext(other.client(other.bundle("alice", uri: realm.uri("alice"))))
        for _ in 0..<2 {
            let outcome = try Pair(client: mallory, server: server, expecting: [realm.uri("bob")]).handshake()
            #expect(outcome.client?.error != nil)
        }
        #expect(workspace.verifiedChainHits == 2 && workspace.verifiedChainCount == 1)
    }

    @Test func `remembered chains are bounded and end with their validity`() throws {
        var chains = VerifiedChains(capacity: 10)
        let peer = try PeerCertificate(chain: [realm.bundle("alice").leaf])
        for number in 0..<1_000 { chains.insert([UInt8(number & 0xff), UInt8(number >> 8)], peer) }
        #expect(chains.count <= 10)
        let last = [UInt8(999 & 0xff), UInt8(999 >> 8)]
        #expect(chains.find(last, now: peer.notAfter) == nil)
        chains.insert(last, peer)
        #expect(chains.find(last, now: peer.notAfter - 1) != nil)
        #expect(chains.find(last, now: peer.notBefore - 1) == nil)
    }
}

@Suite(.bothRecordLayers) struct ControlHandshakeTests {
    static let realm = Result { try Realm() }
    let realm: Realm

    init() throws { realm = try Self.realm.get() }

    private func pair(_ name: String, client: CertificateBundle? = nil) throws -> Pair {
        let bundle = try realm.bundle("control", hosts: ["control.mesh", "10.0.0.1", "fd00::1"])
        return try Pair(
            client: .controlClient(client, roots: realm.authority.roots),
            server: .controlServer(bundle, clientRoots: realm.authority.roots), serverName: name)
    }

    @Test(arguments: ["control.mesh", "10.0.0.1", "fd00::1"])
    func `a server is known by name or address`(name: String) throws {
        let pair = try pair(name)
        try pair.establish()
        #expect(pair.server.peer == nil)
    }

    @Test(arguments: ["other.mesh", "10.0.0.2", "fd00::2", "control.mesh.evil"])
    func `a server that is named otherwise is refused`(name: String) throws {
        #expect(try pair(name).handshake().client?.error == .wrongServerName(expected: name))
    }

    @Test func `a name is needed`() throws {
        #expect(throws: TLSError.self) { try pair("") }
    }

    @Test func `a client certificate is optional, and verified when it comes`() throws {
        let known = try pair("control.mesh", client: realm.bundle("node"))
        try known.establish()
        #expect(known.server.peer?.identity?.uri == realm.uri("node"))

        let stranger = try Realm("cluster.local")
        let outcome = try pair("control.mesh", client: stranger.bundle("node")).handshake()
        guard case .untrusted = outcome.server?.error else {
            Issue.record("accepted")
            return
        }
    }
}
