import Mesh
import Testing

@testable import TLS

/// What a chain verified once is good for: exactly what it was verified for, and no longer.
struct VerifiedChainTests {
    static let realm = Result { try Realm() }
    static let other = Result { try Realm("other.example") }

    let realm: Realm
    let other: Realm
    /// Shared by everything that a test does, as by the contexts of one loop.
    let workspace = TLSWorkspace()

    init() throws {
        realm = try Self.realm.get()
        other = try Self.other.get()
    }

    /// A handshake in which bob's side looks at alice's chain with what the workspace remembers.
    private func serverOutcome(
        _ alice: CertificateBundle, _ change: (inout TLSConfiguration) -> Void = { _ in }
    ) throws -> Result<TLSSession.Handshake, TLSError>? {
        var server = try realm.server(realm.bundle("bob"))
        change(&server)
        return try Pair(
            client: TLSContext(realm.client(alice)), server: TLSContext(server, workspace: workspace),
            expecting: [realm.uri("bob")]
        ).handshake().server
    }

    private func remember(_ alice: CertificateBundle) throws {
        #expect(try serverOutcome(alice) == .success(.done))
        #expect(try serverOutcome(alice) == .success(.done))
        #expect(workspace.verifiedChainHits == 1 && workspace.verifiedChainCount == 1)
    }

    @Test func `revoked: a list that comes later counts`() throws {
        let (alice, carol) = (try realm.bundle("alice"), try realm.bundle("carol"))
        try remember(alice)
        let revocations = try Foreign.revocations(realm, of: [alice.leaf])
        #expect(
            try serverOutcome(alice) { $0.revocations = revocations }?.error
                == .revoked(serial: alice.leaf.serial))
        #expect(try serverOutcome(carol) { $0.revocations = revocations } == .success(.done))
        #expect(workspace.verifiedChainHits == 1)
        // A refusal is not remembered either.
        #expect(workspace.verifiedChainCount == 2)
    }

    @Test(arguments: [3_600, -3_600] as [UnixTime])
    func `expired: what is remembered ends with its validity`(offset: UnixTime) throws {
        // Its hour began an hour ago or begins now; it is put there as if it had been verified in time.
        let alice = try realm.bundle("alice", now: .now + min(offset, 0))
        let context = try TLSContext(realm.server(realm.bundle("bob")), workspace: workspace)
        var key = context.trust
        for certificate in alice.chain {
            unsafe withUnsafeBytes(of: certificate.der.count) { unsafe key.append(contentsOf: $0) }
            key += certificate.der
        }
        workspace.chains.insert(
            key, try PeerCertificate(chain: [alice.leaf, realm.authority.certificate]))
        let outcome = try serverOutcome(alice)
        if offset > 0 {
            #expect(outcome == .success(.done) && workspace.verifiedChainHits == 1)
        } else {
            #expect(outcome?.error == .expired(notAfter: alice.leaf.notAfter))
            #expect(workspace.verifiedChainHits == 0 && workspace.verifiedChainCount == 0)
        }
    }

    @Test func `bundle changed: another set of roots verifies anew`() throws {
        let alice = try realm.bundle("alice")
        try remember(alice)
        let bob = try realm.bundle("bob")
        let (ours, theirs) = (realm.authority.roots, other.authority.roots)
        for roots in [ours + theirs, theirs] {
            let server = TLSConfiguration.meshServer(bob, roots: roots, trustDomains: ["cluster.local"])
            let outcome = try Pair(
                client: TLSContext(realm.client(alice)), server: TLSContext(server, workspace: workspace),
                expecting: [realm.uri("bob")]
            ).handshake()
            if roots.count == 2 {
                #expect(outcome.server == .success(.done))
            } else if case .untrusted = outcome.server?.error {
            } else {
                Issue.record("a root was taken away, and its chains still pass")
            }
        }
        #expect(workspace.verifiedChainHits == 1)
    }

    @Test func `other role: a server's chain does not make a client`() throws {
        let bundle = try realm.bundle("alice", usages: [.serverAuth])
        // As a server it is good: our client remembers it.
        let client = try TLSContext(realm.client(realm.bundle("bob")), workspace: workspace)
        let server = try TLSContext(realm.server(bundle))
        for _ in 0..<2 {
            try Pair(client: client, server: server, expecting: [realm.uri("alice")]).establish()
        }
        #expect(workspace.verifiedChainHits == 1)
        guard case .untrusted = try serverOutcome(bundle)?.error else {
            Issue.record("verified as a server, it was taken for a client")
            return
        }
        #expect(workspace.verifiedChainHits == 1)
    }

    @Test func `one byte changed: it is another chain`() throws {
        let alice = try realm.bundle("alice")
        try remember(alice)
        for index in [alice.leaf.der.count - 1, alice.leaf.der.count - 20] {
            var der = alice.leaf.der
            der[index] ^= 1
            let forged = try CertificateBundle(key: alice.key, chain: [Certificate(der: der)])
            guard case .untrusted = try serverOutcome(forged)?.error else {
                Issue.record("a forged signature passed for the chain that it resembles")
                return
            }
        }
        // One more certificate sent along makes it another one too, if a good one.
        let longer = try CertificateBundle(
            key: alice.key, chain: alice.chain + [Foreign.intermediate(realm, .generate())])
        #expect(try serverOutcome(longer) == .success(.done))
        #expect(workspace.verifiedChainHits == 1)
    }

    @Test func `who the peer may be is asked each time`() throws {
        let alice = try realm.bundle("alice")
        try remember(alice)
        let elsewhere = try TLSConfiguration.meshServer(
            realm.bundle("bob"), roots: realm.authority.roots, trustDomains: ["other.example"])
        let outcome = try Pair(
            client: TLSContext(realm.client(alice)), server: TLSContext(elsewhere, workspace: workspace),
            expecting: [realm.uri("bob")]
        ).handshake()
        #expect(outcome.server?.error == .wrongTrustDomain(got: "cluster.local", expected: ["other.example"]))

        let client = try TLSContext(realm.client(alice), workspace: workspace)
        let server = try TLSContext(realm.server(realm.bundle("bob")))
        try Pair(client: client, server: server, expecting: [realm.uri("bob")]).establish()
        #expect(
            try Pair(client: client, server: server, expecting: [realm.uri("carol")]).handshake().client?
                .error
                == .unexpectedIdentity(got: realm.uri("bob"), expected: [realm.uri("carol")]))
        #expect(workspace.verifiedChainHits == 3)
    }
}
