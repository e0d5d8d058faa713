"""The URLs that a task may name, how they are shown, and to which addresses the worker may connect."""

from __future__ import annotations

import pytest

from compute_to_data.errors import Refused
from compute_to_data.urls import address
from compute_to_data.urls.access import Bucket, Host, UrlAccess
from compute_to_data.urls.address import Address, parse
from compute_to_data.urls.reachable import may_connect


@pytest.mark.parametrize(
    ("text", "expected", "name"),
    [
        ("https://data.example.org/a.csv", Address("https", "data.example.org", 443, "/a.csv"), "a.csv"),
        ("HTTPS://Data.Example.ORG", Address("https", "data.example.org", 443, "/"), ""),
        ("https://localhost:8443/a%20b?x=/y", Address("https", "localhost", 8443, "/a%20b", "?x=/y"), "a b"),
        ("https://127.0.0.1/a", Address("https", "127.0.0.1", 443, "/a"), "a"),
        ("https://[2001:DB8::1]:99/a", Address("https", "2001:db8::1", 99, "/a"), "a"),
        ("https://xn--bcher-kva.example/a", Address("https", "xn--bcher-kva.example", 443, "/a"), "a"),
        ("s3://bucket/deep/a b?#%20é", Address("s3", "bucket", 0, "deep/a b?#%20é"), "a b?#%20é"),
    ],
)
def test_a_valid_url(text: str, expected: Address, name: str) -> None:
    found = parse(text)
    assert (found, found.name) == (expected, name)
    assert parse(found.text) == found


@pytest.mark.parametrize(
    "text",
    [
        "http://example.org/a", "ftp://example.org/a", "file:///etc/passwd", "https:example.org/a", "//example.org/a",
        "https://user@example.org/a", "https://user:word@example.org/a", "https://example.org\\@127.0.0.1/a",
        "https://@example.org/", "https://example.org:80@127.0.0.1/", "https:///a", "https://:443/a",
        "https://2130706433/a", "https://0x7f000001/a", "https://017700000001/a", "https://0177.0.0.1/a",
        "https://127.1/a", "https://127.0.0.01/a", "https://127.0.0.1./a", "https://0/a", "https://1.2.3.4.5/a",
        "https://example.org./a", "https://example..org/a", "https://.example.org/a", "https://-a.example.org/a",
        "https://bücher.example/a", "https://example。org/a", "https://ⓔxample.org/a", "https://exam\u00adple.org/a",
        "https://127。0。0。1/a", "https://\uff11\uff12\uff17.0.0.1/a", "https://example.org/é",
        "https://example.org/a b",
        "https://[::1/a", "https://::1/a", "https://[fe80::1%25eth0]/a", "https://[fe80::1%eth0]/a", "https://[]/",
        "https://[127.0.0.1]/a", "https://[::ffff:0177.0.0.1]/a", "https://example.org:0/a", "https://example.org:/a",
        "https://example.org:65536/a", "https://example.org:443:80/a", "https://example.org:٤٤٣/a",
        "https://example.org/a#b", "https://example.org/%zz", "https://example.org/a\n",
        "https://example.org/a\r\nX: y",
        "https://example.org/a\x00", "https://" + "a" * 64 + ".org/", "https://" + "a." * 127 + "org/",
        "https://example.org/" + "a" * 4096, "s3://bucket", "s3://bucket/", "s3://Bucket/a", "s3://b/a", "s3:///a",
        "s3://user@bucket/a", "s3://bucket/a\n", "s3://bucket/../a", "s3://bucket/" + "a" * 1025, "s3://bucket:1/a",
    ],
)  # fmt: skip
def test_an_invalid_url(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its text is an expectation for a message
        parse(text)
    assert "word" not in str(caught.value).replace("password", "")


def test_credentials_are_never_shown() -> None:
    assert parse("https://example.org/a?sig=hidden").shown == "https://example.org/a?..."
    assert address.without_credentials("https://user:hidden@example.org/a?sig=hidden") == "https://example.org/a"
    assert address.without_credentials("ftp://a@b:hidden@example.org") == "ftp://example.org"


PUBLIC = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:93.184.215.14"]
PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "::1",
    "fd00::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a00:1",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "169.254.0.1", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0", "0.0.0.0", "0.1.2.3", "::",
    "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "ff02::1", "fec0::1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1", "::7f00:1", "2001:db8::1",
    "2001:0:7f00:1::", "", "localhost", "127.1", "2130706433",
]  # fmt: skip


def test_a_listed_host_leads_to_public_addresses_only() -> None:
    host = Host("data.example.org")
    assert [one for one in PUBLIC if not may_connect(host, one)] == []
    assert [one for one in (*PRIVATE, *NEVER) if may_connect(host, one)] == []


def test_a_private_host_also_leads_to_the_sites_own_addresses_but_not_to_link_local_ones() -> None:
    host = Host("archive.example.org", private=True)
    assert [one for one in (*PUBLIC, *PRIVATE) if not may_connect(host, one)] == []
    assert [one for one in NEVER if may_connect(host, one)] == []


def test_a_link_local_address_must_be_listed_itself() -> None:
    assert may_connect(Host("169.254.169.254", private=True), "169.254.169.254")
    assert not may_connect(Host("169.254.169.254"), "169.254.169.254")
    assert not may_connect(Host("169.254.169.254", private=True), "169.254.0.1")


def test_only_what_is_listed_is_allowed() -> None:
    hosts = (Host("data.example.org"), Host("data.example.org", 8443), Host("fd00::1", 443, True))
    access = UrlAccess(hosts, (Bucket("measurements"),))
    for allowed in (
        "https://DATA.example.org/a",
        "https://data.example.org:8443/a",
        "https://[FD00::1]/a",
        "s3://measurements/a",
    ):
        access.permit(parse(allowed))
    for refused in (
        "https://example.org/a", "https://data.example.org.evil.org/a", "https://data.example.org:444/a",
        "https://evil-data.example.org/a", "https://measurements/a", "s3://data.example.org/a", "s3://measurements2/a",
    ):  # fmt: skip
        with pytest.raises(Refused, match="Ask the administrator"):
            access.permit(parse(refused))


def test_the_hosts_of_a_bucket() -> None:
    own = Bucket("measurements", "https://minio.example.org:9000", private=True)
    assert own.hosts == (Host("minio.example.org", 9000, True),)
    assert [one.name for one in Bucket("measurements", region="eu-central-1").hosts] == [
        "measurements.s3.eu-central-1.amazonaws.com",
        "s3.eu-central-1.amazonaws.com",
    ]
