import Address
import Capture
import EventLoop
import Linux
import Mesh
import Metrics
import Synchronization
import Testing
import Transport

@testable import NodeAgent

/// The captor on a real namespace, with a host that only keeps what it is given. Needs root.
@Suite(.enabled(if: Privileges.isRoot), .serialized)
struct PodCaptorTests {
    private static let daemonUserID: UInt32 = 64_322

    @Test func `a pod is listened for before it is captured`() throws {
        let lab = try PodLab()
        let node = try CaptorUnderTest()
        node.captor.perform { $0.update([lab.pod]) }
        // The rules wait for the workers' word that they accept.
        try node.host.waitUntil("listeners") { $0.waiting[lab.pod.uid] != nil }
        #expect(try lab.isCaptured == false)
        node.host.finishAdding(lab.pod.uid)
        try node.waitUntil("captured") { $0.last == CaptureReport(uid: lab.pod.uid, state: .captured) }
        #expect(try lab.isCaptured)

        node.captor.perform { $0.update([]) }
        try node.waitUntil("removed") { $0.last?.state == .removed }
        #expect(try lab.isCaptured == false)
        #expect(node.host.removed == [lab.pod.uid])
        node.captor.stop()
    }

    @Test func `a pod that leaves keeps its rules until its connections have ended`() throws {
        let lab = try PodLab()
        let node = try CaptorUnderTest(answersAtOnce: true)
        node.captor.perform { $0.update([lab.pod]) }
        try node.waitUntil("captured") { $0.last?.state == .captured }
        node.host.holdsRemovals = true
        node.captor.perform { $0.update([]) }
        try node.host.waitUntil("asked to end them") { $0.removed == [lab.pod.uid] }
        #expect(try lab.isCaptured)
        node.host.finishRemoving()
        try node.waitUntil("removed") { $0.last?.state == .removed }
        #expect(try lab.isCaptured == false)
        node.captor.stop()
    }

    @Test func `rules that somebody removes come back`() throws {
        let lab = try PodLab()
        let node = try CaptorUnderTest(answersAtOnce: true)
        node.captor.perform { $0.update([lab.pod]) }
        try node.waitUntil("captured") { $0.last?.state == .captured }
        #expect(node.repairs == 0)
        try lab.run("nft", "flush", "ruleset")
        // They may be back before anybody could see them gone; the captor's own count says that they were.
        try waitUntil("repaired") { try node.repairs > 0 && lab.isCaptured }
        node.captor.stop()
    }

    @Test func `a namespace made anew under its name is captured anew`() throws {
        let lab = try PodLab()
        let node = try CaptorUnderTest(answersAtOnce: true)
        node.captor.perform { $0.update([lab.pod]) }
        try node.waitUntil("captured") { $0.last?.state == .captured }
        try lab.makeAnew()
        try waitUntil("captured again") { try lab.isCaptured }
        #expect(node.host.removed == [lab.pod.uid])
        node.captor.stop()
    }

    @Test func `the rules stay while a pod is set up anew in its namespace`() throws {
        let lab = try PodLab()
        let node = try CaptorUnderTest()
        node.captor.perform { $0.update([lab.pod]) }
        try node.host.waitUntil("listeners") { $0.waiting[lab.pod.uid] != nil }
        node.host.finishAdding(lab.pod.uid)
        try node.waitUntil("captured") { $0.last?.state == .captured }

        var pod = lab.pod
        pod.serviceAccount = "another"
        node.captor.perform { [pod] in $0.update([pod]) }
        try node.host.waitUntil("new listeners") {
            $0.removed == [pod.uid] && $0.listeners[pod.uid] != nil
        }
        #expect(try lab.isCaptured)
        node.captor.perform { $0.update([]) }
        node.host.finishAdding(lab.pod.uid)
        try node.waitUntil("removed") { $0.last?.state == .removed }
        #expect(try lab.isCaptured == false)
        node.captor.stop()
    }

    @Test func `a pod that cannot be set up anew keeps its rules until it leaves`() throws {
        let lab = try PodLab()
        let node = try CaptorUnderTest(answersAtOnce: true)
        node.captor.perform { $0.update([lab.pod]) }
        try node.waitUntil("captured") { $0.last?.state == .captured }
        var pod = lab.pod
        pod.addresses = [address("10.98.77.77")]
        node.captor.perform { [pod] in $0.update([pod]) }
        try node.waitUntil("refused") { $0.last?.state == .refused }
        #expect(try lab.isCaptured)
        node.captor.perform { $0.update([]) }
        try node.waitUntil("removed") { $0.last?.state == .removed }
        #expect(try lab.isCaptured == false)
        node.captor.stop()
    }

    @Test func `an ending daemon leaves the rules, and the next one takes them over`() throws {
        let lab = try PodLab()
        let first = try CaptorUnderTest(answersAtOnce: true)
        first.captor.perform { $0.update([lab.pod]) }
        try first.waitUntil("captured") { $0.last?.state == .captured }
        first.captor.perform { $0.freeze() }
        first.captor.stop()
        #expect(try lab.isCaptured)

        let second = try CaptorUnderTest(answersAtOnce: true)
        second.captor.perform { $0.update([lab.pod]) }
        try second.waitUntil("captured") { $0.last?.state == .captured }
        second.captor.perform { captor in _ = captor.releaseAll() }
        second.captor.stop()
        #expect(try lab.isCaptured == false)
    }

    @Test func `a namespace without the pod's address is refused with the reason`() throws {
        let lab = try PodLab()
        let node = try CaptorUnderTest(answersAtOnce: true)
        var pod = lab.pod
        pod.addresses = [address("10.98.77.77")]
        node.captor.perform { [pod] in $0.update([pod]) }
        try node.waitUntil("refused") { $0.last?.state == .refused }
        #expect(node.reports.last?.reason.contains("does not hold 10.98.77.77") == true)
        #expect(try lab.isCaptured == false)
        node.captor.stop()
    }
}

