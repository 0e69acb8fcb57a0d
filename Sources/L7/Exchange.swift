import EventLoop
import HTTP2
import Linux
import Routing
import Tunnel

/// One request of a client's and its answer: routed, tried, relayed, and accounted for once.
///
/// Content passes through with one copy, into what the other connection sends. What that does not take waits in memory of the loop's and counts
/// against the window of who sent it. The beginning of a request's content is kept as long as another try is possible.
final class Exchange: MessageStreamDelegate {
    let service: HTTPService
    let client: ClientContext
    private let version: ExchangeRecord.Version
    private var downstream: (any MessageStream)?
    private let began: MonotonicTime
    private var lastActivity: MonotonicTime

    // The request.
    private var received = HeaderBlock()
    private var request = HeaderBlock()
    private var requestTrailers = HeaderBlock()
    private var isRequestWhole = false
    private var isGRPC = false
    private var isHead = false
    /// All content so far, while it can be sent again.
    private var kept: [UInt8] = []
    private var isKeeping = false
    /// Of `kept`, what the try under way has sent.
    private var keptSent = 0
    /// Content behind `kept` that the try under way has not taken.
    private var requestBacklog: Backlog
    private var isRequestSent = false

    // Where it goes.
    private var entry: RouteEntry?
    private var forwarding: Forwarding?
    private var chosen: WeightedDestination?
    private var upstream: Upstream?
    private var endpoint: UpstreamEndpoint?
    private var attempt: Attempt?
    private var attempts = 0
    private var retriesLeft = 0
    private var retryPolicy: RetryPolicy?
    private var tried: [String] = []
    /// Of what the request has for the key that endpoints are chosen by.
    private var hash: UInt64?
    /// The field of the answer that sets the cookie which is that key.
    private var newCookie: String?
    private var hasRetriedStale = false
    /// It is one of the destination's tries again.
    private var holdsRetry = false
    private var shadows: [Shadow] = []
    private var allowedOrigin: [UInt8]?

    // The answer.
    private var status = 0
    private var grpcStatus: Int?
    private var flags: ResponseFlags = []
    private var hasAnswered = false
    private var isAnswerWhole = false
    private var answerTrailers = HeaderBlock()
    private var answerBacklog: Backlog
    private var upstreamTime: Duration?
    private var bytesReceived: UInt64 = 0
    private var bytesSent: UInt64 = 0

    // Made when they are needed: most requests need the last one alone.
    private var timeout: LoopTimer?
    private var tryTimeout: LoopTimer?
    private var pause: LoopTimer?
    private lazy var idle = CallbackTimer { [weak self] in self?.idled() }
    private var onPause: (() -> Void)?

    init(
        _ service: HTTPService, _ client: ClientContext, _ downstream: any MessageStream,
        httpVersion: ExchangeRecord.Version
    ) {
        self.service = service
        self.client = client
        self.downstream = downstream
        version = httpVersion
        began = service.loop.now
        lastActivity = began
        requestBacklog = Backlog(pool: service.loop.buffers)
        answerBacklog = Backlog(pool: service.loop.buffers)
    }

    private var isOver: Bool { downstream == nil }

    // MARK: The request's head

    func begin(_ head: HeaderBlock, endStream: Bool) {
        service.metrics.requests.add()
        service.metrics.activeRequests.add(1)
        service.activeRequests += 1
        isRequestWhole = endStream
        received = head
        isHead = head.method == "HEAD"
        isGRPC = head.isGRPC
        service.loop.schedule(idle, after: service.configuration.exchangeIdleTimeout)
        guard service.activeRequests <= service.configuration.requestLimit else {
            service.metrics.overloads.add()
            return reply(LocalReply(503, "", .overload))
        }
        // A tunnel to anywhere is not what a service's port is for.
        guard head.method != "CONNECT" || head[":protocol"] == "websocket" else {
            return reply(LocalReply(403))
        }
        // What no endpoint could be sent costs none a connection, and is nobody's fault but the client's.
        guard head.isSendable else {
            service.metrics.refusedRequests.add()
            return reply(LocalReply(400, "", .downstreamProtocolError))
        }
        if let path = head.bytes(of: ":path"), let normal = normalizedPath(path) {
            received.set(":path", bytes: normal)
        }
        // `x-forwarded-for` stays as it came: the client is the workload itself, and who was before it only it can say. So does Istio's waypoint.
        if !received.contains("x-request-id") {
            received.append("x-request-id", RequestID.make(service.random))
        }
        if !received.contains("x-forwarded-proto") { received.append("x-forwarded-proto", client.scheme) }
        request = received
        route()
    }

