import TestSupport
import Testing

@testable import TLS

/// One direction's two ends under a secret that everybody knows.
struct Direction {
    let suite: RecordSuite
    let memory = CipherMemory(keptLimit: 1 << 20)
    let sealer: RecordSealer
    let opener: RecordOpener

    /// - Parameters:
    ///   - toClient: whether the opener is a client's.
    ///   - sequence: the number of the first record.
    init(
        _ suite: RecordSuite = .aes128, toClient: Bool = true, sequence: UInt64 = 0,
        recordsPerKey: Int = 1 << 23
    ) throws {
        self.suite = suite
        sealer = try RecordSealer(
            Self.secret(suite), recordsPerKey: recordsPerKey, sequence: sequence)
        opener = try RecordOpener(
            Self.secret(suite), isClient: toClient, memory: memory, sequence: sequence)
    }

    static func secret(_ suite: RecordSuite) throws -> TrafficSecret {
        let digits = (0..<suite.secretByteCount * 2).map { UInt8(ascii: "0") + UInt8($0 * 7 % 10) }
        return try trafficSecret(suite, String(decoding: digits, as: UTF8.self))
    }

    func seal(_ bytes: [UInt8]) throws -> [UInt8] { try sealer.seal(bytes) }

    /// What `opener` makes of bytes: everything it delivers, and how it ends.
    func open(_ bytes: [UInt8], piece: Int = .max, area: Int = 64 << 10) -> Opened {
        opener.open(bytes, piece: piece, area: area)
    }
}

struct Opened: Equatable {
    var plain: [UInt8] = []
    var isClosed = false
    var breach: RecordBreach?
    /// The alert that the breach is answered with.
    var alert: UInt8? { breach?.alert }
}

func trafficSecret(_ suite: RecordSuite, _ hex: String) throws -> TrafficSecret {
    let digits = hex.compactMap(\.hexDigitValue)
    let bytes = stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
    var made: TrafficSecret?
    unsafe bytes.withUnsafeBytes { made = unsafe TrafficSecret(suite, $0) }
    guard let secret = made.take() else { throw TLSError.library("no secret") }
    return secret
}

extension RecordSealer {
    func seal(_ bytes: [UInt8]) throws(TLSError) -> [UInt8] {
        var target = [UInt8](repeating: 0, count: sealedByteCount(bytes.count))
        let count = try unsafe lend(bytes) { bytes throws(TLSError) in
            try unsafe target.withUnsafeMutableBufferPointer { target throws(TLSError) in
                try unsafe seal(bytes, into: UnsafeMutableRawBufferPointer(target))
            }
        }
        return Array(target.prefix(count))
    }

    func alert(_ description: UInt8) throws -> [UInt8] {
        var target = [UInt8](repeating: 0, count: Self.alertByteCount)
        let count = try unsafe target.withUnsafeMutableBytes {
            try unsafe alert(description, into: #require($0.baseAddress))
        }
        return Array(target.prefix(count))
    }
}

extension RecordOpener {
    func open(_ bytes: [UInt8], piece: Int = .max, area: Int = 64 << 10) -> Opened {
        var opened = Opened()
        var buffer = [UInt8](repeating: 0, count: area)
        var rest = bytes[...]
        repeat {
            let part = Array(rest.prefix(piece))
            var offset = 0
            var progress = Progress.full
            while progress == .full {
                var consumed = 0
                var filled = 0
                do throws(RecordBreach) {
                    defer { opened.plain += buffer.prefix(filled) }
                    progress = try unsafe part[offset...].withUnsafeBufferPointer {
                        input throws(RecordBreach) in
                        try unsafe buffer.withUnsafeMutableBufferPointer { area throws(RecordBreach) in
                            try unsafe open(
                                UnsafeRawBufferPointer(input), &consumed,
                                into: UnsafeMutableRawBufferPointer(area), &filled)
                        }
                    }
                } catch {
                    opened.breach = error
                    return opened
                }
                offset += consumed
            }
            opened.isClosed = progress == .closed
            rest = rest.dropFirst(part.count)
        } while !rest.isEmpty && !opened.isClosed
        return opened
    }
}

/// Seals whatever a test wants, in order, as nobody should.
struct Forger: ~Copyable {
    private var key: RecordKey

