import COpenSSL

/// One direction's AEAD under one key: which record is next, and its nonce (RFC 8446 §5.2, §5.3). Wiped at its end.
@safe
struct RecordKey: ~Copyable {
    /// The number of the next record under this key.
    private(set) var sequence: UInt64
    private var cipher: RecordCipher
    /// The IV, the nonce, and a content type, for ciphers want addresses.
    private let scratch: UnsafeMutablePointer<UInt8>

    private static let ivByteCount = 12
    private static let typeOffset = 24
    private static let scratchByteCount = 25

    /// - Parameter sequence: the number of the first record; anything else than 0 is for tests.
    static func make(_ secret: borrowing TrafficSecret, isSealing: Bool, sequence: UInt64 = 0)
        throws(TLSError)
        -> RecordKey
    {
        let key = UnsafeMutableRawBufferPointer.allocate(byteCount: secret.suite.keyByteCount, alignment: 16)
        defer {
            unsafe OPENSSL_cleanse(key.baseAddress, key.count)
            unsafe key.deallocate()
        }
        unsafe secret.expand("key", into: key)
        let cipher = try unsafe RecordCipher.make(
            secret.suite, isSealing: isSealing, key: UnsafeRawBufferPointer(key))
        let record = RecordKey(cipher, sequence)
        unsafe secret.expand(
            "iv", into: UnsafeMutableRawBufferPointer(start: record.scratch, count: Self.ivByteCount))
        return record
    }

    private init(_ cipher: consuming RecordCipher, _ sequence: UInt64) {
        self.cipher = cipher
        unsafe scratch = .allocate(capacity: Self.scratchByteCount)
        unsafe scratch.initialize(repeating: 0, count: Self.scratchByteCount)
        self.sequence = sequence
    }

    deinit {
        unsafe OPENSSL_cleanse(scratch, Self.scratchByteCount)
        unsafe scratch.deallocate()
    }

    /// Takes the next record's number and makes its nonce; the header is the additional data.
    private mutating func begin(_ header: UnsafePointer<UInt8>) throws(TLSError) {
        // A number must not be used twice. Nobody lives to see this one.
        guard sequence < .max else { throw .protocolFailure("the record numbers are used up") }
        let nonce = unsafe scratch + Self.ivByteCount
        unsafe nonce.update(from: scratch, count: Self.ivByteCount)
        let counted = unsafe UnsafeMutableRawPointer(nonce + 4)
        let masked = unsafe counted.loadUnaligned(as: UInt64.self) ^ sequence.bigEndian
        unsafe counted.storeBytes(of: masked, as: UInt64.self)
        sequence += 1
        let associated = unsafe UnsafeRawBufferPointer(start: header, count: RecordFormat.headerByteCount)
        guard unsafe cipher.begin(nonce: nonce, associated) else { throw .library(ErrorQueue.take()) }
    }

    /// Makes a record.
    ///
    /// - Parameters:
    ///   - content: up to `RecordFormat.contentLimit` bytes; does not overlap `target`.
    ///   - target: where the record goes; has room for the content and `RecordFormat.overhead`.
    /// - Returns: the record's length.
    mutating func seal(
        _ type: UInt8, _ content: UnsafeRawBufferPointer, into target: UnsafeMutableRawPointer
    ) throws(TLSError) -> Int {
        let length = content.count + 1 + RecordFormat.tagByteCount
        let record = unsafe target.assumingMemoryBound(to: UInt8.self)
        unsafe record[0] = ContentType.applicationData
        unsafe record[1] = 3
        unsafe record[2] = 3
        unsafe record[3] = UInt8(truncatingIfNeeded: length >> 8)
        unsafe record[4] = UInt8(truncatingIfNeeded: length)
        try unsafe begin(record)
        var next = unsafe record + RecordFormat.headerByteCount
        unsafe scratch[Self.typeOffset] = type
        let innerType = unsafe UnsafeRawBufferPointer(start: scratch + Self.typeOffset, count: 1)
        guard unsafe cipher.update(content, into: next),
            unsafe cipher.update(innerType, into: next + content.count)
        else { throw .library(ErrorQueue.take()) }
        unsafe next += content.count + 1
        guard unsafe cipher.finish(writing: next) else { throw .library(ErrorQueue.take()) }
        return RecordFormat.headerByteCount + length
    }

    /// Opens a record whose encrypted part may lie in two places.
    ///
    /// - Parameters:
    ///   - target: room for both pieces; overlaps neither.
    /// - Returns: false when the record is not what was sealed; `target` holds nothing of it then.
    mutating func open(
        _ header: UnsafePointer<UInt8>, _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer,
        tag: UnsafeMutablePointer<UInt8>, into target: UnsafeMutableRawPointer
    ) throws(TLSError) -> Bool {
        try unsafe begin(header)
        let bytes = unsafe target.assumingMemoryBound(to: UInt8.self)
        let isAuthentic =
            unsafe cipher.expect(tag) && cipher.update(first, into: bytes)
            && cipher.update(second, into: bytes + first.count) && cipher.verify()
        if !isAuthentic {
            unsafe OPENSSL_cleanse(target, first.count + second.count)
            ErrorQueue.clear()
        }
        return isAuthentic
    }
}
