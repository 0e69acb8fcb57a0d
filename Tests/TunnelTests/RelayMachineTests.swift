import Mesh
import TestSupport
import Testing

@testable import Tunnel

struct RelayMachineTests {
    @Test(arguments: [RelayMachine.Side.client, .server])
    func `each direction ends for itself, and both make it complete`(first: RelayMachine.Side) {
        var machine = RelayMachine()
        #expect(machine.ended(first, isDelivered: true) == .finish(first.other))
        #expect(machine.settled() == .proceed)
        #expect(machine.isSending(first.other) && !machine.isSending(first))
        #expect(machine.ended(first.other, isDelivered: true) == .finish(first))
        #expect(machine.settled() == .over(.completed))
        #expect(machine.reason == .completed)
    }

    @Test func `an end waits for what came before it`() {
        var machine = RelayMachine()
        #expect(machine.ended(.client, isDelivered: false) == .proceed)
        #expect(!machine.isFinished(.server))
        #expect(machine.delivered(to: .client) == .proceed)
        #expect(machine.delivered(to: .server) == .finish(.server))
        #expect(machine.delivered(to: .server) == .proceed)
        #expect(machine.isFinished(.server))
    }

    @Test func `delivery before the end ends nothing`() {
        var machine = RelayMachine()
        #expect(machine.delivered(to: .server) == .proceed)
        #expect(machine.ended(.client, isDelivered: true) == .finish(.server))
        #expect(machine.ended(.client, isDelivered: true) == .proceed)
    }

    @Test func `whoever breaks it is named, once`() {
        var machine = RelayMachine()
        #expect(machine.broken(by: .server) == .over(.resetByServer))
        #expect(machine.broken(by: .client) == .proceed)
        #expect(machine.end(.policyChanged) == .proceed)
        #expect(machine.ended(.client, isDelivered: true) == .proceed)
        #expect(machine.reason == .resetByServer)
    }

    @Test(arguments: 1...200 as ClosedRange<UInt64>)
    func `any order of events ends exactly once, with every byte's end passed on`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var machine = RelayMachine()
        var ends = 0
        var told: [RelayMachine.Side] = []
        func take(_ step: RelayMachine.Step) {
            switch step {
            case .proceed: break
            case .over: ends += 1
            case .finish(let side):
                told.append(side)
                if machine.settled() != .proceed { ends += 1 }
            }
        }
        for _ in 0..<200 {
            let side: RelayMachine.Side = Bool.random(using: &random) ? .client : .server
            switch Int.random(in: 0..<20, using: &random) {
            case 0..<8: take(machine.ended(side, isDelivered: Bool.random(using: &random)))
            case 8..<19: take(machine.delivered(to: side))
            default: take(machine.broken(by: side))
            }
        }
        #expect(ends == 1)
        #expect(Set(told).count == told.count)
        if machine.reason == .completed { #expect(told.count == 2) }
    }
}
