import Daemon
import Discovery
import EventLoop
import Linux
import Log
import Metrics
import TLS
import Telemetry

/// `warren-waypoint` from its configuration to its exit status.
public enum WaypointProgram {
    /// Runs the waypoint on the calling thread until it is told to end.
    ///
    /// - Returns: 0 when it ended as it was asked to, 1 when something failed.
    public static func run(_ configuration: WaypointConfiguration) -> Int32 {
        do {
            return try start(configuration)
        } catch {
            Logger(scope: "waypoint").error("cannot run", ["error": "\(error)"])
            LogSystem.shared.flush()
            return 1
        }
    }

    private static func start(_ configuration: WaypointConfiguration) throws -> Int32 {
        ignoreSIGPIPE()
        AES.use(configuration.aes)
        let descriptorLimit = Privileges.raiseDescriptorLimit()
        // Before any thread: threads inherit what is blocked.
        let signals = try SignalDescriptor([.terminate, .interrupt, .hangup])
        try makeDirectories(configuration)
        let sockets = try PageSockets(configuration)
        let roots = BorrowedText(configuration.roots)
        let token = configuration.token.map(BorrowedText.init)
        // It binds no port and makes no socket that would need a privilege.
        if Privileges.isRoot {
            try Privileges.become(uid: configuration.userID, gid: configuration.userID, keeping: [])
        }
        if configuration.endsWithParent { Privileges.endWithParent() }

        try LogSystem.shared.start(
            configuration.logFilter, configuration.logFormat, to: try OutputFile.standardError())
        defer { LogSystem.shared.flush() }
        let logger = Logger(scope: "waypoint")
        if case .file(let path)? = configuration.token, token?.isMissing == true {
            logger.warn(
                "the token file cannot be read; without a certificate from an earlier start the waypoint cannot join",
                ["file": path])
        }
        let accessLog = try AccessLog(configuration.accessLog, configuration.accessFormat)
        defer { accessLog.close() }
        declareMetrics(configuration, accessLog, descriptorLimit: descriptorLimit)

        var discovered = configuration.discovery
        discovered.roots = try roots.settle(in: configuration.memoryDirectory, as: "root-cert.pem")
        discovered.token = try token?.settle(in: configuration.memoryDirectory, as: "token")
        if let state = discovered.stateDirectory, !isWritable(state) {
            logger.warn(
                "the state directory cannot be reached by the waypoint's user; its certificate is kept in memory",
                ["directory": state, "uid": Int(Privileges.userID)])
            discovered.stateDirectory = nil
        }
        let loop = try EventLoop(name: "control")
        guard let discovery = NodeDiscovery(loop: loop, discovered, registry: .shared) else {
            throw InvalidControlAddress(address: configuration.control)
        }
        var status: Int32 = 0
        let agent = try WaypointAgent(
            loop, configuration, discovery, accessLog: accessLog, registry: .shared
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
            default: agent.drain()
            }
        }
        agent.start()
        logger.info(
            "started",
            [
                "waypoint": "\(configuration.qualifiedName)", "version": BuildVersion.current.version,
                "workers": configuration.workerCount, "aes": AES.inUse.rawValue,
                "records": configuration.tlsRecords.rawValue, "uid": Int(Privileges.userID),
                "control": configuration.control,
            ])
        loop.run()
        withExtendedLifetime(watch) {}
        logger.info("ended", ["status": Int(status)])
        return status
    }

    private static func makeDirectories(_ configuration: WaypointConfiguration) throws(SystemCallError) {
        let owned = configuration.memoryDirectory
        for shared in [configuration.runDirectory, parentDirectory(of: owned)] {
            try makeDirectory(shared, mode: 0o755)
            // Whoever made it first: the user that root becomes has to get through to what is its own.
            if Privileges.isRoot { try changeMode(of: shared, to: 0o755) }
        }
        for directory in [owned] + [configuration.stateDirectory].compactMap({ $0 }) {
            try makeDirectory(directory, mode: 0o700)
            if Privileges.isRoot {
                try changeOwner(of: directory, uid: configuration.userID, gid: configuration.userID)
            }
        }
    }

    private static func declareMetrics(
        _ configuration: WaypointConfiguration, _ accessLog: AccessLog, descriptorLimit: Int
    ) {
        ProcessMetrics.declare(
            in: .shared, component: "waypoint", version: BuildVersion.current.version,
            descriptorLimit: descriptorLimit)
        Registry.shared.gauges(
            "warren_tls_info", "Whose AES-GCM seals tunnels, and who makes their records.",
            labels: ["aes", "records"]
        ).with(AES.inUse.rawValue, configuration.tlsRecords.rawValue).set(1)
        Registry.shared.observed(
            "warren_access_log_dropped_lines", "Lines of the access log that nobody took in time"
        ) { Double(accessLog.droppedLines) }
    }

    private static func reopen(_ accessLog: AccessLog, _ logger: Logger) {
        do throws(SystemCallError) {
            try accessLog.reopen()
        } catch {
            logger.error("the access log cannot be reopened", ["error": "\(error)"])
        }
    }
}
