import Documents
import Linux
import TestSupport
import Testing

@testable import Commands

private func answer(_ json: String) throws -> JSONAnswer { try JSONAnswer(Array(json.utf8), from: "test") }

/// 2026-01-02T03:04:05Z.
private let now = WallClock(seconds: 1_767_323_045)

private let control = """
    {"authority": {"trustDomain": "cluster.local", "notAfter": "2036-01-02T03:04:05Z"},
     "configuration": {"errors": [], "warnings": ["mesh.yaml:3:1: careful"]},
     "nodes": [{"name": "a", "connected": true, "since": "2026-01-02T03:00:00Z", "pods": 2, "networkNamespace": "na"},
               {"name": "b", "connected": false, "pods": 1}],
     "workloads": [
       {"uid": "Kubernetes//Pod/s/web", "namespace": "s", "name": "web", "node": "a", "addresses": ["10.0.0.1"], "enrolled": true,
        "serviceAccount": "web", "state": "captured"},
       {"uid": "s/far", "namespace": "s", "name": "far", "node": "b", "addresses": ["10.0.0.2"], "enrolled": true,
        "serviceAccount": "far", "state": "pending"},
       {"uid": "o/out", "namespace": "o", "name": "out", "node": "a", "addresses": ["10.0.0.3"], "enrolled": false,
        "serviceAccount": "out", "state": "plain"}],
     "policies": [{"namespace": "s", "name": "only", "action": "ALLOW", "scope": "Namespace"}]}
    """
private let node = """
    {"node": "a", "ready": true, "control": {"connected": true},
     "certificates": [{"identity": "spiffe://cluster.local/ns/s/sa/web", "state": "Available", "serialNumber": "7",
                       "notBefore": "2026-01-01T03:04:05Z", "notAfter": "2026-01-02T15:04:05.5Z"}],
     "workloads": [{"uid": "s/web", "namespace": "s", "name": "web", "state": "captured",
                    "capture": "untracked", "inbound": 3, "outbound": 1}],
     "tunnels": [{"direction": "outbound", "source": "x", "destination": "y\\u001b[31m", "address": "10.0.0.9:15008",
                  "streams": 2, "since": "2026-01-02T03:04:00Z"}]}
    """

struct MeshStatusTests {
    private func status() throws -> MeshStatus {
        MeshStatus(control: try answer(control), daemons: [try answer(node)])
    }

    @Test func `shows waypoints that run here, and those that do not`() throws {
        let control = """
            {"waypoints": [{"namespace": "s", "name": "wp", "pods": ["wp-1", "wp-2"], "streams": 1, "connected": true},
                           {"namespace": "s", "name": "idle", "pods": [], "streams": 0, "connected": false}]}
            """
        let local = """
            {"waypoint": "s/wp", "pod": "wp-1", "ready": true, "control": {"connected": true, "since": "2026-01-02T03:00:00Z"},
             "services": ["s/web.s.svc.cluster.local"], "connections": 3, "tunnels": [], "certificates": []}
            """
        let status = MeshStatus(control: try answer(control), daemons: [try answer(local)])
        #expect(status.nodes.isEmpty)
        let text = status.tables(.waypoints, now: now)
        let lines = text.split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
        #expect(lines.contains("s/wp wp-1 ready 4m5s 3 0 s/web.s.svc.cluster.local"), "\(lines)")
        #expect(lines.contains { $0.hasPrefix("s/wp wp-2 absent") }, "\(lines)")
        #expect(
            lines.contains { $0.hasPrefix("s/idle - no pod") || $0.hasPrefix("s/idle no pod") }, "\(lines)")
    }

    @Test func `the tables hold what the daemons said`() throws {
        let text = try status().text(.table, nil, now: now)
        #expect(text.contains("a      ready    4m5s        2      1         na"))
        #expect(text.contains("b      absent   no          1      -         -"))
        let row = "s           web   a      10.0.0.1    web       captured   untracked   3    1     -"
        #expect(text.contains(row))
        #expect(text.split(separator: "\n").count { $0.contains(" web ") } == 1)
        #expect(text.contains("spiffe://cluster.local/ns/s/sa/web   a      Available   12h"))
        #expect(text.contains("configuration: mesh.yaml:3:1: careful"))
    }

    @Test func `what a peer sent steers no terminal`() throws {
        let text = try status().text(.table, .tunnels, now: now)
        #expect(text.contains("y\u{fffd}[31m"))
        #expect(!text.contains("\u{1b}"))
    }

    @Test func `one section is shown alone, also when it is empty`() throws {
        let waiting = try answer(#"{"node": "a", "ready": false, "pending": ["x"]}"#)
        let status = MeshStatus(control: nil, daemons: [waiting])
        #expect(status.text(.table, .tunnels, now: now).hasPrefix("NODE"))
        #expect(status.text(.table, nil, now: now).contains("not ready: x"))
    }

    @Test(arguments: [OutputForm.json, .yaml])
    func `other forms hold every field`(form: OutputForm) throws {
        let text = try status().text(form, nil, now: now)
        let back: Value
        if form == .json {
            back = Value(try Node(json: Array(text.utf8), file: "out"))
        } else {
            back = Value(try #require(try Node.documents(yaml: Array(text.utf8), file: "out").first))
        }
        #expect(back == (try status().value))
    }
}

struct ExplainTests {
    private func status() throws -> MeshStatus {
        MeshStatus(control: try answer(control), daemons: [try answer(node)])
    }

    @Test(arguments: ["s/web", "web"])
    func `a pod is found by its name, with its namespace or without`(source: String) throws {
        let found = try ExplainCommand.find(source, in: status())
        #expect(found == ("s/web", "a"))
    }

    @Test(arguments: [
        ("nobody", "there are s/web"), ("s/far", "node b, whose daemon is not on this machine"),
        ("o/out", "not in the mesh"),
    ])
    func `a pod that cannot be asked about says why`(source: String, reason: String) throws {
        let status = try status()
        let error = #expect(throws: CommandError.self) { _ = try ExplainCommand.find(source, in: status) }
        #expect(error?.description.contains(reason) == true)
    }

    @Test func `the report shows verdict, plan and every step`() throws {
        let json = """
            {"source": {"workload": "s/web", "node": "a", "identity": "spiffe://i"}, "verdict": "denied",
             "target": {"workload": "Kubernetes//Pod/s/far", "node": "b", "identity": "spiffe://j"},
             "outbound": {"plan": "tunnel", "summary": "to b", "steps": ["known address", "speaks HBONE"]},
             "inbound": {"verdict": "denied", "policy": "s/only", "summary": "named", "steps": ["rule 1 matches"]}}
            """
        let command = ExplainCommand(answer: try answer(json), source: "s/web", destination: "10.0.0.2:80")
        #expect(
            command.text(.table) == """
                s/web → 10.0.0.2:80: denied

                from   s/web (on a, spiffe://i)
                to     s/far (on b, spiffe://j)

                outbound: tunnel – to b
                    known address
                    speaks HBONE

                inbound: denied by s/only – named
                    rule 1 matches

                """)
    }
}