    init(_ suite: RecordSuite = .aes128, sequence: UInt64 = 0) throws {
        key = try RecordKey.make(Direction.secret(suite), isSealing: true, sequence: sequence)
    }

    init(_ secret: borrowing TrafficSecret) throws { key = try RecordKey.make(secret, isSealing: true) }

    mutating func record(_ type: UInt8, _ content: [UInt8], padding: Int = 0) throws -> [UInt8] {
        var target = [UInt8](repeating: 0, count: content.count + padding + RecordFormat.overhead)
        // With padding, the type that the key writes is the last of the zeros.
        let inner = padding == 0 ? content : content + [type] + [UInt8](repeating: 0, count: padding - 1)
        let count = try unsafe inner.withUnsafeBytes { inner in
            try unsafe target.withUnsafeMutableBytes {
                try unsafe key.seal(padding == 0 ? type : 0, inner, into: #require($0.baseAddress))
            }
        }
        return Array(target.prefix(count))
    }

    mutating func message(_ kind: UInt8, _ body: [UInt8]) throws -> [UInt8] {
        try record(ContentType.handshake, Self.message(kind, body))
    }

    static func message(_ kind: UInt8, _ body: [UInt8]) -> [UInt8] {
        [kind, UInt8(body.count >> 16), UInt8(body.count >> 8 & 0xff), UInt8(body.count & 0xff)] + body
    }
}

let keyUpdate: UInt8 = 24
let newSessionTicket: UInt8 = 4

struct RecordMachineTests {
    @Test(arguments: [RecordSuite.aes128, .aes256])
    func `opens what it seals, cut anywhere, into areas of any size`(suite: RecordSuite) throws {
        var random = SeededGenerator(seed: 21)
        let direction = try Direction(suite, recordsPerKey: 7)
        for round in 0..<120 {
            let bytes = random.bytes(Int.random(in: 0...50_000, using: &random))
            let sealed = try direction.seal(bytes)
            let opened = direction.open(
                sealed, piece: Int.random(in: 1...(round % 2 == 0 ? 200_000 : 300), using: &random),
                area: Int.random(in: 1...40_000, using: &random))
            #expect(opened == Opened(plain: bytes))
            #expect(direction.memory.borrowedByteCount == 0)
        }
        #expect(direction.open(try direction.sealer.alert(Alert.closeNotify)).isClosed)
    }

    @Test func `a record that is not whole is kept in no more memory than it needs`() throws {
        let direction = try Direction()
        let sealed = try direction.seal([UInt8](repeating: 1, count: 16_384))
        #expect(direction.open(Array(sealed[..<5])) == Opened())
        #expect(direction.memory.borrowedByteCount == 0)
        #expect(direction.open(Array(sealed[5..<1_000])) == Opened())
        #expect(direction.memory.borrowedByteCount == 4_096)
        #expect(direction.open(Array(sealed[1_000..<sealed.count - 1])) == Opened())
        #expect(direction.memory.borrowedByteCount <= 32_768)
        #expect(direction.open(Array(sealed.suffix(1))).plain.count == 16_384)
        #expect(direction.memory.borrowedByteCount == 0)
    }

    // MARK: Forgeries

