import Linux
import TestSupport
import Testing

@testable import TLS

/// Keys and roots that other tools make: each is read and serves, or is refused in words.
struct KeyKindTests {
    /// A way to write a private key, as the openssl command makes it.
    struct Written: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let commands: [[String]]
    }

    private static let ec = ["genpkey", "-algorithm", "EC", "-pkeyopt"]

    static let readable: [Written] = [
        Written(
            testDescription: "RSA, PKCS#1", commands: [["genrsa", "-traditional", "-out", "key.pem", "2048"]]),
        Written(testDescription: "RSA, PKCS#8", commands: [["genrsa", "-out", "key.pem", "2048"]]),
        Written(
            testDescription: "P-256, SEC 1",
            commands: [["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem"]]),
        Written(
            testDescription: "P-256, SEC 1 behind its parameters",
            commands: [["ecparam", "-name", "prime256v1", "-genkey", "-out", "key.pem"]]),
        Written(
            testDescription: "P-256, PKCS#8", commands: [ec + ["ec_paramgen_curve:P-256", "-out", "key.pem"]]),
        Written(
            testDescription: "P-384, PKCS#8", commands: [ec + ["ec_paramgen_curve:P-384", "-out", "key.pem"]]),
        Written(
            testDescription: "Ed25519, PKCS#8",
            commands: [["genpkey", "-algorithm", "ed25519", "-out", "key.pem"]]),
    ]

    @Test(arguments: readable)
    func `a key is read, proves an identity and is written again`(written: Written) throws {
        let folder = try Folder()
        for command in written.commands { try folder.openssl(command) }
        let key = try PrivateKey(pem: folder.read("key.pem"))
        #expect(try PrivateKey(pem: key.pem()).publicKey == key.publicKey)
        let realm = try Realm()
        let leaf = try realm.authority.sign(key.publicKey, uri: realm.uri("alice"), validity: 3600)
        let alice = try CertificateBundle(key: key, chain: [leaf])
        // As a client and as a server.
        for (client, server) in [(alice, try realm.bundle("alice")), (try realm.bundle("alice"), alice)] {
            let pair = try Pair(
                client: realm.client(client), server: realm.server(server), expecting: [realm.uri("alice")])
            try pair.establish()
        }
    }

    @Test(arguments: [
        ["genpkey", "-algorithm", "ed448"], ["genpkey", "-algorithm", "x448"],
        ["genpkey", "-algorithm", "DSA", "-pkeyopt", "dsa_paramgen_bits:1024"],
    ])
    func `a key of a kind that no peer of ours has is refused`(command: [String]) throws {
        let folder = try Folder()
        if command.contains("DSA") {
            try folder.openssl(["genpkey", "-genparam"] + command.dropFirst() + ["-out", "parameters.pem"])
            try folder.openssl(["genpkey", "-paramfile", "parameters.pem", "-out", "key.pem"])
        } else {
            try folder.openssl(command + ["-out", "key.pem"])
        }
        let text = try folder.read("key.pem")
        #expect { _ = try PrivateKey(pem: text) } throws: { error in
            guard case .malformed("private key", let reason) = error as? TLSError else { return false }
            return !reason.isEmpty
        }
    }

    @Test func `an encrypted key is refused by that name`() throws {
        let folder = try Folder()
        try folder.openssl(
            Self.ec + ["ec_paramgen_curve:P-256", "-aes128", "-pass", "pass:x", "-out", "key.pem"])
        let text = try folder.read("key.pem")
        #expect(throws: TLSError.malformed("private key", reason: "it is encrypted")) {
            try PrivateKey(pem: text)
        }
    }

    /// Roots of which a mesh's authority may be one: the arguments that make their key.
    static let roots: [Written] = [
        Written(testDescription: "RSA", commands: [["-newkey", "rsa:2048"]]),
        Written(testDescription: "RSA, 4096 bits", commands: [["-newkey", "rsa:4096"]]),
        Written(
            testDescription: "RSA, signing by PSS",
            commands: [["-newkey", "rsa:2048", "-sigopt", "rsa_padding_mode:pss"]]),
        Written(testDescription: "RSA-PSS", commands: [["-newkey", "rsa-pss"]]),
        Written(
            testDescription: "P-384", commands: [["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"]]),
        Written(
            testDescription: "P-521", commands: [["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"]]),
        Written(testDescription: "Ed25519", commands: [["-newkey", "ed25519"]]),
    ]

    @Test(arguments: roots)
    func `a foreign root vouches for workloads`(root: Written) throws {
        let folder = try Folder()
        let making = root.commands[0]
        let signing = making.drop { $0 != "-sigopt" }
        try folder.openssl(
            [
                "req", "-x509", "-nodes", "-days", "2", "-subj", "/O=foreign", "-keyout", "root-key.pem",
                "-out", "root.pem",
            ]
                + making)
        let uri = "spiffe://cluster.local/ns/default/sa/alice"
        try folder.openssl(
            [
                "req", "-x509", "-nodes", "-days", "1", "-subj", "/O=leaf", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:P-256", "-addext", "basicConstraints=critical,CA:FALSE", "-addext",
                "extendedKeyUsage=serverAuth,clientAuth", "-addext", "subjectAltName=URI:\(uri)", "-CA",
                "root.pem",
                "-CAkey", "root-key.pem", "-keyout", "key.pem", "-out", "leaf.pem",
            ] + signing)
        let bundle = try CertificateBundle(
            key: PrivateKey(pem: folder.read("key.pem")),
            chain: Certificate.all(inPEM: folder.read("leaf.pem")))
        let roots = try Certificate.all(inPEM: folder.read("root.pem"))
        let pair = try Pair(
            client: .meshClient(bundle, roots: roots),
            server: .meshServer(bundle, roots: roots, trustDomains: ["cluster.local"]), expecting: [uri])
        try pair.establish()
        #expect(pair.server.peer?.identity?.uri == uri && pair.client.peer?.chain.last == roots[0])
    }
}

extension Folder {
    /// Runs the openssl command to its end; names that end in `.pem` are files of the folder.
    fileprivate func openssl(_ arguments: [String]) throws {
        var options = ChildProcess.Options()
        options.output = .discarded
        options.error = .discarded
        let process = try ChildProcess.start(
            "openssl", arguments.map { $0.hasSuffix(".pem") ? path($0) : $0 }, options)
        let status = try process.wait()
        #expect(status == .exited(0), "openssl \(arguments)")
    }
}
