import Protobuf

extension Message {
    /// `type.googleapis.com/` and the message's name: its type in an `Any`, and of xDS subscriptions.
    public static var typeURL: String { "type.googleapis.com/\(protoMessageName)" }

    /// Takes the message out of `any`.
    ///
    /// - Throws: when it holds another type, or bytes that are no such message.
    public init(unpackingAny any: Google_Protobuf_Any) throws(WireError) {
        guard any.isA(Self.self) else {
            throw WireError("type_url", "\"\(any.typeURL)\", expected \(Self.typeURL)")
        }
        do throws(BinaryDecodingError) {
            try self.init(serializedBytes: any.value)
        } catch {
            throw WireError("value", "no \(Self.protoMessageName): \(error)")
        }
    }
}

extension Google_Protobuf_Any {
    public init(message: some Message) {
        self.init()
        typeURL = type(of: message).typeURL
        value = message.serializedBytes()
    }

    /// Whether it holds an `M`; as everywhere, what counts of the URL is the part behind the last slash.
    public func isA<M: Message>(_: M.Type) -> Bool {
        let name = M.protoMessageName
        return typeURL.hasSuffix(name) && typeURL.utf8.dropLast(name.utf8.count).last == UInt8(ascii: "/")
    }
}

extension Google_Protobuf_Struct {
    /// A JSON object of texts.
    public init(_ texts: [String: String]) {
        self.init()
        fields = texts.mapValues { text in
            var value = Google_Protobuf_Value()
            value.stringValue = text
            return value
        }
    }

    /// The text under `key`; nil when there is none, or something else.
    public func text(_ key: String) -> String? {
        guard case .stringValue(let text)? = fields[key]?.kind else { return nil }
        return text
    }
}