    private func route() {
        service.routeHead.take(received)
        switch service.routes.route(service.routeHead, from: client.origin) {
        case .noHost, .noRoute: reply(LocalReply(404, "", .noRoute))
        case .route(let entry, let match):
            self.entry = entry
            if answersPreflight(entry) { return }
            switch entry.route.action {
            case .redirect(let redirect):
                var answer = LocalReply(redirect.status)
                if let location = entry.location(service.routeHead, from: client.origin, match: match) {
                    answer.headers.append(Header("location", String(decoding: location, as: UTF8.self)))
                }
                reply(answer)
            case .respond(let direct):
                var answer = LocalReply(direct.status)
                answer.body = direct.body
                reply(answer)
            case .forward(let forwarding):
                self.forwarding = forwarding
                prepare(entry, forwarding, match)
            }
        }
    }

    private func prepare(_ entry: RouteEntry, _ forwarding: Forwarding, _ match: Int) {
        if let path = entry.rewrittenPath(service.routeHead, match: match) {
            request.set("x-envoy-original-path", bytes: received.bytes(of: ":path") ?? [])
            request.set(":path", bytes: path)
        }
        if let authority = forwarding.rewrite?.authority { request.set(":authority", authority) }
        request.apply(entry.route.requestHeaders)
        guard let fault = forwarding.fault else { return dispatch() }
        inject(fault)
    }

    // MARK: Faults

    private func inject(_ fault: Fault) {
        if let delay = fault.delay, delay.share.includes(random: service.random()) {
            flags.insert(.delayInjected)
            service.metrics.faults.add()
            return wait(delay.duration) { [unowned self] in abort(fault) }
        }
        abort(fault)
    }

    private func abort(_ fault: Fault) {
        guard let abort = fault.abort, abort.share.includes(random: service.random()) else {
            return dispatch()
        }
        service.metrics.faults.add()
        switch abort.failure {
        case .http(let status): reply(LocalReply(status, "fault filter abort", .faultInjected))
        case .grpc(let code):
            var answer = LocalReply(LocalReply.httpStatus(ofGRPC: code), "fault filter abort", .faultInjected)
            answer.grpcStatus = code.number
            reply(answer)
        }
    }

    private func wait(_ duration: Duration, _ body: @escaping () -> Void) {
        onPause = body
        pause = service.loop.schedule(after: duration) { [weak self] in self?.paused() }
    }

    private func paused() {
        let body = onPause
        onPause = nil
        if !isOver { body?() }
    }

    // MARK: CORS

    /// - Returns: true when the request was a preflight request that was answered.
    private func answersPreflight(_ entry: RouteEntry) -> Bool {
        guard let policy = entry.route.cors, let origin = received.bytes(of: "origin") else { return false }
        let isAllowed = entry.allowsOrigin(Array(origin))
        let isPreflight = received.method == "OPTIONS" && received.contains("access-control-request-method")
        guard isPreflight else {
            if isAllowed { allowedOrigin = Array(origin) }
            return false
        }
        guard isAllowed || !policy.forwardsUnmatchedPreflights else { return false }
        var answer = LocalReply(200)
        if isAllowed {
            answer.headers = [Header("access-control-allow-origin", String(decoding: origin, as: UTF8.self))]
            if policy.allowCredentials == true {
                answer.headers.append(Header("access-control-allow-credentials", "true"))
            }
            func list(_ name: String, _ values: [String]) {
                if !values.isEmpty { answer.headers.append(Header(name, values.joined(separator: ","))) }
            }
            list("access-control-allow-methods", policy.allowMethods)
            list("access-control-allow-headers", policy.allowHeaders)
            if let age = policy.maxAge { list("access-control-max-age", ["\(age.components.seconds)"]) }
        }
        reply(answer)
        return true
    }

