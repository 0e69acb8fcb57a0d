import Address
import Daemon
import Discovery
import Linux
import Log
import Mesh
import Options
import TLS
import Telemetry
import Transport

/// Everything that a waypoint is told when it starts.
public struct WaypointConfiguration: Sendable {
    /// Of its Gateway.
    public var name: String
    public var namespace: String
    /// Which of the waypoint's pods this is; empty: the one whose address is here.
    public var podName = ""
    /// Where the control component is: `host:port`.
    public var control: String
    public var controlServerName: String?
    public var roots: TextSource
    /// The join token; nil when the kept client certificate is enough.
    public var token: TextSource?
    public var stateDirectory: String?
    public var runDirectory = "/run/warren"
    public var adminSocket: String
    /// Where tunnels are accepted, at port 15008; every address of its namespace when empty.
    public var addresses: [IPAddress] = []
    public var network = ""
    public var clusterID = "Kubernetes"
    public var clusterDomain = "cluster.local"
    public var trustDomain = "cluster.local"
    public var workerCount = 1
    /// Whom a waypoint that is started as root becomes.
    public var userID: UInt32 = 13_371
    public var accessLog = AccessLog.Destination.standardOutput
    public var accessFormat = AccessFormat.text
    public var logFilter = LogFilter()
    public var logFormat = LogFormat.text
    public var metricsAddress: SocketAddress? = SocketAddress(.anyIPv6, 15_020)
    public var readinessAddress: SocketAddress? = SocketAddress(.anyIPv6, 15_021)
    public var drainDeadline = Duration.seconds(5)
    public var certificateLifetime = Duration.seconds(86_400)
    public var connections = 100_000
    public var streamsPerTunnel = 100
    public var tunnelIdle = Duration.seconds(300)
    public var metricsIdle = Duration.seconds(3_600)
    public var tlsRecords = RecordLayer.own
    public var aes = AES.Choice.auto
    public var tunnelCongestion = CongestionChoice.auto
    public var endsWithParent = false

    static let tunnelPort: UInt16 = 15_008

    /// - Throws: everything that is wrong with values that only together make sense.
    public init(_ given: Invocation) throws(InvalidOptions) {
        name = given[WaypointOptions.name]
        namespace = given[WaypointOptions.namespace]
        control = given[WaypointOptions.control].description
        roots = TextSource(option: given[WaypointOptions.roots], startsWith: "-----BEGIN")
        runDirectory = given[WaypointOptions.runDirectory]
        podName = given[WaypointOptions.podName] ?? ""
        // No name of an object has an underscore: no node's socket is called so.
        let instance = "\(namespace)_\(podName.isEmpty ? name : podName)"
        adminSocket = given[WaypointOptions.adminSocket] ?? "\(runDirectory)/\(instance).sock"
        var problems: [OptionProblem] = []
        for (option, value) in [("--name", name), ("--namespace", namespace)] where !isPlainFileName(value) {
            problems.append(OptionProblem(place: option, message: "a name without a slash"))
        }
        // sun_path (unix(7)).
        if adminSocket.utf8.count > 107 {
            problems.append(
                OptionProblem(
                    place: "--admin-socket",
                    message: "\(adminSocket) is longer than the 107 bytes that a socket's path may have"))
        }
        token = given[WaypointOptions.token].map { TextSource(option: $0, startsWith: "eyJ") }
        controlServerName = given[WaypointOptions.serverName]
        stateDirectory = given[WaypointOptions.state]
        addresses = given[WaypointOptions.addresses].compactMap { text in
            if let address = IPAddress(text) { return address }
            problems.append(
                OptionProblem(
                    place: "--address", message: "\"\(text)\" is not an address such as 10.0.0.7 or fd00::7"))
            return nil
        }
        network = given[WaypointOptions.network] ?? ""
        clusterID = given[WaypointOptions.cluster]
        clusterDomain = given[WaypointOptions.clusterDomain]
        trustDomain = given[WaypointOptions.trustDomain]
        let workers = given[WaypointOptions.workers]
        workerCount = workers > 0 ? min(workers, 256) : availableProcessorCount()
        userID = given[WaypointOptions.userID]
        if userID == 0 {
            problems.append(OptionProblem(place: "--uid", message: "not root: a waypoint needs no privilege"))
        }
        let file = given[WaypointOptions.accessLog]
        accessLog = file == "-" ? .standardOutput : .file(file)
        logFilter = given[WaypointOptions.logLevel]
        logFormat = given[WaypointOptions.logFormat]
        accessFormat = logFormat == .json ? .json : .text
        metricsAddress = Self.address(given, WaypointOptions.metricsListen, &problems)
        readinessAddress = Self.address(given, WaypointOptions.readinessListen, &problems)
        drainDeadline = given[WaypointOptions.drainTime]
        certificateLifetime = given[WaypointOptions.certificateLife]
        connections = max(1, given[WaypointOptions.connectionLimit])
        streamsPerTunnel = max(1, given[WaypointOptions.streamsPerTunnel])
        tunnelIdle = given[WaypointOptions.tunnelIdle]
        metricsIdle = given[WaypointOptions.metricsIdle]
        tlsRecords = given[WaypointOptions.tlsRecords]
        aes = given[WaypointOptions.aes]
        tunnelCongestion = given[WaypointOptions.tunnelCongestion]
        endsWithParent = given[WaypointOptions.endWithParent]
        if !problems.isEmpty { throw InvalidOptions(problems: problems) }
    }

