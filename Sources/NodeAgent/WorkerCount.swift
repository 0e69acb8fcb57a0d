/// How many workers a node runs, by ztunnel's rules (ztunnel.md §8.2, "Worker count").
struct WorkerCount: Equatable, Sendable {
    enum Wish: Equatable, Sendable {
        case automatic
        case exactly(Int)
        case everyCore
        /// Of the cores, rounded up.
        case percent(Int)

        /// `4`, `0` for every core, `25%`.
        init?(_ text: String) {
            if text.hasSuffix("%") {
                guard let share = Int(text.dropLast()), (1...100).contains(share) else { return nil }
                self = .percent(share)
            } else {
                guard let count = Int(text), (0...WorkerCount.limit).contains(count) else { return nil }
                self = count == 0 ? .everyCore : .exactly(count)
            }
        }
    }

    static let limit = 256

    var wish = Wish.automatic
    /// What percentages are of: the processors, or what the environment says they are (`ZTUNNEL_CPU_LIMIT`).
    var cores: Int
    /// `ZTUNNEL_RESOURCE_CPU_LIMIT` and `_REQUEST`, in whole processors; nil when not set.
    var resourceLimit: Int?
    var resourceRequest: Int?

    init(cores: Int) {
        self.cores = max(1, cores)
    }

    /// 1 to `limit`.
    var count: Int {
        let cores = resourceLimit ?? self.cores
        let count =
            switch wish {
            case .exactly(let count): count
            case .everyCore: cores
            case .percent(let share): (cores * share + 99) / 100
            case .automatic:
                if let resourceLimit {
                    max(resourceLimit, resourceRequest ?? 0)
                } else {
                    max((cores + 3) / 4, resourceRequest ?? 0, 2)
                }
            }
        return min(max(count, 1), Self.limit)
    }

    /// A Kubernetes quantity of processors in whole ones, rounded up: `500m` is 1, `2` is 2. Nil for anything else.
    static func processors(_ quantity: String) -> Int? {
        if quantity.hasSuffix("m") {
            guard let milli = Int(quantity.dropLast()), (0...1_000_000).contains(milli) else { return nil }
            return (milli + 999) / 1_000
        }
        let parts = quantity.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), let whole = Int(parts[0]), (0...100_000).contains(whole) else {
            return nil
        }
        guard parts.count == 2 else { return whole }
        guard !parts[1].isEmpty, parts[1].allSatisfy({ ("0"..."9").contains($0) }) else { return nil }
        return parts[1].contains { $0 != "0" } ? whole + 1 : whole
    }
}
