import Testing

@testable import TLS

/// The records behind the handshake of RFC 8448 §3, byte for byte.
struct RecordTraceTests {
    private static let clientSecret = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
    private static let serverSecret = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"

    private static let data = (0..<50).map { UInt8($0) }
    private static let clientData = bytes(
        """
        1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b6297
        4e1f5a6292a2977014bd1e3deae63aeebb21694915e4
        """)
    private static let serverData = bytes(
        """
        17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a59a8fcc4
        9c4bf2e5f0a21c0047c2abf332540dd032e167c2955d
        """)
    private static let clientClose = bytes("1703030013c9872760655666b74d7ff1153efd6db6d0b0e3")
    private static let serverClose = bytes("1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9")
    private static let ticket = bytes(
        """
        040000c90000001efad6aac502000000b22c035d829359ee5ff7af4ec900000000262a6494dc486d2c8a34cb33fa90bf1b00
        70ad3c498883c9367c09a2be785abc55cd226097a3a982117283f82a03a143efd3ff5dd36d64e861be7fd61d2827db279cce
        145077d454a3664d4e6da4d29ee03725a6a4dafcd0fc67d2aea70529513e3da2677fa5906c5b3f7d8f92f228bda40dda7214
        70f9fbf297b5aea617646fac5c03272e970727c621a79141ef5f7de6505e5bfbc388e93343694093934ae4d3570008002a00
        0400000400
        """)
    private static let sealedTicket = bytes(
        """
        17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d41d6af8f6b580dcf3d11d63c758db289a0159
        40252f55713e061dc13e078891a38efbcf5753ad8ef170ad3c7353d16d9da773b9ca7f2b9fa1b6c0d4a3d03f75e09c30ba1e
        62972ac46f75f7b981be63439b2999ce13064615139891d5e4c5b406f16e3fc181a77ca475840025db2f0a77f81b5ab05b94
        c01346755f69232c86519d86cbeeac87aac347d143f9605d64f650db4d023e70e952ca49fe5137121c74bc2697687e248746
        d6df353005f3bce18696129c8153556b3b6c6779b37bf15985684f
        """)

    private static func bytes(_ hex: String) -> [UInt8] {
        let digits = hex.compactMap(\.hexDigitValue)
        return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
    }

    private func expand(_ secret: borrowing TrafficSecret, _ label: StaticString, _ count: Int) -> [UInt8] {
        var result = [UInt8](repeating: 0, count: count)
        unsafe result.withUnsafeMutableBytes { unsafe secret.expand(label, into: $0) }
        return result
    }

    @Test func `keys are derived as in the trace`() throws {
        let client = try trafficSecret(.aes128, Self.clientSecret)
        #expect(expand(client, "key", 16) == Self.bytes("17422dda596ed5d9acd890e3c63f5051"))
        #expect(expand(client, "iv", 12) == Self.bytes("5b78923dee08579033e523d9"))
        let server = try trafficSecret(.aes128, Self.serverSecret)
        #expect(expand(server, "key", 16) == Self.bytes("9f02283b6c9c07efc26bb9f2ac92e356"))
        #expect(expand(server, "iv", 12) == Self.bytes("cf782b88dd83549aadf1e984"))
        // Not in the trace; computed from it by another implementation.
        #expect(
            expand(client, "traffic upd", 32)
                == Self.bytes("fcdfcc72725aaee48bf64e4fd8b749cdbdbab39d90da0b26e2245ca6ea167207"))
    }

    @Test func `a client's records are those of the trace`() throws {
        let sealer = try RecordSealer(trafficSecret(.aes128, Self.clientSecret), recordsPerKey: 100)
        #expect(try sealer.seal(Self.data) == Self.clientData)
        #expect(try sealer.alert(Alert.closeNotify) == Self.clientClose)
    }

    @Test func `a server's records are those of the trace`() throws {
        var key = try RecordKey.make(trafficSecret(.aes128, Self.serverSecret), isSealing: true)
        var target = [UInt8](repeating: 0, count: 300)
        for (type, content, record) in [
            (ContentType.handshake, Self.ticket, Self.sealedTicket),
            (ContentType.applicationData, Self.data, Self.serverData),
            (ContentType.alert, [1, 0], Self.serverClose),
        ] {
            let count = try unsafe content.withUnsafeBytes { content in
                try unsafe target.withUnsafeMutableBytes {
                    try unsafe key.seal(type, content, into: #require($0.baseAddress))
                }
            }
            #expect(Array(target.prefix(count)) == record)
        }
    }

    @Test(arguments: [1, 7, 100, .max])
    func `the records of the trace are opened`(piece: Int) throws {
        let memory = CipherMemory(keptLimit: 0)
        let client = try RecordOpener(
            trafficSecret(.aes128, Self.serverSecret), isClient: true, memory: memory)
        #expect(
            client.open(Self.sealedTicket + Self.serverData + Self.serverClose, piece: piece)
                == Opened(plain: Self.data, isClosed: true))
        let server = try RecordOpener(
            trafficSecret(.aes128, Self.clientSecret), isClient: false, memory: memory)
        #expect(
            server.open(Self.clientData + Self.clientClose, piece: piece)
                == Opened(plain: Self.data, isClosed: true))
    }
}
