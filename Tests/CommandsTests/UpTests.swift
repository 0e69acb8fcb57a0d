import Compiler
import Documents
import Linux
import Manifests
import Testing

@testable import Commands

struct MeshPlanTests {
    private func store(_ yaml: String) -> ObjectStore {
        let file = ManifestFile(bytes: Array(yaml.utf8), file: "mesh.yaml")
        #expect(!file.hasErrors, "\(file.problems)")
        return ObjectStore(file.manifests)
    }

    private let mesh = """
        {apiVersion: v1, kind: Node, metadata: {name: b, annotations: {warren.dev/netns: node-b}}}
        ---
        {apiVersion: v1, kind: Node, metadata: {name: a}}
        ---
        {apiVersion: v1, kind: Pod, metadata: {name: one, annotations: {warren.dev/netns: one}}, spec: {nodeName: a}}
        ---
        {apiVersion: v1, kind: Pod, metadata: {name: two, annotations: {warren.dev/netns: /run/two}}, spec: {nodeName: b}}
        """

    @Test func `starts every node of the directory, by name`() throws {
        let plan = try MeshPlan(store(mesh), only: [], directory: "dir")
        #expect(plan.nodes.map(\.name) == ["a", "b"])
        #expect(plan.nodes.map(\.networkNamespace) == [nil, "node-b"])
        #expect(plan.podNamespaces == ["/run/two", "one"])
    }

    @Test func `a chosen node brings its own pods alone`() throws {
        let plan = try MeshPlan(store(mesh), only: ["b"], directory: "dir")
        #expect(plan.nodes.map(\.name) == ["b"])
        #expect(plan.podNamespaces == ["/run/two"])
    }

    @Test func `waypoints run in the namespaces of their pods, with the node that these are bound to`() throws
    {
        func replica(_ name: String, _ node: String, _ more: String = "annotations: {warren.dev/netns: wp}")
            -> String
        {
            "\n---\n{apiVersion: v1, kind: Pod, metadata: {name: \(name), namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: wp}, \(more)}, spec: {nodeName: \(node), serviceAccountName: wp}}"
        }
        let whole =
            mesh + replica("wp-2", "b") + replica("wp-1", "a") + replica("elsewhere", "z")
            + replica("hidden", "a", "annotations: {}")
            + "\n---\n{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: wp, namespace: shop}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}}"
        let plan = try MeshPlan(store(whole), only: [], directory: "dir")
        #expect(plan.waypoints.map(\.instance) == ["shop_wp-1", "shop_wp-2"])
        #expect(plan.waypoints.allSatisfy { $0.name == "wp" && $0.networkNamespace == "wp" })
        let part = try MeshPlan(store(whole), only: ["b"], directory: "dir")
        #expect(part.waypoints.map(\.pod) == ["wp-2"])
        #expect(try MeshPlan(store(mesh), only: [], directory: "dir").waypoints.isEmpty)
    }

    @Test func `an unknown node and a directory without nodes are usage errors that say what there is`()
        throws
    {
        let unknown = #expect(throws: CommandError.self) {
            _ = try MeshPlan(store(mesh), only: ["c"], directory: "dir")
        }
        #expect(unknown?.exitStatus == 2)
        #expect(unknown?.description.contains("there are a, b") == true)
        let empty = #expect(throws: CommandError.self) {
            _ = try MeshPlan(ObjectStore(), only: [], directory: "dir")
        }
        #expect(empty?.description.contains("kind: Node") == true)
    }
}

struct ProgressTests {
    private func answer(_ json: String) throws -> JSONAnswer {
        try JSONAnswer(Array(json.utf8), from: "test")
    }

