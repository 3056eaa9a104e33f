"""An S3 server in the process."""

from __future__ import annotations

import logging
import secrets
from types import TracebackType
from typing import Any, Self

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer


class S3:
    """moto on loopback, with one empty bucket. It knows conditional creation (`If-None-Match: *`).

    All servers of a process have the same buckets, so each makes one of its own.
    """

    region = "us-east-1"
    access_key = "embedded"
    secret_key = "embedded-secret"  # the server asks for none; it is here to be passed on

    def __init__(self, bucket: str = "") -> None:
        self.bucket = bucket or f"backups-{secrets.token_hex(4)}"

    def __enter__(self) -> Self:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self.client().create_bucket(Bucket=self.bucket)
        return self

    def __exit__(
        self, type: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()

    def client(self) -> Any:
        """A boto3 client for looking at what is stored."""
        return boto3.client(
            "s3", endpoint_url=self.endpoint, region_name=self.region, aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
        )  # fmt: skip

    def objects(self, prefix: str = "") -> dict[str, int]:
        """Keys and sizes in bytes of what is stored."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return {o["Key"]: o["Size"] for page in pages for o in page.get("Contents", [])}
