"""The roles that come with the package: the kinds of computation of a compute resource."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from compute_to_data.configuration import Configuration
from compute_to_data.errors import ConfigurationError

if TYPE_CHECKING:
    from compute_to_data.pipeline.template import Role


def role_named(configuration: Configuration, name: str) -> Role:
    """A new instance of the class that the configuration names for a role.

    ConfigurationError when the configuration lacks the role, or its class cannot be loaded.
    """
    from compute_to_data.pipeline.template import Role

    settings = configuration.roles.get(name)
    if settings is None:
        known = ", ".join(sorted(configuration.roles))
        raise ConfigurationError(f"role {name}", f"is not in {configuration.source}", f"Known roles: {known}")
    module_name, _, class_name = settings.implementation.partition(":")
    try:
        implementation = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"role {name}",
            f"its class {settings.implementation} cannot be loaded ({error})",
            "Write it as module:Class, and install it where the worker runs",
        ) from None
    if not (isinstance(implementation, type) and issubclass(implementation, Role)):
        remedy = "Derive the class from compute_to_data.pipeline.template.Role"
        raise ConfigurationError(f"role {name}", f"{settings.implementation} is not a Role", remedy)
    return implementation(name, settings.settings)
