import COpenSSL
import Mesh

/// One TLS 1.3 connection as a machine in memory: sealed bytes in, sealed bytes out, no descriptor, no clock of its own.
///
/// First `handshake` until it is done, then `read` and `write`. After every call, also one that throws, whatever is in
/// `output` goes to the peer: an alert among it says why. A session that has thrown is over.
///
/// Bound to the loop of its context.
@safe
public final class TLSSession {
    public enum Handshake: Equatable, Sendable {
        case needsInput
        /// The peer is known. On a client this does not prove that the server accepts us: that shows with its first
        /// bytes, or its alert.
        case done
    }

    public enum ReadResult: Equatable, Sendable {
        /// So many bytes lie at the beginning of the plaintext area; there may be more: read again.
        case bytes(Int)
        /// Everything was taken, and more is needed.
        case needsInput
        /// The peer's close_notify: all that it sent has been read.
        case closed
    }

    let context: TLSContext
    /// Sealed bytes that wait to be sent.
    public let output: CipherOutput
    /// What the peer has proved; nil before the handshake is done, and for a client without a certificate.
    public private(set) var peer: PeerCertificate?
    /// The protocol that ALPN chose; nil when none was asked for, and before the handshake is done.
    public private(set) var applicationProtocol: String?
    /// The cipher suite, such as `TLS_AES_128_GCM_SHA256`; nil before the handshake is done.
    public private(set) var cipherSuite: String?

    /// nil once our own records have taken over.
    var ssl: OpaquePointer?
    /// Our own record layer; nil during the handshake, and where libssl's is used.
    var records: OwnRecords?
    /// What libssl has told about its keys.
    var keys = HandshakeKeys()
    /// libssl's records: how many were sealed under the current key, and what the peer has sent.
    var sealedCount = 0
    var receivedByteCount = 0
    var keyUpdateCount = 0
    var isClosedByPeer = false

    private let expected: Set<String>
    private let serverName: String?
    private var input = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    private var inputTaken = 0
    private var boundary = RecordBoundary()
    private var isEstablished = false
    /// Our close_notify was said.
    private(set) var isClosed = false
    private var failure: TLSError?

    /// - Parameters:
    ///   - expecting: the SPIFFE URIs of which a mesh server must prove one; without any, every server is refused.
    ///   - serverName: DNS name or address that the server's certificate must name, where verification is by name.
    public init(
        _ context: TLSContext, expecting: Set<String> = [], serverName: String? = nil
    ) throws(TLSError) {
        ErrorQueue.clear()
        guard let ssl = unsafe SSL_new(context.pointer) else { throw .library(ErrorQueue.take()) }
        self.context = context
        unsafe self.ssl = unsafe ssl
        expected = expecting
        if case .serverName = context.configuration.verification {
            self.serverName = serverName ?? ""
        } else {
            self.serverName = nil
        }
        output = CipherOutput(memory: context.workspace.memory, limit: context.configuration.outputLimit)
        guard let bio = unsafe SessionBIO.make(for: self) else { throw .library(ErrorQueue.take()) }
        unsafe SSL_set_bio(ssl, bio, bio)
        unsafe SSL_set_msg_callback(ssl, observeMessages)
        unsafe _ = SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque())
        if context.configuration.isServer {
            unsafe SSL_set_accept_state(ssl)
        } else {
            unsafe SSL_set_connect_state(ssl)
        }
        if let name = self.serverName { try setServerName(name) }
    }

    deinit { unsafe SSL_free(ssl) }

    /// The session that libssl calls us back for.
    static func of(_ ssl: OpaquePointer) -> TLSSession? {
        guard let data = unsafe SSL_get_ex_data(ssl, 0) else { return nil }
        return unsafe Unmanaged<TLSSession>.fromOpaque(data).takeUnretainedValue()
    }

    private func setServerName(_ name: String) throws(TLSError) {
        let parameters = unsafe SSL_get0_param(ssl)
        if unsafe X509_VERIFY_PARAM_set1_ip_asc(parameters, name) == 1 { return }
        ErrorQueue.clear()
        unsafe X509_VERIFY_PARAM_set_hostflags(parameters, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
        guard !name.isEmpty, name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }),
            unsafe X509_VERIFY_PARAM_set1_host(parameters, name, name.utf8.count) == 1,
            unsafe copenssl_set_server_name(ssl, name) == 1
        else { throw .malformed("server name \(name)", reason: "neither a DNS name nor an address") }
    }
}

// MARK: - Handshake

extension TLSSession {
    /// Drives the handshake; a client's first call has no input and makes the ClientHello.
    ///
    /// - Parameters:
    ///   - input: bytes from the peer that were not taken yet.
    ///   - consumed: set to how many of them were taken. What is left when done is for `read`.
    /// - Throws: why it failed; the alert for the peer is in `output`.
    public func handshake(_ input: UnsafeRawBufferPointer, _ consumed: inout Int) throws(TLSError)
        -> Handshake
    {
        try requireAlive()
        if isEstablished {
            consumed = 0
            return .done
        }
        unsafe begin(input)
        defer { consumed = end() }
        let result = DerivationDispatch.whileListening(self) { unsafe SSL_do_handshake(ssl) }
        if result == 1 {
            try finish()
            return .done
        }
        if unsafe SSL_get_error(ssl, result) == SSL_ERROR_WANT_READ { return .needsInput }
        throw fail(ErrorQueue.takeProtocolError())
    }

