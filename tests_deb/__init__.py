"""The Debian package: installed, upgraded, removed and purged under a real systemd, while packets pass its routers."""
