import Address
import Capture
import Linux

/// `warren up`: a whole mesh in the foreground, from a directory of manifests.
///
/// The control component listens on the loopback of every node's namespace, on sockets that are opened there and passed to
/// it: nodes reach it without any network between them and it.
public final class UpCommand {
    private let options: UpOptions
    private let plan: MeshPlan
    private let state: String
    private let supervisor: Supervisor
    private var control: Supervisor.Program?
    private var nodes: [(plan: MeshPlan.Node, program: Supervisor.Program)] = []
    private var waypoints: [Supervisor.Program] = []
    private var isInterrupted = false
    /// Everything has been up once.
    private var isUp = false
    private var madeRunDirectory = false

    /// How long daemons may take to begin, before it is said what is missing.
    private static let patience = Duration.seconds(30)
    /// Nodes drain and remove the capture rules of their pods.
    private static let nodeStopTime = Duration.seconds(15)
    private static let controlStopTime = Duration.seconds(5)

    /// Reads the directory and checks what can be checked before anything is started.
    public init(_ options: UpOptions) throws(CommandError) {
        self.options = options
        let (plan, warnings) = try MeshPlan.read(options.directory, only: options.nodes)
        self.plan = plan
        guard Privileges.isRoot else {
            throw .failed(
                "`warren up` starts node daemons, which capture traffic in network namespaces: run it as root"
            )
        }
        state = options.state ?? "\(options.runDirectory)/state"
        let names = plan.nodes.map(\.name) + plan.waypoints.map(\.instance) + ["control"]
        let width = names.map(\.count).max() ?? 0
        do { supervisor = try Supervisor(labelWidth: width) } catch { throw .system(error) }
        for warning in warnings { supervisor.note(warning.description) }
    }

    /// Runs until it is interrupted, and removes what it made.
    ///
    /// - Returns: the exit status.
    public func run() throws(CommandError) -> Int32 {
        defer { cleanUp() }
        try prepareDirectories()
        do throws(CommandError) {
            try startControl()
            if !isInterrupted { try startNodes() }
            if !isInterrupted { try startWaypoints() }
            try superviseUntilInterrupted()
        } catch {
            stop()
            throw error
        }
        stop()
        return 0
    }

    // MARK: Starting

    private func prepareDirectories() throws(CommandError) {
        try system { () throws(SystemCallError) in
            madeRunDirectory = FileKind(of: options.runDirectory) == nil
            try makeDirectory(options.runDirectory, mode: 0o700)
            // Keys and certificates of an earlier run that was killed belong to an authority that is gone.
            if options.state == nil {
                try removeDirectory(state)
                for node in plan.nodes { try removeDirectory(memory(of: node)) }
                for waypoint in plan.waypoints { try removeDirectory(memory(of: waypoint)) }
            }
            try makeDirectory(state, mode: 0o711)
            // Each daemon makes a directory of its own in it, for the user that it becomes.
            try makeDirectory("\(state)/nodes", mode: 0o711)
            if !plan.waypoints.isEmpty { try makeDirectory("\(state)/waypoints", mode: 0o711) }
        }
    }

    private func startControl() throws(CommandError) {
        var listeners: [Supervisor.Listener] = []
        // Daemons in one namespace share a listener.
        var seen: Set<NetworkNamespace.Identity> = []
        let places =
            plan.nodes.map { ("Node \($0.name)", $0.networkNamespace) }
            + plan.waypoints.map { ("Pod \($0.namespace)/\($0.pod)", $0.networkNamespace) }
        for (owner, name) in places {
            let namespace = try namespace(name, of: owner)
            let (identity, listener) = try system { () throws(SystemCallError) in
                try namespace.perform { () throws(SystemCallError) in
                    let here = try NetworkNamespace.current().identity
                    return (here, seen.contains(here) ? nil : Supervisor.Listener(try listen()))
                }
            }
            seen.insert(identity)
            if let listener { listeners.append(listener) }
        }
        var arguments = [
            "--config", options.directory, "--state", state, "--run-directory", options.runDirectory,
        ]
        for index in listeners.indices { arguments += ["--listen", "fd:\(3 + index)"] }
        let program = try start("control", "warren-control", arguments, listeners: listeners)
        control = program
        try wait(for: "warren-control to be ready") {
            guard let answer = try? client("control").send("GET", "/healthz/ready") else { return .unknown }
            return answer.status == 200
                ? .holds : .lacks(String(decoding: answer.body.prefix(200), as: UTF8.self))
        }
    }

