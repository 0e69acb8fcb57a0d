@testable import HTTP2

/// A frame written or read by hand, independently of the machine.
struct TestFrame: Equatable, CustomStringConvertible {
    var type: UInt8
    var flags: UInt8 = 0
    var stream: UInt32 = 0
    var payload: [UInt8] = []

    var bytes: [UInt8] {
        let length = payload.count
        return [UInt8(length >> 16 & 255), UInt8(length >> 8 & 255), UInt8(length & 255), type, flags]
            + big(stream, 4) + payload
    }

    var description: String { "frame(type \(type), flags \(flags), stream \(stream), \(payload.prefix(32)))" }

    static func all(in bytes: [UInt8]) -> [TestFrame] {
        var frames: [TestFrame] = []
        var rest = bytes[...]
        while rest.count >= 9 {
            let head = Array(rest.prefix(9))
            let length = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
            let stream = head[5...8].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            rest = rest.dropFirst(9)
            frames.append(
                TestFrame(type: head[3], flags: head[4], stream: stream, payload: Array(rest.prefix(length))))
            rest = rest.dropFirst(length)
        }
        return frames
    }
}

func big(_ value: some BinaryInteger, _ width: Int) -> [UInt8] {
    (0..<width).map { UInt8(truncatingIfNeeded: UInt64(value) >> UInt64(8 * (width - 1 - $0))) }
}

func settings(_ pairs: (UInt16, Int)...) -> [UInt8] {
    TestFrame(type: 4, payload: pairs.flatMap { big($0.0, 2) + big($0.1, 4) }).bytes
}
let settingsAcknowledgement = TestFrame(type: 4, flags: 1).bytes

func ping(_ opaque: UInt64 = 7, flags: UInt8 = 0) -> [UInt8] {
    TestFrame(type: 6, flags: flags, payload: big(opaque, 8)).bytes
}

func data(_ stream: UInt32, _ content: [UInt8], end: Bool = false, pad: Int? = nil) -> [UInt8] {
    var payload = content
    if let pad { payload = [UInt8(pad)] + content + [UInt8](repeating: 0, count: pad) }
    return TestFrame(type: 0, flags: (end ? 1 : 0) | (pad == nil ? 0 : 8), stream: stream, payload: payload)
        .bytes
}

func reset(_ stream: UInt32, _ code: ErrorCode = .cancel) -> [UInt8] {
    TestFrame(type: 3, stream: stream, payload: big(code.rawValue, 4)).bytes
}

func windowUpdate(_ stream: UInt32, _ increment: Int) -> [UInt8] {
    TestFrame(type: 8, stream: stream, payload: big(increment, 4)).bytes
}

func goAway(_ last: UInt32, _ code: ErrorCode = .noError) -> [UInt8] {
    TestFrame(type: 7, payload: big(last, 4) + big(code.rawValue, 4)).bytes
}

/// HPACK by hand: every field a literal that is not indexed, without Huffman coding (RFC 7541 §6.2.2).
func literal(_ fields: [(String, String)]) -> [UInt8] {
    func string(_ text: String) -> [UInt8] {
        let bytes = Array(text.utf8)
        guard bytes.count >= 127 else { return [UInt8(bytes.count)] + bytes }
        var prefix: [UInt8] = [127]
        var rest = bytes.count - 127
        while rest >= 128 {
            prefix.append(UInt8(rest & 127 | 128))
            rest >>= 7
        }
        return prefix + [UInt8(rest)] + bytes
    }
    return fields.flatMap { [0] + string($0.0) + string($0.1) }
}

func headers(_ stream: UInt32, _ fields: [(String, String)], end: Bool = false) -> [UInt8] {
    TestFrame(type: 1, flags: 4 | (end ? 1 : 0), stream: stream, payload: literal(fields)).bytes
}

let get: [(String, String)] = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")]
let post: [(String, String)] = [
    (":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/"),
]
let connect: [(String, String)] = [(":method", "CONNECT"), (":authority", "10.0.0.1:80")]
let ok: [(String, String)] = [(":status", "200")]

/// A machine under test with the bytes that it has sent.
final class Endpoint {
    var connection: HTTP2Connection
    /// Content that `data` events carried.
    var content: [UInt32: [UInt8]] = [:]

    /// - Parameter greeted: the peer's preface and empty SETTINGS have come, and the greeting is taken.
    init(
        _ role: HTTP2Connection.Role, _ configuration: HTTP2Configuration = .mesh, greeted: Bool = true,
        settings pairs: (UInt16, Int)...
    ) {
        connection = HTTP2Connection(role: role, configuration)
        guard greeted else { return }
        let payload = pairs.flatMap { big($0.0, 2) + big($0.1, 4) }
        let preface = role == .server ? Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) : []
        _ = try? feed(preface + TestFrame(type: 4, payload: payload).bytes + settingsAcknowledgement)
        _ = output()
    }

    func feed(_ bytes: [UInt8]) throws(HTTP2Error) -> [HTTP2Event] {
        var events: [HTTP2Event] = []
        var offset = 0
        var failure: HTTP2Error?
        unsafe bytes.withUnsafeBytes { input in
            do throws(HTTP2Error) {
                while let event = try unsafe connection.next(input, &offset) {
                    if case .data(let stream, let range, _) = event {
                        unsafe content[stream, default: []] += input[range]
                    }
                    events.append(event)
                }
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return events
    }

    /// What waits to be sent.
    func outputBytes() -> [UInt8] {
        var all: [UInt8] = []
        while !connection.pending.isEmpty {
            var chunk = [UInt8](repeating: 0, count: 4096)
            let count = unsafe chunk.withUnsafeMutableBytes { unsafe connection.takeOutput(into: $0) }
            all += chunk[..<count]
        }
        return all
    }

    func output() -> [TestFrame] { TestFrame.all(in: outputBytes()) }

    /// A DATA frame of ours.
    func dataFrame(_ stream: UInt32, _ content: [UInt8], end: Bool) -> [UInt8] {
        var head = [UInt8](repeating: 0, count: 9)
        unsafe head.withUnsafeMutableBytes {
            unsafe connection.frameData(stream, byteCount: content.count, endStream: end, header: $0)
        }
        return head + content
    }
}
