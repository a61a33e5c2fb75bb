"""Command lines: ``dvr-agent`` (the daemon) and ``dvrctl`` (check, plan, apply, show, status and more)."""
