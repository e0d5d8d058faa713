"""What people have on their own computers."""

from __future__ import annotations

from support.site import TrialSite


def settings_of(site: TrialSite, user: str) -> dict[str, object]:
    """What a user's ``config.json`` says."""
    zone = {"kind": "embedded", "directory": site.zone.directory, "user": user}
    return {"zone": zone, "site": str(site.configuration_file)}
