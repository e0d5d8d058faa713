"""``python3 -m compute_to_data.worker``: serve one compute resource until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence

from compute_to_data import site_file
from compute_to_data.configuration import Configuration
from compute_to_data.coordination import heartbeat, lock, published_line
from compute_to_data.errors import ComputeToDataError
from compute_to_data.plain_text import one_line
from compute_to_data.ports.zone import Storage
from compute_to_data.worker import log_format
from compute_to_data.worker.service import Worker


def main(arguments: Sequence[str] | None = None) -> int:
    """``python3 -m compute_to_data.worker --configuration FILE --resource NAME``.

    Exit status: 0 stopped or idle; 1 the worker cannot start or go on, and standard error has the reason;
    3 another worker serves the resource.
    """
    from compute_to_data.engines import open_engine, prepare_worker
    from compute_to_data.zones import open_storage

    parser = argparse.ArgumentParser(prog="compute_to_data.worker", description="Run a compute resource's tasks.")
    parser.add_argument("--configuration", required=True, help="the site's configuration file")
    parser.add_argument("--resource", required=True, help="the compute resource to serve")
    parser.add_argument("--on-demand", action="store_true", help="exit after some time without tasks")
    options = parser.parse_args(arguments)
    log_format.set_up()
    try:
        configuration = site_file.load(options.configuration)
        prepare_worker(configuration.engine)
        storage = open_storage(configuration.zone)
        settings = configuration.worker
        with _explained(configuration, storage, options.resource):
            engine = open_engine(configuration.engine, settings.state_directory, settings.submitted)
            worker = Worker(configuration, options.resource, storage, engine)
            for signal_number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signal_number, lambda *_: worker.stop())
            worker.serve(on_demand=options.on_demand)
    except lock.AlreadyServed as error:
        print(one_line(str(error)), file=sys.stderr)
        return 3
    except ComputeToDataError as error:
        print(one_line(str(error)), file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def _explained(configuration: Configuration, storage: Storage, resource: str) -> Iterator[None]:
    """Publish why the worker does not start, for those whose tasks wait for it. Another worker of the resource that
    is alive has the last word."""
    try:
        yield
    except lock.AlreadyServed:
        raise
    except ComputeToDataError as error:
        with contextlib.suppress(ComputeToDataError):
            if not heartbeat.is_served(storage.catalog, configuration, resource):
                published_line.publish_why_none_begins(storage.catalog, configuration.attributes, resource, error)
        raise


if __name__ == "__main__":
    sys.exit(main())
