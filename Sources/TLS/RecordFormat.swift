/// Who seals and opens the records of a connection after its handshake.
public enum RecordLayer: String, CaseIterable, Sendable {
    /// `RecordSealer` and `RecordOpener`: one pass over the bytes each way.
    case own
    /// libssl, with its copies: the reference that ours is held against.
    case libssl
}

/// Sizes of a TLS 1.3 record (RFC 8446 §5.1, §5.2).
enum RecordFormat {
    /// Content type, version, length.
    static let headerByteCount = 5
    static let tagByteCount = 16
    /// What a record adds to its content: header, inner content type, tag.
    static let overhead = headerByteCount + 1 + tagByteCount
    /// Largest content of one record.
    static let contentLimit = 16_384
    /// Largest encrypted part: padding may use what is left.
    static let sealedLimit = 16_384 + 256
}

/// RFC 8446 §5.1.
enum ContentType {
    static let alert: UInt8 = 21
    static let handshake: UInt8 = 22
    static let applicationData: UInt8 = 23
}

/// RFC 8446 §6.
enum Alert {
    static let closeNotify: UInt8 = 0
    static let unexpectedMessage: UInt8 = 10
    static let badRecordMAC: UInt8 = 20
    static let recordOverflow: UInt8 = 22
    static let illegalParameter: UInt8 = 47
    static let decodeError: UInt8 = 50
    static let protocolVersion: UInt8 = 70
    static let internalError: UInt8 = 80
    static let userCanceled: UInt8 = 90
}

/// Why the peer's records cannot be read on, and what it is told about it.
struct RecordBreach: Error, Equatable {
    /// nil: nothing, for the peer has ended the connection itself.
    let alert: UInt8?
    let error: TLSError

    init(_ alert: UInt8?, _ error: TLSError) {
        self.alert = alert
        self.error = error
    }

    init(_ alert: UInt8, _ reason: String) {
        self.init(alert, .protocolFailure(reason))
    }
}

/// Finds the ends of records in a stream that comes in pieces. During the handshake libssl is given one record at a
/// time, so that it never holds bytes which are for the keys behind its last one.
struct RecordBoundary {
    private var headerTaken = 0
    private var length = 0
    private var bodyLeft = 0

    /// Passes over the beginning of `bytes`.
    ///
    /// - Returns: how many bytes: up to the end of a header or of a record, whichever comes first.
    mutating func pass(_ bytes: UnsafeRawBufferPointer) -> Int {
        if bodyLeft > 0 {
            let count = min(bodyLeft, bytes.count)
            bodyLeft -= count
            return count
        }
        var count = 0
        while count < bytes.count, headerTaken < RecordFormat.headerByteCount {
            if headerTaken >= 3 { length = unsafe length << 8 | Int(bytes[count]) }
            headerTaken += 1
            count += 1
        }
        if headerTaken == RecordFormat.headerByteCount { (bodyLeft, headerTaken, length) = (length, 0, 0) }
        return count
    }
}
