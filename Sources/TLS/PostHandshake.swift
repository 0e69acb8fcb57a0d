import COpenSSL

/// Reads the handshake messages that follow a handshake (RFC 8446 §4.6): KeyUpdate is obeyed, a server's tickets are
/// passed over, everything else is a breach. Messages may be cut into records anywhere; nothing of them is kept.
struct PostHandshake {
    private let isClient: Bool
    private var header: UInt32 = 0
    private var headerTaken = 0
    private var bodyLeft = 0

    /// The largest NewSessionTicket that there can be (RFC 8446 §4.6.1).
    private static let ticketLimit = 4 + 4 + 1 + 255 + 2 + 65_535 + 2 + 65_534

    /// - Parameter isClient: whether the reader is one: only a server may send tickets.
    init(isClient: Bool) { self.isClient = isClient }

    /// A message has begun and not ended: nothing else may come in between (RFC 8446 §5.1).
    var isWithinMessage: Bool { headerTaken > 0 }

    /// What a KeyUpdate says.
    enum KeyUpdate { case updated, updatedAndRequested }

    /// - Parameter bytes: the content of one record.
    /// - Returns: the KeyUpdate that the record ends with.
    mutating func read(_ bytes: UnsafeRawBufferPointer) throws(RecordBreach) -> KeyUpdate? {
        var offset = 0
        while offset < bytes.count {
            if headerTaken < 4 {
                header = unsafe header << 8 | UInt32(bytes[offset])
                headerTaken += 1
                offset += 1
                if headerTaken == 4 { try begin() }
                continue
            }
            guard header >> 24 == UInt32(SSL3_MT_KEY_UPDATE) else {
                let count = min(bodyLeft, bytes.count - offset)
                offset += count
                bodyLeft -= count
                if bodyLeft == 0 { headerTaken = 0 }
                continue
            }
            let request = unsafe bytes[offset]
            guard request <= 1 else {
                throw RecordBreach(Alert.illegalParameter, "a key update that says \(request)")
            }
            // What follows belongs to the new key.
            guard offset + 1 == bytes.count else {
                throw RecordBreach(Alert.unexpectedMessage, "data behind a key update")
            }
            headerTaken = 0
            return request == 1 ? .updatedAndRequested : .updated
        }
        return nil
    }

    private mutating func begin() throws(RecordBreach) {
        let kind = Int32(header >> 24)
        bodyLeft = Int(header & 0xff_ffff)
        switch kind {
        case SSL3_MT_KEY_UPDATE:
            guard bodyLeft == 1 else {
                throw RecordBreach(Alert.decodeError, "a key update of \(bodyLeft) bytes")
            }
        case SSL3_MT_NEWSESSION_TICKET where isClient:
            guard bodyLeft > 0, bodyLeft <= Self.ticketLimit else {
                throw RecordBreach(Alert.decodeError, "a session ticket of \(bodyLeft) bytes")
            }
        default:
            throw RecordBreach(
                Alert.unexpectedMessage, "a handshake message of type \(kind) after the handshake")
        }
    }
}
