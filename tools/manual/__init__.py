"""Makes the manual pages: ``python -m tools.manual DIRECTORY`` (``make man``).

``pages`` composes each page as reStructuredText, of what ``commands`` makes of argparse parsers and ``options`` of the
options of oslo.config; docutils turns it into a page for man.
"""
