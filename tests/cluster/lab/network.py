"""The lab's network: a bridge for pods, a wire to the machine, a wire to the second node."""

import subprocess

from tests.cluster.lab.namespace import Namespaces

BRIDGE = "mc0"
POD_NETWORK = "10.88.0.0/16"
SERVICE_NETWORK = "10.96.0.0/24"
SERVICE_API = "10.96.0.1"
NODE_ADDRESS = {1: "10.88.0.1", 2: "10.88.0.2"}
# Node 2's range is outside node 1's, and its gateway is node 2, so that services are reached there.
POD_RANGE = {1: ("10.88.1.0", "10.88.127.254"), 2: ("10.88.128.0", "10.88.254.254")}


def outside_addresses(number: int) -> tuple[str, str]:
    """(machine's end, lab's end) of the wire to the machine for the lab with this number.

    Pods reach the lab's end too, so one address serves both sides.
    """
    return f"10.89.{number}.1", f"10.89.{number}.2"


# What tells a store that accepts nobody (a full queue of a listener) from a network that loses packets (neighbours that
# fail, a table of connections that is full), from the node and from each pod that a process of that name runs in.
_LOOK = """
look() { "$@" ss -Htln; "$@" ip -s neigh; "$@" ip -o link; "$@" ss -Hton state syn-sent; "$@" ip route; }
echo node; look; cat /proc/sys/net/netfilter/nf_conntrack_count
grep -E '^TcpExt' /proc/net/netstat | cut -c1-4000
for process in $(pgrep -f "$1"); do echo "pod of process $process"; look nsenter -t "$process" -n; done
"""


def describe(where: Namespaces, program: str) -> str:
    """The state of the network as the node and the pods of a program see it, for a failure's report."""
    return str(where.run("sh", "-c", _LOOK, "sh", program, check=False, timeout=30).stdout)


def _bridge(where: Namespaces, node: int) -> None:
    where.run("ip", "link", "set", "lo", "up")
    # An address of its own: a bridge without one takes the lowest of its ports', which come and go with the pods, and
    # whoever has looked the former one up then talks to nobody.
    where.run("ip", "link", "add", BRIDGE, "address", f"0a:58:0a:58:00:{node:02x}", "type", "bridge")
    where.run("ip", "address", "add", f"{NODE_ADDRESS[node]}/16", "dev", BRIDGE)
    where.run("ip", "link", "set", BRIDGE, "up")
    where.run("ip", "route", "add", SERVICE_NETWORK, "dev", BRIDGE)
    where.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")


def first_node(where: Namespaces, number: int) -> None:
    """Set up node 1's network and the wire to the machine."""
    _bridge(where, 1)
    here, there = outside_addresses(number)
    name = f"bvlab{number}"
    commands = (
        f"ip link delete {name} 2>/dev/null; "
        f"ip link add {name} type veth peer name outside netns {where.pid} && "
        f"ip address add {here}/30 dev {name} && ip link set {name} up"
    )
    # Run outside: the machine's end is made in the machine's own network.
    subprocess.run(["sh", "-c", commands], check=True)
    where.run("ip", "address", "add", f"{there}/30", "dev", "outside")
    where.run("ip", "link", "set", "outside", "up")


def second_node(first: Namespaces, where: Namespaces) -> None:
    """Set up node 2's network and its wire into node 1's bridge."""
    _bridge(where, 2)
    # iproute2 takes process ids as seen from where it runs: find the nested first process in the outer.
    inner = where.run("sh", "-c", "readlink /proc/1/ns/net").stdout.strip()
    search = f"for p in /proc/[0-9]*; do [ $(readlink $p/ns/net) = '{inner}' ] && echo ${{p#/proc/}}; done; :"
    pid = first.run("sh", "-c", search).stdout.split()[0]
    first.run("ip", "link", "add", "node2", "type", "veth", "peer", "name", "uplink", "netns", pid)
    first.run("ip", "link", "set", "node2", "master", BRIDGE, "up")
    where.run("ip", "link", "set", "uplink", "master", BRIDGE, "up")
    where.run("ip", "route", "add", "default", "via", NODE_ADDRESS[1])
