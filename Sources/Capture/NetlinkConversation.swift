import CNFTables
import Glibc
import Linux

/// Requests and their answers over one netlink socket, one at a time (netlink(7)).
struct NetlinkConversation: ~Copyable {
    private let socket: NetlinkSocket
    private var sequence: UInt32 = 0

    /// Opens the socket in the namespace that the thread is in.
    init(_ subsystem: NetlinkSocket.Subsystem) throws(CaptureError) {
        do {
            socket = try NetlinkSocket(subsystem)
        } catch {
            throw .refused(.open, object: "\(subsystem)", number: error.number, detail: nil)
        }
    }

    /// Asks for a listing; `body` sees every message of the answer, in order.
    ///
    /// Asked again when something changed meanwhile (`NLM_F_DUMP_INTR`), after `restart`.
    mutating func dump(
        _ step: CaptureError.Step, _ object: String, _ build: NetlinkBuilder, restart: () -> Void,
        _ body: (UnsafePointer<nlmsghdr>) -> Void
    ) throws(CaptureError) {
        for _ in 0..<10 {
            restart()
            var batch = NetlinkBatch(firstSequence: nextSequence(1))
            unsafe batch.append(object, build)
            try send(batch, step)
            if try unsafe readDump(step, object, sequence: batch.firstSequence, body) { return }
        }
        throw .malformedAnswer(step, "\(object) never stands still long enough to be read")
    }

    /// Sends messages that each ask for an acknowledgement (`NLM_F_ACK`) and waits for all of them.
    ///
    /// - Throws: the first refusal, with the object of the message that it answers.
    mutating func commit(_ step: CaptureError.Step, _ batch: NetlinkBatch) throws(CaptureError) {
        try send(batch, step)
        var awaited = batch.acknowledged
        var refusal: CaptureError?
        while !awaited.isEmpty, refusal == nil {
            try unsafe receive(step) { message in
                let header = unsafe message.pointee
                guard Int32(header.nlmsg_type) == NLMSG_ERROR else { return .more }
                let answer = unsafe NetlinkAnswer(message)
                awaited.remove(header.nlmsg_seq)
                if answer.number != 0, refusal == nil {
                    refusal = .refused(
                        step, object: batch.objects[header.nlmsg_seq] ?? "batch", number: answer.number,
                        detail: answer.detail)
                }
                return .more
            }
        }
        if let refusal { throw refusal }
    }

    /// A run of sequence numbers that no earlier message of this conversation had.
    mutating func nextSequence(_ count: UInt32) -> UInt32 {
        let first = sequence &+ 1
        sequence = sequence &+ max(count, 1)
        return first
    }

    private func send(_ batch: NetlinkBatch, _ step: CaptureError.Step) throws(CaptureError) {
        do {
            try socket.send(batch.bytes)
        } catch {
            throw .refused(step, object: "netlink", number: error.number, detail: nil)
        }
    }

    private func readDump(
        _ step: CaptureError.Step, _ object: String, sequence: UInt32,
        _ body: (UnsafePointer<nlmsghdr>) -> Void
    ) throws(CaptureError) -> Bool {
        var isDone = false
        var isConsistent = true
        var refusal: CaptureError?
        while !isDone {
            try unsafe receive(step) { message in
                let header = unsafe message.pointee
                guard header.nlmsg_seq == sequence else { return .more }
                if header.nlmsg_flags & UInt16(NLM_F_DUMP_INTR) != 0 { isConsistent = false }
                switch Int32(header.nlmsg_type) {
                case NLMSG_DONE: isDone = true
                case NLMSG_ERROR:
                    let answer = unsafe NetlinkAnswer(message)
                    isDone = true
                    if answer.number != 0 {
                        refusal = .refused(step, object: object, number: answer.number, detail: answer.detail)
                    }
                default:
                    unsafe body(message)
                    // A single object is answered without a closing message.
                    isDone = header.nlmsg_flags & UInt16(NLM_F_MULTI) == 0
                }
                return isDone ? .end : .more
            }
        }
        if let refusal { throw refusal }
        return isConsistent
    }

    private enum Walk { case more, end }

