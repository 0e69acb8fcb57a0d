"""The guide's traffic management, each object from its own file under Deploy/examples/guide, seen by requests through waypoints."""

import collections
import pathlib
import re
import sys

import pytest
import warrenlab
from warrenlab import Lab, wait

GUIDE = pathlib.Path(warrenlab.ROOT) / "Deploy/examples/guide"
# Service: its port, and the versions of it that have a pod.
SERVICES = {
    "default/reviews": (9080, "v1 v2 v3"), "default/productpage": (9080, "v1"), "default/app-service": (80, "blue green"),
    "default/httpbin": (8000, "v1 v2"), "default/ratings": (9080, "v1 v0"), "ecommerce/catalog": (8080, "v1 v2"),
    "ecommerce/frontend": (80, "v1")}
# Nothing listens there.
DEAD = "default/ratings-v0"
PORT = 9080


@pytest.fixture(scope="module")
def lab():
    with Lab(nodes="ab") as lab:
        for namespace in ("default", "ecommerce"):
            lab.namespace(namespace, **{"istio.io/use-waypoint": "waypoint"})
        lab.client = lab.pod("default/visitor", node="a")
        lab.addresses, lab.web = {}, {}
        for name, (port, versions) in SERVICES.items():
            app = name.split("/")[1]
            for index, version in enumerate(versions.split()):
                pod = lab.pod(f"{name}-{version}", node="ab"[index % 2], account=app, labels={"app": app, "version": version})
                if pod.qualified_name == DEAD:
                    continue
                if app == "httpbin":
                    # Its log shows what it was asked.
                    lab.web[version] = pod.start("web", sys.executable, "-u", "-m", "http.server", str(PORT))
                else:
                    pod.serve()
            lab.addresses[app] = f"{lab.service(name, {'app': app}, {port: PORT}, protocol='http')[0]}:{port}"
        for file in GUIDE.glob("[a-z]*.yaml"):
            lab.write(file.name, file.read_text())
        waypoints = [lab.waypoint(f"{namespace}/waypoint", nodes="a") for namespace in ("default", "ecommerce")]
        lab.start()
        for waypoint in waypoints:
            waypoint.start()
        wait(lambda: get(lab, "reviews") and get(lab, "catalog"), "the ways through the waypoints are there")
        yield lab


def get(lab, app, *options, path="/"):
    """Which version answers with 200; None where none does."""
    text = lab.client.run("curl", "-sS", "-i", "--max-time", "20", *options, f"http://{lab.addresses[app]}{path}", check=False)
    served = re.search(r"x-served-by: (\S+)", text)
    names = {pod.ip: pod.labels.get("version") for pod in lab.pods.values()}
    return served and names.get(served.group(1)) if re.match(r"HTTP/1.1 200", text) else None


def versions(lab, app, *options, count=40):
    return collections.Counter(get(lab, app, *options) for _ in range(count))


def test_every_file_of_the_guide_is_taken_without_an_error(lab):
    assert len(list(GUIDE.glob("[a-z]*.yaml"))) == 11
    loaded = [line for line in lab.control.output().splitlines() if "configuration loaded" in line]
    assert loaded and all("errors=0" in line for line in loaded), loaded


def test_reviews_canary(lab):
    assert versions(lab, "reviews", "-H", "end-user: jason", count=10) == {"v2": 10}
    seen = versions(lab, "reviews", count=100)
    assert set(seen) == {"v1", "v2"} and 75 <= seen["v1"] <= 99, seen


def test_blue_and_green(lab):
    assert versions(lab, "app-service", count=20) == {"green": 20}
    file = GUIDE / "app-bluegreen.yaml"
    lab.write(file.name, file.read_text().replace("subset: green", "subset: blue"))
    wait(lambda: versions(lab, "app-service", count=10) == {"blue": 10}, "everything goes to blue")
    lab.write(file.name, file.read_text())
    wait(lambda: versions(lab, "app-service", count=10) == {"green": 10}, "everything goes to green again")


def test_catalog_a_b_test(lab):
    assert versions(lab, "catalog", "-H", "user-type: premium", count=10) == {"v2": 10}
    seen = versions(lab, "catalog", count=100)
    assert set(seen) == {"v1", "v2"} and 60 <= seen["v1"] <= 95, seen


def test_httpbin_is_mirrored(lab):
    lab.client.run("curl", "-sS", f"http://{lab.addresses['httpbin']}/mirrored")
    for version in ("v1", "v2"):
        wait(lambda: "GET /mirrored" in lab.web[version].output(), f"{version} is asked")


def test_ratings_are_tried_again(lab):
    """One of two pods refuses connections; nobody who asks sees it."""
    assert versions(lab, "ratings", count=30) == {"v1": 30}


def test_what_is_bound_to_a_gateway_is_no_business_of_a_waypoint(lab):
    assert get(lab, "productpage", path="/elsewhere") == "v1"
    assert get(lab, "frontend", "-H", "host: shop.example.com") == "v1"