    private static func address(
        _ given: Invocation, _ option: Option<String>, _ problems: inout [OptionProblem]
    ) -> SocketAddress? {
        let text = given[option]
        guard text != "none" else { return nil }
        if let address = SocketAddress(text) { return address }
        problems.append(
            OptionProblem(
                place: "--\(option.declaration.name)",
                message: "\"\(text)\" is not an address and port such as 127.0.0.1:15020 or [::]:15020"))
        return nil
    }

    var qualifiedName: NamespacedName { NamespacedName(namespace: namespace, name: name) }

    var discovery: DiscoveryConfiguration {
        let node = NodeDescription.waypoint(
            name, namespace: namespace, podName: podName, address: addresses.first?.description ?? "",
            clusterDomain: clusterDomain)
        var discovery = DiscoveryConfiguration(node: node, control: control, roots: roots, token: token)
        discovery.serverName = controlServerName
        discovery.clusterID = clusterID
        discovery.trustDomain = trustDomain
        discovery.subscribesToLocalPods = false
        discovery.certificateLife = certificateLifetime
        discovery.stateDirectory = stateDirectory
        discovery.tlsRecords = tlsRecords
        return discovery
    }

    /// Where it keeps what a restart goes on from, and copies of what only root may read: a directory of its own on tmpfs.
    var memoryDirectory: String {
        "\(runDirectory)/waypoints/\(namespace)_\(podName.isEmpty ? name : podName)"
    }

    /// For `/config_dump`; tokens and keys are files, named and not shown.
    var members: [(name: String, value: String)] {
        [
            ("waypoint", "\(namespace)/\(name)"), ("pod", podName), ("xdsAddress", control),
            ("caAddress", control), ("network", network), ("clusterId", clusterID),
            ("clusterDomain", clusterDomain), ("numWorkerThreads", "\(workerCount)"),
            ("aes", AES.inUse.rawValue), ("userId", "\(Privileges.userID)"),
            ("runDirectory", runDirectory), ("stateDirectory", stateDirectory ?? ""),
            (
                "inboundAddr",
                listenAddresses.map { SocketAddress($0, Self.tunnelPort).description }.joined(separator: ",")
            ),
            ("statsAddr", metricsAddress?.description ?? ""),
            ("readinessAddr", readinessAddress?.description ?? ""),
            ("selfTerminationDeadline", "\(drainDeadline.wholeMilliseconds)ms"),
            ("tlsRecords", tlsRecords.rawValue), ("streamsPerTunnel", "\(streamsPerTunnel)"),
            ("tunnelIdle", "\(tunnelIdle.wholeMilliseconds)ms"),
            ("tunnelCongestion", tunnelCongestion.description),
            ("secretTtl", "\(certificateLifetime.components.seconds)s"),
        ]
    }

    var listenAddresses: [IPAddress] { addresses.isEmpty ? [.anyIPv6] : addresses }
}
