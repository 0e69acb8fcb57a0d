import Linux
import TLS

/// Why the control component cannot keep its state.
public enum StateError: Error, CustomStringConvertible {
    case system(SystemCallError)
    case tls(file: String, TLSError)
    case incomplete(String)

    public var description: String {
        switch self {
        case .system(let error): "\(error)"
        case .tls(let file, let error): "\(file): \(error)"
        case .incomplete(let reason): reason
        }
    }
}

/// What outlives the control component, in the directory of `--state`.
///
/// The directory has mode 0711: everybody may reach `root-cert.pem` (0644), which is no secret, by its name, and see
/// nothing else. `keys` and `tokens` are 0700, the files in them 0600.
///
/// ```
/// root-cert.pem          what proxies trust
/// keys/ca-key.pem        the own root's key (not with a plugged-in authority)
/// keys/ca-cert.pem       the own root
/// keys/token-key         32 random bytes that authenticate join tokens
/// tokens/NODE            a fresh join token for each node
/// tokens/waypoint-NAMESPACE_NAME    and for each waypoint
/// cacerts/               a plugged-in authority, if somebody puts one there
/// ```
public struct StateDirectory: Sendable {
    public let path: String
    /// What may be in it: `nodes` and `waypoints` are where `warren up` keeps the state of what it starts.
    private static let ownEntries: Set<String> = [
        "root-cert.pem", "keys", "tokens", "cacerts", "nodes", "waypoints",
    ]

    public var rootCertificatePath: String { "\(path)/root-cert.pem" }
    private var keyPath: String { "\(path)/keys/ca-key.pem" }
    private var certificatePath: String { "\(path)/keys/ca-cert.pem" }
    private var tokenKeyPath: String { "\(path)/keys/token-key" }
    private var tokensPath: String { "\(path)/tokens" }
    /// The directory of a plugged-in authority; nil when there is none.
    public var pluggedInAuthority: String? {
        FileKind(of: "\(path)/cacerts") == .directory ? "\(path)/cacerts" : nil
    }

    public init(_ path: String) throws(StateError) {
        self.path = path
        do {
            try makeDirectory(path, mode: 0o711)
            // One that was made beforehand, or under a strict umask, is opened as far as that: but not a directory that
            // holds other things, which is somebody else's to decide about.
            if try Self.ownEntries.isSuperset(of: listDirectory(path)) { try changeMode(of: path, to: 0o711) }
            try makeDirectory("\(path)/keys", mode: 0o700)
            try makeDirectory("\(path)/tokens", mode: 0o700)
        } catch { throw .system(error) }
    }

    /// The authority: plugged in by `cacerts`, or the own root, which is made on first use.
    ///
    /// - Parameter pluggedIn: a directory of `ca-cert.pem`, `ca-key.pem`, `cert-chain.pem` and `root-cert.pem`.
    public func authority(trustDomain: String, pluggedIn: String?) throws(StateError) -> CertificateAuthority
    {
        let authority =
            if let pluggedIn { try pluggedInAuthority(pluggedIn) } else {
                try ownAuthority(trustDomain: trustDomain)
            }
        try write(rootCertificatePath, Array(authority.roots.map(\.pem).joined().utf8), mode: 0o644)
        return authority
    }

    private func pluggedInAuthority(_ directory: String) throws(StateError) -> CertificateAuthority {
        let chain = try certificates("\(directory)/ca-cert.pem")
        let rest =
            FileKind(of: "\(directory)/cert-chain.pem") == nil
            ? [] : try certificates("\(directory)/cert-chain.pem")
        let roots = try certificates("\(directory)/root-cert.pem")
        let key = try privateKey("\(directory)/ca-key.pem")
        // By custom the chain repeats the signing certificate.
        let whole = chain + rest.filter { !chain.contains($0) }
        return try tls("\(directory)/ca-cert.pem") { () throws(TLSError) in
            try CertificateAuthority(key: key, chain: whole, roots: roots)
        }
    }

    private func ownAuthority(trustDomain: String) throws(StateError) -> CertificateAuthority {
        switch (FileKind(of: keyPath), FileKind(of: certificatePath)) {
        case (nil, nil):
            let authority = try tls(keyPath) { () throws(TLSError) in
                try CertificateAuthority.createRoot(organization: trustDomain)
            }
            let key = try tls(keyPath) { () throws(TLSError) in try authority.key.pem() }
            // The key first: a certificate without its key would be in the way of the next start.
            try write(keyPath, Array(key.utf8), mode: 0o600)
            try write(certificatePath, Array(authority.certificate.pem.utf8), mode: 0o600)
            return authority
        case (_, nil):
            throw .incomplete("\(keyPath) has no certificate beside it; remove it to start with a new root")
        case (nil, _):
            throw .incomplete("\(certificatePath) has no key beside it; remove it to start with a new root")
        default:
            let key = try privateKey(keyPath)
            let chain = try certificates(certificatePath)
            return try tls(certificatePath) { () throws(TLSError) in
                try CertificateAuthority(key: key, chain: chain, roots: chain)
            }
        }
    }

    /// The key of join tokens; made on first use.
    public func tokenKey() throws(StateError) -> [UInt8] {
        guard FileKind(of: tokenKeyPath) != nil else {
            let key = randomBytes(32)
            try write(tokenKeyPath, key, mode: 0o600)
            return key
        }
        let key = try read(tokenKeyPath)
        guard key.count == 32 else {
            throw .incomplete(
                "\(tokenKeyPath) does not hold 32 bytes; remove it to make all join tokens void")
        }
        return key
    }

    /// Writes a file for each token, by its name, and removes the others.
    public func writeTokens(_ tokens: [String: String]) throws(StateError) {
        for (file, token) in tokens where isPlainFileName(file) {
            try write("\(tokensPath)/\(file)", Array(token.utf8), mode: 0o600)
        }
        do {
            for name in try listDirectory(tokensPath) where tokens[name] == nil {
                try removeFile("\(tokensPath)/\(name)")
            }
        } catch { throw .system(error) }
    }

    // MARK: Files

    private func certificates(_ path: String) throws(StateError) -> [Certificate] {
        let text = String(decoding: try read(path), as: UTF8.self)
        return try tls(path) { () throws(TLSError) in try Certificate.all(inPEM: text) }
    }

    private func privateKey(_ path: String) throws(StateError) -> PrivateKey {
        let text = String(decoding: try read(path), as: UTF8.self)
        return try tls(path) { () throws(TLSError) in try PrivateKey(pem: text) }
    }

    private func tls<T>(_ file: String, _ body: () throws(TLSError) -> T) throws(StateError) -> T {
        do { return try body() } catch { throw .tls(file: file, error) }
    }

    private func read(_ path: String) throws(StateError) -> [UInt8] {
        do { return try readFile(path, limit: 1 << 20) } catch { throw .system(error) }
    }

    private func write(_ path: String, _ bytes: [UInt8], mode: UInt32) throws(StateError) {
        do { try writeFileAtomically(path, bytes, mode: mode) } catch { throw .system(error) }
    }
}