    private func listen() throws(SystemCallError) -> Socket {
        let loopback = SocketAddress(.loopbackIPv4, options.port)
        do throws(SystemCallError) { return try Socket.listen(on: loopback, ListenOptions()) } catch {
            throw SystemCallError(
                call: error.call, subject: "\(error.subject) (--port names another)", number: error.number)
        }
    }

    private func startNodes() throws(CommandError) {
        for node in plan.nodes {
            let arguments = [
                "--node", node.name, "--control", "127.0.0.1:\(options.port)",
                "--ca-root", "\(state)/root-cert.pem", "--token-file", "\(state)/tokens/\(node.name)",
                "--state", "\(state)/nodes/\(node.name)", "--run-directory", options.runDirectory,
            ]
            let program = try start(
                node.name, "warren-node", arguments,
                namespace: try namespace(node.networkNamespace, of: "Node \(node.name)"))
            nodes.append((node, program))
        }
    }

    /// Each replica in the namespace of its pod.
    private func startWaypoints() throws(CommandError) {
        for waypoint in plan.waypoints {
            let arguments = [
                "--name", waypoint.name, "--namespace", waypoint.namespace, "--pod-name", waypoint.pod,
                "--control", "127.0.0.1:\(options.port)", "--ca-root", "\(state)/root-cert.pem",
                "--token-file", "\(state)/tokens/waypoint-\(waypoint.namespace)_\(waypoint.name)",
                "--state", "\(state)/waypoints/\(waypoint.instance)", "--run-directory", options.runDirectory,
            ]
            let program = try start(
                waypoint.instance, "warren-waypoint", arguments,
                namespace: try namespace(
                    waypoint.networkNamespace, of: "Pod \(waypoint.namespace)/\(waypoint.pod)"))
            waypoints.append(program)
        }
    }

    private func start(
        _ name: String, _ program: String, _ arguments: [String],
        namespace: consuming NetworkNamespace? = nil, listeners: [Supervisor.Listener] = []
    ) throws(CommandError) -> Supervisor.Program {
        var arguments = arguments + ["--end-with-parent"]
        if let level = options.logLevel { arguments += ["--log-level", level] }
        if let format = options.logFormat { arguments += ["--log-format", format] }
        do {
            return try supervisor.start(
                name: name, path: Self.path(of: program), arguments: arguments, namespace: namespace,
                listeners: listeners)
        } catch {
            throw error.isMissing
                ? .failed("\(program) is neither beside this program nor on PATH") : .system(error)
        }
    }

    /// The daemons of this very build lie beside `warren`; else PATH says.
    private static func path(of program: String) -> String {
        guard let own = executablePath() else { return program }
        let beside = "\(parentDirectory(of: own))/\(program)"
        return FileKind(of: beside) == nil ? program : beside
    }

    /// - Parameter owner: the object that names it.
    private func namespace(_ name: String?, of owner: String) throws(CommandError) -> NetworkNamespace? {
        guard let name else { return nil }
        do { return try NetworkNamespace(name) } catch {
            throw .usage("\(owner): \(MeshPlan.annotation) \(name): \(error)")
        }
    }

    // MARK: Running

    private func superviseUntilInterrupted() throws(CommandError) {
        let begin = MonotonicTime.now()
        var hasComplained = false
        while !isInterrupted {
            try turn(isUp ? 3_600_000 : 50)
            guard !isUp, !isInterrupted else { continue }
            let progress = Progress(of: plan, asking: { client($0) })
            if progress.isComplete {
                isUp = true
                supervisor.note(progress.description)
            } else if !hasComplained, MonotonicTime.now() - begin > Self.patience {
                hasComplained = true
                supervisor.note("not yet up after \(Self.patience): \(progress.description)")
            }
        }
    }

    private enum Condition {
        /// Nobody answers.
        case unknown
        case lacks(String)
        case holds
    }

    /// Lets things happen until a condition holds or the command is interrupted.
    private func wait(for what: String, _ condition: () -> Condition) throws(CommandError) {
        let begin = MonotonicTime.now()
        while !isInterrupted {
            try turn(50)
            var lack = ""
            switch condition() {
            case .holds: return
            case .lacks(let text): lack = ": \(text)"
            case .unknown: break
            }
            guard MonotonicTime.now() - begin < Self.patience else {
                throw .failed("waited \(Self.patience) for \(what)\(lack)")
            }
        }
    }

