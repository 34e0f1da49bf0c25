"""The client's address: the same walk as the service's, for checks that the application asks for itself.

The leftmost entry of X-Forwarded-For is what the client wrote. It is believed only when every hop to its right is a
trusted proxy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from quotad.errors import ConfigurationError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """CIDR ranges as written. Bits outside a range are a mistake, as in the service."""
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise ConfigurationError(f"trusted_proxies: {error}; write 10.0.0.0/8 or one address") from error


def parse(text: str) -> Address | None:
    """An address with or without brackets and port. IPv4 in IPv6 is IPv4."""
    text = text.strip()
    for candidate in (text, text.rpartition(":")[0]):
        try:
            address = ipaddress.ip_address(candidate.removeprefix("[").removesuffix("]"))
        except ValueError:
            continue
        mapped = getattr(address, "ipv4_mapped", None)
        return mapped or address
    return None


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> Address | None:
    """`forwarded_for`: the values of the header, in order. None: the peer has no address, as on a unix socket."""
    client = parse(peer)
    if client is None:
        return None
    for entry in reversed([entry for value in forwarded_for for entry in value.split(",")]):
        if not any(client in network for network in trusted):
            break
        following = parse(entry)
        if following is None:
            break
        client = following
    return client


def partition(address: Address) -> str:
    """What one subscriber holds: an IPv4 address, a /64 of IPv6."""
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address), 64), strict=False))