    @Test func `no changed bit of a record is accepted`() throws {
        let sealed = try Direction().seal(Array("sixteen bytes...".utf8))
        for bit in 0..<sealed.count * 8 {
            var forged = sealed
            forged[bit / 8] ^= 1 << UInt8(bit % 8)
            // A longer record waits for its end: what follows completes it.
            let opened = try Direction().open(forged + [UInt8](repeating: 0, count: 17_000))
            #expect(opened.plain.isEmpty && opened.breach != nil, "bit \(bit)")
            if bit >= 40 { #expect(opened.alert == Alert.badRecordMAC) }
        }
    }

    @Test func `records that are left out, repeated or exchanged are refused`() throws {
        let direction = try Direction()
        let records = try (0..<4).map { try direction.seal([UInt8($0)]) }
        let refused = { (order: [Int], delivered: [UInt8]) in
            let opened = try Direction().open(order.flatMap { records[$0] })
            #expect(opened.plain == delivered && opened.alert == Alert.badRecordMAC)
        }
        try refused([0, 0], [0])
        try refused([1], [])
        try refused([0, 2, 1], [0])
        try refused([0, 1, 3], [0, 1])
        try refused([0, 1, 2, 3, 0], [0, 1, 2, 3])
        // Another key's, and the other suite's.
        #expect(try Direction(.aes256).open(records[0]).alert == Alert.badRecordMAC)
    }

    @Test func `nothing of a record is delivered before all of it has come`() throws {
        let sealed = try Direction().seal([UInt8](repeating: 9, count: 300))
        for cut in 0..<sealed.count {
            let opened = try Direction().open(Array(sealed[..<cut]), area: 4_096)
            #expect(opened == Opened())
        }
    }

    @Test func `a record that was not authentic leaves nothing in the area`() throws {
        let direction = try Direction()
        var sealed = try direction.seal([UInt8](repeating: 0xab, count: 1_000))
        sealed[sealed.count - 1] ^= 1
        var area = [UInt8](repeating: 0xee, count: 2_000)
        var (consumed, filled) = (0, 0)
        #expect(throws: RecordBreach.self) {
            try unsafe sealed.withUnsafeBytes { input in
                try unsafe area.withUnsafeMutableBytes {
                    _ = try unsafe direction.opener.open(input, &consumed, into: $0, &filled)
                }
            }
        }
        #expect(filled == 0 && !area.contains(0xab))
    }

    // MARK: The form of records

    struct Malformed: Sendable, CustomStringConvertible {
        let description: String
        let alert: UInt8
        var toClient = true
        let make: @Sendable (inout Forger) throws -> [UInt8]
    }

