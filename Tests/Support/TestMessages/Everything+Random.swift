import TestSupport

extension SeededGenerator {
    /// An integer of any magnitude: as many small ones as large.
    public mutating func integer<Number: FixedWidthInteger>() -> Number {
        Number(truncatingIfNeeded: next()) >> Number(Int.random(in: 0..<Number.bitWidth, using: &self))
    }

    public mutating func bytes(atMost limit: Int = 200) -> [UInt8] {
        (0..<Int.random(in: 0...limit, using: &self)).map { _ in UInt8(truncatingIfNeeded: next()) }
    }

    public mutating func text() -> String {
        let letters = ["a", "Z", "0", "/", "é", "網", "🛰"]
        return (0..<Int.random(in: 0...40, using: &self)).map { _ in letters[Int(next() % 7)] }.joined()
    }

    mutating func often<Value>(_ value: (inout SeededGenerator) -> Value) -> Value? {
        next() % 3 == 0 ? nil : value(&self)
    }

    mutating func list<Value>(_ value: (inout SeededGenerator) -> Value) -> [Value] {
        (0..<Int.random(in: 0...5, using: &self)).map { _ in value(&self) }
    }

    mutating func map<Key: Hashable, Value>(
        _ key: (inout SeededGenerator) -> Key, _ value: (inout SeededGenerator) -> Value
    ) -> [Key: Value] {
        Dictionary(list { (key(&$0), value(&$0)) }, uniquingKeysWith: { $1 })
    }

    mutating func colour() -> Warren_Test_Colour {
        Warren_Test_Colour(rawValue: Int(Int32.random(in: -3...4, using: &self)))
    }
}

extension Warren_Test_Leaf {
    public static func random(_ random: inout SeededGenerator) -> Self {
        var leaf = Self()
        leaf.name = random.text()
        leaf.count = random.integer()
        leaf.numbers = random.list { $0.integer() }
        return leaf
    }
}

extension Warren_Test_Nested {
    public static func random(_ random: inout SeededGenerator, depth: Int = 4) -> Self {
        var nested = Self()
        nested.label = random.text()
        guard depth > 0 else { return nested }
        if let child = random.often({ Self.random(&$0, depth: depth - 1) }) { nested.child = child }
        nested.children = random.list { Self.random(&$0, depth: depth / 2) }
        switch random.next() % 3 {
        case 0: nested.left = Self.random(&random, depth: depth - 1)
        case 1: nested.right = .random(&random)
        default: break
        }
        return nested
    }
}

extension Warren_Test_Everything {
    /// A message in which most fields are set.
    public static func random(_ random: inout SeededGenerator) -> Self {
        var message = Self()
        message.setScalars(&random)
        message.setLists(&random)
        message.setMaps(&random)
        switch random.next() % 6 {
        case 0: message.choiceNumber = random.integer()
        case 1: message.choiceText = random.text()
        case 2: message.choiceLeaf = .random(&random)
        case 3: message.choiceColour = random.colour()
        case 4: message.choiceBytes = random.bytes()
        default: break
        }
        message.far = random.text()
        if let nested = random.often({ Warren_Test_Nested.random(&$0) }) { message.nested = nested }
        return message
    }

    private mutating func setScalars(_ random: inout SeededGenerator) {
        doubleField = Double.random(in: -1e9...1e9, using: &random)
        floatField = Float.random(in: -1e9...1e9, using: &random)
        int32Field = random.integer()
        int64Field = random.integer()
        uint32Field = random.integer()
        uint64Field = random.integer()
        sint32Field = random.integer()
        sint64Field = random.integer()
        fixed32Field = random.integer()
        fixed64Field = random.integer()
        sfixed32Field = random.integer()
        sfixed64Field = random.integer()
        boolField = Bool.random(using: &random)
        stringField = random.text()
        bytesField = random.bytes()
        colour = random.colour()
        if let value = random.often({ Warren_Test_Leaf.random(&$0) }) { leaf = value }
        if let value = random.often({ _ in -0.0 }) { optionalDouble = value }
        if let value = random.often({ Int32.random(in: 0...1, using: &$0) }) { optionalInt32 = value }
        if let value = random.often({ Bool.random(using: &$0) }) { optionalBool = value }
        if let value = random.often({ $0.text() }) { optionalString = value }
        if let value = random.often({ $0.bytes() }) { optionalBytes = value }
        if let value = random.often({ $0.colour() }) { optionalColour = value }
    }

    private mutating func setLists(_ random: inout SeededGenerator) {
        doubles = random.list { Double.random(in: -1...1, using: &$0) }
        floats = random.list { Float.random(in: -1...1, using: &$0) }
        int32s = random.list { $0.integer() }
        int64s = random.list { $0.integer() }
        uint32s = random.list { $0.integer() }
        uint64s = random.list { $0.integer() }
        sint32s = random.list { $0.integer() }
        sint64s = random.list { $0.integer() }
        fixed32s = random.list { $0.integer() }
        fixed64s = random.list { $0.integer() }
        sfixed32s = random.list { $0.integer() }
        sfixed64s = random.list { $0.integer() }
        bools = random.list { Bool.random(using: &$0) }
        strings = random.list { $0.text() }
        byteStrings = random.list { $0.bytes() }
        colours = random.list { $0.colour() }
        leaves = random.list { .random(&$0) }
        unpackedInt32s = random.list { $0.integer() }
    }

    private mutating func setMaps(_ random: inout SeededGenerator) {
        stringToString = random.map({ $0.text() }, { $0.text() })
        int32ToLeaf = random.map({ $0.integer() }, { .random(&$0) })
        boolToBytes = random.map({ Bool.random(using: &$0) }, { $0.bytes() })
        uint64ToDouble = random.map({ $0.integer() }, { Double.random(in: -1...1, using: &$0) })
        sint32ToSint64 = random.map({ $0.integer() }, { $0.integer() })
        fixed32ToColour = random.map({ $0.integer() }, { $0.colour() })
        stringToNested = random.map({ $0.text() }, { .random(&$0, depth: 1) })
    }
}
