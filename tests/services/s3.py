# SPDX-License-Identifier: Apache-2.0
"""moto's S3 server, behind a check that every request is signed with our key: what it lacks, and what a real one does first.

``python -m services.s3 PORT`` is the process.
"""

from __future__ import annotations

import contextlib
import datetime
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from services.process import free_port, running

ACCESS, SECRET, REGION, BUCKET = "AKIATESTS", "a secret of the tests", "eu-central-1", "checkpoints"


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[dict[str, Any]]:
    """Run it; yields the options of a store in it."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    tests = str(Path(__file__).resolve().parents[1])
    with running([sys.executable, "-m", "services.s3", str(port)], port, folder / "log", {"PYTHONPATH": tests}):
        options = {
            "kind": "s3", "bucket": BUCKET, "prefix": "some/prefix", "endpoint": f"http://127.0.0.1:{port}", "region": REGION,
            "access_key": ACCESS, "secret_key": SECRET,
        }  # fmt: skip
        client(options).create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield options


def client(options: dict[str, Any]) -> Any:
    import boto3

    return boto3.client(
        "s3", endpoint_url=options["endpoint"], region_name=REGION,
        aws_access_key_id=options["access_key"], aws_secret_access_key=options["secret_key"],
    )  # fmt: skip


class Checked:
    """WSGI: lets signed requests pass."""

    def __init__(self, application: Callable[..., Any]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        if not valid(environ):
            start("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SignatureDoesNotMatch</Code></Error>"]
        return self._application(environ, start)


def valid(environ: dict[str, Any]) -> bool:
    """Whether the signature in the query or in the headers is what our key makes of this request, and not too old."""
    from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    query = urllib.parse.parse_qsl(environ["QUERY_STRING"], keep_blank_values=True)
    asked = dict(query)
    sent = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    sent |= {"content-type": environ.get("CONTENT_TYPE", ""), "content-length": environ.get("CONTENT_LENGTH", "")}
    path = urllib.parse.quote(environ["PATH_INFO"].encode("latin1"), safe="/~")
    credentials = Credentials(ACCESS, SECRET)
    if "X-Amz-Signature" in asked:
        signature, names = asked["X-Amz-Signature"], asked["X-Amz-SignedHeaders"].split(";")
        date = datetime.datetime.strptime(asked["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
        if datetime.datetime.now(datetime.UTC) - date > datetime.timedelta(seconds=int(asked["X-Amz-Expires"])):
            return False
        signer: Any = S3SigV4QueryAuth(credentials, "s3", REGION)
        stamp = asked["X-Amz-Date"]
        query = [pair for pair in query if pair[0] != "X-Amz-Signature"]
    elif sent.get("authorization", "").startswith("AWS4-HMAC-SHA256 "):
        parts = dict(
            part.strip().split("=", 1) for part in sent["authorization"][len("AWS4-HMAC-SHA256 ") :].split(",")
        )
        signature, names, stamp = parts["Signature"], parts["SignedHeaders"].split(";"), sent["x-amz-date"]
        signer = S3SigV4Auth(credentials, "s3", REGION)
    else:
        return False
    url = f"http://{environ['HTTP_HOST']}{path}" + (
        f"?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}" if query else ""
    )
    request = AWSRequest(environ["REQUEST_METHOD"], url, headers={name: sent.get(name, "") for name in names})
    request.context["timestamp"] = stamp
    made: str = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return made == signature


def main() -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    application = Checked(DomainDispatcherApplication(create_backend_app))
    run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True)


if __name__ == "__main__":
    main()
