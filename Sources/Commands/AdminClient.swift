import HTTP1
import Linux

/// Asks a daemon on its admin socket. Blocks the calling thread, up to a deadline.
public struct AdminClient: Sendable {
    public let socketPath: String
    /// For the whole exchange.
    public var deadline = Duration.seconds(5)

    /// Bytes of an answer that are read at most: a status page of a large mesh.
    private static let answerLimit: Int64 = 256 << 20

    public init(socketPath: String, deadline: Duration = .seconds(5)) {
        self.socketPath = socketPath
        self.deadline = deadline
    }

    /// Sends one request and reads the answer, whatever its status.
    public func send(_ method: String, _ target: String) throws(CommandError) -> HTTP1Response {
        let socket = try connect()
        var request = HTTP1Request(method: method, target: target, fields: ["host": "localhost"])
        request.keepsAlive = false
        let bytes = request.serialized()
        // A fresh Unix socket takes a request of a few hundred bytes at once.
        let sent = unsafe bytes.withUnsafeBytes { unsafe socket.write($0) }
        guard sent == .bytes(bytes.count) else { throw .failed("\(socketPath): cannot send a request") }
        return try readAnswer(from: socket)
    }

    /// The body of a page; anything but 200 is an error that carries the daemon's own words.
    public func page(_ target: String, method: String = "GET") throws(CommandError) -> [UInt8] {
        let response = try send(method, target)
        guard response.status == 200 else {
            throw .refused(Self.complaint(in: response))
        }
        return response.body
    }

    private func connect() throws(CommandError) -> Socket {
        do { return try Socket.connect(toPath: socketPath) } catch {
            throw .unreachable(socket: socketPath, error)
        }
    }

    private func readAnswer(from socket: borrowing Socket) throws(CommandError) -> HTTP1Response {
        let end = MonotonicTime.now() + deadline
        var limits = HTTP1Limits()
        limits.body = Self.answerLimit
        var parser = ResponseParser(limits: limits)
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        do {
            while true {
                let result = unsafe buffer.withUnsafeMutableBytes { unsafe socket.read(into: $0) }
                switch result {
                case .bytes(let count):
                    unsafe buffer.withUnsafeBytes { unsafe parser.append(.init(rebasing: $0[..<count])) }
                    if let response = try parser.next() { return response }
                case .wouldBlock:
                    let left = end - MonotonicTime.now()
                    let milliseconds = Int32(clamping: left.wholeMilliseconds + 1)
                    guard left > .zero, socket.waitUntilReadable(milliseconds: milliseconds) else {
                        throw CommandError.failed("\(socketPath): no answer within \(deadline)")
                    }
                case .end:
                    guard let response = try parser.end() else { throw HTTP1Error.incomplete }
                    return response
                case .failed(let number):
                    throw CommandError.failed("\(socketPath): \(errorText(number))")
                }
            }
        } catch let error as HTTP1Error {
            throw .malformed(socket: socketPath, error.description)
        } catch let error as CommandError {
            throw error
        } catch {
            throw .failed("\(error)")
        }
    }

    private static func complaint(in response: HTTP1Response) -> String {
        let text = String(decoding: response.body, as: UTF8.self)
        let parsed = try? JSONAnswer(response.body, from: "")
        let said = parsed?.text("error") ?? text.split(separator: "\n").first.map(String.init) ?? ""
        return said.isEmpty ? "the daemon answered \(response.status)" : said
    }
}

/// Text as it may stand in a query (RFC 3986 §2.3).
func percentEncoded(_ text: String) -> String {
    var result = ""
    for byte in text.utf8 {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"), UInt8(ascii: "/"), UInt8(ascii: ":"):
            result.unicodeScalars.append(Unicode.Scalar(byte))
        default:
            let digits = String(byte, radix: 16, uppercase: true)
            result += "%" + (digits.utf8.count == 1 ? "0" : "") + digits
        }
    }
    return result
}