    // MARK: Where it goes

    private func dispatch() {
        guard let forwarding else { return }
        guard let destination = forwarding.destination(random: service.random()) else {
            return reply(LocalReply(500))
        }
        chosen = destination
        guard case .service(let service) = destination.target else { return reply(LocalReply(500)) }
        guard let upstream = self.service.resolver.upstream(for: service) else {
            return reply(LocalReply(503, "", .noCluster))
        }
        self.upstream = upstream
        if let authority = destination.authority { request.set(":authority", authority) }
        request.apply(destination.requestHeaders)
        hash = upstream.hash(of: request, from: client)
        if hash == nil, let made = upstream.newCookie(random: self.service.random) {
            hash = XXHash64.hash(made.value)
            newCookie = made.field
        }
        let policy = forwarding.retries ?? self.service.configuration.defaultRetries
        retryPolicy = policy
        retriesLeft = policy.attempts
        // What came during a delay, and was more than is kept, goes to the first try alone.
        isKeeping = policy.attempts > 0 && requestBacklog.isEmpty
        if received[":protocol"] != nil { isKeeping = false }
        if request["expect"]?.lowercased() == "100-continue" {
            request.remove("expect")
            downstream?.sendHead(HeaderBlock(status: 100), endStream: false)
        }
        mirror(forwarding.mirrors)
        if isRequestWhole { armTimeout() }
        attemptNow()
    }

    private func attemptNow() {
        guard !isOver else { return }
        // Between two tries configuration may have put another one in its place.
        if upstream?.isClosed ?? true, case .service(let destination)? = chosen?.target {
            giveRetryBack()
            upstream = service.resolver.upstream(for: destination)
        }
        guard let upstream else { return reply(LocalReply(503, "", .noCluster)) }
        guard let pool = upstream.choose(avoiding: tried, hash: hash, random: service.random) else {
            return reply(LocalReply(503, "no healthy upstream", .noHealthyUpstream))
        }
        attempts += 1
        endpoint = pool.endpoint
        if retryPolicy?.avoidsPreviousEndpoints ?? true { tried.append(pool.endpoint.id) }
        keptSent = 0
        isRequestSent = false
        let next = Attempt(self, pool, service.loop.now)
        attempt = next
        if isRequestWhole { armTryTimeout() }
        next.start(http2: upstream.configuration.speaksHTTP2 ?? (version == .http2))
    }

    // MARK: Mirrors

    private func mirror(_ mirrors: [Mirror]) {
        for mirror in mirrors where mirror.share.includes(random: service.random()) {
            guard requestBacklog.isEmpty else {
                service.metrics.mirrorsCut.add()
                continue
            }
            guard let upstream = service.resolver.upstream(for: mirror.destination),
                let pool = upstream.choose(
                    avoiding: [], hash: upstream.hash(of: request, from: client), random: service.random)
            else { continue }
            guard upstream.mirrorsUnderWay < service.configuration.mirrorLimit else {
                service.metrics.mirrorsCut.add()
                continue
            }
            var copy = request
            copy.set(":authority", Self.shadowed(request.authority ?? ""))
            service.metrics.mirrored.add()
            let shadow = Shadow(
                pool, copy, limit: service.configuration.mirrorBuffer,
                timeout: forwarding?.timeout ?? service.configuration.mirrorTimeout, endStream: isRequestWhole
            )
            shadows.append(shadow)
            unsafe kept.withUnsafeBytes { unsafe shadow.content($0) }
            shadow.start(http2: upstream.configuration.speaksHTTP2 ?? (version == .http2))
        }
    }

    /// `host-shadow:port`, so that logs tell the copy from the original.
    private static func shadowed(_ authority: String) -> String {
        guard let colon = authority.lastIndex(of: ":"), authority[colon...].dropFirst().allSatisfy(\.isNumber)
        else {
            return authority + "-shadow"
        }
        return authority[..<colon] + "-shadow" + authority[colon...]
    }

    // MARK: The request's content

