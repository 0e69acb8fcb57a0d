import EventLoop
import HTTP2
import Linux
import TLS

/// Room that a stream was given and has yet to commit.
struct Reservation {
    let stream: HTTP2Stream
    let byteCount: Int
    /// The room is in the loop's scratch area, to be cut into frames of the peer's size; otherwise it is in the gather buffer
    /// already, behind nine bytes for the frame's header.
    let isScratch: Bool
}

extension HTTP2Channel {
    /// RFC 9113 §4.1.
    static let frameHeader = 9
    /// Below this much room the buffer is sent first, so that frames do not become crumbs.
    private static let leastRoom = 4_096
    /// What a stream may send in its turn while others wait.
    private static let quantum = 65_536
    /// What the waiting streams of one channel may send before other channels get their turn.
    private static let turnBudget = 2 << 20
    /// No more is sealed while so many sealed bytes wait for the socket.
    private static let sealedLimit = 65_536
    /// When the loop's memory is used up, writers try again after this.
    private static let memoryRetry = Duration.milliseconds(10)

    // MARK: Streams

    func sendHeaders(_ stream: HTTP2Stream, _ headers: HeaderBlock, endStream: Bool) -> Bool {
        guard ending == nil, connection.sendHeaders(stream.id, headers, endStream: endStream) else {
            return false
        }
        if endStream {
            stream.isLocalEnded = true
            noteEnd(stream)
        }
        loop.atEndOfTurn(self)
        return true
    }

    func reserve(_ stream: HTTP2Stream, _ limit: Int) -> UnsafeMutableRawBufferPointer? {
        precondition(reservation == nil, "room was reserved and not committed")
        let allowed = allowance(stream, limit)
        guard allowed > 0 else { return nil }
        let frameLimit = connection.largestContent
        if allowed <= frameLimit {
            reservation = Reservation(stream: stream, byteCount: allowed, isScratch: false)
            return unsafe UnsafeMutableRawBufferPointer(
                rebasing: gather.room[HTTP2Channel.frameHeader..<HTTP2Channel.frameHeader + allowed])
        }
        // The peer takes small frames only. One large read that is then copied apart costs less than many small reads.
        let headers = (allowed + frameLimit - 1) / frameLimit * HTTP2Channel.frameHeader
        let fitting = unsafe max(1, min(allowed, gather.room.count - headers, loop.scratch.outgoing.count))
        reservation = Reservation(stream: stream, byteCount: fitting, isScratch: true)
        return unsafe UnsafeMutableRawBufferPointer(rebasing: loop.scratch.outgoing[..<fitting])
    }

    func commit(_ stream: HTTP2Stream, _ byteCount: Int, endStream: Bool) {
        guard let reservation, reservation.stream === stream else {
            preconditionFailure("a stream committed what it had not reserved")
        }
        precondition(byteCount >= 0 && byteCount <= reservation.byteCount, "more was committed than reserved")
        self.reservation = nil
        guard ending == nil else { return }
        if byteCount == 0 {
            // Else a channel on which nothing is sent would keep the room that was only looked at.
            if endStream { finish(stream) } else { gather.giveBack() }
            return
        }
        if reservation.isScratch {
            let area = unsafe UnsafeRawBufferPointer(rebasing: loop.scratch.outgoing[..<byteCount])
            unsafe copy(area, of: stream, endStream: endStream)
        } else {
            frame(stream, byteCount, endStream: endStream)
        }
        wrote(stream, byteCount)
    }

    func send(_ stream: HTTP2Stream, _ bytes: UnsafeRawBufferPointer, endStream: Bool) -> Int {
        if unsafe bytes.isEmpty {
            if endStream { finish(stream) }
            return 0
        }
        var sent = 0
        while sent < bytes.count {
            let allowed = allowance(stream, bytes.count - sent)
            guard allowed > 0 else { return sent }
            let frameLimit = connection.largestContent
            let headers = (allowed + frameLimit - 1) / frameLimit * HTTP2Channel.frameHeader
            let count = unsafe max(1, min(allowed, gather.room.count - headers))
            let part = unsafe UnsafeRawBufferPointer(rebasing: bytes[sent..<sent + count])
            sent += count
            unsafe copy(part, of: stream, endStream: endStream && sent == bytes.count)
            wrote(stream, count)
        }
        return sent
    }

