import HTTP2

/// How a call ended (gRPC's "Status codes and their use in gRPC").
public struct GRPCStatus: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Int, Hashable, Sendable {
        case ok = 0
        case cancelled
        case unknown
        case invalidArgument
        case deadlineExceeded
        case notFound
        case alreadyExists
        case permissionDenied
        case resourceExhausted
        case failedPrecondition
        case aborted
        case outOfRange
        case unimplemented
        case `internal`
        case unavailable
        case dataLoss
        case unauthenticated
    }

    public var code: Code
    /// For people; empty when there is nothing to say.
    public var message: String

    public init(_ code: Code, _ message: String = "") {
        self.code = code
        self.message = message
    }

    public static let ok = GRPCStatus(.ok)

    public var isOK: Bool { code == .ok }

    public var description: String {
        message.isEmpty ? "\(code)" : "\(code): \(message)"
    }

    /// What a response without `grpc-status` means ("HTTP to gRPC Status Code Mapping").
    init(httpStatus: Int) {
        let code: Code =
            switch httpStatus {
            case 400: .internal
            case 401: .unauthenticated
            case 403: .permissionDenied
            case 404: .unimplemented
            case 429, 502, 503, 504: .unavailable
            default: .unknown
            }
        self.init(code, "HTTP status \(httpStatus)")
    }

    /// What a reset stream means ("Errors" of "gRPC over HTTP2").
    init(reset code: ErrorCode) {
        let mapped: Code =
            switch code {
            case .refusedStream: .unavailable
            case .cancel: .cancelled
            case .enhanceYourCalm: .resourceExhausted
            case .inadequateSecurity: .permissionDenied
            case .http11Required, .streamClosed: .unknown
            default: .internal
            }
        self.init(mapped, "stream reset: \(code)")
    }

    /// Reads `grpc-status` and `grpc-message`; nil when there is no status. A code that nobody defined is `unknown`.
    init?(trailers: HeaderBlock) {
        guard let text = trailers["grpc-status"] else { return nil }
        let code = Int(text).flatMap(Code.init(rawValue:)) ?? .unknown
        self.init(code, PercentEncoding.decode(trailers["grpc-message"] ?? ""))
    }

    func append(to block: inout HeaderBlock) {
        block.append("grpc-status", String(code.rawValue))
        if !message.isEmpty { block.append("grpc-message", PercentEncoding.encode(message)) }
    }
}

/// The encoding of `grpc-message`: UTF-8 with everything but visible ASCII, and `%`, as `%XX`.
enum PercentEncoding {
    /// A message is for people: what is longer than this does not help them, and header lists have limits.
    private static let limit = 4096

    static func encode(_ text: String) -> String {
        var encoded = ""
        for byte in text.utf8.prefix(limit) {
            if (0x20...0x7e).contains(byte), byte != 0x25 {
                encoded.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                encoded += "%" + hex(byte >> 4) + hex(byte & 15)
            }
        }
        // A header value has no space at its ends (RFC 9113 §8.2.1).
        if encoded.hasSuffix(" ") { encoded = encoded.dropLast() + "%20" }
        if encoded.hasPrefix(" ") { encoded = "%20" + encoded.dropFirst() }
        return encoded
    }

    /// Undoes `encode`. Malformed escapes stay as they are: the message of an error must not be lost to another one.
    static func decode(_ text: String) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == 0x25, let high = rest.first.flatMap(digit),
                let low = rest.dropFirst().first.flatMap(digit)
            {
                bytes.append(high << 4 | low)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func hex(_ digit: UInt8) -> String { String(digit, radix: 16, uppercase: true) }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x37
        case 0x61...0x66: byte - 0x57
        default: nil
        }
    }
}
