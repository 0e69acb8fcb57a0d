import Compiler
import ControlPlane
import Glibc
import Linux
import Mesh
import TLS
import Testing

struct AuthorityTests {
    static let key = [UInt8](repeating: 7, count: 32)

    // MARK: Tokens

    @Test func `a token names its node until it expires`() throws {
        let token = try JoinToken(.node("node-a.example"), expiry: 1_000, id: "0011223344556677").signed(
            with: Self.key)
        #expect(token.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f })
        #expect(try JoinToken(verifying: token, key: Self.key, now: 999).caller == .node("node-a.example"))
        #expect(throws: JoinToken.Refusal.expired(id: "0011223344556677", .node("node-a.example"))) {
            try JoinToken(verifying: token, key: Self.key, now: 1_000)
        }
    }

    @Test func `no byte of a token can be changed, left out or added`() throws {
        let token = try JoinToken(.node("a"), expiry: 1_000, id: "0011223344556677").signed(with: Self.key)
        let bytes = Array(token.utf8)
        var variants: [[UInt8]] = [[], bytes + [65], [65] + bytes]
        for index in bytes.indices {
            for bit in 0..<7 {
                var changed = bytes
                changed[index] ^= 1 << UInt8(bit)
                variants.append(changed)
            }
            var shorter = bytes
            shorter.remove(at: index)
            variants.append(shorter)
        }
        for variant in variants {
            let text = String(decoding: variant, as: UTF8.self)
            #expect(throws: JoinToken.Refusal.notOurs) {
                try JoinToken(verifying: text, key: Self.key, now: 0)
            }
        }
        #expect(throws: JoinToken.Refusal.notOurs) {
            try JoinToken(verifying: token, key: [UInt8](repeating: 8, count: 32), now: 0)
        }
    }

    // MARK: Callers

    static let authenticator = Authenticator(trustDomain: "cluster.local", tokenKey: key)

    static func caller(_ uris: [String]?, _ authorization: String?) -> String {
        do {
            return "\(try authenticator.caller(certificateURIs: uris, authorization: authorization, now: 0))"
        } catch { return "\(error)" }
    }

    @Test func `a caller proves its node by certificate or token`() throws {
        let token = try JoinToken(.node("n1"), expiry: 10, id: "00").signed(with: Self.key)
        #expect(Self.caller(nil, "Bearer \(token)") == "node n1")
        #expect(Self.caller(nil, "bearer \(token)\n") == "node n1")
        #expect(Self.caller(["spiffe://cluster.local/warren/node/n2"], nil) == "node n2")
        #expect(Self.caller(["spiffe://cluster.local/warren/node/n2"], "Bearer \(token)") == "node n2")
        #expect(Self.caller(nil, nil).contains("neither"))
        #expect(Self.caller(nil, "Basic abc").contains("no bearer token"))
        #expect(Self.caller(nil, "Bearer abc").contains("not issued here"))
        let old = try JoinToken(.node("n1"), expiry: 0, id: "0a").signed(with: Self.key)
        #expect(Self.caller(nil, "Bearer \(old)") == "the token 0a of node n1 has expired")
    }

    static let foreign = [
        "spiffe://cluster.local/ns/a/sa/b", "spiffe://other/warren/node/n1",
        "spiffe://cluster.local/warren/node/",
        "spiffe://cluster.local/warren/node/n1/", "spiffe://cluster.local/warren/node/N1",
        "spiffe://cluster.local/warren/node/n1/x", "spiffe://cluster.local/warren/waypoint/n1", "",
        "spiffe://other/warren/waypoint/shop/wp", "spiffe://cluster.local/warren/waypoint/shop/",
        "spiffe://cluster.local/warren/waypoint//wp", "spiffe://cluster.local/warren/waypoint/shop/wp/x",
        "spiffe://cluster.local/warren/waypoint/Shop/wp", "spiffe://cluster.local/warren/waypoint/a.b/wp",
    ]

    @Test(arguments: foreign)
    func `a certificate that is neither a node's nor a waypoint's opens nothing, even beside a good token`(
        uri: String
    ) throws {
        let token = try JoinToken(.node("n1"), expiry: 10, id: "00").signed(with: Self.key)
        #expect(
            Self.caller([uri], "Bearer \(token)")
                == "the client certificate is neither a node's nor a waypoint's")
    }

    @Test func `two names in a certificate are none`() {
        let uri = "spiffe://cluster.local/warren/node/n1"
        #expect(
            Self.caller([uri, uri], nil) == "the client certificate is neither a node's nor a waypoint's")
        #expect(Self.caller([], nil) == "the client certificate is neither a node's nor a waypoint's")
    }

    // MARK: Certificates

    static let resources: MeshResources = {
        var resources = MeshResources()
        resources.nodes = ["n1", "n2"]
        resources.identities["n1"] = [
            Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "web")
        ]
        resources.waypoints[NamespacedName(namespace: "shop", name: "wp")] = {
            var declaration = WaypointDeclaration()
            declaration.identities = [
                Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "wp")
            ]
            return declaration
        }()
        resources.waypoints[NamespacedName(namespace: "shop", name: "podless")] = WaypointDeclaration()
        resources.identities["ghost"] = [
            Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "web")
        ]
        return resources
    }()

    static func issuer() throws -> CertificateIssuer {
        CertificateIssuer(
            authority: try CertificateAuthority.createRoot(organization: "cluster.local"),
            trustDomain: "cluster.local")
    }

    @Test func `a node gets the identities of its pods, whatever the request says`() throws {
        let issuer = try Self.issuer()
        let request = try CertificateRequest.make(
            key: .generate(), uri: "spiffe://cluster.local/ns/kube-system/sa/admin")
        let issued = try issuer.issue(
            request.pem, to: .node("n1"), impersonating: "spiffe://cluster.local/ns/shop/sa/web", life: 0,
            Self.resources)
        #expect(issued.certificate.uriNames == ["spiffe://cluster.local/ns/shop/sa/web"])
        #expect(issued.chain.count == 2)
        #expect(try Certificate.all(inPEM: issued.chain[0]) == [issued.certificate])
        #expect(try Certificate.all(inPEM: issued.chain[1]) == issuer.authority.roots)
    }

    @Test func `a node without a wish gets its own identity`() throws {
        let request = try CertificateRequest.make(key: .generate(), uri: "spiffe://cluster.local/ns/a/sa/b")
        let issued = try Self.issuer().issue(
            request.pem, to: .node("n2"), impersonating: nil, life: 0, Self.resources)
        #expect(issued.certificate.uriNames == ["spiffe://cluster.local/warren/node/n2"])
        #expect(issued.certificate.identity == nil, "no workload's")
    }

    // Node, identity asked for, kind of refusal.
    static let refused: [(String, String?, CertificateIssuer.Refusal.Kind)] = [
        ("n2", "spiffe://cluster.local/ns/shop/sa/web", .notEntitled),
        ("n1", "spiffe://cluster.local/ns/shop/sa/other", .notEntitled),
        ("n1", "spiffe://other/ns/shop/sa/web", .notEntitled),
        ("n1", "spiffe://cluster.local/warren/node/n2", .invalid),
        ("n1", "spiffe://cluster.local/ns/shop/sa/web/", .invalid),
        ("n1", "", .invalid),
        ("ghost", "spiffe://cluster.local/ns/shop/sa/web", .notEntitled),
        ("ghost", nil, .notEntitled),
    ]

    @Test(arguments: refused)
    func `refuses other nodes' pods, strangers, and what is no workload`(
        row: (node: String, identity: String?, kind: CertificateIssuer.Refusal.Kind)
    ) throws {
        let issuer = try Self.issuer()
        let request = try CertificateRequest.make(
            key: .generate(), uri: "spiffe://cluster.local/ns/shop/sa/web")
        do {
            _ = try issuer.issue(
                request.pem, to: .node(row.node), impersonating: row.identity, life: 0, Self.resources)
            Issue.record("issued \(row)")
        } catch { #expect(error.kind == row.kind, "\(row)") }
    }

    // MARK: Waypoints

    static func waypoint(_ name: String) -> Caller {
        .waypoint(NamespacedName(namespace: "shop", name: name))
    }

    @Test func `a waypoint proves itself by its token or its certificate, and by no node's`() throws {
        let token = try JoinToken(Self.waypoint("wp"), expiry: 10, id: "00").signed(with: Self.key)
        #expect(Self.caller(nil, "Bearer \(token)") == "waypoint shop/wp")
        #expect(Self.caller(["spiffe://cluster.local/warren/waypoint/shop/wp"], nil) == "waypoint shop/wp")
        let old = try JoinToken(Self.waypoint("wp"), expiry: 0, id: "0a").signed(with: Self.key)
        #expect(Self.caller(nil, "Bearer \(old)") == "the token 0a of waypoint shop/wp has expired")
        // The kind is under the code: a node's token does not become a waypoint's by another first word.
        let node = try JoinToken(.node("shop/wp"), expiry: 10, id: "00").signed(with: Self.key)
        #expect(Self.caller(nil, "Bearer \(node)") == "node shop/wp")
        let forged = "warren1w" + node.dropFirst("warren1".count)
        #expect(Self.caller(nil, "Bearer \(forged)").contains("not issued here"))
    }

    @Test func `a waypoint gets its own certificate and that of its account`() throws {
        let request = try CertificateRequest.make(key: .generate(), uri: "spiffe://cluster.local/ns/a/sa/b")
        let issuer = try Self.issuer()
        for (identity, uri) in [
            (nil, "spiffe://cluster.local/warren/waypoint/shop/wp"),
            ("spiffe://cluster.local/ns/shop/sa/wp", "spiffe://cluster.local/ns/shop/sa/wp"),
        ] as [(String?, String)] {
            let issued = try issuer.issue(
                request.pem, to: Self.waypoint("wp"), impersonating: identity, life: 0, Self.resources)
            #expect(issued.certificate.uriNames == [uri])
        }
    }

    // Who asks, the identity asked for, kind of refusal.
    static let refusedWaypoints: [(Caller, String?, CertificateIssuer.Refusal.Kind)] = [
        // Workloads that it stands before, and others.
        (waypoint("wp"), "spiffe://cluster.local/ns/shop/sa/web", .notEntitled),
        (waypoint("wp"), "spiffe://other/ns/shop/sa/wp", .notEntitled),
        (waypoint("wp"), "spiffe://cluster.local/ns/other/sa/wp", .notEntitled),
        (waypoint("wp"), "spiffe://cluster.local/warren/node/n1", .invalid),
        (waypoint("wp"), "spiffe://cluster.local/warren/waypoint/shop/podless", .invalid),
        // Another waypoint, one that runs nowhere, one that nobody declares.
        (waypoint("podless"), "spiffe://cluster.local/ns/shop/sa/wp", .notEntitled),
        (waypoint("ghost"), "spiffe://cluster.local/ns/shop/sa/wp", .notEntitled),
        (waypoint("ghost"), nil, .notEntitled),
        // Nodes never are a waypoint.
        (.node("n1"), "spiffe://cluster.local/ns/shop/sa/wp", .notEntitled),
        (.node("n1"), "spiffe://cluster.local/warren/waypoint/shop/wp", .invalid),
    ]

    @Test(arguments: refusedWaypoints)
    func `refuses a waypoint what is not its own, and everybody what is a waypoint's`(
        row: (caller: Caller, identity: String?, kind: CertificateIssuer.Refusal.Kind)
    ) throws {
        let issuer = try Self.issuer()
        let request = try CertificateRequest.make(
            key: .generate(), uri: "spiffe://cluster.local/ns/shop/sa/wp")
        do {
            _ = try issuer.issue(
                request.pem, to: row.caller, impersonating: row.identity, life: 0, Self.resources)
            Issue.record("issued \(row)")
        } catch { #expect(error.kind == row.kind, "\(row)") }
    }

    @Test func `life is capped, and what is no request is refused`() throws {
        let issuer = try Self.issuer()
        let request = try CertificateRequest.make(key: .generate(), uri: "spiffe://cluster.local/ns/a/sa/b")
        for (asked, granted) in [(0, 86_400), (-5, 86_400), (3_600, 3_600), (10_000_000, 86_400)]
            as [(Int64, Int64)]
        {
            let now = UnixTime.now
            let issued = try issuer.issue(
                request.pem, to: .node("n1"), impersonating: nil, life: asked, Self.resources, now: now)
            #expect(issued.certificate.notAfter == now + granted)
        }
        do {
            _ = try issuer.issue("junk", to: .node("n1"), impersonating: nil, life: 0, Self.resources)
            Issue.record("issued")
        } catch { #expect(error.kind == .invalid) }
    }

    // MARK: State

    @Test func `the root and the key of tokens outlive a restart`() throws {
        let path = try TemporaryDirectory()
        let first = try StateDirectory("\(path.path)/state")
        let root = try first.authority(trustDomain: "cluster.local", pluggedIn: nil)
        let key = try first.tokenKey()
        let second = try StateDirectory("\(path.path)/state")
        #expect(try second.authority(trustDomain: "cluster.local", pluggedIn: nil).roots == root.roots)
        #expect(try second.tokenKey() == key && key.count == 32)
        let written = try readFile("\(path.path)/state/root-cert.pem")
        #expect(try Certificate.all(inPEM: String(decoding: written, as: UTF8.self)) == root.roots)
    }

    @Test func `a directory made beforehand is opened for the root, one that holds other things is not`()
        throws
    {
        let path = try TemporaryDirectory()
        func mode(_ name: String) -> UInt32 {
            var status = stat()
            return unsafe stat("\(path.path)/\(name)", &status) == 0 ? status.st_mode & 0o777 : 0
        }
        for name in ["empty", "other"] { try makeDirectory("\(path.path)/\(name)", mode: 0o700) }
        try path.write("other/mine.txt", "x")
        for name in ["empty", "other"] { _ = try StateDirectory("\(path.path)/\(name)") }
        #expect(mode("empty") == 0o711)
        #expect(mode("other") == 0o700)
        #expect(mode("empty/keys") == 0o700 && mode("empty/tokens") == 0o700)
    }

    @Test func `a key without its certificate is not replaced in silence`() throws {
        let path = try TemporaryDirectory()
        let state = try StateDirectory("\(path.path)/state")
        _ = try state.authority(trustDomain: "cluster.local", pluggedIn: nil)
        try removeFile("\(path.path)/state/keys/ca-cert.pem")
        #expect(throws: StateError.self) { try state.authority(trustDomain: "cluster.local", pluggedIn: nil) }
    }

    @Test func `tokens are written for each node and taken away with it`() throws {
        let path = try TemporaryDirectory()
        let state = try StateDirectory("\(path.path)/state")
        try state.writeTokens(["n1": "one", "n2": "two", "../evil": "x"])
        #expect(try listDirectory("\(path.path)/state/tokens") == ["n1", "n2"])
        try state.writeTokens(["n2": "new"])
        #expect(try listDirectory("\(path.path)/state/tokens") == ["n2"])
        #expect(try readFile("\(path.path)/state/tokens/n2") == Array("new".utf8))
    }

    @Test func `a plugged-in authority signs below its root`() throws {
        let path = try TemporaryDirectory()
        let root = try CertificateAuthority.createRoot(organization: "cluster.local")
        try writeFileAtomically("\(path.path)/ca-cert.pem", Array(root.certificate.pem.utf8))
        try writeFileAtomically("\(path.path)/ca-key.pem", Array(try root.key.pem().utf8))
        try writeFileAtomically("\(path.path)/root-cert.pem", Array(root.certificate.pem.utf8))
        let state = try StateDirectory("\(path.path)/state")
        let authority = try state.authority(trustDomain: "cluster.local", pluggedIn: path.path)
        #expect(authority.roots == root.roots)
        #expect(try readFile(state.rootCertificatePath) == Array(root.certificate.pem.utf8))
    }
}
