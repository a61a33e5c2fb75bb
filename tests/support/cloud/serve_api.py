"""Serves Neutron's API by waitress, with the Python of the Neutron environment: ``serve_api.py ADDRESS PORT``.

Configuration files are named by ``OS_NEUTRON_CONFIG_DIR`` and ``OS_NEUTRON_CONFIG_FILES``, as Neutron's WSGI
entry point expects it.
"""

from __future__ import annotations

import sys

address, port = sys.argv[1:3]
del sys.argv[1:]  # Neutron reads them as its own

from neutron.wsgi.api import application  # noqa: E402
from waitress import serve  # noqa: E402

serve(application, host=address, port=int(port), threads=8, channel_timeout=600)