    static let malformed = [
        Malformed(description: "a record without a type", alert: Alert.unexpectedMessage) {
            try $0.record(0, [0, 0, 0])
        },
        Malformed(description: "a record without anything", alert: Alert.unexpectedMessage) {
            try $0.record(0, [])
        },
        Malformed(description: "a body that is shorter than a tag", alert: Alert.badRecordMAC) { _ in
            [23, 3, 3, 0, 15] + [UInt8](repeating: 0, count: 15)
        },
        Malformed(description: "a body of a tag alone", alert: Alert.badRecordMAC) { _ in
            [23, 3, 3, 0, 16] + [UInt8](repeating: 0, count: 16)
        },
        Malformed(description: "a body beyond 2^14 + 256", alert: Alert.recordOverflow) { _ in
            [23, 3, 3, 0x41, 0x01]
        },
        Malformed(description: "content beyond 2^14", alert: Alert.recordOverflow) {
            try $0.record(23, [UInt8](repeating: 1, count: 16_385))
        },
        Malformed(description: "padding beyond 2^14 + 1", alert: Alert.recordOverflow) {
            try $0.record(23, [UInt8](repeating: 1, count: 16_384), padding: 1)
        },
        Malformed(description: "the version of TLS 1.0", alert: Alert.protocolVersion) { _ in
            [23, 3, 1, 0, 20]
        },
        Malformed(description: "a ChangeCipherSpec", alert: Alert.unexpectedMessage) { _ in
            [20, 3, 3, 0, 1, 1]
        },
        Malformed(description: "an alert in the clear", alert: Alert.unexpectedMessage) { _ in
            [21, 3, 3, 0, 2, 2, 40]
        },
        Malformed(description: "a handshake record in the clear", alert: Alert.unexpectedMessage) { _ in
            [22, 3, 3, 0, 4, 0, 0, 0, 0]
        },
        Malformed(description: "a sealed ChangeCipherSpec", alert: Alert.unexpectedMessage) {
            try $0.record(20, [1])
        },
        Malformed(description: "a sealed record of an unknown type", alert: Alert.unexpectedMessage) {
            try $0.record(24, [1, 2, 3])
        },
        Malformed(description: "an empty handshake record", alert: Alert.unexpectedMessage) {
            try $0.record(22, [])
        },
        Malformed(description: "an empty alert", alert: Alert.decodeError) { try $0.record(21, []) },
        Malformed(description: "half an alert", alert: Alert.decodeError) { try $0.record(21, [2]) },
        Malformed(description: "two alerts in a record", alert: Alert.decodeError) {
            try $0.record(21, [1, 90, 1, 0])
        },
        Malformed(description: "HelloRequest", alert: Alert.unexpectedMessage) { try $0.message(0, []) },
        Malformed(description: "ClientHello", alert: Alert.unexpectedMessage, toClient: false) {
            try $0.message(1, [UInt8](repeating: 3, count: 100))
        },
        Malformed(description: "CertificateRequest", alert: Alert.unexpectedMessage) {
            try $0.message(13, [0, 0, 0])
        },
        Malformed(description: "Finished", alert: Alert.unexpectedMessage) {
            try $0.message(20, [UInt8](repeating: 0, count: 32))
        },
        Malformed(description: "a ticket for a server", alert: Alert.unexpectedMessage, toClient: false) {
            try $0.message(newSessionTicket, [UInt8](repeating: 0, count: 40))
        },
        Malformed(description: "an empty ticket", alert: Alert.decodeError) {
            try $0.message(newSessionTicket, [])
        },
        Malformed(description: "a ticket larger than any", alert: Alert.decodeError) {
            try $0.record(22, [newSessionTicket, 2, 0x01, 0x0a])
        },
        Malformed(description: "a KeyUpdate without a body", alert: Alert.decodeError) {
            try $0.message(keyUpdate, [])
        },
        Malformed(description: "a KeyUpdate of two bytes", alert: Alert.decodeError) {
            try $0.message(keyUpdate, [0, 0])
        },
        Malformed(description: "a KeyUpdate that says 2", alert: Alert.illegalParameter) {
            try $0.message(keyUpdate, [2])
        },
        Malformed(description: "a message behind a KeyUpdate", alert: Alert.unexpectedMessage) {
            try $0.record(22, Forger.message(keyUpdate, [0]) + Forger.message(keyUpdate, [0]))
        },
        Malformed(description: "half a message behind a KeyUpdate", alert: Alert.unexpectedMessage) {
            try $0.record(22, Forger.message(keyUpdate, [0]) + [newSessionTicket])
        },
        Malformed(description: "data within a message", alert: Alert.unexpectedMessage) {
            try $0.record(22, [newSessionTicket, 0]) + $0.record(23, [1])
        },
        Malformed(description: "an empty data record within a message", alert: Alert.unexpectedMessage) {
            try $0.record(22, [newSessionTicket, 0, 0, 9, 1]) + $0.record(23, [])
        },
        Malformed(description: "an alert within a message", alert: Alert.unexpectedMessage) {
            try $0.record(22, [keyUpdate, 0, 0, 1]) + $0.record(21, [1, 0])
        },
        Malformed(description: "the old key behind a KeyUpdate", alert: Alert.badRecordMAC) {
            try $0.message(keyUpdate, [0]) + $0.record(23, [1])
        },
    ]

