import Address
import Linux
import Mesh
import TestSupport
import Testing

@testable import NodeAgent

struct PodTableTests {
    private let start = MonotonicTime(nanoseconds: 1_000_000_000)

    private func pod(_ uid: String, netns: String? = nil, labels: [String: String] = [:]) -> LocalPod {
        LocalPod(
            uid: uid, namespace: "shop", name: uid, serviceAccount: "default", labels: labels, addresses: [],
            networkNamespace: netns ?? uid)
    }

    private func captured(_ uid: String) -> PodTable.Action {
        .report(CaptureReport(uid: uid, state: .captured))
    }

    @Test func `a new pod is started and reported once it is captured`() {
        var table = PodTable()
        #expect(table.update([pod("a")], now: start) == [.start(pod("a"))])
        #expect(table.pendingCount == 1)
        #expect(table.update([pod("a")], now: start) == [])
        #expect(table.started("a", now: start) == [captured("a")])
        #expect(table.runningCount == 1 && table.pendingCount == 0)
        #expect(table.update([pod("a")], now: start) == [])
    }

    @Test func `a pod that leaves is stopped, and reported removed when nothing is left`() {
        var table = PodTable()
        _ = table.update([pod("a")], now: start)
        _ = table.started("a", now: start)
        #expect(table.update([], now: start) == [.stop(uid: "a")])
        #expect(table.stopped("a", now: start) == [.report(CaptureReport(uid: "a", state: .removed))])
        #expect(table.reports.isEmpty)
    }

    @Test func `a pod that leaves while it is started is stopped afterwards`() {
        var table = PodTable()
        _ = table.update([pod("a")], now: start)
        #expect(table.update([], now: start) == [])
        #expect(table.started("a", now: start) == [captured("a"), .stop(uid: "a")])
    }

    @Test func `a pod that comes back while it is stopped is started again`() {
        var table = PodTable()
        _ = table.update([pod("a")], now: start)
        _ = table.started("a", now: start)
        _ = table.update([], now: start)
        #expect(table.update([pod("a")], now: start) == [])
        #expect(table.stopped("a", now: start) == [.start(pod("a"))])
    }

    @Test func `another namespace replaces the pod, other labels do not`() {
        var table = PodTable()
        _ = table.update([pod("a")], now: start)
        _ = table.started("a", now: start)
        #expect(table.update([pod("a", labels: ["x": "y"])], now: start) == [])
        let successor = pod("a", netns: "b")
        #expect(table.update([successor], now: start) == [.stop(uid: "a")])
        #expect(table.stopped("a", now: start) == [.start(pod("a", netns: "b"))])
    }

    @Test func `a namespace made anew under the same name replaces the pod`() {
        var table = PodTable()
        _ = table.update([pod("a")], now: start)
        _ = table.started("a", now: start)
        #expect(table.replaced("a", now: start) == [.stop(uid: "a")])
        #expect(table.replaced("a", now: start) == [])
        #expect(table.stopped("a", now: start) == [.start(pod("a"))])
    }

    @Test func `failures are retried later and later, and told once`() throws {
        var table = PodTable()
        var now = start
        _ = table.update([pod("a")], now: now)
        let refused = PodTable.Action.report(
            CaptureReport(uid: "a", state: .refused, reason: "no such namespace"))
        #expect(table.failed("a", reason: "no such namespace", now: now) == [refused])
        var waits: [Duration] = []
        for _ in 0..<6 {
            let next = try #require(table.nextRetry)
            #expect(table.retry(now: next + .nanoseconds(-1)) == [])
            waits.append(next - now)
            now = next
            #expect(table.retry(now: now) == [.start(pod("a"))])
            #expect(table.failed("a", reason: "no such namespace", now: now) == [])
        }
        #expect(waits == [.seconds(1), .seconds(2), .seconds(4), .seconds(8), .seconds(15), .seconds(15)])
        _ = table.retry(now: now + .seconds(15))
        #expect(table.started("a", now: now) == [captured("a")])
    }

    @Test func `a change is tried at once`() {
        var table = PodTable()
        _ = table.update([pod("a")], now: start)
        _ = table.failed("a", reason: "x", now: start)
        #expect(table.update([pod("a")], now: start) == [])
        #expect(table.update([pod("a", netns: "right")], now: start) == [.start(pod("a", netns: "right"))])
    }

    @Test func `a failed pod that leaves is forgotten`() {
        var table = PodTable()
        _ = table.update([pod("a")], now: start)
        _ = table.failed("a", reason: "x", now: start)
        #expect(table.update([], now: start) == [.report(CaptureReport(uid: "a", state: .removed))])
        #expect(table.nextRetry == nil)
    }

    @Test func `pods beyond the limit are refused`() {
        var table = PodTable()
        let many = (0...PodTable.limit).map { pod("pod-\($0 + 10_000)") }
        let actions = table.update(many, now: start)
        #expect(actions.count { if case .start = $0 { true } else { false } } == PodTable.limit)
        #expect(
            actions.contains { if case .report(let report) = $0 { report.state == .refused } else { false } })
    }

    @Test(arguments: 1...5 as ClosedRange<UInt64>)
    func `under any order of events there is never more than one operation a pod`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var table = PodTable()
        var now = start
        var busy: [String: PodTable.Action] = [:]
        let names = ["a", "b", "c"]
        for _ in 0..<3_000 {
            now = now + .milliseconds(Int.random(in: 0...3_000, using: &random))
            let name = names.randomElement(using: &random) ?? "a"
            var actions: [PodTable.Action]
            switch (Int.random(in: 0..<4, using: &random), busy[name]) {
            case (0, _):
                let wanted = names.filter { _ in Bool.random(using: &random) }
                actions = table.update(
                    wanted.map { pod($0, netns: "\($0)-\(Int.random(in: 0...1, using: &random))") }, now: now)
            case (1, _): actions = table.retry(now: now)
            case (_, .start):
                busy[name] = nil
                actions =
                    Bool.random(using: &random)
                    ? table.started(name, now: now) : table.failed(name, reason: "no", now: now)
            case (_, .stop):
                busy[name] = nil
                actions = table.stopped(name, now: now)
            default: actions = table.replaced(name, now: now)
            }
            for action in actions {
                switch action {
                case .start(let pod):
                    #expect(busy[pod.uid] == nil)
                    busy[pod.uid] = action
                case .stop(let uid):
                    #expect(busy[uid] == nil)
                    busy[uid] = action
                case .report: break
                }
            }
        }
    }
}
