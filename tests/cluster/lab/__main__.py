"""A cluster for a person, or for one command: `python -m tests.cluster.lab [--nodes 2] [-- command ...]`."""

import argparse
import os
import subprocess
import sys

from tests.cluster.lab import Cluster


def main() -> int:
    """Boot, give a shell or run the command with the environment set, tear down; the command's exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.lab", description=__doc__)
    parser.add_argument("--nodes", type=int, choices=(1, 2), default=1)
    parser.add_argument("command", nargs="*", help="run this instead of a shell, after --")
    arguments = parser.parse_args()
    with Cluster(arguments.nodes, verbose=True) as cluster:
        environment = cluster.environment()
        print(f"\ncluster up in {cluster.timings['boot']:.1f} s; logs in {cluster.logs}")
        for name in ("KUBECONFIG", "S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            print(f"export {name}={environment[name]}")
        sys.stdout.flush()
        if not arguments.command:
            print("kubectl and helm are on the PATH; the cluster ends with this shell.", flush=True)
        command = arguments.command or [os.environ.get("SHELL", "/bin/sh")]
        return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