    func received(_ bytes: UnsafeRawBufferPointer) {
        guard !isOver, !hasAnsweredLocally else { return downstream?.consumed(bytes.count) ?? () }
        lastActivity = service.loop.now
        bytesReceived += UInt64(bytes.count)
        for shadow in shadows { unsafe shadow.content(bytes) }
        // Before it is known where the request goes, as much is taken as could be kept.
        let isUndecided = forwarding != nil && upstream == nil
        if isKeeping || isUndecided, requestBacklog.isEmpty,
            kept.count + bytes.count <= service.configuration.retryBuffer
        {
            unsafe kept += bytes
            downstream?.consumed(bytes.count)
            return sendRequest()
        }
        if isKeeping {
            isKeeping = false
            service.metrics.retriesOutOfBuffer.add()
        }
        var taken = 0
        sendRequest()
        if let stream = attempt?.stream, keptSent == kept.count, requestBacklog.isEmpty {
            taken = unsafe stream.send(bytes)
            downstream?.consumed(taken)
        }
        guard taken < bytes.count, !isOver else { return }
        if unsafe !requestBacklog.append(UnsafeRawBufferPointer(rebasing: bytes[taken...])) { outOfMemory() }
    }

    func ended(_ trailers: HeaderBlock) {
        guard !isOver, !isRequestWhole else { return }
        lastActivity = service.loop.now
        isRequestWhole = true
        requestTrailers = trailers
        for shadow in shadows { shadow.end(trailers) }
        if upstream != nil, !hasAnswered {
            armTimeout()
            armTryTimeout()
        }
        sendRequest()
    }

    /// Sends what the try under way has yet to get.
    private func sendRequest() {
        guard let stream = attempt?.stream, !isRequestSent else { return }
        while keptSent < kept.count {
            let count = unsafe kept.withUnsafeBytes {
                unsafe stream.send(UnsafeRawBufferPointer(rebasing: $0[keptSent...]))
            }
            keptSent += count
            if keptSent < kept.count { return }
        }
        if !isKeeping, !kept.isEmpty {
            kept = []
            keptSent = 0
        }
        let sent = unsafe requestBacklog.drain { unsafe stream.send($0) }
        if sent > 0 { downstream?.consumed(sent) }
        guard requestBacklog.isEmpty, isRequestWhole, !isOver else { return }
        isRequestSent = true
        // Its head may have said so.
        if !(attempt?.isEnded ?? true) { stream.sendEnd(requestTrailers) }
        if status == 101, isAnswerWhole, answerBacklog.isEmpty { finish() }
    }

    // MARK: What the try reports

    func opened(_ attempt: Attempt, _ stream: any MessageStream) {
        guard attempt === self.attempt, !isOver else { return stream.reset(.cancel) }
        var head = request
        head.set("x-envoy-attempt-count", String(attempts))
        if let limit = forwarding?.timeout, limit > .zero {
            head.set("x-envoy-expected-rq-timeout-ms", String(limit.wholeMilliseconds))
        }
        // Without content nothing follows the head.
        let isEmpty = isRequestWhole && kept.isEmpty && requestBacklog.isEmpty && requestTrailers.isEmpty
        attempt.isEnded = isEmpty
        stream.sendHead(head, endStream: isEmpty)
        sendRequest()
    }

    func upstreamWritable() {
        lastActivity = service.loop.now
        sendRequest()
    }

    func headReceived(_ head: HeaderBlock, endStream: Bool, of attempt: Attempt) {
        guard attempt === self.attempt, let status = head.status else { return }
        lastActivity = service.loop.now
        if status < 200, status != 101 {
            // Ours was sent already.
            if status != 100 { downstream?.sendHead(head, endStream: false) }
            return
        }
        recordStatus(head, isWhole: endStream, of: attempt)
        if mayRetry, let policy = retryPolicy, policy.includes(head), takesRetry() {
            return retry()
        }
        if retriesLeft == 0, retryPolicy?.includes(head) == true { noteRetries() }
        upstreamTime = service.loop.now - attempt.began
        answer(head, endStream: endStream)
    }

    /// Tells the destination what its endpoint said. A call of gRPC says so at its end.
    private func recordStatus(_ head: HeaderBlock, isWhole: Bool, of attempt: Attempt) {
        if isGRPC, head.status == 200 {
            if isWhole { record(head, of: attempt) }
        } else {
            upstream?.record(.answered(head.status ?? 0), of: attempt.pool)
        }
    }

