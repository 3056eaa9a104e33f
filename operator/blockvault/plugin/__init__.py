"""`kubectl blockvault`: the cluster's backups for a person at a terminal."""
