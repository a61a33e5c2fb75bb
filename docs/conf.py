"""Settings of Sphinx for the documentation site (``make docs``); the pages are staged by ``tools/docs_site.py``."""

import re
from pathlib import Path

project = "dvr-agent"
author = "The dvr-agent authors"
# Staged beside the pages, where pyproject.toml is not.
release = re.search(r'^__version__ = "(.*)"', Path(__file__).with_name("version").read_text(), re.MULTILINE)[1]
extensions = ["myst_parser"]
root_doc = "index"
source_suffix = {".md": "markdown"}

# Anchors are those that the usual renderers of Markdown make, which tools/check_docs.py checks, too.
myst_heading_anchors = 5

html_theme = "furo"
html_title = f"dvr-agent {release}"
html_show_sphinx = False
html_copy_source = False
# Nothing is loaded from elsewhere.
html_use_opensearch = ""
pygments_style = "friendly"
# Configuration files of oslo.config, shell sessions and JSON with an ellipsis are shown as they are.
highlight_language = "none"
suppress_warnings = ["misc.highlighting_failure"]