    @Test(arguments: malformed)
    func `a breach is answered with its alert, behind what came before it`(malformed: Malformed) throws {
        for (piece, area) in [(Int.max, 64 << 10), (1, 64 << 10), (Int.max, 7)] {
            var forger = try Forger()
            let good = try forger.record(23, Array("good".utf8))
            let bad = try malformed.make(&forger)
            let opened = try Direction(toClient: malformed.toClient)
                .open(good + bad, piece: piece, area: area)
            #expect(opened.plain == Array("good".utf8))
            #expect(opened.alert == malformed.alert, "\(malformed): \(String(describing: opened.breach))")
        }
    }

    @Test func `padding is taken off`() throws {
        var forger = try Forger()
        let direction = try Direction()
        for padding in [1, 2, 255, 16_384] {
            let sealed = try forger.record(23, [], padding: padding)
            #expect(direction.open(sealed) == Opened())
        }
        for (count, padding) in [(1, 1), (5, 300), (16_383, 1), (1, 16_383), (16_384, 0)] {
            // Content may end with zeros itself.
            let content = [UInt8](repeating: 0, count: count)
            let sealed = try forger.record(23, content, padding: padding)
            #expect(direction.open(sealed, area: 16_384).plain == content)
        }
        #expect(try direction.open(forger.record(21, [1, 0], padding: 40)).isClosed)
    }

    // MARK: Alerts

    @Test func `close_notify ends reading, whatever its level, and nothing behind it is read`() throws {
        for level: UInt8 in [0, 1, 2, 255] {
            var forger = try Forger()
            let sealed = try forger.record(23, [7]) + forger.record(21, [level, 0]) + forger.record(23, [8])
            #expect(try Direction().open(sealed) == Opened(plain: [7], isClosed: true))
        }
    }

