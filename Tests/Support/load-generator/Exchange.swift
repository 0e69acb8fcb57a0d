import Glibc

/// A connection and the request it is about.
final class Exchange {
    enum State { case connecting, waiting, idle, over }

    let descriptor: Int32
    var state = State.connecting
    /// What its latency counts from.
    var began: Int64
    private(set) var firstByte: Int64?
    private var answer = Answer()

    init(_ descriptor: Int32, began: Int64) {
        self.descriptor = descriptor
        self.began = began
    }

    /// The request fits the empty buffer of a socket that waits for nothing else.
    func send(_ request: [UInt8]) -> Bool {
        state = .waiting
        firstByte = nil
        answer = Answer()
        return unsafe request.withUnsafeBytes { bytes in
            unsafe Glibc.send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
        }
    }

    enum Progress { case incomplete, answered, failed }

    func receive() -> Progress {
        let count = unsafe withUnsafeTemporaryAllocation(byteCount: 16_384, alignment: 1) { buffer in
            let count = unsafe recv(descriptor, buffer.baseAddress, buffer.count, 0)
            if count > 0 { unsafe answer.append(UnsafeRawBufferPointer(rebasing: buffer[..<count])) }
            return count
        }
        if count < 0 { return errno == EAGAIN || errno == EINTR ? .incomplete : .failed }
        if count == 0 { return .failed }
        if firstByte == nil { firstByte = now() }
        switch answer.isComplete {
        case nil: return .failed
        case false?: return .incomplete
        case true?:
            state = .idle
            return .answered
        }
    }

    func close() {
        state = .over
        Glibc.close(descriptor)
    }
}

/// An HTTP answer as it comes in: status 200 with a Content-Length, or it is a failure.
struct Answer {
    private var bytes: [UInt8] = []
    /// Of head and body; known once the head is there.
    private var length: Int?
    private var isWrong = false

    mutating func append(_ more: UnsafeRawBufferPointer) {
        unsafe bytes.append(contentsOf: more)
        guard length == nil, let end = Answer.index(after: Array("\r\n\r\n".utf8), in: bytes) else { return }
        // Names of fields have no case (RFC 9110 §5.1): servers write this one as they like, proxies often in small letters.
        let head = bytes[..<end].map { (65...90).contains($0) ? $0 | 0x20 : $0 }
        guard bytes.starts(with: Array("HTTP/1.1 200 ".utf8)),
            let digits = Answer.index(after: Array("\r\ncontent-length: ".utf8), in: head[...])
        else {
            isWrong = true
            return
        }
        let body = bytes[digits...].prefix { (48...57).contains($0) }.reduce(0) { $0 * 10 + Int($1 - 48) }
        length = end + body
    }

    /// Nil for what is no such answer.
    var isComplete: Bool? {
        guard !isWrong, bytes.count <= length ?? .max else { return nil }
        return bytes.count == length
    }

    private static func index(after needle: [UInt8], in hay: some RandomAccessCollection<UInt8>) -> Int? {
        var start = hay.startIndex
        while hay.distance(from: start, to: hay.endIndex) >= needle.count {
            if hay[start...].starts(with: needle) {
                return hay.distance(from: hay.startIndex, to: start) + needle.count
            }
            start = hay.index(after: start)
        }
        return nil
    }
}

/// What a load comes to.
struct Report {
    var latencies: [Int64] = []
    var failed = 0
    var seconds = 0.0

    func write() {
        print("{\"completed\": \(latencies.count), \"failed\": \(failed), \"seconds\": \(seconds)}")
        print(latencies.map(String.init).joined(separator: " "))
    }
}
