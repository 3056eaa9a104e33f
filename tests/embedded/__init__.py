"""An emulated cluster: the Kubernetes API over HTTP, its storage and Job controllers, and S3, in one process.

The operator and the movers that run against it are the real programs, and the bytes are real. What the
emulation lacks on purpose: pods of users run nothing, kubelets are not there, there is no RBAC.
"""
