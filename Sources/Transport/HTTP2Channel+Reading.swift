import EventLoop
import HTTP2
import Linux
import TLS

extension HTTP2Channel {
    /// See `Pollable`. One read a turn, so that a fast peer cannot keep the others of the loop waiting.
    func react(to events: Events) {
        switch phase {
        case .connecting:
            connected()
        case .handshaking, .open:
            if events.contains(.writable) {
                isBlocked = false
                loop.atEndOfTurn(self)
            }
            if !events.isDisjoint(with: [.readable, .hangup, .peerClosed]) { receive() }
        case .lingering:
            if events.contains(.writable) { isBlocked = false }
            linger()
        case .closed:
            break
        }
    }

    private func connected() {
        let failure = socket?.connectError() ?? 0
        guard failure == 0 else { return fail(.connectFailed(failure)) }
        localAddress = socket?.localAddress
        peerAddress = socket?.peerAddress
        lastReceived = loop.now
        guard let session else { return becomeOpen() }
        phase = .handshaking
        deadlineTimer.arm(self, after: configuration.handshakeDeadline)
        do throws(TLSError) {
            var consumed = 0
            _ = try unsafe session.handshake(UnsafeRawBufferPointer(start: nil, count: 0), &consumed)
            loop.atEndOfTurn(self)
        } catch {
            fail(.tls(error))
        }
    }

    private func becomeOpen() {
        phase = .open
        canSpeak = true
        deadlineTimer.disarm()
        startKeepAlive()
        settleCongestionControl()
        if isDraining { connection.drain() }
        loop.atEndOfTurn(self)
        delegate?.channelReady(self)
    }

    private func receive() {
        guard ending == nil, share?.admit(self) ?? true else { return }
        let limit = min(Scratch.byteCount, share?.remaining ?? .max)
        let area = unsafe UnsafeMutableRawBufferPointer(rebasing: loop.scratch.cipher[..<limit])
        switch unsafe socket?.read(into: area) ?? .wouldBlock {
        case .bytes(let count):
            share?.spend(count)
            receivedBytes &+= count
            metrics.receivedBytes.add(count)
            lastReceived = loop.now
            let bytes = unsafe UnsafeRawBufferPointer(rebasing: area[..<count])
            if let session { unsafe unseal(bytes, session) } else { unsafe feed(bytes) }
        case .wouldBlock:
            break
        case .end:
            inputEnded()
        case .failed(let number):
            fail(.socket(number))
        }
    }

    /// The peer has closed. Streams that it did not end are lost.
    private func inputEnded() {
        if let session, phase == .open, !streams.isEmpty {
            // Without its close_notify somebody else may have cut the connection.
            do throws(TLSError) { try session.endOfInput() } catch { return fail(.tls(error)) }
        }
        fail(phase == .handshaking ? .tls(.truncated) : .peerEnded)
    }

    private func unseal(_ sealed: UnsafeRawBufferPointer, _ session: TLSSession) {
        var rest = unsafe sealed
        do throws(TLSError) {
            if phase == .handshaking {
                var consumed = 0
                let progress = try unsafe session.handshake(rest, &consumed)
                unsafe rest = UnsafeRawBufferPointer(rebasing: rest[consumed...])
                loop.atEndOfTurn(self)
                guard progress == .done else { return }
                metrics.handshakes.add()
                becomeOpen()
            }
            let area = unsafe loop.scratch.plain
            while ending == nil {
                var consumed = 0
                let result = try unsafe session.read(rest, &consumed, into: area)
                unsafe rest = UnsafeRawBufferPointer(rebasing: rest[consumed...])
                switch result {
                case .bytes(let count): unsafe feed(UnsafeRawBufferPointer(rebasing: area[..<count]))
                case .needsInput: return
                case .closed: return fail(.peerEnded)
                }
            }
        } catch {
            if phase == .handshaking { metrics.failedHandshakes.add() }
            fail(.tls(error))
        }
    }

    /// Passes bytes through the HTTP/2 machine and their events on to streams and delegate.
    private func feed(_ bytes: UnsafeRawBufferPointer) {
        connection.now = Int64(truncatingIfNeeded: loop.now.nanoseconds / 1_000_000_000)
        var offset = 0
        do throws(HTTP2Error) {
            while ending == nil, let event = try unsafe connection.next(bytes, &offset) {
                unsafe handle(event, bytes)
            }
        } catch {
            fail(.http2(error))
        }
        endBatch()
        loop.atEndOfTurn(self)
    }

    private func endBatch() {
        guard !batch.isEmpty else { return }
        var streams: ContiguousArray<HTTP2Stream> = []
        swap(&streams, &batch)
        for stream in streams {
            stream.isInBatch = false
            if stream.channel != nil { stream.batchEnded() }
        }
        streams.removeAll(keepingCapacity: true)
        batch = streams
    }

    private func handle(_ event: HTTP2Event, _ bytes: UnsafeRawBufferPointer) {
        switch event {
        case .data(let id, let range, let endStream):
            guard let stream = streams[id] else { return }
            stream.unconsumedBytes += range.count
            if endStream { stream.isRemoteEnded = true }
            if !stream.isInBatch {
                stream.isInBatch = true
                batch.append(stream)
            }
            unsafe stream.dataReceived(UnsafeRawBufferPointer(rebasing: bytes[range]), endStream: endStream)
            noteEnd(stream)
        case .headers(let id, let headers, let endStream):
            receive(headers, id, endStream: endStream)
        case .trailers(let id, let trailers):
            guard let stream = streams[id] else { return }
            stream.isRemoteEnded = true
            stream.trailersReceived(trailers)
            noteEnd(stream)
        case .reset(let id, let code):
            guard let stream = streams[id] else { return }
            streams.remove(id)
            hasCapacityNews = true
            stream.end(.reset(code))
        case .windowOpened(0), .settingsReceived:
            for stream in streams where stream.isWindowBlocked { wake(stream) }
            if event == .settingsReceived { hasCapacityNews = true }
        case .windowOpened(let id):
            if let stream = streams[id], stream.isWindowBlocked { wake(stream) }
        case .goAway(_, let code, let debug):
            if code != .noError {
                HTTP2Channel.logger.limited(
                    .seconds(1), .warn, "the peer leaves",
                    ["peer": "\(peerAddress.map { "\($0)" } ?? "unix")", "code": "\(code)", "debug": debug])
            }
            peerGoAway = code
            hasCapacityNews = true
        case .pong:
            pingedAt = nil
            startKeepAlive()
        case .settingsAcknowledged:
            break
        }
    }

    private func receive(_ headers: HeaderBlock, _ id: StreamID, endStream: Bool) {
        let stream: HTTP2Stream
        if let known = streams[id] {
            stream = known
        } else if role == .server, let accepted = delegate?.channel(self, accept: headers, id: id) {
            attach(accepted, id)
            stream = accepted
        } else {
            connection.reset(id, .refusedStream)
            return
        }
        if endStream { stream.isRemoteEnded = true }
        stream.headersReceived(headers, endStream: endStream)
        noteEnd(stream)
    }

    private func wake(_ stream: HTTP2Stream) {
        stream.isWindowBlocked = false
        waiting.append(stream)
        loop.atEndOfTurn(self)
    }

    /// Lists a stream that both sides have ended and whose bytes are consumed.
    func noteEnd(_ stream: HTTP2Stream) {
        guard stream.isFinished, stream.channel != nil, streams[stream.id] === stream else { return }
        streams.remove(stream.id)
        ended.append((stream, .finished))
        hasCapacityNews = true
        loop.atEndOfTurn(self)
    }
}