    /// - Parameter last: the fields with the status of a call of gRPC.
    private func record(_ last: HeaderBlock, of attempt: Attempt) {
        let code = last["grpc-status"].flatMap { Int($0) } ?? GRPCStatusCode.unknown.number
        let known = GRPCStatusCode.allCases.first { $0.number == code } ?? .unknown
        upstream?.record(.answered(LocalReply.httpStatus(ofGRPC: known)), of: attempt.pool)
    }

    private func answer(_ head: HeaderBlock, endStream: Bool) {
        cancel(&tryTimeout)
        giveRetryBack()
        isKeeping = false
        hasAnswered = true
        status = head.status ?? 0
        grpcStatus = head["grpc-status"].flatMap { Int($0) }
        var head = head
        if let upstreamTime {
            head.set("x-envoy-upstream-service-time", String(upstreamTime.wholeMilliseconds))
        }
        if let newCookie { head.append("set-cookie", newCookie) }
        finishHead(&head)
        isAnswerWhole = endStream
        if status == 101 { cancel(&timeout) }
        downstream?.sendHead(head, endStream: endStream)
        if endStream { finish() }
    }

    /// What every answer gets, whoever gave it.
    private func finishHead(_ head: inout HeaderBlock) {
        if let chosen { head.apply(chosen.responseHeaders) }
        if let route = entry?.route {
            head.apply(route.responseHeaders)
            if let origin = allowedOrigin, let policy = route.cors {
                head.set("access-control-allow-origin", bytes: origin)
                if policy.allowCredentials == true { head.set("access-control-allow-credentials", "true") }
                if !policy.exposeHeaders.isEmpty {
                    head.set("access-control-expose-headers", policy.exposeHeaders.joined(separator: ","))
                }
            }
        }
        if let name = service.configuration.serverName { head.set("server", name) }
    }

    func contentReceived(_ bytes: UnsafeRawBufferPointer, of attempt: Attempt) {
        guard attempt === self.attempt, let stream = attempt.stream, let downstream else { return }
        lastActivity = service.loop.now
        bytesSent += UInt64(bytes.count)
        var taken = 0
        if answerBacklog.isEmpty {
            taken = unsafe downstream.send(bytes)
            if attempt === self.attempt { stream.consumed(taken) }
        }
        guard taken < bytes.count, !isOver else { return }
        if unsafe !answerBacklog.append(UnsafeRawBufferPointer(rebasing: bytes[taken...])) { outOfMemory() }
    }

    func answerEnded(_ trailers: HeaderBlock, of attempt: Attempt) {
        guard attempt === self.attempt else { return }
        lastActivity = service.loop.now
        isAnswerWhole = true
        answerTrailers = trailers
        if let status = trailers["grpc-status"] { grpcStatus = Int(status) }
        if isGRPC, status == 200 { record(trailers, of: attempt) }
        sendAnswer()
    }

    func writable() { sendAnswer() }

    private func sendAnswer() {
        guard let downstream, hasAnswered else { return }
        lastActivity = service.loop.now
        let sent = unsafe answerBacklog.drain { unsafe downstream.send($0) }
        if sent > 0 { attempt?.stream?.consumed(sent) }
        guard answerBacklog.isEmpty, isAnswerWhole, !isOver else { return }
        downstream.sendEnd(answerTrailers)
        // A changed protocol ends when both sides have.
        if status == 101, !hasAnsweredLocally, !isRequestSent { return }
        finish()
    }

    func failed(_ attempt: Attempt, _ failure: ConnectFailure) {
        guard attempt === self.attempt else { return }
        guard failure != .overflow else {
            var answer = LocalReply(503, Self.text("overflow", attempts), .upstreamOverflow)
            answer.headers = [Header("x-envoy-overloaded", "true")]
            return reply(answer)
        }
        upstream?.record(failure == .timeout ? .timedOut : .failed, of: attempt.pool)
        if mayRetry, let policy = retryPolicy, policy.includesConnectFailure, takesRetry() { return retry() }
        noteRetries()
        let reason = failure == .timeout ? "connection timeout" : "connection failure"
        reply(LocalReply(503, Self.text(reason, attempts), .upstreamConnectFailure))
    }

