import Discovery
import Mesh
import TLS

/// One identity's certificate as one worker uses it: the contexts are made when they are first needed, and last until the
/// certificate is replaced. Connections that were made with the one before keep it.
package final class Credentials {
    package let identity: Identity
    package let bundle: CertificateBundle
    private let roots: [Certificate]
    private let workspace: TLSWorkspace
    private let records: RecordLayer
    private var clientContext: TLSContext?
    private var serverContext: TLSContext?
    private let notBefore, notAfter: UnixTime

    init(
        _ identity: Identity, _ bundle: CertificateBundle, roots: [Certificate], _ workspace: TLSWorkspace,
        records: RecordLayer
    ) {
        self.identity = identity
        self.bundle = bundle
        self.roots = roots
        self.workspace = workspace
        self.records = records
        notBefore = bundle.chain.map(\.notBefore).max() ?? .max
        notAfter = bundle.chain.map(\.notAfter).min() ?? .min
    }

    /// Why a peer would not take it now; nil when it would.
    package var flaw: String? {
        let now = UnixTime.now
        if now < notBefore { return "the certificate of \(identity) is not valid yet" }
        return now < notAfter ? nil : "the certificate of \(identity) has expired"
    }

    /// Whether it is what these would make.
    func isMade(of bundle: CertificateBundle, roots: [Certificate]) -> Bool {
        self.bundle.chain == bundle.chain && self.roots == roots
    }

    /// For tunnels that a workload of this identity opens.
    package func client() throws(TLSError) -> TLSContext {
        if let clientContext { return clientContext }
        var configuration = TLSConfiguration.meshClient(bundle, roots: roots)
        configuration.records = records
        let context = try TLSContext(configuration, workspace: workspace)
        clientContext = context
        return context
    }

    /// For tunnels that arrive at a workload of this identity. By ztunnel's rule peers are of its own trust domain.
    package func server() throws(TLSError) -> TLSContext {
        if let serverContext { return serverContext }
        var configuration = TLSConfiguration.meshServer(
            bundle, roots: roots, trustDomains: [identity.trustDomain])
        configuration.records = records
        let context = try TLSContext(configuration, workspace: workspace)
        serverContext = context
        return context
    }
}

/// What a worker can say about an identity's certificate.
package enum CredentialState {
    case available(Credentials)
    case pending
    case unavailable(String)
}

/// The certificates that a worker has at hand.
package struct CredentialTable {
    private let records: RecordLayer
    private let workspace = TLSWorkspace()
    private var states: [Identity: CredentialState] = [:]

    package init(records: RecordLayer) { self.records = records }

    /// Takes over a new state of all certificates; contexts of unchanged ones are kept.
    package mutating func replace(by certificates: [Identity: CertificateState]) {
        var next: [Identity: CredentialState] = [:]
        for (identity, state) in certificates {
            switch state {
            case .available(bundle: let bundle, roots: let roots):
                if case .available(let known) = states[identity], known.isMade(of: bundle, roots: roots) {
                    next[identity] = .available(known)
                } else {
                    next[identity] = .available(
                        Credentials(identity, bundle, roots: roots, workspace, records: records))
                }
            case .unavailable(let reason):
                next[identity] = .unavailable(reason)
            }
        }
        states = next
    }

    package subscript(identity: Identity) -> CredentialState { states[identity] ?? .pending }
}
