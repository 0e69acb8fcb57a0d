import COpenSSL
import TestSupport
import Testing

@testable import TLS

struct CertificateTests {
    static let realm = Result { try Realm() }
    let realm: Realm

    init() throws { realm = try Self.realm.get() }

    @Test func `a root signs itself and is an authority for ten years`() throws {
        let root = realm.authority.certificate
        #expect(root.isAuthority && root.isSelfIssued)
        #expect(root.subject == "O=cluster.local" && root.issuer == root.subject)
        #expect(root.notAfter - root.notBefore == 10 * 365 * 86_400 + CertificateAuthority.backdating)
        #expect(realm.authority.chain(for: root) == [root])
    }

    @Test func `a workload certificate says who it is and nothing else`() throws {
        let key = try PrivateKey.generate()
        let now = UnixTime.now
        let leaf = try realm.authority.sign(key.publicKey, uri: realm.uri("bob"), validity: 3600, now: now)
        #expect(leaf.subject.isEmpty && leaf.issuer == "O=cluster.local")
        #expect(leaf.uriNames == [realm.uri("bob")] && leaf.dnsNames.isEmpty)
        #expect(leaf.identity?.uri == realm.uri("bob"))
        #expect(leaf.notAfter == now + 3600 && leaf.notBefore == now - 120)
        #expect(!leaf.isAuthority)
        #expect(leaf.publicKey == key.publicKey)
        #expect(leaf.serial.count == 32 && leaf.serial.allSatisfy(\.isHexDigit))
    }

    @Test func `serials differ`() throws {
        let key = try PrivateKey.generate().publicKey
        let serials = try (0..<50).map { _ in
            try realm.authority.sign(key, uri: realm.uri("bob"), validity: 3600).serial
        }
        #expect(Set(serials).count == 50)
    }

