import TestSupport
import Testing

@testable import Mesh

struct PersistentMapTests {
    /// Of few hashes, that agree in some of their bits or in all.
    struct Key: Hashable, Sendable {
        let number: Int
        let hashes: [Int]

        var hashValue: Int { hashes[number % hashes.count] }
        static func == (a: Key, b: Key) -> Bool { a.number == b.number }
        func hash(into hasher: inout Hasher) { hasher.combine(number) }
    }

    static let hashes: [[Int]] = [
        [0], [0, 1], [0, .min], [1, 1 << 59, 1 << 60, .max], [-1, 31, 31 << 5, 31 << 10 | 31],
        (0..<4_096).map { $0 << 50 },
    ]

    @Test(arguments: hashes)
    func `it holds what a dictionary holds, and copies do not change with it`(_ hashes: [Int]) {
        var generator = SeededGenerator(seed: 17)
        var map = PersistentMap<Key, Int>()
        var model: [Key: Int] = [:]
        var copies: [(PersistentMap<Key, Int>, [Key: Int])] = []
        for step in 0..<4_000 {
            let key = Key(number: Int.random(in: 0..<300, using: &generator), hashes: hashes)
            // It grows, shrinks to nothing, and grows again.
            let isRemoval = Int.random(in: 0..<4, using: &generator) < (step / 1_000 % 2 == 0 ? 1 : 3)
            map[key] = isRemoval ? nil : step
            model[key] = isRemoval ? nil : step
            #expect(map[key] == model[key])
            if step % 500 == 0 { copies.append((map, model)) }
        }
        for key in model.keys { map[key] = nil }
        #expect(map.isEmpty && map.elements.isEmpty)
        for (map, model) in copies {
            #expect(map.count == model.count)
            #expect(Dictionary(map.elements.map { ($0.key, $0.value) }) { $1 } == model)
            for number in 0..<300 {
                let key = Key(number: number, hashes: hashes)
                #expect(map[key] == model[key])
            }
        }
    }

    @Test func `an entry that is not there is not removed`() {
        var map = PersistentMap<Key, Int>()
        map[Key(number: 1, hashes: [7])] = 1
        map[Key(number: 2, hashes: [7])] = nil
        map[Key(number: 3, hashes: [7 | 1 << 40])] = nil
        #expect(map.count == 1 && map[Key(number: 1, hashes: [7])] == 1)
    }
}
