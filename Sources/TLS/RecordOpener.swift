import COpenSSL

/// Opens the records that a session receives after its handshake (RFC 8446 §5), from the input straight into the
/// plaintext area. A pure machine: bytes in, bytes out.
///
/// What came of a record that is not whole is kept, and so is what the plaintext area had no room for, in memory that is
/// borrowed until then: an idle opener holds none. Nothing of a record is seen by anybody before its tag is verified.
@safe
final class RecordOpener {
    enum Progress: Equatable {
        /// All input was taken.
        case needsInput
        /// The plaintext area is full, or the next record does not fit into what is left of it.
        case full
        /// close_notify.
        case closed
    }

    private let memory: CipherMemory
    private var secret: TrafficSecret
    private var key: RecordKey
    private var messages: PostHandshake

    /// The header of the record that is being received, and room for its tag.
    private let scratch: UnsafeMutablePointer<UInt8>
    private var headerTaken = 0
    private var bodyByteCount = 0
    /// The beginning of its body.
    private var partial: UnsafeMutableRawBufferPointer?
    private var partialCount = 0
    /// Plaintext that found no room.
    private var rest: UnsafeMutableRawBufferPointer?
    private var restRange = 0..<0

    private var dataByteCount = 0
    private var emptyCount = 0
    private var isUpdateRequested = false

    /// - Parameters:
    ///   - isClient: whether we are the client.
    ///   - memory: lends what is kept between two calls.
    init(_ secret: consuming TrafficSecret, isClient: Bool, memory: CipherMemory, sequence: UInt64 = 0)
        throws(TLSError)
    {
        key = try RecordKey.make(secret, isSealing: false, sequence: sequence)
        self.secret = secret
        self.memory = memory
        messages = PostHandshake(isClient: isClient)
        unsafe scratch = .allocate(capacity: RecordFormat.headerByteCount + RecordFormat.tagByteCount)
    }

    deinit {
        dropPartial()
        dropRest()
        unsafe scratch.deallocate()
    }

    /// Whether the peer has asked for a KeyUpdate of ours since the last call.
    func takeUpdateRequest() -> Bool {
        defer { isUpdateRequested = false }
        return isUpdateRequested
    }

    /// Opens records until the input is used up or the area is full.
    ///
    /// - Parameters:
    ///   - consumed: advanced over the input that was taken.
    ///   - filled: advanced over the plaintext that was put into `plain`, also when this throws: it was authentic.
    func open(
        _ input: UnsafeRawBufferPointer, _ consumed: inout Int, into plain: UnsafeMutableRawBufferPointer,
        _ filled: inout Int
    ) throws(RecordBreach) -> Progress {
        unsafe deliverRest(into: plain, &filled)
        while filled < plain.count {
            if headerTaken < RecordFormat.headerByteCount {
                unsafe takeHeader(input, &consumed)
                guard headerTaken == RecordFormat.headerByteCount else { return .needsInput }
                try checkHeader()
            }
            guard partialCount + input.count - consumed >= bodyByteCount else {
                unsafe keep(UnsafeRawBufferPointer(rebasing: input[consumed...]))
                consumed = input.count
                return .needsInput
            }
            let innerByteCount = bodyByteCount - RecordFormat.tagByteCount
            let area = unsafe UnsafeMutableRawBufferPointer(rebasing: plain[filled...])
            if innerByteCount > area.count {
                if filled > 0 { return .full }
                let block = unsafe memory.borrow(atLeast: innerByteCount)
                unsafe rest = unsafe block
                let content = try unsafe openRecord(input, &consumed, into: block)
                restRange = 0..<content.count
                unsafe deliverRest(into: plain, &filled)
                if content.isClosing { return .closed }
            } else {
                let content = try unsafe openRecord(input, &consumed, into: area)
                if content.isClosing { return .closed }
                filled += content.count
            }
        }
        return .full
    }

    // MARK: What is kept

    private func deliverRest(into plain: UnsafeMutableRawBufferPointer, _ filled: inout Int) {
        guard let block = unsafe rest else { return }
        let count = min(restRange.count, plain.count - filled)
        let part = unsafe UnsafeRawBufferPointer(rebasing: block[restRange.prefix(count)])
        unsafe UnsafeMutableRawBufferPointer(rebasing: plain[filled...]).copyMemory(from: part)
        filled += count
        restRange = restRange.dropFirst(count)
        if restRange.isEmpty { dropRest() }
    }

    private func dropRest() {
        guard let block = unsafe rest else { return }
        unsafe memory.giveBack(block)
        unsafe rest = nil
        restRange = 0..<0
    }

    private func takeHeader(_ input: UnsafeRawBufferPointer, _ consumed: inout Int) {
        while headerTaken < RecordFormat.headerByteCount, consumed < input.count {
            unsafe scratch[headerTaken] = unsafe input[consumed]
            headerTaken += 1
            consumed += 1
        }
    }

