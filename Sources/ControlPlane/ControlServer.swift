import Address
import Compiler
import EventLoop
import GRPC
import Linux
import Log
import TLS
import Transport
import Wire

/// xDS and the CA on one loop: everything of `warren-control` that proxies talk to.
public final class ControlServer {
    public struct Settings: Sendable {
        public var trustDomain = "cluster.local"
        /// DNS names and addresses by which proxies reach it, for its certificate.
        public var serverNames: Set<String> = []
        /// Seconds: the longest life of a workload's and node's certificate.
        public var certificateLife: Int64 = 86_400

        public init() {}
    }

    /// Handshakes that are under way or done, at most.
    private static let channelLimit = 10_000
    /// A proxy that connects again says what it has: some 60 bytes a workload.
    private static let messageLimit = 64 << 20
    /// A certificate request of any key that is taken is some 4 KiB at most.
    private static let requestLimit = 64 << 10
    /// The first response holds the whole mesh.
    private static let queueLimit = 256 << 20
    /// Streams of one node: two while a daemon is replaced, some more until dead connections are noticed.
    private static let streamLimit = 8
    /// Streams of one waypoint, which has replicas.
    private static let waypointStreamLimit = 256
    /// Seconds that its own certificate lasts; it is replaced at half of that.
    private static let serverCertificateLife: Int64 = 86_400

    let settings: Settings
    let registry = NodeRegistry()
    let tokens: TokenFiles
    let authority: CertificateAuthority
    public let startedAt = WallClock.now()
    private(set) var configuration: CompiledConfiguration
    /// What it waits for before it is ready.
    private(set) var pending: Set<String> = ["listeners"]

    private let loop: EventLoop
    private let server: GRPCServer
    private let authenticator: Authenticator
    private let certificates: CertificateService
    private let workspace = TLSWorkspace()
    private var context: TLSContext
    private var listeners: [Listener] = []
    private static let logger = Logger(scope: "control")

    /// - Parameters:
    ///   - first: the configuration to begin with.
    ///   - tokenKey: authenticates join tokens.
    public init(
        on loop: EventLoop, _ settings: Settings, authority: CertificateAuthority, tokenKey: [UInt8],
        tokens: TokenFiles,
        first: CompiledConfiguration
    ) throws(TLSError) {
        self.loop = loop
        self.settings = settings
        self.authority = authority
        self.tokens = tokens
        configuration = first
        authenticator = Authenticator(trustDomain: settings.trustDomain, tokenKey: tokenKey)
        certificates = CertificateService(
            CertificateIssuer(
                authority: authority, trustDomain: settings.trustDomain, longestLife: settings.certificateLife
            ), registry)
        context = try Self.context(settings, authority, workspace)
        var grpc = GRPCServer.Configuration()
        grpc.channelLimit = Self.channelLimit
        grpc.limits = GRPCLimits(message: Self.messageLimit)
        grpc.limits.queue = Self.queueLimit
        server = GRPCServer(on: loop, grpc)
        registerMethods()
        noteConfiguration()
        ControlMetrics.shared.rootExpiry.set(Int(authority.roots.map(\.notAfter).min() ?? 0))
        scheduleCertificateRenewal()
        scheduleTokenRefresh()
    }

    /// Whether proxies can be served.
    public var isReady: Bool { pending.isEmpty }

    /// Accepts proxies on `socket`, which listens.
    public func listen(on socket: consuming Socket) throws(SystemCallError) {
        let listener = try Listener(on: loop, socket) { [weak self] accepted in
            guard let self else { return }
            // A peer that is gone before its handshake began is not worth a line.
            do throws(TLSError) {
                let session = try TLSSession(context)
                try? server.accept(accepted.socket, tls: session)
            } catch {
                Self.logger.limited(.seconds(1), .error, "cannot begin a handshake", ["error": error])
            }
        }
        listeners.append(listener)
        pending.remove("listeners")
    }

    /// Takes up a changed configuration and tells the proxies.
    public func apply(_ next: CompiledConfiguration) {
        let old = configuration
        configuration = next
        noteConfiguration(after: old)
        let resources = next.publication.resources
        registry.keepOnly(resources.localPods)
        registry.forgetCertificates(except: resources.callers)
        if resources.callers != old.publication.resources.callers {
            tokens.writeInBackground(resources.callers, generation: next.generation)
        }
        for session in Array(registry.sessions.values) {
            session.publish(next.publication, changedAt: loop.now)
        }
    }

    /// Takes no new calls, ends the streams, and lets what is under way finish.
    public func drain(_ completion: @escaping () -> Void) {
        pending.insert("draining")
        for listener in listeners { listener.close() }
        listeners = []
        for session in Array(registry.sessions.values) { session.end("the control component is stopping") }
        server.drain(completion)
    }

    public func close() { server.close() }

    // MARK: Calls

