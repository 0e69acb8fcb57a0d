import Address
import Compiler
import EventLoop
import Glibc
import Linux
import Log
import Options
import TLS
import Transport

/// `warren-control` from its command line to its exit status.
public enum ControlProgram {
    static let version = Version.current
    /// How long calls may take to finish when the daemon is asked to end.
    private static let drainTime = Duration.seconds(5)
    /// Addresses of this machine that its certificate names.
    private static let addressLimit = 64

    /// Runs the control component on the calling thread until it is told to end.
    ///
    /// - Returns: 0 when it ended as it was asked to, 1 when something failed, 2 when the configuration is not right.
    public static func run(_ invocation: Invocation) -> Int32 {
        do {
            return try start(invocation)
        } catch {
            Logger(scope: "control").error("cannot run", ["error": "\(error)"])
            LogSystem.shared.flush()
            return 1
        }
    }

    private static func start(_ invocation: Invocation) throws -> Int32 {
        let directory = invocation[ControlOptions.configuration]
        let environment = Environment(
            clusterID: invocation[ControlOptions.cluster],
            clusterDomain: invocation[ControlOptions.clusterDomain],
            trustDomain: invocation[ControlOptions.trustDomain],
            rootNamespace: invocation[ControlOptions.rootNamespace])
        var compiler = ConfigurationCompiler(directory: directory, environment)
        guard let first = compiler.refresh() else { return 1 }
        // Whoever starts it is there to read what is wrong; later, the last good state of a file stays in use.
        if invocation[ControlOptions.check] || !first.errors.isEmpty { return report(first) }
        guard let statePath = invocation[ControlOptions.state] else {
            tell("warren-control: --state: missing; it is where the root and the keys are kept\n")
            return 2
        }

        ignoreSIGPIPE()
        // Its connections are few and small: the faster one would not be worth its memory.
        AES.use(.libcrypto)
        _ = Privileges.raiseDescriptorLimit()
        // Before any thread: threads inherit what is blocked.
        let signals = try SignalDescriptor([.terminate, .interrupt, .hangup])
        if invocation[ControlOptions.endsWithParent] { Privileges.endWithParent() }
        let state = try StateDirectory(statePath)
        let authority = try state.authority(
            trustDomain: environment.trustDomain,
            pluggedIn: invocation[ControlOptions.authority] ?? state.pluggedInAuthority)
        let tokenKey = try state.tokenKey()
        let tokens = TokenFiles(state, key: tokenKey)
        // Nodes are often started right behind it: their tokens are there before it says that it is ready.
        try tokens.write(first.publication.resources.callers, generation: first.generation)
        try LogSystem.shared.start(
            invocation[ControlOptions.logLevel], invocation[ControlOptions.logFormat],
            to: try OutputFile.standardError())
        defer { LogSystem.shared.flush() }

        let loop = try EventLoop(name: "control")
        let server = try ControlServer(
            on: loop, settings(invocation, environment), authority: authority, tokenKey: tokenKey,
            tokens: tokens,
            first: first)
        let lifecycle = Lifecycle(loop, server, drainTime: drainTime)
        let pages = AdminPages(server, version: version, directory: directory) { lifecycle.end() }
        try listen(invocation, loop, server)
        let admin = try adminServers(invocation, loop, pages)
        let watch = try SignalWatch(loop, signals) { lifecycle.signalled($0) }
        let mailbox = loop.mailbox
        let bound = LoopBound(server)
        let configuration = try ConfigurationThread.start(compiler) { compiled in
            mailbox.post { _ in bound.value.apply(compiled) }
        }
        Logger(scope: "control").info(
            "started", ["version": version, "configuration": directory, "state": statePath])
        loop.run()
        configuration.stop()
        server.close()
        for server in admin { server.close() }
        withExtendedLifetime(watch) {}
        Logger(scope: "control").info("ended")
        return 0
    }

    /// What is wrong with a configuration, for people, by file and line.
    private static func report(_ configuration: CompiledConfiguration) -> Int32 {
        let problems = configuration.errors + configuration.warnings
        tell(problems.map { "\($0)\n" }.joined())
        return configuration.errors.isEmpty ? 0 : 2
    }

    private static func tell(_ text: String) {
        try? OutputFile.standardError().write(text)
    }

    private static func settings(_ invocation: Invocation, _ environment: Environment)
        -> ControlServer.Settings
    {
        var settings = ControlServer.Settings()
        settings.trustDomain = environment.trustDomain
        settings.certificateLife = max(
            60, invocation[ControlOptions.certificateLife].wholeMilliseconds / 1_000)
        var names = Set(invocation[ControlOptions.serverNames])
        for case .address(let listening) in invocation[ControlOptions.listen]
        where !listening.address.isUnspecified {
            names.insert("\(listening.address)")
        }
        // Nodes on other machines reach it by one of this machine's addresses. A machine full of virtual interfaces
        // has more of them than a certificate should carry.
        let addresses = ((try? Interfaces.addresses()) ?? []).map(\.address).filter { !$0.isLinkLocal }
        names.formUnion(addresses.prefix(addressLimit).map(\.description))
        settings.serverNames = names
        return settings
    }

    private static func listen(_ invocation: Invocation, _ loop: EventLoop, _ server: ControlServer) throws {
        let given = invocation[ControlOptions.listen]
        let addresses = given.isEmpty ? [.address(SocketAddress(.anyIPv4, 15_012))] : given
        for address in addresses {
            switch address {
            case .address(let address): try server.listen(on: Socket.listen(on: address))
            case .inherited(let number): try server.listen(on: Socket.adopting(listener: number))
            }
        }
    }

    /// The Unix socket with all pages, and over TCP, where asked for, those that change nothing.
    private static func adminServers(
        _ invocation: Invocation, _ loop: EventLoop, _ pages: AdminPages
    ) throws -> [HTTP1Server] {
        let path: String
        if let given = invocation[ControlOptions.adminSocket] {
            path = given
        } else {
            let directory = invocation[ControlOptions.runDirectory]
            try makeDirectory(directory, mode: 0o755)
            path = "\(directory)/control.sock"
        }
        var servers = [
            try HTTP1Server(on: loop, Socket.listen(onPath: path, mode: 0o600)) { exchange in
                exchange.respond(pages.respond(to: exchange.request))
            }
        ]
        switch invocation[ControlOptions.metrics] {
        case nil: break
        case .address(let address)?:
            servers.append(
                try HTTP1Server(on: loop, Socket.listen(on: address)) {
                    $0.respond(pages.respondInPublic(to: $0.request))
                })
        case .inherited(let number)?:
            servers.append(
                try HTTP1Server(on: loop, Socket.adopting(listener: number)) {
                    $0.respond(pages.respondInPublic(to: $0.request))
                })
        }
        return servers
    }
}

/// The end of the daemon: in order first, then, after a while or when asked twice, at once.
private final class Lifecycle {
    private let loop: EventLoop
    private let server: ControlServer
    private let drainTime: Duration
    private var isEnding = false

    init(_ loop: EventLoop, _ server: ControlServer, drainTime: Duration) {
        self.loop = loop
        self.server = server
        self.drainTime = drainTime
    }

    func signalled(_ signal: Signal) {
        switch signal {
        case .terminate, .interrupt: isEnding ? loop.stop() : end()
        // The configuration is followed anyway; a daemon that is told to read it again does not die of it.
        default: break
        }
    }

    func end() {
        guard !isEnding else { return }
        isEnding = true
        server.drain { [loop] in loop.stop() }
        _ = loop.schedule(after: drainTime) { [loop] in loop.stop() }
    }
}