    private func turn(_ milliseconds: Int32) throws(CommandError) {
        for happening in supervisor.turn(milliseconds: milliseconds) {
            switch happening {
            case .signal: isInterrupted = true
            case .ended(let program, .exited(2), _) where !isInterrupted && !isUp:
                // It has said what is wrong with its options or its configuration, and would say so again. Once the mesh
                // is up that is no reason to end it: the nodes go on with what they have, and their pods stay captured.
                program.isKept = false
                throw .configurationRefused(program.name)
            case .ended(let program, let status, let wait?):
                supervisor.note("\(program.name) ended (\(status.words)); it is started again in \(wait)")
            case .ended: break
            }
        }
    }

    private func client(_ name: String) -> AdminClient {
        AdminClient(socketPath: "\(options.runDirectory)/\(name).sock", deadline: .seconds(1))
    }

    // MARK: Ending

    private func stop() {
        for program in supervisor.programs { program.isKept = false }
        for (node, program) in nodes where program.isRunning {
            let answer = try? client(node.name).send("POST", "/quitquitquit?capture=remove")
            if answer?.status != 200 { supervisor.signal(program, .terminate) }
        }
        // They drain while the nodes do: what is under way through them ends with what it is of.
        for program in waypoints where program.isRunning { supervisor.signal(program, .terminate) }
        end(nodes.map(\.program) + waypoints, within: Self.nodeStopTime)
        if let control {
            supervisor.signal(control, .terminate)
            end([control], within: Self.controlStopTime)
        }
        releasePods()
    }

    /// Waits for programs to end; kills those that do not, or all when we are interrupted once more.
    private func end(_ programs: [Supervisor.Program], within time: Duration) {
        let deadline = MonotonicTime.now() + time
        var isKilling = false
        while programs.contains(where: \.isRunning) {
            var isImpatient = MonotonicTime.now() >= deadline
            for happening in supervisor.turn(milliseconds: 50) {
                if case .signal = happening { isImpatient = true }
            }
            guard isImpatient, !isKilling else { continue }
            isKilling = true
            for program in programs where program.isRunning {
                supervisor.note("\(program.name) does not end; killing it")
                supervisor.signal(program, .kill)
            }
        }
    }

    /// No rule of ours stays in a pod's namespace, whatever became of its node's daemon.
    private func releasePods() {
        let capture = Capture(CaptureConfiguration(daemonUserID: Privileges.userID))
        for name in plan.podNamespaces {
            do {
                let namespace = try NetworkNamespace(name)
                try capture.remove(from: namespace)
            } catch let error as SystemCallError where error.isMissing {
                // The namespace is gone, and what was in it.
            } catch {
                supervisor.note("capture rules may be left in \(name): \(error)")
            }
        }
    }

    private func cleanUp() {
        for name in ["control"] + plan.nodes.map(\.name) + plan.waypoints.map(\.instance) {
            try? removeFile("\(options.runDirectory)/\(name).sock")
        }
        for node in plan.nodes { try? removeDirectory(memory(of: node)) }
        for waypoint in plan.waypoints { try? removeDirectory(memory(of: waypoint)) }
        if options.state == nil { try? removeDirectory(state) }
        removeIfEmpty("\(options.runDirectory)/nodes")
        removeIfEmpty("\(options.runDirectory)/waypoints")
        if madeRunDirectory { removeIfEmpty(options.runDirectory) }
    }

    /// Where a node keeps what its restart goes on from.
    private func memory(of node: MeshPlan.Node) -> String { "\(options.runDirectory)/nodes/\(node.name)" }

    /// Where a waypoint keeps copies of what only root can read.
    private func memory(of waypoint: MeshPlan.Waypoint) -> String {
        "\(options.runDirectory)/waypoints/\(waypoint.instance)"
    }

    private func removeIfEmpty(_ path: String) {
        if (try? listDirectory(path)) == [] { try? removeDirectory(path) }
    }

    private func system<T: ~Copyable>(_ body: () throws(SystemCallError) -> T) throws(CommandError) -> T {
        do { return try body() } catch { throw .system(error) }
    }
}

extension ExitStatus {
    fileprivate var words: String {
        switch self {
        case .exited(let status): "exit status \(status)"
        case .killed(let signal): "killed by signal \(signal)"
        }
    }
}
