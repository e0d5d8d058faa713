"""The roles that come with the package: the kinds of computation of a compute resource."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from compute_to_data.configuration import Configuration
from compute_to_data.errors import ComputeToDataError, ConfigurationError

if TYPE_CHECKING:
    from compute_to_data.pipeline.template import Role


def role_named(configuration: Configuration, name: str) -> Role:
    """A new instance of the class that the configuration names for a role.

    ConfigurationError when the configuration lacks the role, or its class cannot be loaded or does not accept the
    role's settings. A site's own module may raise anything, SystemExit included.
    """
    from compute_to_data.pipeline.checked_hooks import raised
    from compute_to_data.pipeline.template import Role

    settings = configuration.roles.get(name)
    if settings is None:
        known = ", ".join(sorted(configuration.roles))
        raise ConfigurationError(f"role {name}", f"is not in {configuration.source}", f"Known roles: {known}")
    module_name, _, class_name = settings.implementation.partition(":")
    try:
        implementation = getattr(importlib.import_module(module_name), class_name)
    except (Exception, SystemExit) as error:
        cause = str(error) if isinstance(error, (ImportError, AttributeError)) else f"it {raised(error)}"
        raise ConfigurationError(
            f"role {name}",
            f"its class {settings.implementation} cannot be loaded ({cause})",
            "Write it as module:Class, and install it where the worker runs",
        ) from error
    if not (isinstance(implementation, type) and issubclass(implementation, Role)):
        remedy = "Derive the class from compute_to_data.pipeline.template.Role"
        raise ConfigurationError(f"role {name}", f"{settings.implementation} is not a Role", remedy)
    try:
        return implementation(name, settings.settings)
    except ComputeToDataError:
        raise
    except (Exception, SystemExit) as error:
        cause = f"{settings.implementation} cannot be made with the role's settings: it {raised(error)}"
        remedy = "Correct the role's settings in the configuration, or its class"
        raise ConfigurationError(f"role {name}", cause, remedy) from error
