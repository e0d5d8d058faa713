"""Which hosts and buckets a site allows. None, unless the site lists them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compute_to_data.errors import Refused
from compute_to_data.urls.address import S3, Address, parse


@dataclass(frozen=True)
class Host:
    """A host that tasks may name. ``name``: a name, or an IP address without brackets. ``private``: it may have
    addresses that are not public."""

    name: str
    port: int = 443
    private: bool = False

    @classmethod
    def of(cls, text: str, private: bool = False) -> Host:
        """The host in ``data.example.org`` or ``[fd00::1]:8443``. ValueError."""
        address = parse(f"https://{text}")
        if (address.path, address.query) != ("/", "") or text.endswith("/"):
            raise ValueError("the name of a host, and perhaps a port")
        return cls(address.host, address.port, private)

    @property
    def text(self) -> str:
        """As the configuration has it."""
        return Address("https", self.name, self.port, "/").authority


@dataclass(frozen=True)
class Bucket:
    """A bucket that tasks may name. ``endpoint``: the URL of its S3 service; '' for that of Amazon. ``private``: as
    for a host."""

    name: str
    endpoint: str = ""
    region: str = "us-east-1"
    private: bool = False

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The hosts to which the worker connects for it."""
        if not self.endpoint:
            service = f"s3.{self.region}.amazonaws.com"
            return tuple(Host(name, 443, self.private) for name in (f"{self.name}.{service}", service))
        return (replace(Host.of(self.endpoint[len("https://") :]), private=self.private),)


@dataclass(frozen=True)
class UrlAccess:
    """The URLs that a site's tasks may name. ``ca_file``: a file with the certificates of the authorities to trust; ''
    for the usual ones."""

    hosts: tuple[Host, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    ca_file: str = ""

    def host(self, address: Address) -> Host | None:
        """The listed host of an ``https`` URL, or None."""
        return next((one for one in self.hosts if (one.name, one.port) == (address.host, address.port)), None)

    def bucket(self, address: Address) -> Bucket | None:
        """The listed bucket of an ``s3`` URL, or None."""
        return next((one for one in self.buckets if one.name == address.host), None)

    def need_bucket(self, address: Address) -> Bucket:
        """The listed bucket of an ``s3`` URL. Refused when there is none."""
        self.permit(address)
        return next(one for one in self.buckets if one.name == address.host)

    def permit(self, address: Address) -> None:
        """Refused unless the site lists the URL's host, with this port, or its bucket."""
        listed = self.bucket(address) if address.scheme == S3 else self.host(address)
        if listed is None:
            what, where = ("bucket", "urls.buckets") if address.scheme == S3 else ("host", "urls.hosts")
            raise Refused(
                address.shown,
                f"this site's tasks may not use the {what} {address.authority}",
                f"Ask the administrator to add it to {where} in the configuration; for an input, you can also upload "
                "the file (iput) and name its logical path",
            )