    @Test func `nothing is complete before the control component and all nodes have answered`() throws {
        #expect(!Progress(control: nil, nodes: []).isComplete)
        let control = try answer(#"{"workloads": []}"#)
        let silent = Progress(control: control, nodes: [("a", nil)])
        #expect(!silent.isComplete)
        #expect(silent.description == "waiting for node a (it does not answer yet)")
        let pending = Progress(
            control: control, nodes: [("a", try answer(#"{"ready": false, "pending": ["certificates"]}"#))])
        #expect(pending.description == "waiting for node a (certificates)")
    }

    @Test func `waits for waypoints`() throws {
        let control = try answer(#"{"workloads": []}"#)
        let ready = try answer(#"{"ready": true}"#)
        let waiting = Progress(
            control: control, nodes: [("a", ready)],
            waypoints: [("shop/wp-1", try answer(#"{"ready": false, "pending": ["its certificate"]}"#))])
        #expect(waiting.description == "waiting for waypoint shop/wp-1 (its certificate)")
        let complete = Progress(control: control, nodes: [("a", ready)], waypoints: [("shop/wp-1", ready)])
        #expect(
            complete.description == "the mesh is up: nodes a; pods captured: 0; waypoints: shop/wp-1")
    }

    @Test func `waits for the pods of these nodes that are enrolled, and names the refused`() throws {
        let ready = try answer(#"{"ready": true}"#)
        let pods = """
            {"workloads": [
              {"namespace": "n", "name": "in", "node": "a", "enrolled": true, "state": "captured"},
              {"namespace": "n", "name": "out", "node": "a", "enrolled": false, "state": "plain"},
              {"namespace": "n", "name": "far", "node": "z", "enrolled": true, "state": "pending"},
              {"namespace": "n", "name": "bad", "node": "a", "enrolled": true, "state": "refused", "reason": "why"}]}
            """
        let progress = Progress(control: try answer(pods), nodes: [("a", ready)])
        #expect(progress.isComplete)
        #expect(progress.description == "the mesh is up: nodes a; pods captured: 1; REFUSED: n/bad: why")
        let waiting =
            #"{"workloads": [{"namespace": "n", "name": "x", "node": "a", "enrolled": true, "state": "pending"}]}"#
        #expect(!Progress(control: try answer(waiting), nodes: [("a", ready)]).isComplete)
    }
}

struct SupervisorTests {
    private func turns(_ supervisor: Supervisor, until condition: (Supervisor.Happening) -> Bool) -> Bool {
        let deadline = MonotonicTime.now() + .seconds(60)
        while MonotonicTime.now() < deadline {
            if supervisor.turn(milliseconds: 100).contains(where: condition) { return true }
        }
        return false
    }

    @Test func `a program that ends is started again, later each time`() throws {
        let supervisor = try Supervisor(labelWidth: 4)
        let program = try supervisor.start(name: "brief", path: "false", arguments: [])
        var waits: [Duration] = []
        let seen = turns(supervisor) { happening in
            if case .ended(_, .exited(1), let wait?) = happening { waits.append(wait) }
            return waits.count == 3
        }
        #expect(seen)
        #expect(waits == [.milliseconds(100), .milliseconds(200), .milliseconds(400)])
        program.isKept = false
    }

    @Test func `one that is not kept stays ended`() throws {
        let supervisor = try Supervisor(labelWidth: 4)
        let program = try supervisor.start(name: "long", path: "sleep", arguments: ["60"])
        program.isKept = false
        supervisor.signal(program, .terminate)
        let ended = turns(supervisor) { happening in
            if case .ended(_, .killed(signal: 15), nil) = happening { true } else { false }
        }
        #expect(ended)
        #expect(!program.isRunning)
        #expect(supervisor.turn(milliseconds: 0).isEmpty)
    }

    @Test func `a program that cannot be started is an error at once`() throws {
        let supervisor = try Supervisor(labelWidth: 4)
        #expect(throws: SystemCallError.self) {
            _ = try supervisor.start(name: "none", path: "/nonexistent/program", arguments: [])
        }
    }
}

struct LineLabelTests {
    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    @Test func `lines are whole, whatever pieces they came in`() {
        var label = LineLabel("web", width: 5)
        #expect(text(label.add("on".utf8)) == "")
        #expect(text(label.add("e\ntwo\nth".utf8)) == "web   | one\nweb   | two\n")
        #expect(text(label.flush()) == "web   | th\n")
        #expect(label.flush().isEmpty)
    }

    @Test func `a line without an end fills no memory`() {
        var label = LineLabel("x", width: 1)
        let out = label.add(repeatElement(UInt8(ascii: "a"), count: LineLabel.limit + 1))
        #expect(out.count == LineLabel.limit + "x | \n".utf8.count)
    }
}

struct BackoffTests {
    @Test func `waits double up to a limit and begin anew after a long run`() {
        var backoff = Backoff()
        let waits = (0..<9).map { _ in backoff.wait(afterRunOf: .zero) }
        #expect(waits.first == .milliseconds(100))
        #expect(waits.last == Backoff.longest)
        #expect(backoff.wait(afterRunOf: .seconds(10)) == Backoff.first)
    }
}
