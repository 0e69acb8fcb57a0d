import EventLoop
import Linux
import Log
import Mesh
import Metrics
import Routing
import TLS
import Wire

/// Whether a workload's certificate is there.
public enum CertificateState: Sendable, Equatable {
    case available(bundle: CertificateBundle, roots: [Certificate])
    /// The last attempt failed, and there is no earlier certificate that is still valid.
    case unavailable(String)

    public static func == (a: CertificateState, b: CertificateState) -> Bool {
        switch (a, b) {
        case (.available(let mine, let myRoots), .available(let theirs, let theirRoots)):
            mine.chain == theirs.chain && myRoots == theirRoots
        case (.unavailable(let mine), .unavailable(let theirs)): mine == theirs
        default: false
        }
    }
}

/// A node's side of the control component: its configuration, its pods and its certificates.
///
///     control component ⇄ ControlChannel ⇄ ConfigurationStream ⇄ DeltaClient      → onSnapshot, onLocalPods
///                                        ⇄ CertificateClient   ⇄ CertificateCache → onCertificates
///
/// Bound to a loop that carries no traffic; every callback comes on it. While the control component is away, everything
/// that was learned stays in use, and certificates serve until they expire.
public final class NodeDiscovery {
    /// Called with a new snapshot after each change, also by `restore`.
    public var onSnapshot: ((Snapshot) -> Void)?
    /// Called with all pods of this node, first when they are known, then at each change.
    public var onLocalPods: (([LocalPod]) -> Void)?
    /// Called with what this waypoint runs on, first when it is known, then at each change, also by `restore`. Never by a node's.
    public var onWaypointServices: (([NamespacedName: CompiledWaypointService]) -> Void)?
    /// Called with the state of all wanted identities when any changes; one that is absent is being fetched.
    public var onCertificates: (([Identity: CertificateState]) -> Void)?

    private let configuration: DiscoveryConfiguration
    private let loop: EventLoop
    private let channel: any ControlChannel
    private let metrics: DiscoveryMetrics
    private let random: () -> Double
    private let logger = Logger(scope: "discovery")
    private let certificates: CertificateClient
    private var configurations: ConfigurationStream
    private var published: [Identity: CertificateState] = [:]
    private var wanted: Set<Identity> = []
    private var isStarted = false
    /// When the next snapshot may be built: a mesh that changes faster than it can be indexed is looked at less often.
    private var nextSnapshot = MonotonicTime(nanoseconds: 0)
    private var hasPublishedPods = false
    private var hasPublishedServices = false
    /// Whether `hasFirstState` was true after the last response.
    private var wasReady = false
    private lazy var snapshotTimer = CallbackTimer { [weak self] in self?.publishSnapshot() }

    /// - Parameter random: -1 ... 1, what waits and renewals are spread by.
    package init(
        loop: EventLoop, _ configuration: DiscoveryConfiguration, channel: any ControlChannel,
        registry: Registry, random: @escaping () -> Double
    ) {
        self.loop = loop
        self.configuration = configuration
        self.channel = channel
        self.random = random
        metrics = DiscoveryMetrics(registry)
        certificates = CertificateClient(
            configuration, loop: loop, channel: channel, metrics: metrics, random: random)
        configurations = ConfigurationStream(
            DeltaClient(node: configuration.node, types: configuration.types), loop: loop, channel: channel,
            metrics: metrics, random: random)
    }
}

extension NodeDiscovery {
    public var isConnected: Bool { configurations.connectedSince != nil }
    public var connectedSince: WallClock? { configurations.connectedSince }
    public var lastUpdate: WallClock? { configurations.lastUpdate }
    /// The data path may rely on the snapshot: every type was answered once, or an earlier run's was restored.
    public var hasFirstState: Bool { configurations.client.isReady }

    public func start() {
        guard !isStarted else { return }
        isStarted = true
        configurations.onReception = { [weak self] in self?.received($0) }
        certificates.onNodeCertificate = { [weak self] in self?.nodeCertificateChanged($0) }
        certificates.onChange = { [weak self] in self?.publishCertificates() }
        channel.onConnected = { [weak self] in self?.certificates.retryNow() }
        if configuration.usesNodeCertificate {
            // The saved state's may be there already; the later one counts.
            if certificates.nodeCertificate == nil, let kept = store?.read(for: configuration) {
                certificates.restore(.node, kept)
            }
            if let trusted = certificates.nodeCertificate { channel.renew(trusted.bundle) }
        }
        certificates.start()
        // The node's certificate comes first: it is what the stream proves itself with.
        if !configuration.usesNodeCertificate || certificates.nodeCertificate != nil {
            configurations.start()
        }
    }

    public func stop() {
        configurations.stop()
        certificates.stop()
        channel.close()
        loop.cancel(snapshotTimer)
    }

