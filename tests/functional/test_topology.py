"""``dvrctl show router|topology`` on a real kernel, compared with ``ip -j``."""

from __future__ import annotations

from xml.etree import ElementTree

from tests.support import lab
from tests.support.ctl import Ctl


def test_the_topology_is_what_ip_shows(kernel_ctl: Ctl) -> None:
    kernel_ctl.json("apply", kernel_ctl.document("a.json"), kernel_ctl.document("b.json", number=1))
    graph = kernel_ctl.json("show", "topology")["topology"]
    namespaces = {node["name"]: node for node in graph["nodes"] if node["kind"] == "namespace"}
    assert namespaces.keys() == kernel_ctl.ns()
    for name, node in namespaces.items():
        links = [link for link in lab.ip_json("address", netns=name) if link["ifname"] != "lo"]
        shown = {(one["name"], one["mac"], one["mtu"], one["state"], *one["addresses"]) for one in node["devices"]}
        assert shown == {
            (
                link["ifname"],
                link["address"],
                link["mtu"],
                "up" if "UP" in link["flags"] else "down",
                *(
                    f"{one['local']}/{one['prefixlen']}"
                    for one in link["addr_info"]
                    if one["scope"] != "link" or "." in one["local"]
                ),
            )
            for link in links
        }
    bridges = {link["ifname"]: link.get("master") for link in lab.ip_json("link")}
    networks = {node["id"]: node["bridge"] for node in graph["nodes"] if node["kind"] == "network"}
    ports = [edge for edge in graph["edges"] if edge["kind"] == "port"]
    assert {edge["target_device"]: networks[edge["target"]] for edge in ports} == {
        name: master for name, master in bridges.items() if name.startswith("tap")
    }
    (fip,) = (name for name in namespaces if name.startswith("fip-"))
    pairs = {(edge["source"], edge["target"]) for edge in graph["edges"] if edge["kind"] == "veth"}
    assert pairs == {(fip, name) for name in namespaces if name.startswith("qrouter-")}


def test_one_router_is_drawn_with_what_it_shares_and_nothing_of_others(kernel_ctl: Ctl) -> None:
    kernel_ctl.json("apply", kernel_ctl.document("a.json"), kernel_ctl.document("b.json", number=1))
    one, other = (entry["id"] for entry in kernel_ctl.json("show", "routers")["routers"])
    qrouter = f"qrouter-{one}"
    lab.run("ip", "-n", qrouter, "link", "set", next(iter(sorted(devices(qrouter)))), "down")
    graph = kernel_ctl.json("show", "router", one[:6])["topology"]
    shown = {device["name"]: device["state"] for node in graph["nodes"] for device in node["devices"]}
    assert list(shown.values()).count("down") == 1
    assert f"fpr-{one[:10]}" in shown
    assert f"fpr-{other[:10]}" not in shown
    assert [name for name in shown if name.startswith("fg-")]
    drawn = ElementTree.fromstring(kernel_ctl.run("show", "router", one, "-o", "svg").stdout)
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert set(shown) <= set(texts)
    for language, begin in (("dot", "graph topology {"), ("mermaid", "flowchart TB")):
        assert kernel_ctl.run("-o", language, "show", "router", one).stdout.splitlines()[0] == begin
    refused = kernel_ctl.run("show", "fips", "-o", "svg")
    assert (refused.returncode, refused.stdout) == (64, "")
    assert "show fips has no output format svg: table or json" in refused.stderr


def devices(namespace: str) -> set[str]:
    return {link["ifname"] for link in lab.ip_json("link", netns=namespace)} - {"lo"}
