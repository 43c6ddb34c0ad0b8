"""Servers of object stores on loopback: S3 by moto, in this process; Azure Blob Storage and Google Cloud Storage by
their emulators, where these are installed.

    azurite-blob      npm install azurite                                       (or AZURITE=path of the program)
    fake-gcs-server   go install github.com/fsouza/fake-gcs-server@latest       (or FAKE_GCS_SERVER=path)
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

READY_SECONDS = 60
HTTP = httpx.Client(trust_env=False)
REGION = "eu-west-1"
# Azurite's one account, as its documentation prints it.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Server(Protocol):
    scheme: str

    def create(self, bucket: str) -> None: ...

    def put(self, bucket: str, path: str, data: bytes) -> None: ...

    def members(self) -> Mapping[str, str]:
        """What a configuration says of the server."""

    def environ(self) -> Mapping[str, str]:
        """What the environment says of it."""


class S3:
    scheme = "s3"

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        self.keys = ("AKIA" + secrets.token_hex(8).upper(), secrets.token_hex(20))
        self.client = self.client_of("s3", self.keys)

    def client_of(self, service: str, keys: tuple[str, str]) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=keys[0],
            aws_secret_access_key=keys[1],
        )

    def create(self, bucket: str) -> None:
        self.client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})

    def put(self, bucket: str, path: str, data: bytes) -> None:
        self.client.put_object(Bucket=bucket, Key=path, Body=data)

    def members(self) -> Mapping[str, str]:
        return {
            "aws_region": REGION,
            "aws_s3_endpoint": self.url,
            "aws_access_key_id": self.keys[0],
            "aws_secret_access_key": self.keys[1],
        }

    def environ(self) -> Mapping[str, str]:
        return {
            "AWS_REGION": REGION,
            "AWS_ENDPOINT": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": self.keys[0],
            "AWS_SECRET_ACCESS_KEY": self.keys[1],
        }

    @contextlib.contextmanager
    def asking_for_credentials(self) -> Iterator[tuple[str, str]]:
        """Only the key pair of this user counts meanwhile."""
        iam = self.client_of("iam", self.keys)
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        user = f"user-{secrets.token_hex(4)}"
        iam.create_user(UserName=user)
        iam.put_user_policy(UserName=user, PolicyName="all", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=user)["AccessKey"]
        HTTP.post(f"{self.url}/moto-api/reset-auth", content=b"0")
        try:
            yield key["AccessKeyId"], key["SecretAccessKey"]
        finally:
            HTTP.post(f"{self.url}/moto-api/reset-auth", content=b"inf")

    def close(self) -> None:
        self._server.stop()


class Azure:
    scheme = "az"

    def __init__(self, folder: Path) -> None:
        program = installed("AZURITE", "azurite-blob")
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        options = ("--skipApiVersionCheck", "--disableTelemetry", "--silent", "--inMemoryPersistence")
        command = (program, "--blobHost", "127.0.0.1", "--blobPort", str(port), *options)
        self._process = started(command, port, folder)

    def create(self, bucket: str) -> None:
        self._call("PUT", f"/{bucket}", {}, b"", "\nrestype:container", "?restype=container")

    def put(self, bucket: str, path: str, data: bytes) -> None:
        self._call("PUT", f"/{bucket}/{quote(path)}", {"x-ms-blob-type": "BlockBlob"}, data, "", "")

    def members(self) -> Mapping[str, str]:
        return {}

    def environ(self) -> Mapping[str, str]:
        return {
            "AZURE_STORAGE_USE_EMULATOR": "true",
            "AZURITE_BLOB_STORAGE_URL": self._url,
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
        }

    def close(self) -> None:
        ended(self._process)

    def _call(self, verb: str, path: str, more: dict[str, str], data: bytes, canonical: str, query: str) -> None:
        headers = {**more, "x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        size = str(len(data)) if data else ""
        text = f"{verb}\n\n\n{size}\n\n\n\n\n\n\n\n\n{lines}/{ACCOUNT}/{ACCOUNT}{path}{canonical}"
        mark = base64.b64encode(hmac.digest(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256)).decode()
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{mark}"
        answer = HTTP.request(verb, f"{self._url}/{ACCOUNT}{path}{query}", headers=headers, content=data)
        assert answer.status_code == 201, answer.text


class Google:
    scheme = "gs"

    def __init__(self, folder: Path) -> None:
        program = installed("FAKE_GCS_SERVER", "fake-gcs-server")
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        options = ("-scheme", "http", "-host", "127.0.0.1", "-backend", "memory")
        command = (program, *options, "-port", str(port), "-public-host", f"127.0.0.1:{port}")
        self._account = folder / "service-account.json"
        account = {"gcs_base_url": self._url, "disable_oauth": True}
        unused = {"client_email": "", "private_key": "", "private_key_id": ""}
        self._account.write_text(json.dumps(account | unused))
        self._process = started(command, port, folder)

    def create(self, bucket: str) -> None:
        assert HTTP.post(f"{self._url}/storage/v1/b", json={"name": bucket}).status_code == 200

    def put(self, bucket: str, path: str, data: bytes) -> None:
        address = f"{self._url}/upload/storage/v1/b/{bucket}/o"
        answer = HTTP.post(address, params={"uploadType": "media", "name": path}, content=data)
        assert answer.status_code == 200, answer.text

    def members(self) -> Mapping[str, str]:
        return {}

    def environ(self) -> Mapping[str, str]:
        return {"GOOGLE_SERVICE_ACCOUNT": str(self._account), "GOOGLE_ALLOW_HTTP": "true"}

    def close(self) -> None:
        ended(self._process)


@dataclass
class Cloud:
    """A bucket of its own on one of the servers."""

    server: Server
    bucket: str = field(default_factory=lambda: f"bucket-{secrets.token_hex(4)}")

    def __post_init__(self) -> None:
        self.server.create(self.bucket)

    @property
    def url(self) -> str:
        return f"{self.server.scheme}://{self.bucket}"

    def put(self, path: str, data: bytes) -> None:
        self.server.put(self.bucket, path, data)

    def upload(self, folder: Path, prefix: str = "") -> None:
        """The files of a folder, without those of the folders in it."""
        for file in sorted(folder.iterdir()):
            if file.is_file():
                self.put(prefix + file.name, file.read_bytes())


def installed(variable: str, name: str) -> str:
    found = os.environ.get(variable) or shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not on PATH and {variable} does not name it: this store's emulator is not installed")
    return found


def started(command: tuple[str, ...], port: int, folder: Path) -> subprocess.Popen[bytes]:
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return process
        time.sleep(0.05)
    ended(process)
    raise AssertionError(f"{command[0]} does not listen: {log.read_text()}")


def ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