    private func receive(
        _ step: CaptureError.Step, _ body: (UnsafePointer<nlmsghdr>) -> Walk
    ) throws(CaptureError) {
        let failure: CaptureError? = unsafe withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 16) {
            buffer in
            let received: NetlinkSocket.Received
            do throws(SystemCallError) {
                received = try unsafe socket.receive(into: buffer, within: .seconds(5))
            } catch {
                return .refused(step, object: "netlink", number: error.number, detail: nil)
            }
            guard case .bytes(let count) = received, let base = buffer.baseAddress else {
                let reason =
                    received == .overrun ? "the answer did not fit" : "the kernel did not answer in time"
                return .malformedAnswer(step, reason)
            }
            var remaining = Int32(count)
            var next: UnsafePointer<nlmsghdr>? = unsafe UnsafePointer(
                base.assumingMemoryBound(to: nlmsghdr.self))
            while let message = unsafe next, unsafe mnl_nlmsg_ok(message, remaining) {
                if case .end = unsafe body(message) { break }
                unsafe next = UnsafePointer(mnl_nlmsg_next(message, &remaining))
            }
            return nil
        }
        if let failure { throw failure }
    }
}

/// Writes one message at the pointer, which has room for `NetlinkBatch.messageLimit` bytes, with this sequence number.
typealias NetlinkBuilder = (UnsafeMutablePointer<CChar>, UInt32) -> UnsafeMutablePointer<nlmsghdr>?

/// Messages that are sent in one go, and which object each of them is about.
struct NetlinkBatch {
    /// Far more than any message of ours: a rule with its longest comment takes less than 1 KiB.
    static let messageLimit = 8192

    let firstSequence: UInt32
    private(set) var bytes: [UInt8] = []
    /// What a message is about, by its sequence number.
    private(set) var objects: [UInt32: String] = [:]
    /// Sequence numbers of the messages that asked to be acknowledged.
    private(set) var acknowledged: Set<UInt32> = []

    init(firstSequence: UInt32) {
        self.firstSequence = firstSequence
    }

    mutating func append(_ object: String, _ build: NetlinkBuilder) {
        let sequence = firstSequence &+ UInt32(truncatingIfNeeded: objects.count)
        objects[sequence] = object
        unsafe withUnsafeTemporaryAllocation(byteCount: Self.messageLimit, alignment: 16) { buffer in
            unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
            guard let base = buffer.baseAddress,
                let message = unsafe build(base.assumingMemoryBound(to: CChar.self), sequence)
            else { return }
            let length = unsafe Int(message.pointee.nlmsg_len)
            if unsafe message.pointee.nlmsg_flags & UInt16(NLM_F_ACK) != 0 { acknowledged.insert(sequence) }
            unsafe bytes.append(contentsOf: buffer[..<min(length, buffer.count)])
            // Messages begin at multiples of four.
            bytes.append(contentsOf: repeatElement(0, count: -length & 3))
        }
    }
}

/// An `NLMSG_ERROR`: 0 for an acknowledgement, else the errno, with the kernel's words if it found any.
struct NetlinkAnswer {
    let number: Int32
    let detail: String?

    init(_ message: UnsafePointer<nlmsghdr>) {
        let headerLength = Int(NLMSG_HDRLEN_BYTES)
        let length = unsafe Int(message.pointee.nlmsg_len)
        let bytes = unsafe UnsafeRawBufferPointer(start: UnsafeRawPointer(message), count: length)
        guard length >= headerLength + 4 else {
            number = EBADMSG
            detail = nil
            return
        }
        number = unsafe 0 &- bytes.loadUnaligned(fromByteOffset: headerLength, as: Int32.self)
        // The errno and the head of what we sent; attributes follow when the flag says so (NETLINK_CAP_ACK is on).
        let hasAttributes = unsafe message.pointee.nlmsg_flags & UInt16(NLM_F_ACK_TLVS) != 0
        detail =
            hasAttributes
            ? unsafe Self.text(bytes, from: headerLength + 4 + headerLength) : nil
    }

    private static func text(_ bytes: UnsafeRawBufferPointer, from start: Int) -> String? {
        var offset = start
        while offset + 4 <= bytes.count {
            let length = unsafe Int(bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            let type = unsafe bytes.loadUnaligned(fromByteOffset: offset + 2, as: UInt16.self)
            guard length >= 4, offset + length <= bytes.count else { return nil }
            if type == UInt16(NLMSGERR_ATTR_MSG.rawValue) {
                let text = unsafe bytes[(offset + 4)..<(offset + length)].prefix { $0 != 0 }
                return unsafe String(decoding: text, as: UTF8.self)
            }
            offset += (length + 3) & ~3
        }
        return nil
    }
}

/// `sizeof(struct nlmsghdr)`; netlink's own macro for it is not imported.
private let NLMSG_HDRLEN_BYTES = MemoryLayout<nlmsghdr>.size