    /// Says which identities the node's workloads have: their certificates are fetched now, renewed in time, and forgotten
    /// when they are no longer among these.
    public func want(_ identities: Set<Identity>) {
        guard identities != wanted else { return }
        wanted = identities
        certificates.setWanted(Set(identities.map(CertificateSubject.workload)))
        publishCertificates()
    }

    /// Gives the certificate of an identity, for a connection that needs it.
    ///
    /// - Parameters:
    ///   - patience: the longest that it may take.
    ///   - completion: called exactly once on this loop, at once where the answer is known.
    public func certificate(
        for identity: Identity, patience: Duration = .seconds(10),
        _ completion: @escaping (Result<TrustedBundle, CertificateUnavailable>) -> Void
    ) {
        certificates.request(.workload(identity), patience: patience, completion)
    }

    /// Says what became of a local pod: now, and again on every new stream.
    public func report(_ report: CaptureReport) {
        configurations.report(report)
    }

    // MARK: Over a restart

    /// What is known, with the certificates that are valid, to be kept where only the daemon can read it.
    public func savedState() -> [UInt8] {
        var saved: [SavedState.Certificate] = []
        for (subject, trusted) in certificates.valid {
            do throws(TLSError) {
                saved.append(try SavedState.Certificate(subject, trusted))
            } catch {
                logger.warn("a certificate cannot be saved", ["error": "\(error)"])
            }
        }
        return SavedState(
            discovered: configurations.client.state, certificates: saved, savedAt: WallClock.now().seconds
        ).encoded()
    }

    /// Goes on from what an earlier run has saved. To be called before `start`.
    ///
    /// - Throws: when it is damaged, or another node's; nothing of it is used then.
    public func restore(_ bytes: [UInt8]) throws(WireError) {
        let saved = try SavedState(decoding: bytes, node: configuration.node.name)
        var bundles: [(CertificateSubject, TrustedBundle)] = []
        for certificate in saved.certificates {
            do throws(TLSError) {
                bundles.append((certificate.subject, try certificate.trusted()))
            } catch {
                throw WireError("certificates", "\(error)")
            }
        }
        for (subject, trusted) in bundles { certificates.restore(subject, trusted) }
        configurations = ConfigurationStream(
            DeltaClient(node: configuration.node, types: configuration.types, restored: saved.discovered),
            loop: loop, channel: channel, metrics: metrics, random: random)
        logger.info(
            "going on from saved state", ["savedAt": WallClock(seconds: saved.savedAt).rfc3339])
        publishSnapshot()
        if configuration.subscribesToLocalPods {
            hasPublishedPods = true
            onLocalPods?(saved.discovered.localPods)
        }
        if configuration.types.contains(.waypointServices) {
            hasPublishedServices = true
            onWaypointServices?(saved.discovered.waypointServices)
        }
    }

    // MARK: Inside

    private func received(_ reception: DeltaClient.Reception) {
        let hasBecomeReady = hasFirstState && !wasReady
        wasReady = hasFirstState
        if hasBecomeReady {
            // Also when the last type came empty: whoever waits for the whole hears of it.
            publishSnapshot()
        } else if reception.changesSnapshot {
            if loop.now < nextSnapshot {
                if !snapshotTimer.isArmed { loop.schedule(snapshotTimer, after: nextSnapshot - loop.now) }
            } else {
                publishSnapshot()
            }
        }
        if reception.type == .localPods, reception.changesLocalPods || !hasPublishedPods {
            hasPublishedPods = true
            onLocalPods?(configurations.client.state.localPods)
        }
        if reception.type == .waypointServices, reception.changesWaypointServices || !hasPublishedServices {
            hasPublishedServices = true
            onWaypointServices?(configurations.client.state.waypointServices)
        }
    }

    private func publishSnapshot() {
        let begin = MonotonicTime.now()
        let snapshot = configurations.snapshot()
        let end = MonotonicTime.now()
        nextSnapshot = end + (end - begin) * 4
        onSnapshot?(snapshot)
    }

    private func publishCertificates() {
        var states: [Identity: CertificateState] = [:]
        let valid = Dictionary(certificates.valid.map { ($0.subject, $0.bundle) }, uniquingKeysWith: { $1 })
        for status in certificates.cache.status {
            guard case .workload(let identity) = status.subject, wanted.contains(identity) else { continue }
            if let trusted = valid[status.subject] {
                states[identity] = .available(bundle: trusted.bundle, roots: trusted.roots)
            } else if let failure = status.failure {
                states[identity] = .unavailable(failure.reason)
            }
        }
        guard states != published else { return }
        published = states
        onCertificates?(states)
    }

    // MARK: The node's own certificate

    private func nodeCertificateChanged(_ trusted: TrustedBundle) {
        store.map { $0.write(trusted) }
        channel.renew(trusted.bundle)
        // The first one lets the stream begin; a later one takes it to the new connection.
        if configurations.isRunning { configurations.restart() } else { configurations.start() }
    }

    private var store: NodeCertificateStore? {
        configuration.stateDirectory.map { NodeCertificateStore(directory: $0) }
    }
}
