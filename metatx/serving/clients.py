"""Clients: requests and connections are counted by the address that they come from."""

from collections.abc import Mapping
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any

__all__ = ["client_of", "sender"]

NETWORK = 64  # bits of an IPv6 address that name a network; a client may use all addresses of its network


def client_of(host: str | None) -> str:
    """Return the client behind an address: the address itself, or, for IPv6, its network."""
    name = (host or "").partition("%")[0][:100]
    try:
        address = ip_address(name)
    except ValueError:
        return name
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Network((address, NETWORK), strict=False))
    return str(address)


def sender(scope: Mapping[str, Any]) -> str:
    """Return the client that sent a request, from its ASGI scope."""
    client = scope.get("client")
    return client_of(client[0] if client else None)
