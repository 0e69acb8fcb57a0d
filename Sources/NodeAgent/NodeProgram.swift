import Capture
import Daemon
import Discovery
import EventLoop
import Glibc
import Linux
import Log
import Metrics
import TLS
import Telemetry

/// `warren-node` from its configuration to its exit status.
///
/// The order matters. What needs root is done first; privileges are dropped before any thread starts, for they are each
/// thread's own; and nothing is served before all of it is in place.
public enum NodeProgram {
    private static let kept: [Capability] = [.netAdmin, .sysAdmin, .netRaw]

    /// Runs the node on the calling thread until it is told to end.
    ///
    /// - Returns: 0 when it ended as it was asked to, 1 when something failed.
    public static func run(_ configuration: NodeConfiguration) -> Int32 {
        do {
            return try start(configuration)
        } catch {
            Logger(scope: "node").error("cannot run", ["error": "\(error)"])
            LogSystem.shared.flush()
            return 1
        }
    }

    private static func start(_ configuration: NodeConfiguration) throws -> Int32 {
        ignoreSIGPIPE()
        AES.use(configuration.aes)
        let descriptorLimit = Privileges.raiseDescriptorLimit()
        // Before any thread: threads inherit what is blocked.
        let signals = try SignalDescriptor([.terminate, .interrupt, .hangup])

        try requireCapabilities()
        if case .named(let name) = configuration.tunnelCongestion { try requireCongestionControl(name) }
        let check = try NamespaceCheck.forThisProcess()
        try NodeDirectories(configuration).make()
        let sockets = try NodeSockets(configuration)
        let roots = BorrowedText(configuration.roots)
        let token = configuration.token.map(BorrowedText.init)
        if Privileges.userID != configuration.userID {
            try Privileges.become(
                uid: configuration.userID, gid: configuration.userID, keeping: kept)
        }
        if configuration.endsWithParent { Privileges.endWithParent() }

        try LogSystem.shared.start(
            configuration.logFilter, configuration.logFormat, to: try OutputFile.standardError())
        defer { LogSystem.shared.flush() }
        let logger = Logger(scope: "node")
        if check.host == nil {
            logger.warn("the host's namespace is out of sight; it is told from others by its number alone")
        }
        let accessLog = try AccessLog(configuration.accessLog, configuration.accessFormat)
        defer { accessLog.close() }
        ProcessMetrics.declare(
            in: .shared, component: "ztunnel", version: BuildVersion.current.version,
            descriptorLimit: descriptorLimit)
        Registry.shared.gauges(
            "warren_tls_info", "Whose AES-GCM seals tunnels, and who makes their records.",
            labels: ["aes", "records"]
        ).with(AES.inUse.rawValue, configuration.tlsRecords.rawValue).set(1)
        Registry.shared.observed(
            "warren_access_log_dropped_lines", "Lines of the access log that nobody took in time"
        ) { Double(accessLog.droppedLines) }

        var discovered = configuration.discovery
        discovered.roots = try roots.settle(in: configuration.memoryDirectory, as: "root-cert.pem")
        discovered.token = try token?.settle(in: configuration.memoryDirectory, as: "token")
        let loop = try EventLoop(name: "control")
        if let state = discovered.stateDirectory, !isWritable(state) {
            logger.warn(
                "the state directory cannot be reached by the daemon's user; the node's certificate is kept in memory",
                ["directory": state, "uid": Int(Privileges.userID)])
            discovered.stateDirectory = nil
        }
        guard let discovery = NodeDiscovery(loop: loop, discovered, registry: .shared) else {
            throw InvalidControlAddress(address: configuration.control)
        }
        var status: Int32 = 0
        let agent = try NodeAgent(
            loop, configuration, discovery, check: check, accessLog: accessLog, registry: .shared
        ) { result in
            status = result
            loop.stop()
        }
        let admin = try AdminServer(loop, sockets, agent)
        defer { admin.close() }
        let watch = try SignalWatch(loop, signals) { signal in
            switch signal {
            case .hangup: reopen(accessLog, logger)
            // Once is a wish, twice is an order.
            case .interrupt where agent.isDraining: loop.stop()
            default: agent.drain(removesCapture: false)
            }
        }
        try agent.start()
        logger.info(
            "started",
            [
                "node": configuration.node, "version": BuildVersion.current.version,
                "workers": configuration.workerCount, "aes": AES.inUse.rawValue,
                "records": configuration.tlsRecords.rawValue, "uid": Int(configuration.userID),
                "control": configuration.control,
            ])
        loop.run()
        withExtendedLifetime(watch) {}
        logger.info("ended", ["status": Int(status)])
        return status
    }

    /// What the daemon cannot do without, by name, in place of a failure at the first pod.
    private static func requireCapabilities() throws(MissingCapabilities) {
        let missing = kept.filter { !Privileges.has($0) }
        if !missing.isEmpty { throw MissingCapabilities(names: missing.map { "\($0)" }) }
    }

    /// Before privileges are dropped: the kernel may have to load its module.
    private static func requireCongestionControl(_ name: String) throws {
        guard try !Socket.hasCongestionControl(name) else { return }
        let known = (try? readFile("/proc/sys/net/ipv4/tcp_available_congestion_control")) ?? []
        throw UnknownCongestionControl(
            name: name,
            available: String(decoding: known, as: UTF8.self).split(whereSeparator: \.isWhitespace).map(
                String.init))
    }

    private static func reopen(_ accessLog: AccessLog, _ logger: Logger) {
        do throws(SystemCallError) {
            try accessLog.reopen()
        } catch {
            logger.error("the access log cannot be reopened", ["error": "\(error)"])
        }
    }
}

/// The process may not do what a node has to.
struct MissingCapabilities: Error, CustomStringConvertible {
    let names: [String]

    var description: String {
        "capabilities are missing: \(names.joined(separator: ", ")); start it as root, or give it CAP_NET_ADMIN, "
            + "CAP_SYS_ADMIN and CAP_NET_RAW"
    }
}

/// `--tunnel-congestion` names what the kernel does not have.
struct UnknownCongestionControl: Error, CustomStringConvertible {
    let name: String
    let available: [String]

    var description: String {
        "--tunnel-congestion \(name): the kernel has no such TCP congestion control; it has \(available.joined(separator: ", "))"
    }
}
