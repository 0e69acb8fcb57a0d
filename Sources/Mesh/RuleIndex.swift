import Address

/// Finds the rules that can hold for a connection among those that name whom or what they are about.
///
/// A rule needs all of its clauses. So it is filed under one of them, under the values that this clause asks for: each exact
/// name, prefix, suffix, range of addresses or port is a key. A connection has few keys, and rules under others cannot hold.
/// Of a key only a hash is kept: two that share one cost a needless question to a rule, and nothing else.
struct RuleIndex: Sendable {
    /// In the upper half a key, in the lower half the number of a rule; in order.
    private var entries: [UInt64] = []
    /// Those that no key leads to, in order: they ask for what a connection is not, or for nothing.
    private var others: [UInt32] = []
    private var namespaces = TextKeys(.namespace)
    private var principals = TextKeys(.principal)
    private var sources = AddressKeys(.source)
    private var destinations = AddressKeys(.destination)
    private var hasAccounts = false
    private var hasPorts = false

    init(_ rules: [Policy.Rule]) {
        entries.reserveCapacity(rules.count)
        for number in rules.indices { file(rules[number], UInt32(truncatingIfNeeded: number)) }
        entries.sort()
    }

    // MARK: Filing

    private mutating func file(_ rule: Policy.Rule, _ number: UInt32) {
        var best: (clause: Int, attribute: Attribute)?
        for clause in rule.clauses.indices {
            guard let attribute = Attribute(of: rule.clauses[clause]) else { continue }
            if let best, best.attribute.rawValue <= attribute.rawValue { continue }
            best = (clause, attribute)
        }
        guard let best else {
            others.append(number)
            return
        }
        for match in rule.clauses[best.clause].matches {
            // One with nothing set never holds.
            if let attribute = Attribute(of: match) { file(match, attribute, number) }
        }
    }

    private mutating func file(_ match: Policy.Match, _ attribute: Attribute, _ number: UInt32) {
        func add(_ key: UInt32) { entries.append(UInt64(key) << 32 | UInt64(number)) }
        switch attribute {
        case .principal: for value in match.principals { add(principals.file(value)) }
        case .account:
            hasAccounts = true
            for value in match.serviceAccounts { add(Self.account(value.namespace, value.serviceAccount)) }
        case .source: for value in match.sourceIPs { add(sources.file(value)) }
        case .namespace: for value in match.namespaces { add(namespaces.file(value)) }
        case .destination: for value in match.destinationIPs { add(destinations.file(value)) }
        case .port:
            hasPorts = true
            for value in match.destinationPorts { add(Self.port(value)) }
        }
    }

    // MARK: Looking up

    /// Asks the rules that can hold until the first of them in order is found.
    func visit(
        peer: Identity?, source: IPAddress, destination: SocketAddress, _ search: inout RuleSearch,
        _ holds: (Int) -> Bool
    ) {
        if !entries.isEmpty {
            func look(_ key: UInt32) { self.look(key, &search, holds) }
            principals.forEach(of: peer?.principal ?? "", look)
            namespaces.forEach(of: peer?.namespace ?? "", look)
            if hasAccounts, let peer { look(Self.account(peer.namespace, peer.serviceAccount)) }
            sources.forEach(of: source, look)
            destinations.forEach(of: destination.address, look)
            if hasPorts { look(Self.port(destination.port)) }
        }
        for rule in others where search.look(Int(rule), holds) { return }
    }

    private func look(_ key: UInt32, _ search: inout RuleSearch, _ holds: (Int) -> Bool) {
        let entries = entries.span
        let first = UInt64(key) << 32
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle] < first { low = middle + 1 } else { high = middle }
        }
        while low < entries.count, entries[low] >> 32 == UInt64(key) {
            if search.look(Int(UInt32(truncatingIfNeeded: entries[low])), holds) { return }
            low += 1
        }
    }

    // MARK: Keys

    private static func account(_ namespace: String, _ serviceAccount: String) -> UInt32 {
        var hash = KeyHash(.account)
        hash.add(namespace)
        hash.add(UInt8(ascii: "/"))
        hash.add(serviceAccount)
        return hash.value
    }

    private static func port(_ port: UInt16) -> UInt32 {
        var hash = KeyHash(.port)
        hash.add(UInt64(port))
        return hash.value
    }
}

/// What a rule can be filed under, the most telling first.
private enum Attribute: Int {
    case principal, account, source, namespace, destination, port

    /// The least telling of its matches; nil when not all of them can be filed.
    init?(of clause: Policy.Clause) {
        // Without matches it holds for everybody.
        guard !clause.matches.isEmpty else { return nil }
        var worst = Self.principal
        for match in clause.matches {
            guard let attribute = Self(of: match) else {
                // One with nothing set never holds, and is no matter.
                if match.isEmpty { continue }
                return nil
            }
            if attribute.rawValue > worst.rawValue { worst = attribute }
        }
        self = worst
    }

