"""Blockvault beside Velero in one Kubernetes: `make bench-cluster`."""
