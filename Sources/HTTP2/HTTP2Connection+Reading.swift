extension HTTP2Connection {
    /// Reads on in `input` from `offset`, up to the next event.
    ///
    /// - Parameter offset: advanced over what was read. Bytes behind it must be passed again, in this or another buffer.
    /// - Returns: nil when everything was read.
    /// - Throws: when the connection is over; GOAWAY is already in the output, and every later call throws the same.
    public mutating func next(
        _ input: UnsafeRawBufferPointer, _ offset: inout Int
    ) throws(HTTP2Error) -> HTTP2Event? {
        if let failure { throw failure }
        do throws(HTTP2Error) {
            return try unsafe read(input, &offset)
        } catch {
            fail(error)
            throw error
        }
    }

    private mutating func read(
        _ input: UnsafeRawBufferPointer, _ offset: inout Int
    ) throws(HTTP2Error) -> HTTP2Event? {
        while true {
            if let stream = refused.popLast() { return .reset(stream, .refusedStream) }
            switch phase {
            case .frameHeader:
                guard unsafe takeFrameHeader(input, &offset) else { return nil }
                if let event = try beginFrame() { return event }

            case .content:
                // A stream that was reset meanwhile has given its bytes back: the rest of its frame is only skipped.
                guard streams.place(of: frame.stream) != nil else {
                    remaining += padding
                    phase = .skip
                    continue
                }
                let byteCount = min(remaining, input.count - offset)
                guard byteCount > 0 else { return nil }
                let range = offset..<offset + byteCount
                offset = range.upperBound
                remaining -= byteCount
                let isLast = remaining == 0
                if isLast { endContent() }
                return .data(frame.stream, range, endStream: isLast && frame.has(FrameFlag.endStream))

            case .payload:
                if partial.count == 0, input.count - offset >= remaining {
                    let payload = unsafe UnsafeRawBufferPointer(rebasing: input[offset..<offset + remaining])
                    offset += remaining
                    phase = .frameHeader
                    if let event = try unsafe endFrame(payload) { return event }
                } else {
                    let byteCount = min(remaining - partial.count, input.count - offset)
                    unsafe partial.append(
                        UnsafeRawBufferPointer(rebasing: input[offset..<offset + byteCount]))
                    offset += byteCount
                    guard partial.count == remaining else { return nil }
                    phase = .frameHeader
                    let event = try unsafe endFrame(partial.bytes)
                    partial.removeAll()
                    if let event { return event }
                }

            case .padLength:
                guard offset < input.count else { return nil }
                let length = unsafe Int(input[offset])
                offset += 1
                if let event = try beginPaddedContent(padLength: length) { return event }

            case .skip:
                let byteCount = min(remaining, input.count - offset)
                offset += byteCount
                remaining -= byteCount
                guard remaining == 0 else { return nil }
                phase = .frameHeader

            case .preface:
                while prefaceMatched < Self.preface.count {
                    guard offset < input.count else { return nil }
                    guard unsafe input[offset] == Self.preface[prefaceMatched] else {
                        throw .violation(.preface)
                    }
                    offset += 1
                    prefaceMatched += 1
                }
                phase = .frameHeader
            }
        }
    }

    private mutating func takeFrameHeader(_ input: UnsafeRawBufferPointer, _ offset: inout Int) -> Bool {
        let wanted = FrameHeader.byteCount - partial.count
        if input.count - offset >= wanted, wanted == FrameHeader.byteCount {
            unsafe frame = FrameHeader(input, at: offset)
            offset += wanted
            return true
        }
        let byteCount = min(wanted, input.count - offset)
        unsafe partial.append(UnsafeRawBufferPointer(rebasing: input[offset..<offset + byteCount]))
        offset += byteCount
        guard byteCount == wanted else { return false }
        unsafe frame = FrameHeader(partial.bytes, at: 0)
        partial.removeAll()
        return true
    }

    /// Decides by its header alone what becomes of a frame.
    private mutating func beginFrame() throws(HTTP2Error) -> HTTP2Event? {
        guard frame.length <= configuration.maxFrame else { throw wrongSize }
        if blockStream != 0 {
            guard frame.type == FrameType.continuation, frame.stream == blockStream else {
                throw .violation(.continuationExpected)
            }
        }
        guard settingsSeen || frame.type == FrameType.settings && !frame.has(FrameFlag.acknowledge) else {
            throw .violation(.settingsExpected)
        }
        remaining = frame.length
        phase = .payload
        switch frame.type {
        case FrameType.data:
            return try beginData()
        case FrameType.headers:
            guard frame.stream != 0 else { throw .violation(.streamZero) }
            guard frame.length <= configuration.maxHeaderList + 261 else { throw .headerBlockTooLarge }
        case FrameType.continuation:
            guard blockStream != 0 else { throw .violation(.unexpectedContinuation) }
            continuations += 1
            guard continuations <= configuration.maxContinuations,
                block.count + frame.length <= configuration.maxHeaderList
            else { throw .headerBlockTooLarge }
        case FrameType.reset:
            guard frame.stream != 0 else { throw .violation(.streamZero) }
            guard frame.length == 4 else { throw wrongSize }
        case FrameType.settings:
            guard frame.stream == 0 else { throw .violation(.notStreamZero) }
            guard frame.length % 6 == 0, frame.length == 0 || !frame.has(FrameFlag.acknowledge)
            else { throw wrongSize }
            // There are seven settings; some send a few of their own. Hundreds are a flood in one frame.
            guard frame.length <= 6 * 100 else { throw .excess(.settings) }
        case FrameType.ping:
            guard frame.stream == 0 else { throw .violation(.notStreamZero) }
            guard frame.length == 8 else { throw wrongSize }
        case FrameType.goAway:
            guard frame.stream == 0 else { throw .violation(.notStreamZero) }
            guard (8...16_384).contains(frame.length) else { throw wrongSize }
        case FrameType.windowUpdate:
            guard frame.length == 4 else { throw wrongSize }
        case FrameType.pushPromise:
            // A client has refused it by its SETTINGS, a server must never see it (§8.4).
            throw .violation(.push)
        case FrameType.priority:
            guard frame.stream != 0 else { throw .violation(.streamZero) }
            try charge(.ignoredFrame)
            phase = .skip
            // A wrong length would be a stream error, but the frame is obsolete and the stream may be idle (§5.3.2).
            guard frame.length == 5 else { throw wrongSize }
        default:
            try charge(.ignoredFrame)
            phase = .skip
        }
        return nil
    }

    private var wrongSize: HTTP2Error { .frameSize(type: frame.type, length: frame.length) }

    /// Takes a payload that is whole.
    private mutating func endFrame(_ payload: UnsafeRawBufferPointer) throws(HTTP2Error) -> HTTP2Event? {
        switch frame.type {
        case FrameType.headers: try unsafe receiveHeaders(payload)
        case FrameType.continuation: try unsafe receiveContinuation(payload)
        case FrameType.reset: try receiveReset(ErrorCode(rawValue: unsafe payload.bigEndian32(at: 0)))
        case FrameType.settings: try unsafe receiveSettings(payload)
        case FrameType.ping: try unsafe receivePing(payload)
        case FrameType.goAway: try unsafe receiveGoAway(payload)
        default: try receiveWindowUpdate(Int(unsafe payload.bigEndian32(at: 0) & 0x7fff_ffff))
        }
    }

    // MARK: DATA (§6.1)

    private mutating func beginData() throws(HTTP2Error) -> HTTP2Event? {
        guard frame.stream != 0 else { throw .violation(.streamZero) }
        do throws(FlowControlError) {
            try receiveWindow.receive(frame.length)
        } catch {
            throw .flowControl(error)
        }
        phase = .skip
        guard let place = streams.place(of: frame.stream) else {
            giveBack(frame.length)
            return try receiveOnClosedStream()
        }
        guard !streams[place].flags.contains(.remoteEnded), streams[place].flags.contains(.headersReceived)
        else {
            giveBack(frame.length)
            // Content before the response's HEADERS is malformed; after END_STREAM the stream is half closed (§5.1).
            let early = !streams[place].flags.contains(.headersReceived)
            return try endForMistake(frame.stream, early ? .protocolError : .streamClosed)
        }
        do throws(FlowControlError) {
            try streams[place].receive.receive(frame.length)
        } catch {
            giveBack(frame.length)
            return try endForMistake(frame.stream, error.code)
        }
        if frame.has(FrameFlag.padded) {
            guard frame.length > 0 else { throw wrongSize }
            phase = .padLength
            return nil
        }
        padding = 0
        return try beginContent(place)
    }

    private mutating func beginPaddedContent(padLength: Int) throws(HTTP2Error) -> HTTP2Event? {
        remaining -= 1
        guard padLength <= remaining else { throw .violation(.padding) }
        remaining -= padLength
        padding = padLength
        phase = .skip
        guard let place = streams.place(of: frame.stream) else {
            remaining += padding
            return nil
        }
        // Nobody but us consumes padding.
        let event = try beginContent(place)
        consumed(frame.stream, padLength + 1)
        return event
    }

    /// `remaining` bytes of content begin, or the frame has none.
    private mutating func beginContent(_ place: Int) throws(HTTP2Error) -> HTTP2Event? {
        let endsStream = frame.has(FrameFlag.endStream)
        if streams[place].contentLeft >= 0 {
            let left = streams[place].contentLeft - remaining
            guard left >= 0, left == 0 || !endsStream else {
                remaining += padding
                return try endForMistake(frame.stream, .protocolError)
            }
            streams[place].contentLeft = left
        }
        if remaining > 0 {
            phase = .content
            budgets[Int(Glitch.emptyData.rawValue)].earn(1)
            budgets[Int(Glitch.ping.rawValue)].earn(1)
            if endsStream { endRemote(frame.stream) }
            return nil
        }
        endContent()
        guard endsStream else {
            try charge(.emptyData)
            return nil
        }
        endRemote(frame.stream)
        return .data(frame.stream, 0..<0, endStream: true)
    }

    private mutating func endContent() {
        remaining = padding
        phase = padding > 0 ? .skip : .frameHeader
    }

    // MARK: The end of streams

    /// A frame other than HEADERS on a stream that is not in the table.
    mutating func receiveOnClosedStream() throws(HTTP2Error) -> HTTP2Event? {
        guard !isIdle(frame.stream) else { throw .violation(.idleStream) }
        // What we reset, or announced not to look at, may go on arriving for a while.
        guard !recentResets.contains(frame.stream), !isBeyondGoAway(frame.stream) else { return nil }
        try charge(.closedStream)
        if frame.type == FrameType.data { try queueReset(frame.stream, .streamClosed) }
        return nil
    }

    /// A stream of which neither side has said anything (§5.1).
    func isIdle(_ stream: StreamID) -> Bool {
        let isClients = stream & 1 == 1
        if isClients == (role == .client) {
            // A server opens none, for it never pushes.
            return role == .server || stream >= nextLocalStream
        }
        return role == .client || stream > lastPeerStream
    }

    func isBeyondGoAway(_ stream: StreamID) -> Bool {
        sentGoAway.map { role == .server && stream > $0 } ?? false
    }

    /// Notes the peer's END_STREAM.
    mutating func endRemote(_ stream: StreamID) {
        guard let place = streams.place(of: stream) else { return }
        streams[place].flags.insert(.remoteEnded)
        closeIfEnded(place)
    }

    /// Forgets a stream with both sides ended, once its bytes are consumed: a window given back for bytes that the
    /// application still holds would let the peer fill memory stream after stream.
    mutating func closeIfEnded(_ place: Int) {
        guard streams[place].flags.isSuperset(of: .bothEnded) else { return }
        if streams[place].receive.held > 0 {
            drainingStreams += 1
        } else {
            streams.remove(at: place)
        }
    }

    /// Removes a stream before its time and gives back what it holds.
    mutating func drop(_ place: Int) {
        let held = streams[place].receive.held
        if streams[place].flags.isSuperset(of: .bothEnded) { drainingStreams -= 1 }
        streams.remove(at: place)
        giveBack(held)
    }

    /// Answers a mistake of the peer's on one stream with RST_STREAM (§5.4.2).
    mutating func endForMistake(_ stream: StreamID, _ code: ErrorCode) throws(HTTP2Error) -> HTTP2Event? {
        try charge(.provokedReset)
        try queueReset(stream, code)
        guard let place = streams.place(of: stream) else { return nil }
        drop(place)
        return .reset(stream, code)
    }

    /// Returns bytes to the connection's window that no application will consume.
    mutating func giveBack(_ byteCount: Int) {
        let increment = receiveWindow.consume(byteCount)
        if increment > 0 { queueWindowUpdate(stream: 0, increment) }
    }

    mutating func charge(_ glitch: Glitch) throws(HTTP2Error) {
        guard budgets[Int(glitch.rawValue)].charge(now: now) else { throw .excess(glitch) }
    }
}
