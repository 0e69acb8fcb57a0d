extension HTTP2Connection {
    // MARK: RST_STREAM (§6.4)

    mutating func receiveReset(_ code: ErrorCode) throws(HTTP2Error) -> HTTP2Event? {
        guard let place = streams.place(of: frame.stream) else { return try receiveOnClosedStream() }
        // An answered stream cost its opener a full exchange; one taken back before that cost it 30 bytes.
        if role == .server, !streams[place].flags.contains(.answered) { try charge(.earlyReset) }
        drop(place)
        return .reset(frame.stream, code)
    }

    // MARK: SETTINGS (§6.5)

    mutating func receiveSettings(_ payload: UnsafeRawBufferPointer) throws(HTTP2Error) -> HTTP2Event? {
        try charge(.settings)
        if frame.has(FrameFlag.acknowledge) { return .settingsAcknowledged }
        if !settingsSeen {
            settingsSeen = true
            // Silence means no limit; until now we had to guess (§6.5.2).
            if role == .client { peerMaxConcurrentStreams = 0x7fff_ffff }
        }
        var offset = 0
        while offset < payload.count {
            try apply(
                unsafe payload.bigEndian16(at: offset), Int(unsafe payload.bigEndian32(at: offset + 2)))
            offset += 6
        }
        try reserveReply(FrameHeader.byteCount)
        pending.appendFrameHeader(
            length: 0, type: FrameType.settings, flags: FrameFlag.acknowledge, stream: 0)
        return .settingsReceived
    }

    private mutating func apply(_ identifier: UInt16, _ value: Int) throws(HTTP2Error) {
        switch identifier {
        case SettingID.headerTableSize:
            guard encoder.changeTableSize(value) else { throw .compression }
        case SettingID.enablePush:
            guard value == 0 || value == 1 && role == .server else { throw .violation(.settingValue) }
        case SettingID.maxConcurrentStreams:
            if role == .client { peerMaxConcurrentStreams = value }
        case SettingID.initialWindowSize:
            guard value <= SendWindow.limit else { throw .flowControl(.windowOverflow) }
            let difference = value - peerInitialWindow
            peerInitialWindow = value
            do throws(FlowControlError) {
                try streams.updateEach { (stream) throws(FlowControlError) in
                    _ = try stream.send.change(by: difference)
                }
            } catch {
                throw .flowControl(error)
            }
        case SettingID.maxFrameSize:
            guard (16_384...16_777_215).contains(value) else { throw .violation(.settingValue) }
            peerMaxFrame = value
        case SettingID.maxHeaderListSize:
            peerMaxHeaderList = value
        case SettingID.enableConnectProtocol:
            guard value == 1 || value == 0 && !peerEnablesConnectProtocol else {
                throw .violation(.settingValue)
            }
            peerEnablesConnectProtocol = value == 1
        default:
            break
        }
    }

    // MARK: PING (§6.7)

    mutating func receivePing(_ payload: UnsafeRawBufferPointer) throws(HTTP2Error) -> HTTP2Event? {
        let opaque = unsafe UInt64(bigEndian: payload.loadUnaligned(as: UInt64.self))
        if frame.has(FrameFlag.acknowledge) {
            guard opaque == Self.drainPing, sentGoAway == Self.anyStream else {
                try charge(.ping)
                return .pong(opaque)
            }
            // Whatever the peer sent before it knew of our leaving has arrived: now the last stream is certain.
            queueGoAway(last: lastPeerStream, .noError, debug: "")
            return nil
        }
        try charge(.ping)
        try reserveReply(FrameHeader.byteCount + 8)
        pending.appendFrameHeader(length: 8, type: FrameType.ping, flags: FrameFlag.acknowledge, stream: 0)
        unsafe pending.append(payload)
        return nil
    }

    // MARK: GOAWAY (§6.8)

    mutating func receiveGoAway(_ payload: UnsafeRawBufferPointer) throws(HTTP2Error) -> HTTP2Event? {
        let last = unsafe payload.bigEndian32(at: 0) & 0x7fff_ffff
        let code = ErrorCode(rawValue: unsafe payload.bigEndian32(at: 4))
        guard last <= peerGoAway ?? Self.anyStream else { throw .violation(.goAwayIncreased) }
        // A second one with the same content is honest (an error during a drain); a thousandth is not.
        try charge(.settings)
        peerGoAway = last
        if role == .client {
            let above = streams.ids { $0.id > last && !$0.flags.isSuperset(of: .bothEnded) }
            for stream in above {
                if let place = streams.place(of: stream) { drop(place) }
            }
            refused += above
        }
        let debug = unsafe String(
            decoding: UnsafeRawBufferPointer(rebasing: payload[8...].prefix(256)), as: UTF8.self)
        return .goAway(lastStream: last, code, debug: debug)
    }

    // MARK: WINDOW_UPDATE (§6.9)

    mutating func receiveWindowUpdate(_ increment: Int) throws(HTTP2Error) -> HTTP2Event? {
        try charge(.windowUpdate)
        if frame.stream == 0 {
            do throws(FlowControlError) {
                return try sendWindow.open(by: increment) ? .windowOpened(0) : nil
            } catch {
                throw .flowControl(error)
            }
        }
        guard let place = streams.place(of: frame.stream) else {
            guard !isIdle(frame.stream) else { throw .violation(.idleStream) }
            // Late updates of a stream that has ended are the rule, not a glitch (§5.1).
            return nil
        }
        do throws(FlowControlError) {
            return try streams[place].send.open(by: increment) ? .windowOpened(frame.stream) : nil
        } catch {
            return try endForMistake(frame.stream, error.code)
        }
    }

    // MARK: What we queue

    static var anyStream: StreamID { 0x7fff_ffff }

    /// Refuses to answer a peer that does not read our answers (CVE-2019-9512, -9515).
    mutating func reserveReply(_ byteCount: Int) throws(HTTP2Error) {
        replyBytes += byteCount
        guard replyBytes <= configuration.maxUnreadReplies else {
            throw .repliesUnread(byteCount: replyBytes)
        }
    }

    mutating func queueReset(_ stream: StreamID, _ code: ErrorCode) throws(HTTP2Error) {
        try reserveReply(FrameHeader.byteCount + 4)
        writeReset(stream, code)
    }

    mutating func writeReset(_ stream: StreamID, _ code: ErrorCode) {
        recentResets.insert(stream)
        pending.appendFrameHeader(length: 4, type: FrameType.reset, flags: 0, stream: stream)
        pending.append(UInt64(code.rawValue), width: 4)
    }

    mutating func queueWindowUpdate(stream: StreamID, _ increment: Int) {
        pending.appendFrameHeader(length: 4, type: FrameType.windowUpdate, flags: 0, stream: stream)
        pending.append(UInt64(increment), width: 4)
    }

    mutating func queueGoAway(last: StreamID, _ code: ErrorCode, debug: String) {
        let text = debug.utf8.prefix(256)
        pending.appendFrameHeader(length: 8 + text.count, type: FrameType.goAway, flags: 0, stream: 0)
        pending.append(UInt64(last), width: 4)
        pending.append(UInt64(code.rawValue), width: 4)
        for byte in text { pending.append(byte) }
        sentGoAway = last
    }

    /// Ends the connection for a mistake of the peer's (§5.4.1).
    mutating func fail(_ error: HTTP2Error) {
        guard failure == nil else { return }
        failure = error
        let last = min(lastPeerStream, sentGoAway ?? Self.anyStream)
        queueGoAway(last: last, error.code, debug: error.description)
    }
}
