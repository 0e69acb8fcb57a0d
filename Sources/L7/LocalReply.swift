import HTTP2
import Routing

/// An answer that the proxy gives itself.
struct LocalReply {
    var status: Int
    var body: [UInt8] = []
    var flags: ResponseFlags = []
    var headers: [Header] = []
    /// Of a fault that was configured as a status of gRPC.
    var grpcStatus: Int?

    init(_ status: Int, _ body: String = "", _ flags: ResponseFlags = []) {
        self.status = status
        self.body = Array(body.utf8)
        self.flags = flags
    }

    /// Its head, and the content that follows. To a call of gRPC it is a head alone, with the status that the client's library understands.
    func message(isGRPC: Bool, isHead: Bool) -> (head: HeaderBlock, body: [UInt8]) {
        var head = HeaderBlock(status: isGRPC ? 200 : status)
        for header in headers { head.append(header) }
        if isGRPC {
            head.append("content-type", "application/grpc")
            head.append("grpc-status", String(grpcStatus ?? Self.grpcStatus(ofHTTP: status)))
            if !body.isEmpty { head.append("grpc-message", Self.percentEncoded(body)) }
            return (head, [])
        }
        if !body.isEmpty, !head.contains("content-type") { head.append("content-type", "text/plain") }
        if status >= 200, status != 204, status != 304 { head.append("content-length", String(body.count)) }
        return (head, isHead || status == 204 || status == 304 ? [] : body)
    }

    /// gRPC's own table for answers that are not gRPC (doc/http-grpc-status-mapping.md of grpc).
    static func grpcStatus(ofHTTP status: Int) -> Int {
        let code: GRPCStatusCode =
            switch status {
            case 200: .ok
            case 400: .internal
            case 401: .unauthenticated
            case 403: .permissionDenied
            case 404: .unimplemented
            case 429, 502, 503, 504: .unavailable
            default: .unknown
            }
        return code.number
    }

    /// The status that stands for one of gRPC where the client does not speak it.
    static func httpStatus(ofGRPC code: GRPCStatusCode) -> Int {
        switch code {
        case .ok: 200
        case .cancelled: 499
        case .invalidArgument, .failedPrecondition, .outOfRange: 400
        case .deadlineExceeded: 504
        case .notFound: 404
        case .alreadyExists, .aborted: 409
        case .permissionDenied: 403
        case .unauthenticated: 401
        case .resourceExhausted: 429
        case .unimplemented: 501
        case .unavailable: 503
        case .unknown, .internal, .dataLoss: 500
        }
    }

    /// `grpc-message` (PROTOCOL-HTTP2.md of grpc): visible ASCII but for `%`.
    private static func percentEncoded(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var result: [UInt8] = []
        for byte in bytes {
            if (0x20...0x7e).contains(byte), byte != UInt8(ascii: "%") {
                result.append(byte)
            } else {
                result += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}