    func closed(_ attempt: Attempt, _ reason: MessageClose) {
        guard attempt === self.attempt else { return }
        if isAnswerWhole {
            // Whatever its connection does, the client gets the rest of the answer.
            isRequestSent = true
            return sendAnswer()
        }
        if hasAnswered {
            flags.insert(reason == .disconnected ? .upstreamTermination : .upstreamReset)
            upstream?.record(.failed, of: attempt.pool)
            return breakOff(.internalError)
        }
        // A connection that was kept and that its endpoint closes at the same moment: nothing was begun, or nothing was changed by it.
        if attempt.isReused, reason == .disconnected, !hasRetriedStale, isRequestWhole, kept.isEmpty,
            bytesReceived == 0,
            request.isSafe
        {
            hasRetriedStale = true
            service.metrics.retries.add()
            abandonAttempt()
            tried.removeAll()
            return attemptNow()
        }
        upstream?.record(.failed, of: attempt.pool)
        if mayRetry, let policy = retryPolicy, policy.includes(reason), takesRetry() { return retry() }
        noteRetries()
        switch reason {
        case .reset: reply(LocalReply(503, Self.text("remote reset", attempts), .upstreamReset))
        case .refused:
            reply(LocalReply(503, Self.text("remote refused stream reset", attempts), .upstreamReset))
        case .disconnected:
            reply(LocalReply(503, Self.text("connection termination", attempts), .upstreamTermination))
        case .malformed: reply(LocalReply(502, Self.text("protocol error", attempts), .upstreamProtocolError))
        }
    }

    private static func text(_ reason: String, _ attempts: Int) -> String {
        "upstream connect error or disconnect/reset before headers. "
            + (attempts > 1 ? "retried and the latest reset reason: " : "reset reason: ") + reason
    }

    // MARK: Retries

    /// Everything of the request is still here, and nothing of an answer is with the client.
    private var mayRetry: Bool {
        retriesLeft > 0 && !hasAnswered && (isKeeping || isRequestWhole && bytesReceived == 0)
    }

    /// Takes a place among the tries again at the destination, or keeps the one that it has. Without one the client gets what there is, and the
    /// flag says so as Envoy's does.
    private func takesRetry() -> Bool {
        guard let upstream else { return false }
        if holdsRetry { return true }
        guard upstream.activeRetries < upstream.configuration.retryLimit else {
            service.metrics.retryOverflows.add()
            flags.insert(.upstreamOverflow)
            return false
        }
        upstream.activeRetries += 1
        holdsRetry = true
        return true
    }

    private func giveRetryBack() {
        guard holdsRetry else { return }
        holdsRetry = false
        upstream?.activeRetries -= 1
    }

    /// The outcome is the last of several tries.
    private func noteRetries() {
        if attempts > 1, !flags.contains(.upstreamOverflow) { flags.insert(.retryLimit) }
    }

    private func retry() {
        guard let policy = retryPolicy else { return }
        retriesLeft -= 1
        service.metrics.retries.add()
        abandonAttempt()
        wait(policy.pause(before: attempts, random: service.random())) { [unowned self] in attemptNow() }
    }

    private func abandonAttempt() {
        cancel(&tryTimeout)
        let last = attempt
        attempt = nil
        last?.cancel()
    }

    // MARK: Deadlines

    /// From the end of the request on, as Envoy counts.
    private func armTimeout() {
        guard timeout == nil, let limit = forwarding?.timeout, limit > .zero else { return }
        timeout = service.loop.schedule(after: limit) { [weak self] in self?.timedOut() }
    }

    private func armTryTimeout() {
        guard attempt != nil, let limit = retryPolicy?.perTryTimeout, limit > .zero else { return }
        cancel(&tryTimeout)
        tryTimeout = service.loop.schedule(after: limit) { [weak self] in self?.tryTimedOut() }
    }

    private func cancel(_ timer: inout LoopTimer?) {
        if let timer { service.loop.cancel(timer) }
        timer = nil
    }

