"""To which addresses the worker may connect for a host that the site lists.

A listed name may only lead to public addresses; the site must say ``"private"`` beside a host that has others. So no
answer of a name server can turn a listed host into a service of the site's own network.
"""

from __future__ import annotations

import ipaddress
from typing import Final, Union

from compute_to_data.urls.access import Host

_Ip = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
_PRIVATE: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7", "::1/128")
)
"""What the name of a private host may lead to. Not link-local addresses, where clouds keep credentials
(169.254.169.254): for one, the site must list the address itself."""
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.ip_network("::/96")


def may_connect(host: Host, address: str) -> bool:
    """Whether the worker may connect to an IP address for a host."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if host.private and (str(ip) == host.name or any(_inner(ip) in network for network in _PRIVATE)):
        return True
    return _is_public(ip)


def _inner(ip: _Ip) -> _Ip:
    """The IPv4 address in an IPv4-mapped one; any other as it is."""
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


def _embedded(ip: _Ip) -> _Ip:
    """The IPv4 address to which a gateway would send what is for an IPv6 address: 6to4, Teredo, NAT64 and others."""
    if not isinstance(ip, ipaddress.IPv6Address):
        return ip
    found = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
    if found is None and (ip in _NAT64 or ip in _COMPATIBLE):
        found = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return found or ip


def _is_public(ip: _Ip) -> bool:
    return all(_is_global(one) for one in (_inner(ip), _embedded(ip)))


def _is_global(ip: _Ip) -> bool:
    strange = ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_link_local
    site_local = isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local
    return ip.is_global and not strange and not site_local