    @Test(arguments: 1...255 as ClosedRange<UInt8>)
    func `every other alert ends the session, whatever its level, and user_canceled says nothing`(
        description: UInt8
    ) throws {
        for level: UInt8 in [1, 2] {
            var forger = try Forger()
            let sealed = try forger.record(21, [level, description]) + forger.record(23, [8])
            let opened = try Direction().open(sealed)
            if description == Alert.userCanceled {
                #expect(opened == Opened(plain: [8]))
            } else {
                // We do not answer an alert.
                guard case .alert(let name) = opened.breach?.error, opened.alert == nil else {
                    Issue.record("\(opened)")
                    return
                }
                if description == 42 { #expect(name == "bad certificate") }
                if description == 116 { #expect(name == "certificate required") }
            }
        }
    }

    // MARK: Messages

    @Test func `a server's tickets are passed over, however they are cut`() throws {
        var random = SeededGenerator(seed: 22)
        for largest in [1, 3, 100, 16_384] {
            var forger = try Forger()
            let direction = try Direction()
            // Two in a row, so that one record holds the end of the first and the beginning of the second.
            let count = largest < 16_384 ? 200 : 70_000
            let messages = (0..<2).flatMap { _ in Forger.message(newSessionTicket, random.bytes(count)) }
            var rest = messages[...]
            var sealed: [UInt8] = []
            while !rest.isEmpty {
                let part = rest.prefix(Int.random(in: 1...largest, using: &random))
                sealed += try forger.record(22, Array(part))
                rest = rest.dropFirst(part.count)
            }
            sealed += try forger.record(23, [5])
            #expect(direction.open(sealed) == Opened(plain: [5]))
        }
    }

    @Test func `a KeyUpdate changes the key, and is answered when it asks for it`() throws {
        for (request, isCut) in [(0, false), (1, false), (1, true)] as [(UInt8, Bool)] {
            var forger = try Forger()
            let direction = try Direction()
            let message = Forger.message(keyUpdate, [request])
            let sealed =
                try isCut
                ? forger.record(22, Array(message[..<3])) + forger.record(22, Array(message[3...]))
                : forger.record(22, message)
            #expect(direction.open(sealed) == Opened())
            #expect(direction.opener.takeUpdateRequest() == (request == 1))
            #expect(!direction.opener.takeUpdateRequest())
            var next = try Forger(Direction.secret(.aes128).next())
            #expect(try direction.open(next.record(23, [1])).plain == [1])
        }
    }

    @Test func `an update that is asked for goes before the next data, once`() throws {
        let direction = try Direction()
        let plainCount = try direction.seal([1]).count
        direction.sealer.renew(.answer)
        direction.sealer.renew(.request)
        direction.sealer.renew(.answer)
        #expect(try direction.seal([]).isEmpty)
        let sealed = try direction.seal([2])
        #expect(sealed.count == plainCount + 5 + RecordFormat.overhead)
        #expect(try direction.seal([3]).count == plainCount)
        #expect(direction.open(try Direction().seal([1])).plain == [1])
        #expect(direction.open(sealed).plain == [2])
        #expect(direction.opener.takeUpdateRequest())
    }

    @Test func `a key seals no more records than it may`() throws {
        let direction = try Direction(recordsPerKey: 3)
        let bytes = [UInt8](repeating: 1, count: 16_384 * 10)
        let sealed = try direction.seal(bytes)
        // 10 records of data, and a KeyUpdate behind the 3rd, 6th and 9th.
        #expect(sealed.count == bytes.count + 10 * RecordFormat.overhead + 3 * (5 + RecordFormat.overhead))
        #expect(direction.open(sealed).plain == bytes)
    }

    @Test func `record numbers are never used twice`() throws {
        let direction = try Direction(sequence: .max - 1, recordsPerKey: .max)
        var forger = try Forger(sequence: .max - 1)
        let last = try forger.record(23, [1])
        #expect(throws: TLSError.self) { _ = try forger.record(23, [2]) }
        #expect(direction.open(last).plain == [1])
        #expect(direction.open(last).alert == Alert.internalError)
        // The sealer renews its key long before.
        #expect(try direction.seal([3]).count > 1 + RecordFormat.overhead)
    }

    // MARK: Floods

    @Test func `records without data are bounded by the data that comes with them`() throws {
        let kinds: [@Sendable (inout Forger) throws -> [UInt8]] = [
            { try $0.record(23, []) }, { try $0.record(23, [], padding: 100) },
            { try $0.record(21, [1, 90]) }, { try $0.message(newSessionTicket, [1, 2, 3, 4]) },
        ]
        for make in kinds {
            var forger = try Forger()
            let direction = try Direction()
            for _ in 0..<TLSSession.emptyRecordBudget {
                #expect(try direction.open(make(&forger)).breach == nil)
            }
            for _ in 0..<64 {
                _ = try direction.open(forger.record(23, [UInt8](repeating: 1, count: 16_384)))
            }
            #expect(try direction.open(make(&forger)).breach == nil)
            #expect(try direction.open(make(&forger)).alert == Alert.unexpectedMessage)
        }
    }

    // MARK: Fuzzing

    /// Streams of records as a peer may make them, with changes: nothing that was not sealed comes out, in no cutting, and
    /// nothing traps.
    @Test(arguments: 0..<40 as Range<UInt64>)
    func `a changed stream delivers a beginning of what was sealed, and then a breach`(seed: UInt64) throws {
        var random = SeededGenerator(seed: 1_000 + seed)
        for _ in 0..<50 {
            var forger = try Forger()
            var sealed: [UInt8] = []
            var sent: [UInt8] = []
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                switch Int.random(in: 0..<8, using: &random) {
                case 0: sealed += try forger.message(newSessionTicket, random.bytes(30))
                case 1: sealed += try forger.record(23, [], padding: Int.random(in: 1...40, using: &random))
                default:
                    let bytes = random.bytes(Int.random(in: 1...600, using: &random))
                    sent += bytes
                    sealed += try forger.record(
                        23, bytes, padding: Int.random(in: 0...3, using: &random) == 0 ? 9 : 0)
                }
            }
            let original = sealed
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                let place = Int.random(in: 0..<sealed.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: sealed[place] ^= UInt8.random(in: 1...255, using: &random)
                case 1: sealed.remove(at: place)
                case 2: sealed.insert(UInt8.random(in: 0...255, using: &random), at: place)
                default:
                    let end = min(sealed.count, place + 40)
                    sealed.replaceSubrange(place..<end, with: random.bytes(end - place))
                }
            }
            let opened = try Direction().open(
                sealed + [UInt8](repeating: 0x17, count: 40_000),
                piece: Int.random(in: 1...2_000, using: &random),
                area: Int.random(in: 1...3_000, using: &random))
            // The bytes behind the stream are never right.
            #expect(opened.breach != nil)
            if sealed == original {
                #expect(opened.plain == sent)
            } else {
                #expect(sent.starts(with: opened.plain))
            }
        }
    }