    private func timedOut() {
        service.metrics.timeouts.add()
        guard !hasAnswered else {
            flags.insert(.upstreamTimeout)
            return breakOff(.internalError)
        }
        if let attempt { upstream?.record(.timedOut, of: attempt.pool) }
        reply(LocalReply(504, "upstream request timeout", .upstreamTimeout))
    }

    private func tryTimedOut() {
        guard !hasAnswered, !isOver else { return }
        service.metrics.timeouts.add()
        if let attempt { upstream?.record(.timedOut, of: attempt.pool) }
        if mayRetry, let policy = retryPolicy, policy.includesReset, takesRetry() { return retry() }
        noteRetries()
        reply(LocalReply(504, "upstream request timeout", .upstreamTimeout))
    }

    private func idled() {
        guard !isOver else { return }
        let limit = service.configuration.exchangeIdleTimeout
        let quiet = service.loop.now - lastActivity
        guard quiet >= limit else { return service.loop.schedule(idle, after: limit - quiet) }
        service.metrics.timeouts.add()
        guard !hasAnswered else {
            flags.insert(.streamIdle)
            return breakOff(.cancel)
        }
        reply(LocalReply(isRequestWhole ? 504 : 408, "stream timeout", .streamIdle))
    }

    private func outOfMemory() {
        service.metrics.bufferRefusals.add()
        flags.insert(.overload)
        guard !hasAnswered else { return breakOff(.enhanceYourCalm) }
        reply(LocalReply(503, "", .overload))
    }

    // MARK: The end

    private var hasAnsweredLocally = false

    private func reply(_ answer: LocalReply) {
        guard let downstream, !hasAnswered else { return }
        abandonAttempt()
        requestBacklog.clear()
        hasAnsweredLocally = true
        hasAnswered = true
        flags.formUnion(answer.flags)
        var (head, body) = answer.message(isGRPC: isGRPC, isHead: isHead)
        status = head.status ?? answer.status
        if isGRPC { grpcStatus = head["grpc-status"].flatMap { Int($0) } }
        finishHead(&head)
        guard !body.isEmpty else {
            downstream.sendHead(head, endStream: true)
            return finish()
        }
        bytesSent += UInt64(body.count)
        downstream.sendHead(head, endStream: false)
        isAnswerWhole = true
        if unsafe !body.withUnsafeBytes({ unsafe answerBacklog.append($0) }) {
            return breakOff(.internalError)
        }
        sendAnswer()
    }

    /// The answer cannot be completed, and the client must see that it is not.
    private func breakOff(_ code: ErrorCode) {
        let last = downstream
        finish(releasing: false)
        last?.reset(code)
    }

    /// The client is gone, or what it sent cannot be read.
    func closed(_ reason: MessageClose) {
        guard !isOver else { return }
        if case .malformed = reason {
            flags.insert(.downstreamProtocolError)
        } else {
            flags.insert(.downstreamTermination)
        }
        finish(releasing: false)
    }

    private func finish(releasing: Bool = true) {
        guard let last = downstream else { return }
        downstream = nil
        cancel(&timeout)
        cancel(&tryTimeout)
        cancel(&pause)
        service.loop.cancel(idle)
        onPause = nil
        giveRetryBack()
        let isComplete = isAnswerWhole && releasing && !hasAnsweredLocally
        let attempt = self.attempt
        self.attempt = nil
        if isComplete { attempt?.release() } else { attempt?.cancel() }
        if !isRequestWhole { for shadow in shadows { shadow.cancel() } }
        shadows = []
        requestBacklog.clear()
        answerBacklog.clear()
        kept = []
        if releasing { last.release() }
        service.activeRequests -= 1
        service.metrics.activeRequests.add(-1)
        report()
    }

    private func report() {
        guard let observer = service.observer else { return }
        observer.exchangeEnded(
            ExchangeRecord(
                client: client, version: version, request: received, status: status, grpcStatus: grpcStatus,
                flags: flags,
                bytesReceived: bytesReceived, bytesSent: bytesSent, duration: .now() - began,
                upstreamTime: upstreamTime,
                route: entry?.route.name, destination: upstream?.destination, endpoint: endpoint,
                attempts: attempts))
    }

    func headReceived(_ head: HeaderBlock, endStream: Bool) {}
}
