import EventLoop
import GRPC
import Linux
import Log
import Protobuf
import TLS
import Wire

/// Fetches, renews and hands out the certificates of a node: a `CertificateCache` driven over a channel.
final class CertificateClient {
    typealias Completion = (Result<TrustedBundle, CertificateUnavailable>) -> Void

    /// A certificate was issued for the node itself.
    var onNodeCertificate: ((TrustedBundle) -> Void)?
    /// Anything in the cache may have changed.
    var onChange: (() -> Void)?

    private(set) var cache: CertificateCache<TrustedBundle>
    private let configuration: DiscoveryConfiguration
    private let loop: EventLoop
    private let channel: any ControlChannel
    private let random: () -> Double
    private let metrics: DiscoveryMetrics
    private let logger = Logger(scope: "ca")
    private var waiting: [UInt64: Completion] = [:]
    private var lastWaiter: UInt64 = 0
    private var hasStopped = true
    private lazy var wake = CallbackTimer { [weak self] in self?.drive() }

    init(
        _ configuration: DiscoveryConfiguration, loop: EventLoop, channel: any ControlChannel,
        metrics: DiscoveryMetrics, random: @escaping () -> Double
    ) {
        self.configuration = configuration
        self.loop = loop
        self.channel = channel
        self.metrics = metrics
        self.random = random
        var limits = CertificateCache<TrustedBundle>.Configuration()
        limits.needsNodeCertificate = configuration.usesNodeCertificate
        cache = CertificateCache(limits)
    }

    private var now: Moment { Moment(monotonic: loop.now, wall: WallClock.now().seconds) }

    var nodeCertificate: TrustedBundle? { cache.current(.node, now) }
    var valid: [(subject: CertificateSubject, bundle: TrustedBundle)] { cache.valid(now) }

    func start() {
        hasStopped = false
        if configuration.usesNodeCertificate { cache.warm(.node, now) }
        drive()
    }

    /// Whoever still waits is refused.
    func stop() {
        hasStopped = true
        loop.cancel(wake)
        let waiting = waiting
        self.waiting = [:]
        for completion in waiting.values {
            completion(.failure(CertificateUnavailable("the node is stopping")))
        }
    }

    /// The CA can be reached again.
    func retryNow() {
        cache.retryNow(now)
        drive()
    }

    func setWanted(_ subjects: Set<CertificateSubject>) {
        cache.setWanted(subjects, now)
        drive()
    }

    /// Takes over a certificate of an earlier run; one that has expired is passed over.
    func restore(_ subject: CertificateSubject, _ trusted: TrustedBundle) {
        cache.issued(subject, trusted.issued, random: random(), now)
    }

    /// - Parameter completion: called exactly once, at once where the answer is known.
    func request(
        _ subject: CertificateSubject, patience: Duration, _ completion: @escaping Completion
    ) {
        lastWaiter += 1
        switch cache.request(subject, waiter: lastWaiter, deadline: loop.now + patience, now) {
        case .ready(let bundle): completion(.success(bundle))
        case .unavailable(let error): completion(.failure(error))
        case .waiting:
            waiting[lastWaiter] = completion
            drive()
        }
    }

    /// Carries out what the cache asks for, and comes back when it has something new to ask.
    private func drive() {
        guard !hasStopped else { return }
        for action in cache.step(now) {
            switch action {
            case .fetch(let subject): fetch(subject)
            case .resume(let waiter, let result): waiting.removeValue(forKey: waiter)?(result)
            }
        }
        if let delay = cache.nextWake(now) { loop.schedule(wake, after: delay) }
        onChange?()
    }

    private func fetch(_ subject: CertificateSubject) {
        let exchange: CertificateExchange
        do throws(TLSError) {
            exchange = try CertificateExchange(subject, configuration)
        } catch {
            failed(subject, "no request can be made: \(error)")
            return
        }
        channel.createCertificate(exchange.request.serializedBytes()) { [weak self] result in
            self?.answered(exchange, result)
        }
    }

    private func answered(_ exchange: CertificateExchange, _ result: Result<[UInt8], GRPCStatus>) {
        guard !hasStopped else { return }
        switch result {
        case .failure(let status): failed(exchange.subject, "\(status)")
        case .success(let bytes):
            do {
                let response = try Istio_V1_Auth_IstioCertificateResponse(serializedBytes: bytes)
                issued(exchange.subject, try exchange.accept(response))
            } catch {
                failed(exchange.subject, "\(error)")
            }
        }
    }

    private func issued(_ subject: CertificateSubject, _ trusted: TrustedBundle) {
        metrics.certificatesIssued.add()
        logger.info(
            "certificate issued",
            [
                "subject": "\(subject)", "serial": trusted.bundle.leaf.serial,
                "notAfter": WallClock(seconds: trusted.bundle.leaf.notAfter).rfc3339,
            ])
        cache.issued(subject, trusted.issued, random: random(), now)
        if subject == .node, let trusted = nodeCertificate { onNodeCertificate?(trusted) }
        drive()
    }

    private func failed(_ subject: CertificateSubject, _ reason: String) {
        metrics.certificatesFailed.add()
        logger.limited(
            .seconds(1), .warn, "no certificate",
            ["subject": "\(subject)", "reason": reason])
        cache.failed(subject, reason, random: random(), now)
        // From a timer: a failure that comes at once must not drive itself in a circle.
        loop.schedule(wake, after: .zero)
    }
}

extension CertificateSubject: CustomStringConvertible {
    public var description: String {
        switch self {
        case .node: "node"
        case .workload(let identity): identity.uri
        }
    }
}