    /// Honest records of every kind, in an order that may be a breach: what comes of them is what the RFC says, in every
    /// cutting.
    @Test(arguments: 0..<30 as Range<UInt64>)
    func `what a peer may seal is taken as RFC 8446 says`(seed: UInt64) throws {
        var random = SeededGenerator(seed: 3_000 + seed)
        for _ in 0..<40 {
            var peer = try ModelPeer(isServer: Bool.random(using: &random))
            var sealed: [UInt8] = []
            for _ in 0..<Int.random(in: 1...12, using: &random) { sealed += try peer.record(&random) }
            let direction = try Direction(toClient: peer.isServer)
            let opened = direction.open(
                sealed, piece: Int.random(in: 1...3_000, using: &random),
                area: Int.random(in: 1...3_000, using: &random))
            #expect(opened.plain == peer.delivered)
            #expect(opened.isClosed == (peer.end == .closed))
            if case .breach(let alert) = peer.end {
                #expect(opened.breach != nil && opened.alert == alert)
            } else {
                #expect(opened.breach == nil)
            }
            #expect(direction.opener.takeUpdateRequest() == peer.hasAsked)
        }
    }

    @Test(arguments: 0..<20 as Range<UInt64>)
    func `messages that a peer may seal do not trap`(seed: UInt64) throws {
        var random = SeededGenerator(seed: 2_000 + seed)
        let types: [UInt8] = [20, 21, 22, 22, 22, 23, 24, 0]
        for _ in 0..<100 {
            var forger = try Forger()
            let direction = try Direction(toClient: Bool.random(using: &random))
            for _ in 0..<10 {
                var content = random.bytes(Int.random(in: 0...12, using: &random))
                if content.count > 3, Bool.random(using: &random) {
                    content[0] = [newSessionTicket, keyUpdate].randomElement(using: &random) ?? 0
                    (content[1], content[2]) = (0, 0)
                }
                let type = types.randomElement(using: &random) ?? 0
                let sealed = try forger.record(
                    type, content, padding: Int.random(in: 0...3, using: &random))
                let opened = direction.open(sealed, area: Int.random(in: 1...20, using: &random))
                if type == 23, opened.breach == nil { #expect(opened.plain == content) }
                if opened.breach != nil || opened.isClosed { break }
            }
        }
    }
}

/// Seals records of every kind, and knows by itself what a receiver makes of them: how RFC 8446 §4.6, §5 and §6 read to
/// somebody who has all messages whole before him.
private struct ModelPeer: ~Copyable {
    enum End: Equatable {
        case open, closed
        case breach(UInt8?)
    }

    let isServer: Bool
    private(set) var delivered: [UInt8] = []
    private(set) var end = End.open
    private(set) var hasAsked = false
    private var secret: TrafficSecret
    private var forger: Forger
    /// What of the handshake messages has been sealed and is not a whole message yet.
    private var unfinished: [UInt8] = []
    /// What of a message is still to be sealed.
    private var unsealed: [UInt8] = []

