import CNGHTTP2

/// Compresses header blocks for one connection (RFC 7541), by libnghttp2. Never indexes `authorization` and short
/// cookies (its own rule, for §7.1.3).
@safe struct HeaderEncoder: ~Copyable {
    /// The dynamic table never grows over this, whatever the peer offers.
    static let tableSize = 4096

    private var deflater: OpaquePointer?

    init() {
        unsafe nghttp2_hd_deflate_new(&deflater, Self.tableSize)
    }

    deinit {
        if let deflater = unsafe deflater { unsafe nghttp2_hd_deflate_del(deflater) }
    }

    /// Follows the peer's SETTINGS_HEADER_TABLE_SIZE.
    ///
    /// - Returns: false when memory is exhausted, which ends the connection.
    func changeTableSize(_ byteCount: Int) -> Bool {
        guard let deflater = unsafe deflater else { return false }
        return unsafe nghttp2_hd_deflate_change_table_size(deflater, min(byteCount, Self.tableSize)) == 0
    }

    /// Compresses `headers` and passes the block on.
    ///
    /// - Returns: false when memory is exhausted; the compression state is lost then.
    func encode(_ headers: HeaderBlock, _ body: (UnsafeRawBufferPointer) -> Void) -> Bool {
        guard let deflater = unsafe deflater else { return false }
        return unsafe headers.storage.withUnsafeBufferPointer { storage in
            unsafe withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: headers.fields.count) {
                pairs in
                // libnghttp2 reads these strings only; its type lacks the const.
                let base = unsafe UnsafeMutablePointer(mutating: storage.baseAddress)
                for (index, field) in headers.fields.enumerated() {
                    unsafe pairs.initializeElement(
                        at: index,
                        to: nghttp2_nv(
                            name: base.map { unsafe $0 + Int(field.start) },
                            value: base.map { unsafe $0 + Int(field.start + field.nameLength) },
                            namelen: Int(field.nameLength), valuelen: Int(field.valueLength),
                            flags: field.isUnique ? UInt8(NGHTTP2_NV_FLAG_NO_INDEX.rawValue) : 0))
                }
                let bound = unsafe nghttp2_hd_deflate_bound(deflater, pairs.baseAddress, pairs.count)
                return unsafe withUnsafeTemporaryAllocation(of: UInt8.self, capacity: bound) { target in
                    let written = unsafe nghttp2_hd_deflate_hd(
                        deflater, target.baseAddress, bound, pairs.baseAddress, pairs.count)
                    guard written >= 0 else { return false }
                    unsafe body(UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: target[..<written])))
                    return true
                }
            }
        }
    }
}

/// Decompresses the header blocks of one connection, by libnghttp2.
@safe struct HeaderDecoder: ~Copyable {
    /// A block as far as the limit let it be kept.
    struct Decoded {
        var headers: HeaderBlock
        /// The list is over the limit; `headers` is empty. The compression state is sound all the same.
        var isTooLarge: Bool
    }

    private var inflater: OpaquePointer?

    init() {
        unsafe nghttp2_hd_inflate_new(&inflater)
    }

    deinit {
        if let inflater = unsafe inflater { unsafe nghttp2_hd_inflate_del(inflater) }
    }

    /// Decompresses one whole block. A small block can name large fields of the table again and again, so that the
    /// limit counts what comes out (CVE-2016-6581).
    ///
    /// - Parameter limit: bytes of the list, with 32 for each field.
    /// - Throws: `compression`, after which nothing of the connection can be read any more.
    func decode(_ block: UnsafeRawBufferPointer, limit: Int) throws(HTTP2Error) -> Decoded {
        guard let inflater = unsafe inflater else { throw .compression }
        var decoded = Decoded(headers: HeaderBlock(), isTooLarge: false)
        decoded.headers.reserve(fieldCount: 12, byteCount: min(limit, block.count * 2))
        let bytes = unsafe block.assumingMemoryBound(to: UInt8.self)
        var read = 0
        var size = 0
        while true {
            var pair = unsafe nghttp2_nv()
            var flags: Int32 = 0
            let result = unsafe nghttp2_hd_inflate_hd2(
                inflater, &pair, &flags, bytes.baseAddress.map { unsafe $0 + read }, bytes.count - read, 1)
            guard result >= 0 else { throw .compression }
            read += result
            if flags & Int32(NGHTTP2_HD_INFLATE_EMIT.rawValue) != 0 {
                unsafe size += pair.namelen + pair.valuelen + 32
                if size <= limit {
                    unsafe decoded.headers.append(
                        name: UnsafeBufferPointer(start: pair.name, count: pair.namelen),
                        value: UnsafeBufferPointer(start: pair.value, count: pair.valuelen))
                } else if !decoded.isTooLarge {
                    decoded = Decoded(headers: HeaderBlock(), isTooLarge: true)
                }
            }
            if flags & Int32(NGHTTP2_HD_INFLATE_FINAL.rawValue) != 0 {
                unsafe nghttp2_hd_inflate_end_headers(inflater)
                return decoded
            }
            // Neither a field nor the end, and no bytes left: the block stops within a field.
            if flags & Int32(NGHTTP2_HD_INFLATE_EMIT.rawValue) == 0, read == bytes.count {
                throw .compression
            }
        }
    }
}
