extension HTTP2Connection {
    // MARK: HEADERS and CONTINUATION (§6.2, §6.10)

    mutating func receiveHeaders(_ payload: UnsafeRawBufferPointer) throws(HTTP2Error) -> HTTP2Event? {
        var start = 0
        var end = payload.count
        if frame.has(FrameFlag.padded) {
            guard end > 0 else { throw .frameSize(type: frame.type, length: frame.length) }
            start = 1
            end -= unsafe Int(payload[0])
        }
        // Dependency and weight: obsolete, ignored (§5.3.2).
        if frame.has(FrameFlag.priority) { start += 5 }
        guard start <= end else { throw .violation(.padding) }
        let fragment = unsafe UnsafeRawBufferPointer(rebasing: payload[start..<end])
        guard fragment.count <= configuration.maxHeaderList else { throw .headerBlockTooLarge }

        let endsStream = frame.has(FrameFlag.endStream)
        if frame.has(FrameFlag.endHeaders) {
            return try unsafe receiveBlock(fragment, stream: frame.stream, endsStream: endsStream)
        }
        blockStream = frame.stream
        blockEndsStream = endsStream
        continuations = 0
        unsafe block.append(fragment)
        return nil
    }

    mutating func receiveContinuation(_ payload: UnsafeRawBufferPointer) throws(HTTP2Error) -> HTTP2Event? {
        unsafe block.append(payload)
        guard frame.has(FrameFlag.endHeaders) else { return nil }
        let stream = blockStream
        blockStream = 0
        let event = try unsafe receiveBlock(block.bytes, stream: stream, endsStream: blockEndsStream)
        block.removeAll()
        return event
    }

    /// A block that is whole. It is decompressed whatever becomes of it, for later blocks build on it (§4.3).
    private mutating func receiveBlock(
        _ fragment: UnsafeRawBufferPointer, stream: StreamID, endsStream: Bool
    ) throws(HTTP2Error) -> HTTP2Event? {
        let decoded = try unsafe decoder.decode(fragment, limit: configuration.maxHeaderList)
        if let place = streams.place(of: stream) {
            guard !streams[place].flags.contains(.remoteEnded) else {
                return try endForMistake(stream, .streamClosed)
            }
            guard !decoded.isTooLarge else { return try endForMistake(stream, .enhanceYourCalm) }
            return streams[place].flags.contains(.headersReceived)
                ? try receiveTrailers(decoded.headers, stream, endsStream: endsStream)
                : try receiveResponse(decoded.headers, stream, place, endsStream: endsStream)
        }
        if role == .server, stream & 1 == 1, stream > lastPeerStream {
            return try receiveRequest(decoded, stream, endsStream: endsStream)
        }
        guard !isIdle(stream) else { throw .violation(.streamIdentifier) }
        guard !recentResets.contains(stream), !isBeyondGoAway(stream) else { return nil }
        // A server's HEADERS may cross any number of resets of ours; a client's never come twice.
        guard role == .client else { throw .violation(.closedStream) }
        try charge(.closedStream)
        return nil
    }

    private mutating func receiveRequest(
        _ decoded: HeaderDecoder.Decoded, _ stream: StreamID, endsStream: Bool
    ) throws(HTTP2Error) -> HTTP2Event? {
        // Identifiers that were passed over are closed from now on (§5.1.1).
        lastPeerStream = stream
        guard !isBeyondGoAway(stream) else { return nil }
        guard openStreams < configuration.maxConcurrentStreams,
            streams.count < configuration.maxConcurrentStreams * 2
        else {
            try charge(.refusedStream)
            try queueReset(stream, .refusedStream)
            return nil
        }
        guard !decoded.isTooLarge else { return try endForMistake(stream, .enhanceYourCalm) }
        let facts: MessageFacts
        do throws(Malformed) {
            facts = try HeaderRules.request(
                decoded.headers, connectProtocol: configuration.enableConnectProtocol)
        } catch {
            return try endForMistake(stream, .protocolError)
        }
        var entry = Stream()
        entry.id = stream
        entry.flags = [.headersReceived]
        if facts.isHead { entry.flags.insert(.head) }
        if facts.isConnect { entry.flags.insert(.connect) }
        // A tunnel's bytes are no content; a length would be meaningless (RFC 9110 §9.3.6).
        entry.contentLeft = facts.isConnect ? -1 : facts.contentLength ?? -1
        guard !endsStream || entry.contentLeft <= 0 else { return try endForMistake(stream, .protocolError) }
        if endsStream { entry.flags.insert(.remoteEnded) }
        entry.send = SendWindow(peerInitialWindow)
        entry.receive = ReceiveWindow(size: configuration.initialWindow)
        streams.insert(entry)
        budgets[Int(Glitch.ignoredFrame.rawValue)].earn(2)
        return .headers(stream, decoded.headers, endStream: endsStream)
    }

    private mutating func receiveResponse(
        _ headers: HeaderBlock, _ stream: StreamID, _ place: Int, endsStream: Bool
    ) throws(HTTP2Error) -> HTTP2Event? {
        let facts: MessageFacts
        do throws(Malformed) {
            facts = try HeaderRules.response(headers)
        } catch {
            return try endForMistake(stream, .protocolError)
        }
        if facts.status < 200 {
            guard !endsStream else { return try endForMistake(stream, .protocolError) }
            try charge(.ignoredFrame)
            return .headers(stream, headers, endStream: false)
        }
        let flags = streams[place].flags
        let hasNoContent = flags.contains(.head) || facts.status == 304
        let isTunnel = flags.contains(.connect) && facts.status < 300
        streams[place].contentLeft = isTunnel ? -1 : hasNoContent ? 0 : facts.contentLength ?? -1
        guard !endsStream || streams[place].contentLeft <= 0 else {
            return try endForMistake(stream, .protocolError)
        }
        streams[place].flags.formUnion([.headersReceived, .answered])
        if endsStream { endRemote(stream) }
        return .headers(stream, headers, endStream: endsStream)
    }

    private mutating func receiveTrailers(
        _ headers: HeaderBlock, _ stream: StreamID, endsStream: Bool
    ) throws(HTTP2Error) -> HTTP2Event? {
        guard endsStream, let place = streams.place(of: stream), streams[place].contentLeft <= 0 else {
            return try endForMistake(stream, .protocolError)
        }
        do throws(Malformed) {
            try HeaderRules.trailers(headers)
        } catch {
            return try endForMistake(stream, .protocolError)
        }
        endRemote(stream)
        return .trailers(stream, headers)
    }
}
