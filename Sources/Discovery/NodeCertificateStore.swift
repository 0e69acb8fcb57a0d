import Linux
import Log
import TLS

/// Keeps the node's own certificate over restarts of the machine, for the join token that it was got with expires.
///
/// Workloads' certificates never come here: they stay in memory, or on a tmpfs.
struct NodeCertificateStore {
    private let path: String
    private let logger = Logger(scope: "ca")

    init(directory: String) {
        path = "\(directory)/node-certificate.pem"
    }

    /// Nil when there is none, or none that is of use: another node's, or damaged.
    func read(for configuration: DiscoveryConfiguration) -> TrustedBundle? {
        guard FileKind(of: path) != nil else { return nil }
        do {
            let text = try TextSource.file(path).read()
            let bundle = try CertificateBundle(
                key: try PrivateKey(pem: text), chain: try Certificate.all(inPEM: text))
            guard bundle.leaf.uriNames == [CertificateExchange.nodeURI(configuration)] else {
                logger.warn("the kept certificate is not this node's", ["path": path])
                return nil
            }
            return TrustedBundle(bundle: bundle, roots: [])
        } catch {
            logger.warn("the kept certificate is not usable", ["error": "\(error)"])
            return nil
        }
    }

    func write(_ trusted: TrustedBundle) {
        do {
            let chain = trusted.bundle.chain.map(\.pem).joined()
            try writeFileAtomically(path, Array((try trusted.bundle.key.pem() + chain).utf8), mode: 0o600)
        } catch {
            logger.error("the node's certificate cannot be kept", ["error": "\(error)"])
        }
    }
}