    private func finish() throws(TLSError) {
        var start: UnsafePointer<UInt8>? = nil
        var count: UInt32 = 0
        unsafe SSL_get0_alpn_selected(ssl, &start, &count)
        if count > 0 {
            applicationProtocol = unsafe String(
                decoding: UnsafeBufferPointer(start: start, count: Int(count)), as: UTF8.self)
        }
        let wanted = context.configuration.applicationProtocols
        guard wanted.isEmpty || wanted.contains(applicationProtocol ?? "") else {
            throw fail(.wrongApplicationProtocol(got: applicationProtocol))
        }
        if case .optionalClient = context.configuration.verification {
        } else if peer == nil {
            throw fail(.noPeerCertificate)
        }
        let cipher = unsafe SSL_get_current_cipher(ssl)
        if let name = unsafe SSL_CIPHER_get_name(cipher) { cipherSuite = unsafe String(cString: name) }
        if hasOwnRecords {
            do throws(TLSError) { try takeOver() } catch { throw fail(error) }
        }
        isEstablished = true
    }

    /// Asked by libssl when the peer's certificate has arrived.
    func verifyPeer(_ verification: PeerVerification) -> Bool {
        do {
            peer = try verification.run(expecting: expected, serverName: serverName)
            return true
        } catch {
            failure = error
            verification.refuse(error)
            return false
        }
    }
}

// MARK: - Data

extension TLSSession {
    /// Opens records.
    ///
    /// Call it again, with what is left of the input or with none, until it says `needsInput` or `closed`: a plaintext
    /// area smaller than what was sealed leaves the rest inside. Partial records stay inside as well.
    ///
    /// - Parameters:
    ///   - consumed: set to how many bytes of `input` were taken.
    ///   - plain: where the plaintext goes; not empty. From 16 KiB up it takes a whole record.
    public func read(
        _ input: UnsafeRawBufferPointer, _ consumed: inout Int, into plain: UnsafeMutableRawBufferPointer
    ) throws(TLSError) -> ReadResult {
        try requireAlive()
        precondition(isEstablished, "read before the handshake is done")
        if isClosedByPeer {
            consumed = 0
            return .closed
        }
        var filled = 0
        do throws(TLSError) {
            if let records {
                try unsafe open(records, input, &consumed, into: plain, &filled)
            } else {
                unsafe begin(input)
                defer { consumed = end() }
                try unsafe openByLibrary(into: plain, &filled)
            }
        } catch {
            // What came before the breach was authentic: it is delivered first, and the next call throws.
            guard filled > 0 else { throw error }
        }
        if filled > 0 { return .bytes(filled) }
        return isClosedByPeer ? .closed : .needsInput
    }

    /// Seals bytes into `output`, in records of 16 KiB.
    public func write(_ plain: UnsafeRawBufferPointer) throws(TLSError) {
        try requireAlive()
        precondition(isEstablished, "write before the handshake is done")
        guard !isClosed else { throw fail(.protocolFailure("written after close_notify")) }
        guard unsafe !plain.isEmpty else { return }
        if let records {
            try unsafe seal(records, plain)
        } else {
            try unsafe sealByLibrary(plain)
        }
    }

    /// Puts close_notify into `output`: nothing is written any more, reading goes on.
    public func close() {
        guard isEstablished, !isClosed, failure == nil else { return }
        isClosed = true
        if let records { say(Alert.closeNotify, records) } else { closeByLibrary() }
    }

    /// Says that the transport has ended.
    ///
    /// - Throws: `truncated` unless the peer's close_notify has been read.
    public func endOfInput() throws(TLSError) {
        try requireAlive()
        guard isClosedByPeer else { throw fail(.truncated) }
    }

    /// Changes our sending key with the next write, and asks the peer to change its own (RFC 8446 §4.6.3).
    func renewKeys() {
        guard failure == nil else { return }
        if let records { records.sealer.renew(.request) } else { renewKeysByLibrary() }
    }

    /// Records without data that a peer may send beside one for each MiB of data. A KeyUpdate, the dearest of them, costs us
    /// three derivations for 27 bytes. libssl's records count KeyUpdates only; it has a limit of its own for the others.
    static let emptyRecordBudget = 1_000
}

// MARK: - libssl's side

extension TLSSession {
    private func requireAlive() throws(TLSError) {
        if let failure { throw failure }
    }

    /// Ends the session. What our own verification found is the cause of what libssl then says.
    func fail(_ error: TLSError) -> TLSError {
        let cause = failure ?? error
        failure = cause
        // Keys of a failed connection must be forgotten (RFC 8446 §6.2); libssl's go with the session.
        records = nil
        keys = HandshakeKeys()
        ErrorQueue.clear()
        return cause
    }

    private func begin(_ bytes: UnsafeRawBufferPointer) {
        ErrorQueue.clear()
        unsafe input = unsafe bytes
        inputTaken = 0
    }

    private func end() -> Int {
        unsafe input = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
        return inputTaken
    }

    /// Moves input to libssl; 0 when there is none left.
    func takeInput(_ target: UnsafeMutableRawBufferPointer) -> Int {
        var rest = unsafe UnsafeRawBufferPointer(rebasing: input[inputTaken...].prefix(target.count))
        if !isEstablished { unsafe rest = UnsafeRawBufferPointer(rebasing: rest[..<boundary.pass(rest)]) }
        unsafe target.copyMemory(from: rest)
        inputTaken += rest.count
        return rest.count
    }

    /// Whether libssl has been given all the input there is.
    var isInputTaken: Bool { unsafe inputTaken == input.count }
}
