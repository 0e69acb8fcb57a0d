import COpenSSL

/// Makes the records that a session sends after its handshake (RFC 8446 §5), straight from the plaintext into the
/// output. A pure machine: bytes in, bytes out.
@safe
final class RecordSealer {
    private var secret: TrafficSecret
    private var key: RecordKey
    private let recordsPerKey: UInt64
    /// A KeyUpdate that goes before the next data.
    private var dueUpdate = KeyUpdate.none

    /// Larger ones win.
    enum KeyUpdate: UInt8, Comparable {
        case none, answer, request

        static func < (a: KeyUpdate, b: KeyUpdate) -> Bool { a.rawValue < b.rawValue }
    }

    private static let updateByteCount = 5 + RecordFormat.overhead

    /// - Parameter recordsPerKey: so many records are sealed before the key is renewed (RFC 8446 §5.5).
    init(_ secret: consuming TrafficSecret, recordsPerKey: Int, sequence: UInt64 = 0) throws(TLSError) {
        key = try RecordKey.make(secret, isSealing: true, sequence: sequence)
        self.secret = secret
        self.recordsPerKey = UInt64(max(1, recordsPerKey))
    }

    /// Renews the key before the next data.
    func renew(_ update: KeyUpdate) { dueUpdate = max(dueUpdate, update) }

    /// The most bytes that sealing so many may make.
    func sealedByteCount(_ byteCount: Int) -> Int {
        let records = (byteCount + RecordFormat.contentLimit - 1) / RecordFormat.contentLimit
        let updates = records / Int(clamping: recordsPerKey) + 2
        return byteCount + records * RecordFormat.overhead + updates * Self.updateByteCount
    }

    /// Seals data in records of 16 KiB.
    ///
    /// - Parameter target: has `sealedByteCount` bytes; does not overlap `plain`.
    /// - Returns: how many bytes of `target` are to be sent.
    func seal(_ plain: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) throws(TLSError)
        -> Int
    {
        precondition(target.count >= sealedByteCount(plain.count), "no room for the records")
        guard var next = target.baseAddress else { return 0 }
        var offset = 0
        while offset < plain.count {
            if key.sequence >= recordsPerKey { renew(.answer) }
            if dueUpdate != .none { try unsafe next += update(into: next) }
            let end = min(offset + RecordFormat.contentLimit, plain.count)
            let content = unsafe UnsafeRawBufferPointer(rebasing: plain[offset..<end])
            try unsafe next += key.seal(ContentType.applicationData, content, into: next)
            offset = end
        }
        return unsafe target.baseAddress.map { unsafe next - $0 } ?? 0
    }

    /// RFC 8446 §4.6.3: the message goes under the old key, everything behind it under the next.
    private func update(into target: UnsafeMutableRawPointer) throws(TLSError) -> Int {
        let isRequest: UInt8 = dueUpdate == .request ? 1 : 0
        dueUpdate = .none
        let count = try unsafe message(
            ContentType.handshake, [UInt8(SSL3_MT_KEY_UPDATE), 0, 0, 1, isRequest], into: target)
        let next = secret.next()
        key = try RecordKey.make(next, isSealing: true)
        secret = next
        return count
    }

    /// Bytes that `alert` makes.
    static let alertByteCount = 2 + RecordFormat.overhead

    /// Seals an alert (RFC 8446 §6).
    ///
    /// - Parameter target: has `alertByteCount` bytes.
    func alert(_ description: UInt8, into target: UnsafeMutableRawPointer) throws(TLSError) -> Int {
        let isWarning = description == Alert.closeNotify || description == Alert.userCanceled
        return try unsafe message(
            ContentType.alert, [UInt8(isWarning ? SSL3_AL_WARNING : SSL3_AL_FATAL), description], into: target
        )
    }

    private func message(_ type: UInt8, _ content: [UInt8], into target: UnsafeMutableRawPointer)
        throws(TLSError) -> Int
    {
        try unsafe content.withUnsafeBufferPointer { content throws(TLSError) in
            try unsafe key.seal(type, UnsafeRawBufferPointer(content), into: target)
        }
    }
}