    @Test func `a certificate never outlives its authority`() throws {
        let key = try PrivateKey.generate().publicKey
        let leaf = try realm.authority.sign(key, uri: realm.uri("bob"), validity: .max)
        #expect(leaf.notAfter == realm.authority.certificate.notAfter)
        #expect(throws: TLSError.self) {
            try realm.authority.sign(key, uri: realm.uri("bob"), validity: -500)
        }
    }

    @Test func `names that could be taken for syntax are refused or kept as they are`() throws {
        let key = try PrivateKey.generate().publicKey
        #expect(throws: TLSError.self) { try realm.authority.sign(key, uri: "spiffe://a\nb", validity: 60) }
        #expect(throws: TLSError.self) { try realm.authority.sign(key, uri: "", validity: 60) }
        #expect(throws: TLSError.self) { try realm.authority.sign(key, uri: nil, validity: 60) }
        let odd = try realm.authority.sign(key, uri: "spiffe://a,DNS:evil", validity: 60)
        #expect(odd.uriNames == ["spiffe://a,DNS:evil"] && odd.dnsNames.isEmpty)
    }

    @Test func `a name that is not ASCII counts but equals nothing`() throws {
        // Under canonical equivalence the Kelvin sign equals K.
        let name = "spiffe://cluster.local/ns/shop/sa/\u{212A}"
        #expect(name == "spiffe://cluster.local/ns/shop/sa/K")
        #expect(try Foreign.leaf(realm, uris: [name]).leaf.uriNames == [""])
    }

    @Test func `keys and certificates survive PEM`() throws {
        let bundle = try realm.bundle("bob")
        let key = try PrivateKey(pem: bundle.key.pem())
        #expect(key.publicKey == bundle.key.publicKey)
        #expect(
            try Certificate.all(inPEM: "comment\n" + bundle.leaf.pem + "\n" + realm.authority.certificate.pem)
                == [bundle.leaf, realm.authority.certificate])
        let again = try CertificateAuthority(
            key: PrivateKey(pem: realm.authority.key.pem()),
            chain: Certificate.all(inPEM: realm.authority.certificate.pem), roots: realm.authority.roots)
        #expect(again.certificate == realm.authority.certificate)
    }

    @Test func `a bundle and an authority must fit together`() throws {
        let bundle = try realm.bundle("bob")
        let other = try PrivateKey.generate()
        #expect(throws: TLSError.self) { try CertificateBundle(key: other, chain: bundle.chain) }
        #expect(throws: TLSError.self) { try CertificateBundle(key: other, chain: []) }
        #expect(throws: TLSError.self) {
            try CertificateAuthority(key: bundle.key, chain: bundle.chain, roots: realm.authority.roots)
        }
        #expect(throws: TLSError.self) {
            try CertificateAuthority(
                key: other, chain: [realm.authority.certificate], roots: realm.authority.roots)
        }
    }

    @Test(arguments: [
        "", "nothing here", "-----BEGIN CERTIFICATE-----\nAAAA",
        "-----BEGIN CERTIFICATE-----\nA===\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----",
    ])
    func `broken PEM is refused`(text: String) {
        #expect(throws: TLSError.self) { try Certificate.all(inPEM: text) }
        #expect(throws: TLSError.self) { try PrivateKey(pem: text) }
        #expect(throws: TLSError.self) { try CertificateRequest(pem: text) }
    }

    @Test func `no mutation of a certificate traps`() throws {
        let der = try realm.bundle("bob").leaf.der
        var random = SeededGenerator(seed: 4)
        for _ in 0..<3_000 {
            var mutated = der
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                mutated[Int.random(in: 0..<mutated.count, using: &random)] = UInt8.random(
                    in: 0...255, using: &random)
            }
            guard let certificate = try? Certificate(der: mutated) else { continue }
            _ = (certificate.uriNames, certificate.identity, certificate.notAfter, certificate.serial)
            _ = (certificate.subject, certificate.publicKey, certificate.isAuthority)
        }
    }

    @Test func `a revoked certificate is found by its serial, whatever the age of the list`() throws {
        let (bob, carol) = (try realm.bundle("bob").leaf, try realm.bundle("carol").leaf)
        let list = try Foreign.revocations(realm, of: [bob])
        let root = realm.authority.certificate
        #expect(list.revokedSerial(in: [bob, root]) == bob.serial)
        #expect(list.revokedSerial(in: [carol, root]) == nil)
        #expect(RevocationList.empty.revokedSerial(in: [bob, root]) == nil)
        let forged = try Foreign.revocations(realm, of: [bob], signedBy: .generate())
        #expect(forged.revokedSerial(in: [bob, root]) == nil)
    }

    @Test func `a revoked peer is refused in the handshake`() throws {
        let alice = try realm.bundle("alice")
        var server = try realm.server(realm.bundle("bob"))
        server.revocations = try Foreign.revocations(realm, of: [alice.leaf])
        let pair = try Pair(client: realm.client(alice), server: server, expecting: [realm.uri("bob")])
        let outcome = pair.handshake()
        #expect(outcome.server?.error == .revoked(serial: alice.leaf.serial))
        #expect(outcome.client?.error == .alert("certificate revoked"))
    }
}

struct CertificateRequestTests {
    init() { Realm.chooseAES() }

    private static let uri = "spiffe://cluster.local/ns/shop/sa/bob"

    @Test func `a request proves its key`() throws {
        let key = try PrivateKey.generate()
        let request = try CertificateRequest.make(key: key, uri: Self.uri)
        let read = try CertificateRequest(pem: request.pem)
        #expect(read.publicKey == key.publicKey)
    }

    @Test func `a request that was changed is refused`() throws {
        let der = try CertificateRequest.make(key: .generate(), uri: Self.uri).der
        var random = SeededGenerator(seed: 6)
        for _ in 0..<500 {
            var mutated = der
            mutated[Int.random(in: 0..<der.count, using: &random)] ^= UInt8.random(
                in: 1...255, using: &random)
            #expect(throws: TLSError.self) { try CertificateRequest(der: mutated) }
        }
        #expect(throws: TLSError.self) { try CertificateRequest(der: der + [0]) }
        #expect(throws: TLSError.self) { try CertificateRequest(der: Array(der.dropLast())) }
        #expect(throws: TLSError.self) {
            try CertificateRequest(der: [UInt8](repeating: 0x30, count: 20_000))
        }
    }
}
