import COpenSSL

// The records of an established session as libssl reads and writes them.
extension TLSSession {
    /// Opens records until the input is used up or the area is full.
    func openByLibrary(into plain: UnsafeMutableRawBufferPointer, _ filled: inout Int) throws(TLSError) {
        while filled < plain.count {
            var count = 0
            let area = unsafe UnsafeMutableRawBufferPointer(rebasing: plain[filled...])
            let result = unsafe SSL_read_ex(ssl, area.baseAddress, area.count, &count)
            guard result == 1 else {
                switch unsafe SSL_get_error(ssl, result) {
                case SSL_ERROR_WANT_READ: return
                case SSL_ERROR_ZERO_RETURN:
                    isClosedByPeer = true
                    return
                default: throw fail(ErrorQueue.takeProtocolError())
                }
            }
            filled += count
            receivedByteCount &+= count
            // Asking for a header that cannot be there costs an error and a call.
            if unsafe isInputTaken && SSL_pending(ssl) == 0 { break }
        }
        guard keyUpdateCount <= Self.emptyRecordBudget + receivedByteCount >> 20 else {
            throw fail(.protocolFailure("more than \(Self.emptyRecordBudget) key updates for nothing"))
        }
    }

    func sealByLibrary(_ plain: UnsafeRawBufferPointer) throws(TLSError) {
        let recordCount = (plain.count - 1) / RecordFormat.contentLimit + 1
        // A key update may go first.
        guard output.reserve(plain.count + recordCount * RecordFormat.overhead + 64) else {
            throw fail(.outputLimit(byteCount: context.configuration.outputLimit))
        }
        ErrorQueue.clear()
        sealedCount += recordCount
        if sealedCount > context.configuration.recordsPerKey {
            sealedCount = recordCount
            unsafe _ = SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED)
        }
        var written = 0
        guard unsafe SSL_write_ex(ssl, plain.baseAddress, plain.count, &written) == 1, written == plain.count
        else {
            throw fail(ErrorQueue.takeProtocolError())
        }
    }

    func closeByLibrary() {
        ErrorQueue.clear()
        unsafe _ = SSL_shutdown(ssl)
        ErrorQueue.clear()
    }

    func renewKeysByLibrary() {
        unsafe _ = SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED)
    }
}

/// libssl shows every message here. Of the peer's, KeyUpdates are counted; of its own, those that go under the keys behind
/// the handshake.
let observeMessages:
    @convention(c) (Int32, Int32, Int32, UnsafeRawPointer?, Int, OpaquePointer?, UnsafeMutableRawPointer?) ->
        Void = {
            isWritten, _, contentType, message, count, ssl, _ in
            guard contentType == SSL3_RT_HANDSHAKE, count > 0, let ssl = unsafe ssl,
                let kind = unsafe message?.load(as: UInt8.self), let session = unsafe TLSSession.of(ssl)
            else { return }
            switch (Int32(kind), isWritten) {
            case (SSL3_MT_KEY_UPDATE, 0): session.keyUpdateCount += 1
            case (SSL3_MT_KEY_UPDATE, _), (SSL3_MT_NEWSESSION_TICKET, 1): session.keys.areUsed = true
            default: break
            }
        }
