"""Builds one HTML page about one or several models, and DVC's page of plots."""
