import Mesh
import Tunnel

/// A client's connection as whoever reads it has it: counted, and told of when it is over. It may be handed from one reader to
/// another; what comes in between waits, and counts against the client's window.
final class ClientChannel: ByteChannel, ByteChannelDelegate {
    private let stream: TunnelStream
    /// Told the end, behind the reader.
    private var onEnd: ((ByteChannelClose) -> Void)?
    /// Takes the connection over where it turned out to carry no requests.
    var onBytes: (() -> Void)?
    private var reader: (any ByteChannelDelegate)?
    private var hasBegun = false
    /// What came while nobody read, and is not consumed.
    private var held: [UInt8] = []
    private var endedWhileHeld = false
    private var closedWhileHeld: ByteChannelClose?
    /// Bytes of content, either way.
    private(set) var bytesReceived: UInt64 = 0
    private(set) var bytesSent: UInt64 = 0

    init(_ stream: TunnelStream, onEnd: @escaping (ByteChannelClose) -> Void) {
        self.stream = stream
        self.onEnd = onEnd
    }

    /// Takes the connection from its reader, who found no requests in it.
    ///
    /// - Parameter early: what that one has read and not consumed.
    func continueAsBytes(early: [UInt8]) {
        reader = nil
        held = early
        if let onBytes { onBytes() } else { close() }
    }

    // MARK: To the client

    var isOpen: Bool { stream.isOpen }
    var isLocalEnded: Bool { stream.isLocalEnded }
    var isRemoteEnded: Bool { stream.isRemoteEnded && held.isEmpty }

    func begin(_ delegate: any ByteChannelDelegate) {
        reader = delegate
        guard hasBegun else {
            hasBegun = true
            return stream.begin(self)
        }
        let early = held
        held = []
        if !early.isEmpty {
            unsafe early.withUnsafeBytes { unsafe delegate.received($0) }
            delegate.batchEnded()
        }
        if endedWhileHeld { delegate.remoteEnded() }
        if let closedWhileHeld { delegate.closed(closedWhileHeld) }
    }

    func reserve(_ limit: Int) -> UnsafeMutableRawBufferPointer? { unsafe stream.reserve(limit) }

    func commit(_ byteCount: Int) {
        bytesSent += UInt64(byteCount)
        stream.commit(byteCount)
    }

    func send(_ bytes: UnsafeRawBufferPointer) -> Int {
        let count = unsafe stream.send(bytes)
        bytesSent += UInt64(count)
        return count
    }

    func consumed(_ byteCount: Int) { stream.consumed(byteCount) }
    func finish() { stream.finish() }
    func close() { stream.close() }
    func abort(_ reason: CloseReason) { stream.abort(reason) }

    // MARK: From the client

    func received(_ bytes: UnsafeRawBufferPointer) {
        bytesReceived += UInt64(bytes.count)
        if let reader { unsafe reader.received(bytes) } else { unsafe held += bytes }
    }

    func batchEnded() { reader?.batchEnded() }
    func writable() { reader?.writable() }

    func remoteEnded() {
        if let reader { reader.remoteEnded() } else { endedWhileHeld = true }
    }

    func closed(_ reason: ByteChannelClose) {
        if let reader { reader.closed(reason) } else { closedWhileHeld = reason }
        reader = nil
        onBytes = nil
        let report = onEnd
        onEnd = nil
        report?(reason)
    }
}