    init(isServer: Bool) throws {
        self.isServer = isServer
        let secret = try Direction.secret(.aes128)
        forger = try Forger(secret)
        self.secret = secret
    }

    mutating func record(_ random: inout SeededGenerator) throws -> [UInt8] {
        let isGoingOn = !unsealed.isEmpty && Int.random(in: 0..<8, using: &random) > 0
        switch isGoingOn ? 5 : Int.random(in: 0..<12, using: &random) {
        case 0: return try record(ContentType.alert, [UInt8.random(in: 1...2, using: &random), 90], &random)
        case 1 where Bool.random(using: &random):
            let description: UInt8 = [0, 0, 40, 80].randomElement(using: &random) ?? 0
            return try record(ContentType.alert, [1, description], &random)
        case 2: return try record(ContentType.applicationData, [], &random)
        case 3...5:
            if unsealed.isEmpty {
                for _ in 0..<Int.random(in: 1...2, using: &random) { unsealed += message(&random) }
            }
            let part = unsealed.prefix(Int.random(in: 1...40, using: &random))
            unsealed.removeFirst(part.count)
            return try record(ContentType.handshake, Array(part), &random)
        default:
            let count = Int.random(in: 1...(Bool.random(using: &random) ? 9_000 : 30), using: &random)
            return try record(ContentType.applicationData, random.bytes(count), &random)
        }
    }

    private func message(_ random: inout SeededGenerator) -> [UInt8] {
        switch Int.random(in: 0..<20, using: &random) {
        case 0: Forger.message([0, 1, 2, 5, 8, 11, 13, 20, 25, 254].randomElement(using: &random) ?? 0, [7])
        case 1: Forger.message(keyUpdate, [2])
        case 2..<9: Forger.message(newSessionTicket, random.bytes(Int.random(in: 1...60, using: &random)))
        default: Forger.message(keyUpdate, [UInt8.random(in: 0...1, using: &random)])
        }
    }

    private mutating func record(_ type: UInt8, _ content: [UInt8], _ random: inout SeededGenerator) throws
        -> [UInt8]
    {
        let padding = Bool.random(using: &random) ? 0 : Int.random(in: 0...70, using: &random)
        let sealed = try forger.record(type, content, padding: padding)
        if end == .open { try receive(type, content) }
        return sealed
    }

    private mutating func receive(_ type: UInt8, _ content: [UInt8]) throws {
        guard unfinished.isEmpty || type == ContentType.handshake else {
            end = .breach(Alert.unexpectedMessage)
            return
        }
        switch type {
        case ContentType.applicationData: delivered += content
        case ContentType.alert:
            if content[1] == 0 { end = .closed } else if content[1] != 90 { end = .breach(nil) }
        default:
            unfinished += content
            while end == .open, unfinished.count >= 4 { if try !receiveMessage() { return } }
        }
    }

    /// - Returns: whether there was a whole one.
    private mutating func receiveMessage() throws -> Bool {
        let length = Int(unfinished[1]) << 16 | Int(unfinished[2]) << 8 | Int(unfinished[3])
        switch unfinished[0] {
        case newSessionTicket where isServer:
            guard unfinished.count >= 4 + length else { return false }
            unfinished.removeFirst(4 + length)
        case keyUpdate:
            guard unfinished.count >= 4 + length else { return false }
            let request = unfinished[4]
            unfinished.removeFirst(4 + length)
            guard request <= 1 else {
                end = .breach(Alert.illegalParameter)
                return true
            }
            guard unfinished.isEmpty else {
                end = .breach(Alert.unexpectedMessage)
                return true
            }
            if request == 1 { hasAsked = true }
            secret = secret.next()
            forger = try Forger(secret)
        default: end = .breach(Alert.unexpectedMessage)
        }
        return true
    }
}