/// A captor and what it has said.
private final class CaptorUnderTest: Sendable {
    let host: RecordingHost
    let captor: CaptorThread
    private let log: ReportLog
    private let registry = Registry()

    init(answersAtOnce: Bool = false) throws {
        let log = ReportLog()
        self.log = log
        host = RecordingHost(answersAtOnce: answersAtOnce)
        captor = try CaptorThread(
            check: try NamespaceCheck.forThisProcess(),
            capture: CaptureConfiguration(daemonUserID: 64_322), choice: .auto, host: host,
            registry: registry,
            report: { log.add($0) }, changed: { _ in })
    }

    var reports: [CaptureReport] { log.all }

    /// How often it has put rules right.
    var repairs: Int {
        let line = registry.encode().split(separator: "\n").first { $0.hasPrefix("warren_capture_repairs") }
        return line.flatMap { $0.split(separator: " ").last }.flatMap { Int($0) } ?? 0
    }

    func waitUntil(_ what: String, _ isTrue: ([CaptureReport]) -> Bool) throws {
        try NodeAgentTests.waitUntil(what) { isTrue(reports) }
    }
}

private final class ReportLog: Sendable {
    private let list = Mutex<[CaptureReport]>([])

    func add(_ report: CaptureReport) {
        list.withLock { $0.append(report) }
    }

    var all: [CaptureReport] { list.withLock { $0 } }
}

private final class RecordingHost: PodHost {
    struct State {
        var waiting: [String: @Sendable () -> Void] = [:]
        var listeners: [String: [Parcel<PodListeners>]] = [:]
        var removed: [String] = []
        var holdsRemovals = false
        var removals: [@Sendable () -> Void] = []
    }

    private let state = Mutex(State())
    private let answersAtOnce: Bool

    init(answersAtOnce: Bool) {
        self.answersAtOnce = answersAtOnce
    }

    let workerCount = 2
    let tunnelCongestion = CongestionChoice.auto

    func add(
        _ pod: LocalPod, in namespace: PodNamespace, listeners: [Parcel<PodListeners>],
        done: @escaping @Sendable () -> Void
    ) {
        state.withLock { state in
            state.listeners[pod.uid] = listeners
            state.waiting[pod.uid] = done
        }
        if answersAtOnce { done() }
    }

    func remove(_ uid: String, done: @escaping @Sendable () -> Void) {
        state.withLock { state in
            state.listeners[uid] = nil
            state.removed.append(uid)
            state.removals.append(done)
        }
        if !holdsRemovals { finishRemoving() }
    }

    /// Does not say that a pod's connections have ended until `finishRemoving`.
    var holdsRemovals: Bool {
        get { state.withLock { $0.holdsRemovals } }
        set { state.withLock { $0.holdsRemovals = newValue } }
    }

    func finishRemoving() {
        let removals = state.withLock { state in
            defer { state.removals = [] }
            return state.removals
        }
        removals.forEach { $0() }
    }

    func finishAdding(_ uid: String) {
        state.withLock { $0.waiting[uid] }?()
    }

    var removed: [String] { state.withLock { $0.removed } }

    func waitUntil(_ what: String, _ isTrue: (State) -> Bool) throws {
        try NodeAgentTests.waitUntil(what) { state.withLock { isTrue($0) } }
    }
}

/// A namespace with one address, made for one test and gone with it.
private final class PodLab: Sendable {
    let name = "wnode\(randomBytes(4).map { String($0, radix: 16) }.joined())"

    init() throws {
        try make()
    }

    deinit {
        _ = try? NodeAgentTests.run("ip", "netns", "del", name)
    }

    private func make() throws {
        try NodeAgentTests.run("ip", "netns", "add", name)
        try NodeAgentTests.run("ip", "-n", name, "link", "set", "lo", "up")
        try NodeAgentTests.run("ip", "-n", name, "addr", "add", "10.98.76.1/32", "dev", "lo")
    }

    func makeAnew() throws {
        try NodeAgentTests.run("ip", "netns", "del", name)
        try make()
    }

    var pod: LocalPod {
        LocalPod(
            uid: "uid-\(name)", namespace: "shop", name: name, serviceAccount: "default", labels: [:],
            addresses: [address("10.98.76.1")], networkNamespace: name)
    }

    /// The rules as another process would see them are all there.
    var isCaptured: Bool {
        get throws {
            var configuration = CaptureConfiguration(daemonUserID: 64_322)
            configuration.preferredMethod = .untracked
            configuration.workloadAddresses = pod.addresses
            return try Capture(configuration).verify(try NetworkNamespace(name)).isEmpty
        }
    }

    func run(_ command: String...) throws {
        try NodeAgentTests.run(["ip", "netns", "exec", name] + command)
    }
}

private func run(_ command: String...) throws {
    try run(command)
}

private struct CommandFailed: Error {
    let command: [String]
    let status: Linux.ExitStatus
}

private func run(_ command: [String]) throws {
    let status = try ChildProcess.start(command[0], Array(command.dropFirst())).wait()
    guard status == .exited(0) else { throw CommandFailed(command: command, status: status) }
}

private struct TimedOut: Error {
    let what: String
}

/// Looks again and again until it is so, for a minute.
private func waitUntil(_ what: String, _ isTrue: () throws -> Bool) throws {
    let deadline = MonotonicTime.now() + .seconds(60)
    let pause = try EventDescriptor()
    while try !isTrue() {
        guard MonotonicTime.now() < deadline else { throw TimedOut(what: what) }
        pause.wait(milliseconds: 5)
    }
}
