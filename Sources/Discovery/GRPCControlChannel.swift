import EventLoop
import GRPC
import Glibc
import Linux
import Log
import Metrics
import TLS
import Wire

/// A control component over gRPC: one connection for xDS and CA, remade as needed.
final class GRPCControlChannel: ControlChannel {
    /// How long a certificate may take, the wait for a connection included.
    private static let certificateTimeout = Duration.seconds(30)
    /// From so many failed connections in a row on, a node with both kinds of credentials tries them by turns: that the
    /// server takes no certificate of ours any more looks from here as if it were away.
    private static let patience = 3

    var onConnected: (() -> Void)?

    private let configuration: DiscoveryConfiguration
    private let loop: EventLoop
    private let address: ControlAddress
    private let channel: GRPCChannel
    private let logger = Logger(scope: "xds")
    private var bundle: CertificateBundle?
    /// Connections in a row that came to nothing.
    private var failures = 0
    /// The token is used though there is a certificate.
    private var prefersToken = false
    private var presentsCertificate = false
    /// Counts changes of the credentials, so that many calls that fail by the same ones change them once.
    private var generation = 0

    init(_ configuration: DiscoveryConfiguration, loop: EventLoop, address: ControlAddress) {
        self.configuration = configuration
        self.loop = loop
        self.address = address
        var options = GRPCChannel.Configuration(authority: configuration.control)
        options.serverName = configuration.serverName ?? address.host
        options.firstBackoff = Backoff.stream.base
        options.longestBackoff = Backoff.stream.limit
        // As ztunnel: gRPC servers end a connection that is asked more often than every 15 s whether it lives.
        options.channel.keepAliveInterval = .seconds(30)
        options.channel.keepAliveDeadline = .seconds(10)
        channel = GRPCChannel(on: loop, options, tls: nil) { (attempt) throws(SystemCallError) in
            guard let target = address.address(attempt: attempt) else {
                throw SystemCallError(call: "connect", subject: configuration.control, number: EAGAIN)
            }
            return try Socket.connect(to: target)
        }
        channel.credentials = { [weak self] in self?.credentials() ?? [:] }
        channel.onConnectionChange = { [weak self] in self?.connectionChanged($0) }
    }

    func openStream(_ listener: any ControlStreamListener) -> any ControlStream {
        let used = generation
        let stream = Stream(listener) { [weak self] in self?.answered($0, by: used) }
        guard secure() else {
            let status = noSecurity
            loop.schedule(after: .zero) { stream.end(status) }
            return stream
        }
        stream.call = channel.call(
            Envoy_Service_Discovery_V3_AggregatedDiscoveryService.deltaAggregatedResources,
            waitsForReady: true,
            handler: stream)
        return stream
    }

    func createCertificate(
        _ request: [UInt8], completion: @escaping (Result<[UInt8], GRPCStatus>) -> Void
    ) {
        guard secure() else {
            let status = noSecurity
            loop.schedule(after: .zero) { completion(.failure(status)) }
            return
        }
        let used = generation
        channel.unary(
            Istio_V1_Auth_IstioCertificateService.createCertificate, request,
            timeout: Self.certificateTimeout, waitsForReady: true
        ) { [weak self] result in
            if case .failure(let status) = result {
                self?.answered(status, by: used)
            } else {
                self?.answered(.ok, by: used)
            }
            completion(result)
        }
    }

    func renew(_ bundle: CertificateBundle) {
        self.bundle = bundle
        changeCredentials(prefersToken: false)
    }

    func close() {
        channel.close()
    }

    // MARK: Credentials

    private var noSecurity: GRPCStatus {
        GRPCStatus(.unavailable, "the control component's root certificates are not usable")
    }

    /// Whether a connection can be secured: nothing is ever sent in the clear.
    private func secure() -> Bool {
        if !channel.isConnected { renewTLS() }
        return channel.tls != nil
    }

    /// Roots and client certificate for the next connection; those of the last one stay where they cannot be read.
    private func renewTLS() {
        do {
            let roots = try Certificate.all(inPEM: configuration.roots.read())
            let presented = prefersToken ? nil : bundle
            var security = TLSConfiguration.controlClient(presented, roots: roots)
            security.records = configuration.tlsRecords
            channel.tls = try TLSContext(security)
            presentsCertificate = presented != nil
        } catch {
            logger.limited(
                .seconds(10), .error, "the control component's roots are not usable", ["error": "\(error)"])
        }
    }

    private func changeCredentials(prefersToken: Bool) {
        self.prefersToken = prefersToken
        generation += 1
        renewTLS()
        channel.reconnect()
    }

    private var hasBoth: Bool { bundle != nil && configuration.token != nil }

    /// The server answered a call, or its connection ended.
    private func answered(_ status: GRPCStatus, by used: Int) {
        switch status.code {
        case .ok: failures = 0
        // By which of the two it may be: a token expires, a certificate may be of an authority that is no more.
        case .unauthenticated where hasBoth && used == generation:
            failures = 0
            changeCredentials(prefersToken: !prefersToken)
        default: break
        }
    }

    private func credentials() -> GRPCMetadata {
        var metadata: GRPCMetadata = ["clusterid": configuration.clusterID]
        guard !presentsCertificate, let token = configuration.token else { return metadata }
        do throws(TextSourceError) {
            metadata.append("authorization", "Bearer \(try token.readToken())")
        } catch {
            logger.limited(.seconds(10), .warn, "the token is not usable", ["error": "\(error)"])
        }
        return metadata
    }

    private func connectionChanged(_ isConnected: Bool) {
        guard !isConnected else {
            onConnected?()
            return
        }
        failures += 1
        address.refresh()
        if failures >= Self.patience, hasBoth {
            prefersToken.toggle()
            generation += 1
        }
        renewTLS()
    }

    /// A call as a stream.
    private final class Stream: ControlStream, GRPCClientHandler {
        var call: GRPCClientCall?
        private var listener: (any ControlStreamListener)?
        /// Told `ok` when the server takes the stream, and how it ended.
        private let answered: (GRPCStatus) -> Void

        init(_ listener: any ControlStreamListener, answered: @escaping (GRPCStatus) -> Void) {
            self.listener = listener
            self.answered = answered
        }

        func send(_ message: [UInt8]) { call?.send(message) }

        func cancel() {
            listener = nil
            call?.cancel()
        }

        func end(_ status: GRPCStatus) {
            let listener = listener
            self.listener = nil
            listener?.streamEnded(status)
        }

        func call(_ call: GRPCClientCall, metadata: GRPCMetadata) {
            answered(.ok)
            listener?.streamOpened()
        }

        func call(_ call: GRPCClientCall, received message: [UInt8]) { listener?.streamReceived(message) }

        func call(_ call: GRPCClientCall, ended status: GRPCStatus, trailers: GRPCMetadata) {
            // An orderly end says nothing of credentials that the beginning did not.
            if !status.isOK { answered(status) }
            end(status)
        }
    }
}

extension NodeDiscovery {
    /// Nil when `configuration.control` is not `host:port`.
    public convenience init?(
        loop: EventLoop, _ configuration: DiscoveryConfiguration, registry: Registry = .shared
    ) {
        guard let address = ControlAddress(configuration.control, mailbox: loop.mailbox) else { return nil }
        self.init(
            loop: loop, configuration,
            channel: GRPCControlChannel(configuration, loop: loop, address: address), registry: registry,
            random: { Double.random(in: -1...1) })
    }
}
