"""The command line: each command parses, calls one function and prints. Results go to stdout, everything else to stderr.

    run          train: init, plan, check, run, worker, test
    results      the results of a study: status, report, export, dashboard
    trial        one trial: show, logs, reproduce
    outside      results from elsewhere: analyze, compare
    maintenance  whole studies and the installation: merge, delete, upgrade, import, doctor, schema

Heavy modules are imported inside the command that needs them, so that `ablate --help` is instant."""

from ablate.cli.app import app, main

__all__ = ["app", "main"]
