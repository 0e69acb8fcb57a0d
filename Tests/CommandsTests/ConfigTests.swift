import Documents
import Testing

@testable import Commands

private func answer(_ json: String) throws -> JSONAnswer { try JSONAnswer(Array(json.utf8), from: "test") }

private let dump = """
    {"routes": [
       {"namespace": "s", "service": "web.s.svc", "port": 80, "protocol": "http", "streams": [],
        "virtualHosts": [{"name": "web", "domains": ["*"], "routes": [
          {"name": "VirtualService s/web rule 0", "matches": [{"text": "path is /a"}, {"text": "header x is y"}],
           "action": {"text": "web.s.svc subset v2", "type": "forward"}},
          {"name": "VirtualService s/web rule 1", "matches": [], "action": {"text": "answer 403", "type": "respond"}}]}]},
       {"namespace": "s", "service": "web.s.svc", "port": 90, "protocol": "tcp", "virtualHosts": [],
        "streams": [{"name": "TCPRoute s/t rule 0", "matches": [], "action": {"text": "db.s.svc:1\\u001b[31m"}}]},
       {"namespace": "s", "service": "web.s.svc", "port": 91, "protocol": "tcp", "virtualHosts": [], "streams": []}],
     "destinations": [
       {"host": "web.s.svc", "port": 80, "usedBy": ["s/web.s.svc"], "sources": [],
        "loadBalancing": {"text": "least request"}, "limits": {"text": ""},
        "endpoints": [{"uid": "c//Pod/s/one", "address": "10.0.0.1:8080", "weight": 1}]},
       {"host": "web.s.svc", "port": 80, "subset": "v2", "sources": ["DestinationRule s/web"],
        "loadBalancing": {"text": "round robin"}, "limits": {"text": "requests 7"},
        "outlierDetection": {"text": "out after 5 of 5xx for 30s"}, "tls": {"text": "TLS SIMPLE"}, "endpoints": []}]}
    """

struct ConfigCommandTests {
    @Test func `routes have a row each, in order, with their match and action`() throws {
        #expect(
            ConfigCommand(.routes, dump: try answer(dump)).text(.table) == """
                SERVICE     PORT   ROUTE                         MATCH                         DESTINATION
                web.s.svc   80     VirtualService s/web rule 0   path is /a or header x is y   web.s.svc subset v2
                web.s.svc   80     VirtualService s/web rule 1   any request                   answer 403
                web.s.svc   90     TCPRoute s/t rule 0           any connection                db.s.svc:1�[31m
                web.s.svc   91     -                             any connection                the service itself

                """)
    }

    @Test func `clusters say how they are balanced and limited, and which rule says so`() throws {
        let command = ConfigCommand(.clusters, dump: try answer(dump))
        #expect(
            command.text(.table) == """
                HOST        PORT   SUBSET   LOAD BALANCING   LIMITS                                               SOURCE
                web.s.svc   80     -        least request    -                                                    -
                web.s.svc   80     v2       round robin      requests 7; out after 5 of 5xx for 30s; TLS SIMPLE   DestinationRule s/web

                """)
        #expect(!command.text(.json).contains("endpoints") && command.text(.json).contains("\"usedBy\""))
    }

    @Test func `a destination without endpoints is shown too`() throws {
        let command = ConfigCommand(.endpoints, dump: try answer(dump))
        #expect(
            command.text(.table) == """
                HOST        PORT   SUBSET   ENDPOINT       ADDRESS         WEIGHT
                web.s.svc   80     -        c//Pod/s/one   10.0.0.1:8080   1
                web.s.svc   80     v2       none           -               -

                """)
        #expect(command.text(.yaml).contains("uid: c//Pod/s/one"))
        #expect(!command.text(.yaml).contains("loadBalancing"))
    }

    @Test func `what is asked of is the waypoint's ready pod, or the pod that is named`() throws {
        let pods = try [("wp-1", false), ("wp-2", true)].map {
            try answer(#"{"waypoint": "s/wp", "pod": "\#($0.0)", "ready": \#($0.1)}"#)
        }
        let status = MeshStatus(
            control: nil, daemons: pods, sockets: ["s/wp-1": "/run/one.sock", "s/wp-2": "/run/two.sock"])
        #expect(try ConfigCommand.socket(of: "s/wp", in: status) == "/run/two.sock")
        #expect(try ConfigCommand.socket(of: "s/wp-1", in: status) == "/run/one.sock")
    }

    @Test(arguments: [
        ("wp", "NAMESPACE/WAYPOINT", 2 as Int32), ("s/", "NAMESPACE/WAYPOINT", 2),
        ("s/none", "there are s/away, s/bare", 2), ("s/bare", "gateway-name: bare. Add one", 1),
        ("s/away", "(s/away-1, s/away-2) answers here", 1), ("s/away-2", "waypoint s/away does not run", 1),
    ])
    func `a waypoint that cannot be asked says why`(name: String, reason: String, exitStatus: Int32) throws {
        let control = """
            {"waypoints": [{"namespace": "s", "name": "bare", "pods": []},
                           {"namespace": "s", "name": "away", "pods": ["away-1", "away-2"]}]}
            """
        let status = MeshStatus(control: try answer(control), daemons: [])
        let error = #expect(throws: CommandError.self) { _ = try ConfigCommand.socket(of: name, in: status) }
        #expect(error?.description.contains(reason) == true, "\(error.map(\.description) ?? "")")
        #expect(error?.exitStatus == exitStatus)
    }
}
