import EventLoop
import HTTP2
import Linux

extension HTTP2Channel {
    /// See `Pollable`: sends, tells the ends of streams, and ends the channel if it must.
    func finishTurn() {
        switch phase {
        case .connecting: break
        case .handshaking: transmit()
        case .open: pump()
        case .lingering: return linger()
        case .closed: return
        }
        tellEnds()
        if ending == nil, phase == .open, streams.isEmpty, ended.isEmpty {
            // The peer must have answered the drain's PING first, so that a request on its way is not lost.
            if isDraining, isGoAwayFinal {
                ending = .drained
            } else if let peerGoAway {
                ending = .peerLeft(peerGoAway)
            }
        }
        // Once the ends are told, so that what follows from them goes with what the turn has left: a tunnel that nobody needs any
        // more says so in the segment that ends its last stream.
        if phase == .open, ending == nil { flushTurn() }
        if let ending { tearDown(ending) } else { updateInterest() }
    }

    /// Whether our GOAWAY names the last stream that we take; the first of a drain allows any (RFC 9113 §6.8).
    private var isGoAwayFinal: Bool { connection.sentGoAway.map { $0 != 0x7fff_ffff } ?? false }

    private func tellEnds() {
        while !ended.isEmpty {
            var list: [(stream: HTTP2Stream, reason: StreamClose)] = []
            swap(&list, &ended)
            for (stream, reason) in list { stream.end(reason) }
        }
        if hasCapacityNews, phase == .open, ending == nil {
            hasCapacityNews = false
            delegate?.channelCapacityChanged(self)
        }
    }

    /// Ends the channel for good: last words to the peer, then the news to streams and delegate.
    private func tearDown(_ reason: ChannelClose) {
        deadlineTimer.disarm()
        keepAliveTimer.disarm()
        if isStarved { memoryTimer.disarm() }
        let isConnected: Bool
        switch reason {
        case .connectFailed, .connectTimeout, .socket: isConnected = false
        default: isConnected = phase != .connecting
        }
        phase = .lingering
        if isConnected {
            if canSpeak { connection.goAway(.noError) }
            deadlineTimer.arm(self, after: configuration.lingerDeadline)
            linger()
        } else {
            closeSocket()
        }
        waiting.removeAll()
        let left = streams.removeAll()
        let told = ended
        ended = []
        for (stream, reason) in told { stream.end(reason) }
        for stream in left { stream.end(.channel(reason)) }
        metrics.closed(reason)
        HTTP2Channel.logger.debug(
            "channel closed",
            ["peer": "\(peerAddress.map { "\($0)" } ?? "unix")", "role": "\(role)", "reason": "\(reason)"])
        let delegate = self.delegate
        self.delegate = nil
        delegate?.channelClosed(self, reason)
    }

    /// After the end: sends what is left, says FIN, and drops what comes until the peer has closed as well.
    func linger() {
        guard phase == .lingering else { return }
        if !isShutDown {
            flushToEnd()
            if !isBlocked, unsentBytes == 0 {
                isShutDown = true
                socket?.shutdownWrite()
            }
        }
        let area = unsafe loop.scratch.cipher
        switch unsafe socket?.read(into: area) ?? .end {
        case .bytes, .wouldBlock: updateInterest()
        case .end, .failed: closeSocket()
        }
    }

    private func closeSocket() {
        guard phase != .closed else { return }
        phase = .closed
        deadlineTimer.disarm()
        loop.deregister(registration)
        registration = .none
        socket = nil
        gather.clear()
        charge(0)
    }

    // MARK: Time

    func deadlinePassed() {
        switch phase {
        case .connecting: fail(.connectTimeout)
        case .handshaking: fail(.handshakeTimeout)
        case .lingering: closeSocket()
        case .open, .closed: break
        }
    }

    func startKeepAlive() {
        if let interval = configuration.keepAliveInterval { keepAliveTimer.arm(self, after: interval) }
    }

    /// Asks a silent peer for a sign of life, and ends the channel when none came.
    func checkPeerIsAlive() {
        guard let interval = configuration.keepAliveInterval, phase == .open else { return }
        if let pingedAt, lastReceived < pingedAt { return fail(.keepAliveTimeout) }
        pingedAt = nil
        let silence = loop.now - lastReceived
        guard silence >= interval else {
            keepAliveTimer.arm(self, after: interval - silence)
            return
        }
        pingedAt = loop.now
        connection.ping(loop.now.nanoseconds)
        keepAliveTimer.arm(self, after: configuration.keepAliveDeadline)
        loop.atEndOfTurn(self)
    }
}