    /// Nil when all that is set is of no use: `not` values, and texts of which there need only be one.
    init?(of match: Policy.Match) {
        func isUseful(_ values: [Policy.StringMatch]) -> Bool {
            for case .presence in values { return false }
            return !values.isEmpty
        }
        if isUseful(match.principals) {
            self = .principal
        } else if !match.serviceAccounts.isEmpty {
            self = .account
        } else if !match.sourceIPs.isEmpty {
            self = .source
        } else if isUseful(match.namespaces) {
            self = .namespace
        } else if !match.destinationIPs.isEmpty {
            self = .destination
        } else if !match.destinationPorts.isEmpty {
            self = .port
        } else {
            return nil
        }
    }
}

/// The keys of one attribute that is a text.
private struct TextKeys: Sendable {
    private let attribute: Attribute
    private var hasExact = false
    /// Lengths in bytes of the prefixes and suffixes that are asked for, in order.
    private var prefixes: [Int] = []
    private var suffixes: [Int] = []

    init(_ attribute: Attribute) {
        self.attribute = attribute
    }

    mutating func file(_ match: Policy.StringMatch) -> UInt32 {
        var hash = KeyHash(attribute)
        switch match {
        case .exact(let text):
            hasExact = true
            hash.add(text)
            hash.add(KeyHash.exact)
        case .prefix(let text):
            prefixes.insertInOrder(text.utf8.count)
            hash.add(text)
        case .suffix(let text):
            suffixes.insertInOrder(text.utf8.count)
            hash.add(KeyHash.suffix)
            for byte in text.utf8.reversed() { hash.add(byte) }
        case .presence: break
        }
        return hash.value
    }

    func forEach(of text: String, _ look: (UInt32) -> Void) {
        let bytes = text.utf8.span
        if hasExact || !prefixes.isEmpty {
            var hash = KeyHash(attribute)
            var read = 0
            for length in prefixes where length <= bytes.count {
                while read < length {
                    hash.add(bytes[read])
                    read += 1
                }
                look(hash.value)
            }
            if hasExact {
                while read < bytes.count {
                    hash.add(bytes[read])
                    read += 1
                }
                hash.add(KeyHash.exact)
                look(hash.value)
            }
        }
        if !suffixes.isEmpty {
            var hash = KeyHash(attribute)
            hash.add(KeyHash.suffix)
            var read = 0
            for length in suffixes where length <= bytes.count {
                while read < length {
                    read += 1
                    hash.add(bytes[bytes.count - read])
                }
                look(hash.value)
            }
        }
    }
}

/// The keys of one attribute that is an address.
private struct AddressKeys: Sendable {
    private let attribute: Attribute
    /// Lengths in bits of the ranges that are asked for, in order.
    private var ipv4: [Int] = []
    private var ipv6: [Int] = []

    init(_ attribute: Attribute) {
        self.attribute = attribute
    }

    mutating func file(_ range: Prefix) -> UInt32 {
        if range.address.isIPv4 { ipv4.insertInOrder(range.length) } else { ipv6.insertInOrder(range.length) }
        return key(range)
    }

    func forEach(of address: IPAddress, _ look: (UInt32) -> Void) {
        // As a range looks at it: one of IPv4 at an IPv4-mapped address's IPv4 form.
        let canonical = address.canonical
        if canonical.isIPv4 { forEach(ipv4, of: canonical, look) }
        if !address.isIPv4 { forEach(ipv6, of: address, look) }
    }

    private func forEach(_ lengths: [Int], of address: IPAddress, _ look: (UInt32) -> Void) {
        for length in lengths {
            if let range = Prefix(address, length: length) { look(key(range)) }
        }
    }

    private func key(_ range: Prefix) -> UInt32 {
        var hash = KeyHash(attribute)
        let words = range.address.ipv6
        if !range.address.isIPv4 { hash.add(words.high) }
        hash.add(words.low)
        hash.add(UInt64(range.length))
        return hash.value
    }
}

extension [Int] {
    fileprivate mutating func insertInOrder(_ length: Int) {
        let place = firstIndex { $0 >= length } ?? endIndex
        if place == endIndex || self[place] != length { insert(length, at: place) }
    }
}

/// FNV-1a, of 32 bits.
private struct KeyHash {
    private(set) var value: UInt32 = 0x811c_9dc5

    /// Bytes that no text has: they keep keys of several kinds apart.
    static let exact: UInt8 = 0xff
    static let suffix: UInt8 = 0xfe

    init(_ attribute: Attribute) {
        add(UInt8(truncatingIfNeeded: attribute.rawValue))
    }

    @inline(__always)
    mutating func add(_ byte: UInt8) {
        value = (value ^ UInt32(byte)) &* 0x0100_0193
    }

    mutating func add(_ text: String) {
        let bytes = text.utf8.span
        for index in bytes.indices { add(bytes[index]) }
    }

    mutating func add(_ number: UInt64) {
        for shift in stride(from: UInt64(0), to: 64, by: 8) {
            add(UInt8(truncatingIfNeeded: number >> shift))
        }
    }
}
