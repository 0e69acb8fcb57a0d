import Compiler
import Testing

struct UnappliedRouteTests {
    @Test("what is read and does not route anything yet says so")
    func warnings() {
        let result = compileYAML(
            documents(
                namespace("shop"),
                """
                apiVersion: networking.istio.io/v1
                kind: VirtualService
                metadata: {name: v, namespace: shop}
                spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}
                """,
                """
                apiVersion: networking.istio.io/v1
                kind: DestinationRule
                metadata: {name: d, namespace: shop}
                spec: {host: web}
                """,
                """
                apiVersion: gateway.networking.k8s.io/v1
                kind: HTTPRoute
                metadata: {name: h, namespace: shop}
                spec: {rules: [{backendRefs: [{name: web, port: 80}]}]}
                """))
        #expect(
            result.warnings.map(\.message) == [
                "VirtualService shop/v is not applied: its routes, retries, timeouts and mirrors have no effect, and connections are balanced over all endpoints",
                "DestinationRule shop/d is not applied: its subsets, connection limits and outlier detection have no effect",
                "HTTPRoute shop/h is not applied: traffic is not routed by it",
            ])
    }
}
