import COpenSSL

/// Both directions of an established session.
struct OwnRecords {
    let sealer: RecordSealer
    let opener: RecordOpener
}

/// The traffic secrets behind a handshake, as our derivations tell them.
struct HandshakeKeys: ~Copyable {
    var client: TrafficSecret?
    var server: TrafficSecret?
    /// libssl has sealed something with them itself, so that their first record number is taken.
    var areUsed = false
}

// The records of an established session as we read and write them ourselves.
extension TLSSession {
    /// Ends libssl's part: from here on the records are ours, both directions from number 0 (RFC 8446 §5.3).
    ///
    /// That nobody has sealed with these keys is what AES-GCM's safety hangs on, and that libssl holds no byte behind its
    /// last record is what ours hangs on; both are so by configuration, and are looked at again here.
    func takeOver() throws(TLSError) {
        let suite = unsafe RecordSuite(number: SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl)))
        guard unsafe SSL_has_pending(ssl) == 0, !keys.areUsed, let client = keys.client.take(),
            let server = keys.server.take(), client.suite == suite, server.suite == suite
        else { throw .library("libssl did not leave the records to us") }
        let isClient = !context.configuration.isServer
        let limit = context.configuration.recordsPerKey
        let memory = context.workspace.memory
        records =
            isClient
            ? OwnRecords(
                sealer: try RecordSealer(client, recordsPerKey: limit),
                opener: try RecordOpener(server, isClient: true, memory: memory))
            : OwnRecords(
                sealer: try RecordSealer(server, recordsPerKey: limit),
                opener: try RecordOpener(client, isClient: false, memory: memory))
        // 17 KiB, and nothing asks it any more.
        unsafe SSL_free(ssl)
        unsafe ssl = nil
    }

    func open(
        _ records: OwnRecords, _ input: UnsafeRawBufferPointer, _ consumed: inout Int,
        into plain: UnsafeMutableRawBufferPointer, _ filled: inout Int
    ) throws(TLSError) {
        consumed = 0
        do throws(RecordBreach) {
            let progress = try unsafe records.opener.open(input, &consumed, into: plain, &filled)
            if progress == .closed { isClosedByPeer = true }
        } catch {
            // Nothing follows close_notify, not even why reading ends (RFC 8446 §6.1).
            if let alert = error.alert, !isClosed { say(alert, records) }
            throw fail(error.error)
        }
        if records.opener.takeUpdateRequest() { records.sealer.renew(.answer) }
    }

    func seal(_ records: OwnRecords, _ plain: UnsafeRawBufferPointer) throws(TLSError) {
        guard output.reserve(records.sealer.sealedByteCount(plain.count)) else {
            throw fail(.outputLimit(byteCount: context.configuration.outputLimit))
        }
        do throws(TLSError) {
            output.append(try unsafe records.sealer.seal(plain, into: output.room))
        } catch { throw fail(error) }
    }

    /// Puts an alert into the output; without room for it the peer sees the end of the connection only.
    func say(_ alert: UInt8, _ records: OwnRecords) {
        guard output.reserve(RecordSealer.alertByteCount), let room = unsafe output.room.baseAddress else {
            return
        }
        if let count = try? unsafe records.sealer.alert(alert, into: room) { output.append(count) }
    }

    /// Whether the records behind the handshake are to be ours. libcrypto's own derivations, which serve where our provider
    /// cannot be had, tell no secrets.
    var hasOwnRecords: Bool { context.configuration.records == .own && FilteredProvider.shared.tellsSecrets }

    /// A secret that libssl has made in our handshake.
    func derived(_ suite: RecordSuite, label: UnsafeRawBufferPointer, _ secret: UnsafeRawBufferPointer) {
        guard hasOwnRecords else { return }
        if unsafe label.elementsEqual(Self.clientLabel) {
            keys.client = unsafe TrafficSecret(suite, secret)
        } else if unsafe label.elementsEqual(Self.serverLabel) {
            keys.server = unsafe TrafficSecret(suite, secret)
        }
    }

    // RFC 8446 §7.1.
    private static let clientLabel = Array("c ap traffic".utf8)
    private static let serverLabel = Array("s ap traffic".utf8)
}
