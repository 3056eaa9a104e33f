"""Which addresses a tenant's store may have: none of the node's own, and none where clouds answer who a machine is."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Services of clouds that hand out a machine's identity, beside those on link-local addresses: AWS and Google by IPv6,
# Alibaba, Azure's wire server, Oracle.
_IDENTITY = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
# Addresses of IPv4 written into IPv6: translated by a gateway, or by the machine itself.
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")


def is_local(text: str) -> bool:
    """Whether an address in text form is one that no tenant may reach through us. Raises ValueError on what is none."""
    address: Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = _inner(address)
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address.is_multicast
        or address in _IDENTITY
    )


def _inner(address: ipaddress.IPv6Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, or itself."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _TRANSLATED or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
