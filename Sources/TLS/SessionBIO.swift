import COpenSSL

/// The BIO through which libssl reads a session's input and writes its output: two copies, nothing else. It never
/// blocks a write, and a read without input asks to be called again.
enum SessionBIO {
    /// - Parameter session: not retained; it must outlive the BIO.
    static func make(for session: TLSSession) -> OpaquePointer? {
        guard let bio = unsafe BIO_new(method.pointer) else { return nil }
        unsafe BIO_set_data(bio, Unmanaged.passUnretained(session).toOpaque())
        unsafe BIO_set_init(bio, 1)
        return unsafe bio
    }

    @safe
    private struct Method: @unchecked Sendable {
        // @unchecked: libcrypto only reads it.
        let pointer: OpaquePointer?

        init() {
            unsafe pointer = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "TLS session")
            unsafe _ = BIO_meth_set_read(pointer, readInput)
            unsafe _ = BIO_meth_set_write(pointer, writeOutput)
            unsafe _ = BIO_meth_set_ctrl(pointer, control)
        }
    }

    private static let method = Method()

    private static let retryFlags = BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY

    private static let readInput:
        @convention(c) (OpaquePointer?, UnsafeMutablePointer<CChar>?, Int32) -> Int32 = {
            bio, target, count in
            unsafe BIO_clear_flags(bio, retryFlags)
            guard let data = unsafe BIO_get_data(bio), let target = unsafe target, count > 0 else {
                return -1
            }
            let session = unsafe Unmanaged<TLSSession>.fromOpaque(data).takeUnretainedValue()
            let taken = unsafe session.takeInput(
                UnsafeMutableRawBufferPointer(start: target, count: Int(count)))
            guard taken == 0 else { return Int32(taken) }
            unsafe BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
            return -1
        }

    private static let writeOutput: @convention(c) (OpaquePointer?, UnsafePointer<CChar>?, Int32) -> Int32 = {
        bio, source, count in
        unsafe BIO_clear_flags(bio, retryFlags)
        guard let data = unsafe BIO_get_data(bio), let source = unsafe source, count > 0 else { return -1 }
        let session = unsafe Unmanaged<TLSSession>.fromOpaque(data).takeUnretainedValue()
        let bytes = unsafe UnsafeRawBufferPointer(start: source, count: Int(count))
        return unsafe session.output.append(bytes) ? count : -1
    }

    private static let control: @convention(c) (OpaquePointer?, Int32, Int, UnsafeMutableRawPointer?) -> Int =
        { _, command, _, _ in
            command == BIO_CTRL_FLUSH ? 1 : 0
        }
}
