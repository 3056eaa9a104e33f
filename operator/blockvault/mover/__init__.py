"""What runs inside a Job: one backup or one restore of one device, and words that outlive the pod."""