    func finish(_ stream: HTTP2Stream) {
        guard !stream.isLocalEnded, ending == nil else { return }
        // An empty frame needs no window, and its nine bytes no one's turn; behind what waits in the machine it must go.
        if makeRoom(HTTP2Channel.frameHeader, isUrgent: true) >= HTTP2Channel.frameHeader {
            frame(stream, 0, endStream: true)
            loop.atEndOfTurn(self)
        } else {
            stream.endsWhenPossible = true
            waiting.append(stream)
        }
    }

    func consumed(_ stream: HTTP2Stream, _ byteCount: Int) {
        precondition(
            byteCount >= 0 && byteCount <= stream.unconsumedBytes, "consumed bytes that were never received")
        stream.unconsumedBytes -= byteCount
        connection.consumed(stream.id, byteCount)
        if !connection.pending.isEmpty { loop.atEndOfTurn(self) }
        noteEnd(stream)
    }

    func reset(_ stream: HTTP2Stream, _ code: ErrorCode) {
        guard streams[stream.id] === stream else { return }
        connection.reset(stream.id, code)
        streams.remove(stream.id)
        ended.append((stream, .cancelled(code)))
        hasCapacityNews = true
        loop.atEndOfTurn(self)
    }

    // MARK: Room

    /// How many bytes a stream may send now, with room for a frame's header before them. 0: it has been queued.
    private func allowance(_ stream: HTTP2Stream, _ limit: Int) -> Int {
        guard ending == nil, !stream.isLocalEnded, limit > 0 else { return 0 }
        let window = connection.window(of: stream.id)
        guard window > 0 else {
            stream.isWindowBlocked = true
            return 0
        }
        let isServed = served === stream
        // Others wait already: behind them. One that is served gets its share, and then goes behind them too.
        guard isServed || waiting.isEmpty, !isBlocked, !isStarved else { return queue(stream) }
        var wanted = min(limit, window)
        if isServed, !waiting.isEmpty {
            wanted = min(wanted, HTTP2Channel.quantum - servedBytes)
            guard wanted > 0 else { return queue(stream) }
        }
        let room = makeRoom(min(wanted, GatherBuffer.capacity) + HTTP2Channel.frameHeader)
        guard room > HTTP2Channel.frameHeader else {
            if !isBlocked, ending == nil, !isStarved {
                isStarved = true
                memoryTimer.arm(self, after: HTTP2Channel.memoryRetry)
            }
            return queue(stream)
        }
        return min(wanted, room - HTTP2Channel.frameHeader)
    }

    private func queue(_ stream: HTTP2Stream) -> Int {
        waiting.append(stream)
        loop.atEndOfTurn(self)
        return 0
    }

    /// Room behind everything that the machine has to say first; sends when the buffer is nearly full.
    private func makeRoom(_ wanted: Int, isUrgent: Bool = false) -> Int {
        guard canSpeak, moveControlFrames() else { return 0 }
        gather.makeRoom(wanted, isUrgent: isUrgent)
        var room = unsafe gather.room.count
        if room < wanted, room < HTTP2Channel.leastRoom, !gather.isEmpty {
            transmit()
            guard !isBlocked, ending == nil else { return 0 }
            gather.makeRoom(wanted, isUrgent: isUrgent)
            room = unsafe gather.room.count
        }
        return room
    }

    /// Moves the machine's frames behind what is gathered; false when not all of them fitted.
    private func moveControlFrames() -> Bool {
        while !connection.pending.isEmpty {
            gather.makeRoom(connection.pending.count, isUrgent: true)
            let moved = unsafe connection.takeOutput(into: gather.room)
            gather.append(moved)
            if !connection.pending.isEmpty {
                transmit()
                if isBlocked || ending != nil { return false }
            }
        }
        return true
    }

    // MARK: Frames

    /// Makes a frame of bytes that lie in the gather buffer behind room for its header.
    private func frame(_ stream: HTTP2Stream, _ byteCount: Int, endStream: Bool) {
        unsafe connection.frameData(
            stream.id, byteCount: byteCount, endStream: endStream,
            header: UnsafeMutableRawBufferPointer(rebasing: gather.room[..<HTTP2Channel.frameHeader]))
        gather.append(HTTP2Channel.frameHeader + byteCount)
        if endStream {
            stream.isLocalEnded = true
            stream.endsWhenPossible = false
            noteEnd(stream)
        }
    }

