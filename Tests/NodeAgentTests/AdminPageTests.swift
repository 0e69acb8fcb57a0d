import HTTP1
import Log
import Testing

@testable import NodeAgent

struct AdminPageTests {
    private func page(
        _ method: String, _ target: String, _ access: AdminPage.Access = .full
    ) throws(PageRefusal) -> AdminPage {
        try AdminPage(HTTP1Request(method: method, target: target), access)
    }

    private func status(_ method: String, _ target: String, _ access: AdminPage.Access = .full) -> Int {
        do throws(PageRefusal) {
            _ = try page(method, target, access)
            return 200
        } catch {
            return error.status
        }
    }

    @Test func `pages that only show are for everybody`() throws {
        #expect(try page("GET", "/config_dump", .readOnly) == .configDump)
        #expect(try page("GET", "/status", .readOnly) == .status)
        #expect(try page("GET", "/", .readOnly) == .index)
        #expect(try page("GET", "/logging", .readOnly) == .showLogging)
        #expect(try page("POST", "/logging", .readOnly) == .showLogging)
        #expect(status("POST", "/config_dump") == 405)
        #expect(status("GET", "/nothing") == 404)
    }

    @Test func `pages that change something need the socket and POST`() throws {
        for target in ["/drain", "/quitquitquit", "/logging?level=debug", "/logging?reset"] {
            #expect(status("POST", target, .readOnly) == 403)
            #expect(status("GET", target) == 405)
        }
        #expect(try page("POST", "/drain") == .drain)
        #expect(try page("POST", "/quitquitquit") == .quit(removesCapture: false))
        #expect(try page("POST", "/quitquitquit?capture=remove") == .quit(removesCapture: true))
        #expect(status("POST", "/quitquitquit?capture=keep") == 400)
    }

    @Test func `log levels are read as ztunnel reads them`() throws {
        #expect(try page("POST", "/logging?level=debug") == .changeLogging(LogFilter(.debug)))
        #expect(
            try page("POST", "/logging?level=info,tunnel=trace")
                == .changeLogging(LogFilter(.info, scopes: ["tunnel": .trace])))
        #expect(try page("POST", "/logging?reset") == .resetLogging)
        #expect(status("POST", "/logging?level=loud") == 400)
        #expect(status("POST", "/logging?x=y") == 400)
    }

    @Test func `an explanation needs a pod and a destination`() throws {
        let expected = AdminPage.explain(namespace: "shop", name: "a", to: socketAddress("10.0.0.1:80"))
        #expect(try page("GET", "/explain?source=shop/a&destination=10.0.0.1:80", .readOnly) == expected)
        #expect(try page("GET", "/explain?namespace=shop&pod=a&destination=10.0.0.1:80") == expected)
        for target in [
            "/explain", "/explain?source=shop/a", "/explain?source=shop&destination=10.0.0.1:80",
            "/explain?source=a/b/c&destination=10.0.0.1:80", "/explain?source=shop/a&destination=server:80",
        ] {
            #expect(status("GET", target) == 400)
        }
    }
}

struct LocalNameTests {
    @Test func `this machine is reached by localhost and by addresses only`() {
        for host in ["localhost", "localhost:15000", "127.0.0.1:15000", "[::1]:15000", "[::1]", "10.0.0.1"] {
            #expect(isLocalName(host))
        }
        for host in ["", "localhost.evil.example", "evil.example:15000", "[evil]", "127.0.0.1.evil.example"] {
            #expect(!isLocalName(host))
        }
    }
}

struct DrainDeadlineTests {
    @Test func `is ztunnel's`() {
        #expect(NodeConfiguration.drainDeadline(.seconds(7), gracePeriod: 30) == .seconds(7))
        #expect(NodeConfiguration.drainDeadline(nil, gracePeriod: 30) == .seconds(25))
        #expect(NodeConfiguration.drainDeadline(nil, gracePeriod: 10) == .seconds(9))
        #expect(NodeConfiguration.drainDeadline(nil, gracePeriod: 0) == .seconds(1))
        #expect(NodeConfiguration.drainDeadline(nil, gracePeriod: nil) == .seconds(5))
    }
}
