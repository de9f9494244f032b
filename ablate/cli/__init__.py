"""The command line: each command parses, calls one function and prints. Results go to stdout, everything else to stderr.

    run        train: init, plan, run, worker, test
    look       see what came of it: status, report, export, dashboard
    trial      one trial: show, logs, reproduce
    outside    results from elsewhere: analyze, compare
    care       the installation: doctor, schema

Heavy modules are imported inside the command that needs them, so that `ablate --help` is instant."""

from ablate.cli.app import app, main

__all__ = ["app", "main"]
