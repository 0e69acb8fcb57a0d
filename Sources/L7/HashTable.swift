import Routing

/// Which of some endpoints a hash belongs to, so that few hashes move when endpoints come and go. Whoever has the same endpoints, by the same
/// names, has the same table.
struct HashTable {
    struct Member {
        var id: String
        /// 1 or more.
        var weight: UInt32
    }

    private enum Kind {
        /// Points around a ring, in order; a hash belongs to the next one.
        case ring([UInt64])
        /// A hash belongs to the slot by its remainder.
        case maglev
    }

    private let kind: Kind
    /// The member of each point or slot.
    private let owners: [Int32]

    /// The most points of a ring (Envoy's and Istio's limit).
    static let maximumRing = 8_388_608

    /// - Parameter members: not empty.
    init(_ algorithm: LoadBalancing.HashAlgorithm, _ members: [Member]) {
        switch algorithm {
        case .ring(let minimumSize):
            let points = Self.ring(members, max(1, min(minimumSize, Self.maximumRing)))
            kind = .ring(points.map(\.hash))
            owners = points.map(\.member)
        case .maglev(let tableSize):
            kind = .maglev
            owners = Self.maglev(members, Self.prime(max(tableSize, 3)))
        }
    }

    /// - Parameter attempt: 0, then 1 and so on for other members where that one will not do. These may be the same again.
    /// - Returns: the place of the member among those that the table was made of.
    func member(_ hash: UInt64, attempt: Int) -> Int {
        switch kind {
        case .ring(let hashes):
            var (low, high) = (0, hashes.count)
            while low < high {
                let middle = (low + high) / 2
                if hashes[middle] < hash { low = middle + 1 } else { high = middle }
            }
            return Int(owners[(low + attempt) % owners.count])
        case .maglev:
            let own = attempt == 0 ? hash : hash ^ (0 &- UInt64(attempt))
            return Int(owners[Int(own % UInt64(owners.count))])
        }
    }

    // MARK: The ring

    /// The member of the least weight has as many points as make the ring large enough, the others in proportion. That number is a power of two, so
    /// that members' points, and with them what belongs to them, mostly stay the same when others come and go.
    private static func ring(_ members: [Member], _ minimum: Int) -> [(hash: UInt64, member: Int32)] {
        let total = members.reduce(0.0) { $0 + Double($1.weight) }
        let least = Double(members.map(\.weight).min() ?? 1)
        var unit = 1.0
        while unit * total / least < Double(minimum) { unit *= 2 }
        // However unequal the weights are, the ring stays small enough to be made between two requests; nobody is left without a point.
        unit = min(unit, Double(max(65_536, 2 * minimum)) * least / total)
        var points: [(hash: UInt64, member: Int32)] = []
        for (number, member) in members.enumerated() {
            let count = max(1, Int((unit * Double(member.weight) / least).rounded()))
            for copy in 0..<count { points.append((XXHash64.hash("\(member.id)_\(copy)"), Int32(number))) }
        }
        points.sort { ($0.hash, $0.member) < ($1.hash, $1.member) }
        return points
    }

    // MARK: Maglev

    /// Each member goes through all slots in an order of its own and takes the next free one when it is its turn (Eisenbud et al., "Maglev: A Fast
    /// and Reliable Software Network Load Balancer", NSDI 2016, §3.4). Turns are in proportion to the weights.
    private static func maglev(_ members: [Member], _ size: Int) -> [Int32] {
        var slots = [Int32](repeating: -1, count: size)
        var next = members.map { Int(XXHash64.hash($0.id) % UInt64(size)) }
        let steps = members.map { Int(XXHash64.hash($0.id, seed: 1) % UInt64(size - 1)) + 1 }
        let greatest = UInt64(members.map(\.weight).max() ?? 1)
        var credit = [UInt64](repeating: 0, count: members.count)
        var left = size
        while true {
            for number in members.indices {
                credit[number] += UInt64(members[number].weight)
                guard credit[number] >= greatest else { continue }
                credit[number] -= greatest
                while slots[next[number]] >= 0 { next[number] = (next[number] + steps[number]) % size }
                slots[next[number]] = Int32(number)
                left -= 1
                if left == 0 { return slots }
            }
        }
    }

    /// The size itself where it is prime, else the next number that is: only then does each order reach every slot.
    private static func prime(_ size: Int) -> Int {
        func isPrime(_ number: Int) -> Bool {
            if number < 4 { return number > 1 }
            var divisor = 2
            while divisor * divisor <= number {
                if number % divisor == 0 { return false }
                divisor += 1
            }
            return true
        }
        var number = size
        while !isPrime(number) { number += 1 }
        return number
    }
}
