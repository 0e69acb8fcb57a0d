extension HTTP2Connection {
    // MARK: Streams

    /// Opens a stream with a request. Clients only.
    ///
    /// - Throws: `streamLimit`, `goingAway` or `streamsExhausted`, which concern this stream alone; or the failure of
    ///   the connection.
    public mutating func openStream(_ headers: HeaderBlock, endStream: Bool) throws(HTTP2Error) -> StreamID {
        precondition(role == .client, "only clients open streams")
        if let failure { throw failure }
        guard peerGoAway == nil, sentGoAway == nil else { throw .goingAway }
        guard nextLocalStream <= Self.anyStream else { throw .streamsExhausted }
        guard openStreams < peerMaxConcurrentStreams else { throw .streamLimit }
        var entry = Stream()
        entry.id = nextLocalStream
        nextLocalStream += 2
        switch headers.method {
        case "HEAD": entry.flags.insert(.head)
        case "CONNECT": entry.flags.insert(.connect)
        default: break
        }
        if endStream { entry.flags.insert(.localEnded) }
        entry.send = SendWindow(peerInitialWindow)
        entry.receive = ReceiveWindow(size: configuration.initialWindow)
        streams.insert(entry)
        guard writeHeaders(entry.id, headers, endStream: endStream) else { throw .compression }
        return entry.id
    }

    /// Sends a response (1xx and final) or trailers.
    ///
    /// - Returns: false when the stream has ended meanwhile; nothing was sent then.
    @discardableResult
    public mutating func sendHeaders(_ stream: StreamID, _ headers: HeaderBlock, endStream: Bool) -> Bool {
        guard failure == nil, let place = streams.place(of: stream),
            !streams[place].flags.contains(.localEnded)
        else { return false }
        if role == .server, !streams[place].flags.contains(.answered), (headers.status ?? 0) >= 200 {
            streams[place].flags.insert(.answered)
            budgets[Int(Glitch.earlyReset.rawValue)].earn(1)
        }
        guard writeHeaders(stream, headers, endStream: endStream) else { return false }
        if endStream { endLocal(place) }
        return true
    }

    /// Ends a stream at once, and forgets what it holds. Nothing is sent when both sides have ended it already.
    public mutating func reset(_ stream: StreamID, _ code: ErrorCode) {
        guard let place = streams.place(of: stream) else { return }
        let isOver = streams[place].flags.isSuperset(of: .bothEnded)
        drop(place)
        if !isOver, failure == nil { writeReset(stream, code) }
    }

    // MARK: Content

    /// Bytes of content that the windows of a stream and of the connection allow now, in however many frames. 0 when the
    /// stream has ended.
    ///
    /// `mutating`, although it changes nothing: a value as large as this is copied for who only reads it, and this is asked
    /// for each message.
    public mutating func window(of stream: StreamID) -> Int { openWindow(stream) }

    @inline(__always)
    private func openWindow(_ stream: StreamID) -> Int {
        guard failure == nil, let place = streams.place(of: stream),
            !streams[place].flags.contains(.localEnded)
        else { return 0 }
        return max(0, min(streams[place].send.available, sendWindow.available))
    }

    /// Bytes of content that one frame may carry for a stream now: `window`, but not more than the peer's largest frame.
    @inline(__always)
    public func sendable(_ stream: StreamID) -> Int { min(openWindow(stream), largestContent) }

    /// Accounts for a DATA frame and writes its nine bytes to `header`; the caller puts the content behind it.
    ///
    /// - Parameters:
    ///   - byteCount: at most `sendable(stream)`; 0 is allowed with `endStream`.
    ///   - header: at least nine bytes.
    public mutating func frameData(
        _ stream: StreamID, byteCount: Int, endStream: Bool, header: UnsafeMutableRawBufferPointer
    ) {
        precondition(header.count >= FrameHeader.byteCount, "no room for a frame header")
        precondition(byteCount == 0 || byteCount <= sendable(stream), "DATA beyond the peer's window")
        unsafe FrameHeader(
            length: byteCount, type: FrameType.data, flags: endStream ? FrameFlag.endStream : 0,
            stream: stream
        ).write(to: header)
        sendWindow.spend(byteCount)
        // What this frame makes an honest peer send: updates of two windows for every KiB that it reads, and a PING
        // that measures the path.
        budgets[Int(Glitch.windowUpdate.rawValue)].earn(4 + Int64(byteCount >> 9))
        budgets[Int(Glitch.ping.rawValue)].earn(1)
        guard let place = streams.place(of: stream) else { return }
        streams[place].send.spend(byteCount)
        if endStream { endLocal(place) }
    }

    /// Ends our side behind the content that was framed, with an empty frame in `output`.
    public mutating func endStream(_ stream: StreamID) {
        guard failure == nil, let place = streams.place(of: stream),
            !streams[place].flags.contains(.localEnded)
        else { return }
        pending.appendFrameHeader(length: 0, type: FrameType.data, flags: FrameFlag.endStream, stream: stream)
        endLocal(place)
    }

    /// The application has taken bytes: the windows of the stream and of the connection open again, in batches.
    /// Streams that have been reset gave their bytes back by themselves; for them this does nothing.
    public mutating func consumed(_ stream: StreamID, _ byteCount: Int) {
        guard byteCount > 0, failure == nil, let place = streams.place(of: stream) else { return }
        assert(byteCount <= streams[place].receive.held, "consumed bytes that were never received")
        // A wrong count of ours must not open a window wider than was announced.
        let byteCount = min(byteCount, streams[place].receive.held)
        giveBack(byteCount)
        let increment = streams[place].receive.consume(byteCount)
        let flags = streams[place].flags
        if !flags.contains(.remoteEnded) {
            if increment > 0 { queueWindowUpdate(stream: stream, increment) }
        } else if flags.contains(.localEnded), streams[place].receive.held == 0 {
            drainingStreams -= 1
            streams.remove(at: place)
        }
    }

    // MARK: The connection

    /// Says that no more streams are taken, and why (§6.8). Behind an error the driver closes the connection.
    public mutating func goAway(_ code: ErrorCode, debug: String = "") {
        guard failure == nil else { return }
        queueGoAway(last: min(lastPeerStream, sentGoAway ?? Self.anyStream), code, debug: debug)
    }

    /// Leaves without losing a request that is on its way: a GOAWAY that still allows every stream, then, when the
    /// peer has answered the PING behind it, the final one. Open streams go on.
    public mutating func drain() {
        guard failure == nil, sentGoAway == nil else { return }
        guard role == .server else { return goAway(.noError) }
        queueGoAway(last: Self.anyStream, .noError, debug: "draining")
        ping(Self.drainPing)
    }

    /// Sends a PING; the answer is the event `pong`.
    public mutating func ping(_ opaque: UInt64) {
        guard failure == nil else { return }
        pending.appendFrameHeader(length: 8, type: FrameType.ping, flags: 0, stream: 0)
        pending.append(opaque, width: 8)
        budgets[Int(Glitch.ping.rawValue)].earn(1)
    }

    private mutating func endLocal(_ place: Int) {
        streams[place].flags.insert(.localEnded)
        closeIfEnded(place)
    }

    /// Compresses a block and cuts it into HEADERS and CONTINUATION of the peer's largest frame.
    private mutating func writeHeaders(_ stream: StreamID, _ headers: HeaderBlock, endStream: Bool) -> Bool {
        let largest = peerMaxFrame
        let isEncoded = unsafe encoder.encode(headers) { block in
            var offset = 0
            repeat {
                let length = min(largest, block.count - offset)
                let isLast = offset + length == block.count
                var flags = isLast ? FrameFlag.endHeaders : 0
                if offset == 0, endStream { flags |= FrameFlag.endStream }
                pending.appendFrameHeader(
                    length: length, type: offset == 0 ? FrameType.headers : FrameType.continuation,
                    flags: flags,
                    stream: stream)
                unsafe pending.append(UnsafeRawBufferPointer(rebasing: block[offset..<offset + length]))
                offset += length
            } while offset < block.count
        }
        // Only exhausted memory gets here. The peer's compression state is lost with ours.
        if !isEncoded { fail(.compression) }
        return isEncoded
    }
}
