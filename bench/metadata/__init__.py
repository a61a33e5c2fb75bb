"""``make bench-metadata``: one dvr-metadata-proxy against one haproxy per router, side by side."""
