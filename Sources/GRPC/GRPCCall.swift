import EventLoop
import HTTP2
import Linux
import Transport

/// What both sides of a call share: messages that wait to be sent, and messages that come, at the application's pace.
///
/// Lives on one loop, on which all its methods are called and all its news come.
public class GRPCCall: HTTP2Stream {
    /// With so many bytes waiting a call is not ready for more.
    private static let readyLimit = 64 << 10
    /// What one commit takes at most.
    private static let largestPiece = 256 << 10

    let loop: EventLoop
    private let queueLimit: Int
    private var outgoing = MessageQueue()
    private var reader: MessageReader
    private var wasReady = true
    /// No messages follow what waits.
    private(set) var endsSending = false
    /// Content that came while the application was not taking any: at most the stream's window.
    private var held: [UInt8] = []
    /// How much of it has been taken since.
    private var heldTaken = 0
    private var isDelivering = false
    private var isPaused = false
    private var contentEnded = false
    private var contentEndTold = false

    /// - Parameters:
    ///   - messageLimit: bytes of one message that comes.
    ///   - queueLimit: bytes that may wait to be sent beside one message.
    init(loop: EventLoop, messageLimit: Int, queueLimit: Int) {
        self.loop = loop
        self.queueLimit = queueLimit
        reader = MessageReader(limit: messageLimit)
        super.init()
    }

    // MARK: For the application

    /// Whether more may be sent without piling up. When it was false, the handler's `ready` tells that it is true again.
    public final var isReady: Bool { outgoing.byteCount < Self.readyLimit }

    /// Bytes that wait to be sent.
    public final var queuedBytes: Int { outgoing.byteCount }

    /// Takes no more messages for now. The peer stops when the stream's window is full.
    public final func pause() { isPaused = true }

    /// Takes messages of so many bytes at most, from the next one on.
    final func limitMessages(to byteCount: Int) { reader.limit = min(reader.limit, byteCount) }

    /// Takes messages again; those that came meanwhile are delivered at once.
    public final func resume() {
        guard isPaused else { return }
        isPaused = false
        deliver()
    }

    // MARK: For the subclasses

    /// Whether content is to be read as messages; otherwise it is dropped.
    var takesMessages: Bool { false }
    func deliver(_ message: [UInt8]) {}
    /// The peer's content has ended and every message was delivered.
    ///
    /// - Parameter isWhole: it did not end within a message.
    func contentEnded(isWhole: Bool) {}
    /// What came is no message, or more was queued than allowed.
    func failed(_ status: GRPCStatus) {}
    /// `isReady` has become true.
    func becameReady() {}
    /// Everything that was queued has been sent and nothing follows.
    func sentEverything() {}
    /// The last bytes may take the end of the stream with them.
    var endsStreamWithContent: Bool { false }

    final func enqueue(_ message: [UInt8]) {
        guard !endsSending else { return }
        guard outgoing.byteCount <= queueLimit else {
            return failed(GRPCStatus(.resourceExhausted, "\(outgoing.byteCount) bytes wait to be sent"))
        }
        outgoing.append(message)
        if !isReady { wasReady = false }
        flush()
    }

    /// No message is queued any more.
    final func endSending() {
        guard !endsSending else { return }
        endsSending = true
        flush()
    }

    /// Moves what waits to the channel, as far as it has room.
    final func flush() {
        guard channel != nil, id != 0, !isLocalEnded else { return }
        while !outgoing.isEmpty {
            guard let room = unsafe reserve(min(outgoing.byteCount, Self.largestPiece)) else { return }
            let byteCount = unsafe outgoing.take(into: room)
            commit(byteCount, endStream: outgoing.isEmpty && endsSending && endsStreamWithContent)
        }
        if endsSending { sentEverything() }
    }

    /// Forgets everything that waits, in either direction.
    final func discard() {
        outgoing.removeAll()
        held = []
        heldTaken = 0
        endsSending = true
    }

    // MARK: From the channel

    public override func writable() {
        flush()
        guard !wasReady, isReady, !endsSending else { return }
        wasReady = true
        becameReady()
    }

    public override func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) {
        if endStream { contentEnded = true }
        guard takesMessages else {
            consumed(bytes.count)
            return endContent()
        }
        guard !isPaused, !isDelivering, held.isEmpty else {
            unsafe held += bytes
            return
        }
        let taken = unsafe deliver(from: bytes)
        if taken < bytes.count, takesMessages {
            unsafe held = Array(UnsafeRawBufferPointer(rebasing: bytes[taken...]))
        } else if channel != nil {
            consumed(bytes.count - taken)
        }
        endContent()
    }

    /// Notes that no content follows, when it is not content that says so.
    final func noteContentEnd() {
        contentEnded = true
        endContent()
    }

    /// Reads messages and hands them on until the application pauses.
    ///
    /// - Returns: bytes that were taken. They are given back to the peer, for a message that is being put together may be
    ///   larger than any window.
    private func deliver(from bytes: UnsafeRawBufferPointer) -> Int {
        isDelivering = true
        defer { isDelivering = false }
        var offset = 0
        do throws(GRPCStatus) {
            while !isPaused, takesMessages, let message = try unsafe reader.next(bytes, &offset) {
                deliver(message)
            }
        } catch {
            failed(error)
        }
        if channel != nil { consumed(offset) }
        return offset
    }

    private func deliver() {
        guard !isDelivering else { return }
        while !isPaused, heldTaken < held.count, takesMessages {
            let bytes = held
            heldTaken += unsafe bytes.withUnsafeBytes { all in
                unsafe deliver(from: UnsafeRawBufferPointer(rebasing: all[heldTaken...]))
            }
        }
        if heldTaken >= held.count {
            held = []
            heldTaken = 0
        }
        endContent()
    }

    private func endContent() {
        guard contentEnded, !contentEndTold, held.isEmpty, !isPaused, !isDelivering else { return }
        contentEndTold = true
        contentEnded(isWhole: reader.isBetweenMessages)
    }
}