    private func registerMethods() {
        server.register(Envoy_Service_Discovery_V3_AggregatedDiscoveryService.deltaAggregatedResources) {
            [weak self] call in
            guard let self else { return RefusedCall() }
            switch caller(of: call) {
            case .failure(let status):
                call.finish(status)
                return RefusedCall()
            case .success(let caller):
                guard caller.isPart(of: configuration.publication.resources) else {
                    call.finish(GRPCStatus(.permissionDenied, "\(caller) is not part of the configuration"))
                    return RefusedCall()
                }
                let limit = caller.node == nil ? Self.waypointStreamLimit : Self.streamLimit
                guard registry.sessions(of: caller).count < limit else {
                    call.finish(GRPCStatus(.resourceExhausted, "\(caller) has \(limit) streams already"))
                    return RefusedCall()
                }
                return DiscoverySession(call, caller, registry, configuration.publication)
            }
        }
        server.registerUnary(
            Istio_V1_Auth_IstioCertificateService.createCertificate, messageLimit: Self.requestLimit,
            admit: { [weak self] call in self?.caller(of: call) ?? .failure(GRPCStatus(.unavailable)) }
        ) {
            [weak self]
            (
                call, caller, request: Istio_V1_Auth_IstioCertificateRequest,
                reply: @escaping (Result<Istio_V1_Auth_IstioCertificateResponse, GRPCStatus>) -> Void
            ) in
            guard let self else { return reply(.failure(GRPCStatus(.unavailable))) }
            reply(
                certificates.create(
                    request, for: caller, from: Self.text(call.peerAddress),
                    configuration.publication.resources))
        }
    }

    /// Who calls. What is wrong with the credentials goes to the log; the caller learns that they are not good.
    private func caller(of call: GRPCServerCall) -> Result<Caller, GRPCStatus> {
        do throws(AuthenticationFailure) {
            return .success(
                try authenticator.caller(
                    certificateURIs: call.peer?.uris, authorization: call.metadata["authorization"], now: .now
                ))
        } catch {
            ControlMetrics.shared.unauthenticated.add()
            Logger(scope: "audit").limited(
                .seconds(1), .warn, "caller refused",
                ["peer": "\(Self.text(call.peerAddress))", "method": call.path, "reason": error])
            return .failure(GRPCStatus(.unauthenticated, "no valid credentials of a node or a waypoint"))
        }
    }

    private static func text(_ address: SocketAddress?) -> String {
        address.map(String.init(describing:)) ?? "-"
    }

    // MARK: Upkeep

    /// Only what was not said before is logged: a warning does not come again with every change elsewhere.
    private func noteConfiguration(after old: CompiledConfiguration? = nil) {
        let metrics = ControlMetrics.shared
        metrics.generation.set(configuration.generation)
        metrics.errors.set(configuration.errors.count)
        metrics.warnings.set(configuration.warnings.count)
        metrics.workloads.set(configuration.publication.resources.workloads.count)
        metrics.services.set(configuration.publication.resources.services.count)
        let known = Set((old?.errors ?? []) + (old?.warnings ?? []))
        for problem in configuration.errors + configuration.warnings where !known.contains(problem) {
            Self.logger.log(
                problem.severity == .error ? .error : .warn, "configuration", ["problem": problem])
        }
        Self.logger.info(
            "configuration loaded",
            [
                "generation": configuration.generation, "objects": configuration.objectCount,
                "errors": configuration.errors.count, "warnings": configuration.warnings.count,
            ])
    }

    private func scheduleTokenRefresh() {
        _ = loop.schedule(after: TokenFiles.refreshInterval) { [weak self] in
            guard let self else { return }
            tokens.writeInBackground(
                configuration.publication.resources.callers, generation: configuration.generation)
            scheduleTokenRefresh()
        }
    }

    private func scheduleCertificateRenewal() {
        _ = loop.schedule(after: .seconds(Self.serverCertificateLife / 2)) { [weak self] in
            guard let self else { return }
            do throws(TLSError) {
                context = try Self.context(settings, authority, workspace)
            } catch {
                Self.logger.error("cannot renew the server's certificate", ["error": error])
            }
            scheduleCertificateRenewal()
        }
    }

    private static func context(
        _ settings: Settings, _ authority: CertificateAuthority, _ workspace: TLSWorkspace
    ) throws(TLSError) -> TLSContext {
        let key = try PrivateKey.generate()
        let names = settings.serverNames.union(["localhost", "127.0.0.1", "::1"]).sorted()
        let certificate = try authority.sign(
            key.publicKey, uri: nil, hosts: names, validity: serverCertificateLife, usages: [.serverAuth])
        let bundle = try CertificateBundle(key: key, chain: authority.chain(for: certificate))
        return try TLSContext(.controlServer(bundle, clientRoots: authority.roots), workspace: workspace)
    }
}