struct TimestampTests {
    @Test(arguments: [
        ("1970-01-01T00:00:00Z", 0 as Int64?), ("2026-01-02T03:04:05Z", 1_767_323_045),
        ("2000-02-29T23:59:59.123456Z", 951_868_799), ("2026-13-01T00:00:00Z", nil), ("yesterday", nil),
        ("2026-01-02T03:04:05+01:00", nil), ("20x6-01-02T03:04:05Z", nil), ("", nil),
    ])
    func `dates are read`(text: String, seconds: Int64?) {
        #expect(secondsSinceEpoch(text) == seconds)
    }

    @Test func `reads back what the clock writes`() {
        var random = SeededGenerator(seed: 7)
        for _ in 0..<1_000 {
            let time = WallClock(seconds: Int64.random(in: 0...253_402_300_799, using: &random))
            #expect(secondsSinceEpoch(time.rfc3339) == time.seconds)
        }
    }

    @Test(arguments: [
        (0, "0s"), (59, "59s"), (60, "1m"), (250, "4m10s"), (86_399, "23h59m"), (90_000, "1d1h"), (-5, "0s"),
    ])
    func `spans have two units`(seconds: Int64, text: String) {
        #expect(spanText(seconds) == text)
    }

    @Test func `a date that is past says for how long`() {
        #expect(remainingText(until: "2026-01-02T03:03:05Z", now: now) == "over for 1m")
        #expect(remainingText(until: "2026-01-02T04:04:05Z", now: now) == "1h")
    }
}

struct CompletionTests {
    /// What bash offers for the last of these words.
    private func offers(_ words: String...) throws -> [String] {
        let line = words.map { "'\($0)'" }.joined(separator: " ")
        var options = ChildProcess.Options()
        options.output = .piped
        let script = WarrenCommand.command.completionScript(.bash)
        let ask = "COMP_WORDS=(\(line)); COMP_CWORD=\(words.count - 1); _warren; echo ${COMPREPLY[@]}"
        var bash = try ChildProcess.start("bash", ["-c", script + ask], options)
        #expect(try bash.wait() == .exited(0))
        guard let output = bash.standardOutput.take() else { return [] }
        var buffer = [UInt8](repeating: 0, count: 4096)
        guard case .bytes(let count) = unsafe buffer.withUnsafeMutableBytes({ unsafe output.read(into: $0) })
        else { return [] }
        return String(decoding: buffer[..<count], as: UTF8.self).split { $0 == " " || $0 == "\n" }.map(
            String.init)
    }

    @Test func `bash completes commands, options and values`() throws {
        #expect(try offers("warren", "st") == ["status"])
        #expect(try offers("warren", "token", "") == ["create", "--help"])
        #expect(try offers("warren", "status", "-o", "") == ["table", "json", "yaml"])
        #expect(try offers("warren", "up", "--st") == ["--state"])
    }
}

struct AdminClientTests {
    @Test func `queries are encoded`() {
        #expect(percentEncoded("shop/a b&c=ü") == "shop/a%20b%26c%3D%C3%BC")
    }
}
