/// Identifies a stream; 0 is the connection itself (RFC 9113 §5.1.1).
public typealias StreamID = UInt32

/// The type byte of a frame (RFC 9113 §6). Constants, not an enum: unknown types are legal and ignored.
enum FrameType {
    static let data: UInt8 = 0x0
    static let headers: UInt8 = 0x1
    static let priority: UInt8 = 0x2
    static let reset: UInt8 = 0x3
    static let settings: UInt8 = 0x4
    static let pushPromise: UInt8 = 0x5
    static let ping: UInt8 = 0x6
    static let goAway: UInt8 = 0x7
    static let windowUpdate: UInt8 = 0x8
    static let continuation: UInt8 = 0x9
}

enum FrameFlag {
    static let endStream: UInt8 = 0x1
    static let acknowledge: UInt8 = 0x1
    static let endHeaders: UInt8 = 0x4
    static let padded: UInt8 = 0x8
    static let priority: UInt8 = 0x20
}

enum SettingID {
    static let headerTableSize: UInt16 = 0x1
    static let enablePush: UInt16 = 0x2
    static let maxConcurrentStreams: UInt16 = 0x3
    static let initialWindowSize: UInt16 = 0x4
    static let maxFrameSize: UInt16 = 0x5
    static let maxHeaderListSize: UInt16 = 0x6
    static let enableConnectProtocol: UInt16 = 0x8
}

/// The nine bytes before each payload (RFC 9113 §4.1).
struct FrameHeader: Equatable {
    static let byteCount = 9

    var length = 0
    var type: UInt8 = 0
    var flags: UInt8 = 0
    var stream: StreamID = 0

    init() {}

    init(length: Int, type: UInt8, flags: UInt8, stream: StreamID) {
        self.length = length
        self.type = type
        self.flags = flags
        self.stream = stream
    }

    /// Reads the header at `offset`, behind which at least nine bytes must stand. The reserved bit is ignored.
    @inline(__always)
    init(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        length = unsafe Int(bytes[offset]) << 16 | Int(bytes[offset + 1]) << 8 | Int(bytes[offset + 2])
        unsafe type = bytes[offset + 3]
        unsafe flags = bytes[offset + 4]
        stream = unsafe bytes.bigEndian32(at: offset + 5) & 0x7fff_ffff
    }

    /// Writes the header to the start of `target`, which must hold nine bytes.
    @inline(__always)
    func write(to target: UnsafeMutableRawBufferPointer) {
        unsafe target[0] = UInt8(truncatingIfNeeded: length >> 16)
        unsafe target[1] = UInt8(truncatingIfNeeded: length >> 8)
        unsafe target[2] = UInt8(truncatingIfNeeded: length)
        unsafe target[3] = type
        unsafe target[4] = flags
        unsafe target.storeBytes(of: stream.bigEndian, toByteOffset: 5, as: UInt32.self)
    }

    func has(_ flag: UInt8) -> Bool { flags & flag != 0 }
}

extension UnsafeRawBufferPointer {
    /// The four bytes at `offset` as a number. The caller has checked that they are there.
    @inline(__always)
    func bigEndian32(at offset: Int) -> UInt32 {
        unsafe UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    @inline(__always)
    func bigEndian16(at offset: Int) -> UInt16 {
        unsafe UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }
}

extension ByteQueue {
    mutating func appendFrameHeader(length: Int, type: UInt8, flags: UInt8, stream: StreamID) {
        append(UInt64(length), width: 3)
        append(type)
        append(flags)
        append(UInt64(stream), width: 4)
    }
}
