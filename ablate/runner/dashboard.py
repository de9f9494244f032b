"""`ablate dashboard`: serve optuna-dashboard on localhost."""

import importlib
import sys

from ablate.errors import Unavailable
from ablate.store.places import Place
from ablate.store.urls import parse_url


def serve_dashboard(place: Place, port: int) -> None:
    """Serve until interrupted.

    Raises:
        Unavailable: optuna-dashboard is not installed.
    """
    try:
        dashboard = importlib.import_module("optuna_dashboard")
    except ImportError as error:
        raise Unavailable("dashboard: not installed; pip install 'ablate-studies[dashboard]'") from error
    print(f"http://127.0.0.1:{port} (Ctrl-C ends it)", file=sys.stderr)
    url = parse_url(place.url).render_as_string(hide_password=False)
    dashboard.run_server(url, host="127.0.0.1", port=port)
