import Mesh
import TLS
import Wire

/// A certificate with its key, and what its peers are verified against.
public struct TrustedBundle: Sendable {
    public let bundle: CertificateBundle
    public let roots: [Certificate]

    public init(bundle: CertificateBundle, roots: [Certificate]) {
        self.bundle = bundle
        self.roots = roots
    }

    var issued: IssuedCertificate<TrustedBundle> {
        IssuedCertificate(notBefore: bundle.leaf.notBefore, notAfter: bundle.leaf.notAfter, bundle: self)
    }
}

/// One request for a certificate, with the key it is for: a new one each time, that never leaves the process but in the
/// saved state.
struct CertificateExchange {
    let subject: CertificateSubject
    private let key: PrivateKey
    private let uri: String
    let request: Istio_V1_Auth_IstioCertificateRequest

    init(_ subject: CertificateSubject, _ configuration: DiscoveryConfiguration) throws(TLSError) {
        self.subject = subject
        key = try PrivateKey.generate()
        var request = Istio_V1_Auth_IstioCertificateRequest()
        request.validityDuration = configuration.certificateLife.components.seconds
        switch subject {
        case .workload(let identity):
            uri = identity.uri
            request.metadata = Google_Protobuf_Struct(["ImpersonatedIdentity": identity.uri])
        case .node:
            uri = Self.nodeURI(configuration)
        }
        request.csr = try CertificateRequest.make(key: key, uri: uri).pem
        self.request = request
    }

    /// What `warren-control` certifies a node as, or a waypoint.
    static func nodeURI(_ configuration: DiscoveryConfiguration) -> String {
        "spiffe://\(configuration.trustDomain)/warren/\(configuration.node.kind.rawValue)/\(configuration.node.name)"
    }

    /// Checks the answer: the leaf is of this key and names this subject, and roots come with it.
    func accept(
        _ response: Istio_V1_Auth_IstioCertificateResponse
    ) throws(CertificateUnavailable) -> TrustedBundle {
        guard response.certChain.count >= 2, let last = response.certChain.last else {
            throw CertificateUnavailable(
                "the CA answered with \(response.certChain.count) elements: no root certificate")
        }
        do throws(TLSError) {
            var chain: [Certificate] = []
            for element in response.certChain.dropLast() { chain += try Certificate.all(inPEM: element) }
            let bundle = try CertificateBundle(key: key, chain: chain)
            guard bundle.leaf.uriNames == [uri] else {
                throw TLSError.unexpectedIdentity(
                    got: bundle.leaf.uriNames.joined(separator: ", "), expected: [uri])
            }
            return TrustedBundle(bundle: bundle, roots: try Certificate.all(inPEM: last))
        } catch {
            throw CertificateUnavailable("the CA's answer is not usable: \(error)")
        }
    }
}

extension SavedState.Certificate {
    init(_ subject: CertificateSubject, _ trusted: TrustedBundle) throws(TLSError) {
        self.init(
            subject: subject, privateKey: try trusted.bundle.key.pem(),
            chain: trusted.bundle.chain.map(\.pem).joined(), roots: trusted.roots.map(\.pem).joined())
    }

    func trusted() throws(TLSError) -> TrustedBundle {
        TrustedBundle(
            bundle: try CertificateBundle(
                key: try PrivateKey(pem: privateKey), chain: try Certificate.all(inPEM: chain)),
            // The node's own, read from its state directory, comes without: its roots are the configured ones.
            roots: subject == .node && roots.isEmpty ? [] : try Certificate.all(inPEM: roots))
    }
}
