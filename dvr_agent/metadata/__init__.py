"""Agreement between dvr-agent and dvr-metadata-proxy: the control protocol, and the settings that it carries.

The proxy talks to instances and has no rights, so it imports nothing of the agent but this package, the options and
what any program needs (``errors``, ``logs``, ``config_files``, ``notify``).
"""
