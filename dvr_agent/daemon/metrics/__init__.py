"""Metrics in Prometheus' text format: what there is (``definitions``), its values (``collector``), where it goes."""