    /// Copies bytes into frames of the peer's size. There must be window and room for them.
    private func copy(_ bytes: UnsafeRawBufferPointer, of stream: HTTP2Stream, endStream: Bool) {
        var offset = 0
        while offset < bytes.count {
            let count = min(bytes.count - offset, connection.largestContent)
            precondition(count > 0, "content without a window for it")
            unsafe UnsafeMutableRawBufferPointer(rebasing: gather.room[HTTP2Channel.frameHeader...])
                .copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count]))
            offset += count
            frame(stream, count, endStream: endStream && offset == bytes.count)
        }
    }

    private func wrote(_ stream: HTTP2Stream, _ byteCount: Int) {
        if served === stream { servedBytes += byteCount }
        loop.atEndOfTurn(self)
    }

    // MARK: The end of a turn

    /// Lets the streams that wait write, each in its turn. What they leave is to be flushed.
    func pump() {
        // Room for them, which those who did not wait have used.
        if !waiting.isEmpty { flush() }
        var budget = HTTP2Channel.turnBudget
        while !isBlocked, !isStarved, ending == nil, budget > 0, let stream = waiting.popFirst() {
            guard stream.channel === self, streams[stream.id] === stream else { continue }
            served = stream
            servedBytes = 0
            if stream.endsWhenPossible { finish(stream) } else { stream.writable() }
            budget -= max(servedBytes, HTTP2Channel.frameHeader)
            served = nil
        }
    }

    /// Sends what the turn has left, and comes back for streams that still wait.
    func flushTurn() {
        flush()
        if !waiting.isEmpty, !isBlocked, !isStarved { loop.atEndOfTurn(self) }
    }

    func memoryMayBeBack() {
        isStarved = false
        loop.atEndOfTurn(self)
    }

    /// Sends the machine's frames and what was gathered, as far as the socket takes it.
    func flush() {
        if canSpeak, !isBlocked { _ = moveControlFrames() }
        transmit()
    }

    /// Seals and sends what was gathered. Calls nobody back, so it may happen in the midst of a stream's write.
    func transmit() {
        guard let session else { return transmitPlain() }
        defer { charge(session.output.heldByteCount) }
        while !isBlocked {
            guard seal(session), !session.output.isEmpty else { return }
            let count = unsafe write(session.output.bytes)
            guard count > 0 else { return }
            session.output.removeFirst(count)
        }
    }

    /// Has the loop's budget count what holds sealed bytes: a peer that does not read is to be paid for like any other.
    func charge(_ byteCount: Int) {
        guard byteCount != chargedBytes else { return }
        loop.buffers.charge(byteCount - chargedBytes)
        chargedBytes = byteCount
    }

    /// Seals what was gathered, unless much waits for the socket already; false when the session failed.
    private func seal(_ session: TLSSession) -> Bool {
        guard !gather.isEmpty, session.output.count < HTTP2Channel.sealedLimit else { return true }
        do throws(TLSError) { try unsafe session.write(gather.bytes) } catch {
            fail(.tls(error))
            return false
        }
        gather.removeFirst(gather.count)
        return true
    }

    /// Sends everything that is left and the end of it: frames, close_notify and FIN in one segment where they fit.
    func flushToEnd() {
        isLast = true
        if canSpeak, !isBlocked, moveControlFrames(), let session, seal(session), gather.isEmpty {
            session.close()
        }
        transmit()
        // Where so much was left that it took more than one go.
        if canSpeak, !isBlocked, unsentBytes == 0 {
            session?.close()
            transmit()
        }
    }

    private func transmitPlain() {
        while !isBlocked, !gather.isEmpty {
            let count = unsafe write(gather.bytes)
            guard count > 0 else { return }
            gather.removeFirst(count)
        }
    }

    private func write(_ bytes: UnsafeRawBufferPointer) -> Int {
        switch unsafe socket?.write(bytes, moreFollows: isLast) ?? .wouldBlock {
        case .bytes(let count):
            sentBytes &+= count
            metrics.sentBytes.add(count)
            // A short count means a full socket buffer: asking again would only cost a system call.
            if count < bytes.count { isBlocked = true }
            return count
        case .wouldBlock, .end:
            isBlocked = true
        case .failed(let number):
            isBlocked = true
            fail(.socket(number))
        }
        return 0
    }
}