    private func keep(_ bytes: UnsafeRawBufferPointer) {
        let count = partialCount + bytes.count
        if unsafe count > partial?.count ?? 0 {
            let larger = unsafe memory.borrow(atLeast: count)
            if let held = unsafe partial {
                unsafe larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: held[..<partialCount]))
                unsafe memory.giveBack(held)
            }
            unsafe partial = unsafe larger
        }
        if let block = unsafe partial {
            unsafe UnsafeMutableRawBufferPointer(rebasing: block[partialCount...]).copyMemory(from: bytes)
        }
        partialCount = count
    }

    private func dropPartial() {
        if let block = unsafe partial { unsafe memory.giveBack(block) }
        unsafe partial = nil
        partialCount = 0
    }

    // MARK: One record

    private func checkHeader() throws(RecordBreach) {
        guard unsafe scratch[0] == ContentType.applicationData else {
            throw RecordBreach(
                Alert.unexpectedMessage, "a record of type \(unsafe scratch[0]) after the handshake")
        }
        guard unsafe scratch[1] == 3, unsafe scratch[2] == 3 else {
            throw RecordBreach(Alert.protocolVersion, "a record of another version than TLS 1.3 has")
        }
        bodyByteCount = unsafe Int(scratch[3]) << 8 | Int(scratch[4])
        guard bodyByteCount <= RecordFormat.sealedLimit else {
            throw RecordBreach(Alert.recordOverflow, "a record of \(bodyByteCount) bytes")
        }
        guard bodyByteCount >= RecordFormat.tagByteCount else {
            throw RecordBreach(Alert.badRecordMAC, "a record too short to be authentic")
        }
    }

    private struct Content {
        /// Bytes of data at the beginning of the area.
        var count = 0
        var isClosing = false
    }

    /// Opens the record whose header was taken and whose body is there.
    private func openRecord(
        _ input: UnsafeRawBufferPointer, _ consumed: inout Int, into area: UnsafeMutableRawBufferPointer
    ) throws(RecordBreach) -> Content {
        let innerByteCount = bodyByteCount - RecordFormat.tagByteCount
        let tag = unsafe scratch + RecordFormat.headerByteCount
        let firstCount = min(partialCount, innerByteCount)
        let first = unsafe UnsafeRawBufferPointer(start: partial?.baseAddress, count: firstCount)
        let second = unsafe UnsafeRawBufferPointer(
            rebasing: input[consumed..<consumed + innerByteCount - firstCount])
        let early = partialCount - firstCount
        let room = unsafe UnsafeMutableRawBufferPointer(start: tag, count: RecordFormat.tagByteCount)
        if early > 0, let partial = unsafe partial {
            unsafe room.copyMemory(from: UnsafeRawBufferPointer(rebasing: partial[firstCount..<partialCount]))
        }
        let late = consumed + second.count
        unsafe UnsafeMutableRawBufferPointer(rebasing: room[early...]).copyMemory(
            from: UnsafeRawBufferPointer(rebasing: input[late..<late + RecordFormat.tagByteCount - early]))
        let isAuthentic: Bool
        do throws(TLSError) {
            guard let target = area.baseAddress else { return Content() }
            isAuthentic = try unsafe key.open(scratch, first, second, tag: tag, into: target)
        } catch {
            throw RecordBreach(Alert.internalError, error)
        }
        consumed += bodyByteCount - partialCount
        headerTaken = 0
        dropPartial()
        guard isAuthentic else { throw RecordBreach(Alert.badRecordMAC, "a record that is not authentic") }
        return try unsafe takeContent(UnsafeRawBufferPointer(rebasing: area[..<innerByteCount]))
    }

    /// RFC 8446 §5.4: the content, its type, and zeros.
    private func takeContent(_ inner: UnsafeRawBufferPointer) throws(RecordBreach) -> Content {
        guard inner.count <= RecordFormat.contentLimit + 1 else {
            throw RecordBreach(Alert.recordOverflow, "a record that holds \(inner.count) bytes")
        }
        var count = inner.count
        while unsafe count > 0 && inner[count - 1] == 0 { count -= 1 }
        guard count > 0 else { throw RecordBreach(Alert.unexpectedMessage, "a record without a type") }
        count -= 1
        let type = unsafe inner[count]
        guard !messages.isWithinMessage || type == ContentType.handshake else {
            throw RecordBreach(Alert.unexpectedMessage, "a record of type \(type) within a handshake message")
        }
        if type == ContentType.applicationData, count > 0 {
            dataByteCount &+= count
            return Content(count: count)
        }
        emptyCount += 1
        guard emptyCount <= TLSSession.emptyRecordBudget + dataByteCount >> 20 else {
            throw RecordBreach(
                Alert.unexpectedMessage, "more than \(TLSSession.emptyRecordBudget) records without data")
        }
        let content = unsafe UnsafeRawBufferPointer(rebasing: inner[..<count])
        switch type {
        case ContentType.applicationData: return Content()
        case ContentType.handshake: try unsafe receiveHandshake(content)
        case ContentType.alert: return try unsafe Content(isClosing: receiveAlert(content))
        default:
            throw RecordBreach(Alert.unexpectedMessage, "a sealed record of type \(type)")
        }
        return Content()
    }

    private func receiveHandshake(_ content: UnsafeRawBufferPointer) throws(RecordBreach) {
        guard unsafe !content.isEmpty else {
            throw RecordBreach(Alert.unexpectedMessage, "an empty handshake record")
        }
        guard let update = try unsafe messages.read(content) else { return }
        do throws(TLSError) {
            let next = secret.next()
            key = try RecordKey.make(next, isSealing: false)
            secret = next
        } catch {
            throw RecordBreach(Alert.internalError, error)
        }
        if update == .updatedAndRequested { isUpdateRequested = true }
    }

    /// - Returns: whether it is close_notify.
    private func receiveAlert(_ content: UnsafeRawBufferPointer) throws(RecordBreach) -> Bool {
        guard content.count == 2 else {
            throw RecordBreach(Alert.decodeError, "an alert of \(content.count) bytes")
        }
        // The level says nothing in TLS 1.3 (RFC 8446 §6).
        switch unsafe content[1] {
        case Alert.closeNotify: return true
        case Alert.userCanceled: return false
        default: throw RecordBreach(nil, .alert(ErrorQueue.alertName(Int32(unsafe content[1]))))
        }
    }
}
