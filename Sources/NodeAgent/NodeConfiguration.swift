import Address
import Discovery
import Linux
import Log
import TLS
import Telemetry
import Transport

/// Everything that a node is told when it starts.
public struct NodeConfiguration: Sendable {
    /// The name of the node; pods are bound to it by it.
    public var node: String
    /// Where the control component is: `host:port`.
    public var control: String
    /// The name to find in its certificate when that is not the host of `control`.
    public var controlServerName: String?
    /// What the control component's certificate must lead to.
    public var roots: TextSource
    /// The join token or service account token; nil when the kept client certificate is enough.
    public var token: TextSource?
    public var stateDirectory: String?
    public var runDirectory = "/run/warren"
    public var network = ""
    public var clusterID = "Kubernetes"
    public var clusterDomain = "cluster.local"
    public var trustDomain = "cluster.local"
    /// Whether the token is exchanged for a client certificate of the node's own; istiod knows no such thing.
    public var usesNodeCertificate = true
    public var podName = ""
    public var podNamespace = "warren-system"
    public var instanceAddress = ""
    /// Sent to the control component with the node's description (`ISTIO_META_*`).
    public var metadata: [String: String] = [:]
    public var workerCount = 2
    /// Whose AES-GCM seals tunnels.
    public var aes = AES.Choice.auto
    /// The user that the daemon becomes; its sockets are told from an application's by it.
    public var userID: UInt32 = NodeConfiguration.defaultUserID
    public var accessLog = AccessLog.Destination.standardOutput
    public var accessFormat = AccessFormat.text
    public var logFilter = LogFilter()
    public var logFormat = LogFormat.text
    public var adminAddresses = [
        SocketAddress(.loopbackIPv4, 15_000), SocketAddress(.loopbackIPv6, 15_000),
    ]
    public var metricsAddress: SocketAddress? = SocketAddress(.anyIPv6, 15_020)
    public var readinessAddress: SocketAddress? = SocketAddress(.anyIPv6, 15_021)
    /// Pages that change something are served on TCP too.
    public var allowsChangesOverTCP = false
    public var drainDeadline = Duration.seconds(5)
    public var certificateLifetime = Duration.seconds(86_400)
    public var connectionsPerPod = 50_000
    public var sendsResponseBaggage = true
    /// Workloads of this node reach each other by tunnel, whatever they ask for.
    public var encryptsOnSameNode = false
    /// Connections that share one tunnel; a peer may allow fewer.
    public var streamsPerTunnel = 100
    /// How long a tunnel without connections is kept.
    public var tunnelIdle = Duration.seconds(300)
    public var metricsIdle = Duration.seconds(3_600)
    /// Who seals and opens TLS records behind the handshake.
    public var tlsRecords = RecordLayer.own
    /// Whose word it is by which TCP congestion control tunnels send.
    public var tunnelCongestion = CongestionChoice.auto
    /// How connections are brought from pods to the daemon.
    public var capture = CaptureChoice.auto

    /// High enough to be nobody's by default, low enough for every user namespace of a container runtime.
    public static let defaultUserID: UInt32 = 13_370

    /// Ends with the process that started it.
    public var endsWithParent = false

    public init(node: String, control: String, roots: TextSource) {
        self.node = node
        self.control = control
        self.roots = roots
    }

    var discovery: DiscoveryConfiguration {
        let description = NodeDescription(
            name: node, podName: podName, podNamespace: podNamespace, address: instanceAddress,
            clusterDomain: clusterDomain, metadata: metadata)
        var discovery = DiscoveryConfiguration(
            node: description, control: control, roots: roots, token: token)
        discovery.serverName = controlServerName
        discovery.clusterID = clusterID
        discovery.trustDomain = trustDomain
        discovery.usesNodeCertificate = usesNodeCertificate
        discovery.certificateLife = certificateLifetime
        discovery.stateDirectory = stateDirectory
        discovery.tlsRecords = tlsRecords
        return discovery
    }

    var adminSocket: String { "\(runDirectory)/\(node).sock" }
    /// Where the daemon keeps what a restart goes on from: a directory of its own on tmpfs.
    var memoryDirectory: String { "\(runDirectory)/nodes/\(node)" }

    /// For `/config_dump`; tokens and keys are files, named and not shown.
    var members: [(name: String, value: String)] {
        [
            ("localNode", node), ("xdsAddress", control), ("caAddress", control), ("network", network),
            ("clusterId", clusterID), ("clusterDomain", clusterDomain),
            ("numWorkerThreads", "\(workerCount)"), ("aes", AES.inUse.rawValue),
            ("userId", "\(userID)"), ("runDirectory", runDirectory),
            ("stateDirectory", stateDirectory ?? ""), ("inboundAddr", "[::]:15008"),
            ("outboundAddr", "[::]:15001"), ("inboundPlaintextAddr", "[::]:15006"),
            ("adminAddr", adminAddresses.map(\.description).joined(separator: ",")),
            ("statsAddr", metricsAddress?.description ?? ""),
            ("readinessAddr", readinessAddress?.description ?? ""),
            ("selfTerminationDeadline", "\(drainDeadline.wholeMilliseconds)ms"),
            ("sameNode", encryptsOnSameNode ? "encrypt" : "join"), ("tlsRecords", tlsRecords.rawValue),
            ("streamsPerTunnel", "\(streamsPerTunnel)"), ("tunnelIdle", "\(tunnelIdle.wholeMilliseconds)ms"),
            ("tunnelCongestion", tunnelCongestion.description), ("capture", capture.rawValue),
            ("secretTtl", "\(certificateLifetime.components.seconds)s"),
        ]
    }
}

extension NodeConfiguration {
    /// How long a drain may take, by ztunnel's rules (ztunnel.md §9).
    ///
    /// - Parameters:
    ///   - deadline: said outright (`CONNECTION_TERMINATION_DEADLINE`).
    ///   - grace: seconds that the orchestrator grants before it kills (`TERMINATION_GRACE_PERIOD_SECONDS`).
    static func drainDeadline(_ deadline: Duration?, gracePeriod grace: Int?) -> Duration {
        if let deadline { return deadline }
        guard let grace else { return .seconds(5) }
        return .seconds(grace > 10 ? grace - 5 : max(grace - 1, 1))
    }
}
