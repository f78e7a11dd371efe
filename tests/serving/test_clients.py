"""Whom an address stands for."""

import pytest

from metatx.serving.clients import client_of, sender


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9%eth0", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
        ("x" * 500, "x" * 100),
        (None, ""),
    ],
)
def test_an_address_of_ipv6_stands_for_its_network(host, client):
    assert client_of(host) == client
    assert sender({"client": host and (host, 1)}) == client
