"""Loss of power: what a directory store leaves on a disk that forgets what was not synced."""
