"""`blockvault`: backups on a store alone, without a cluster."""
