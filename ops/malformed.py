"""What no description of an API generates: broken JSON, wrong bytes, odd headers and paths."""

import http.client
import json
import re
import socket
import urllib.parse

METHODS = ("get", "put", "post", "delete", "patch")
MEMBERS = {"type", "title", "status", "detail", "code", "request_id"}
ABSENT_LLM = {502, 503, 504}
ANSWER_LIMIT = 10

JSON = "application/json"
BODIES = [
    ("an empty body", JSON, b""),
    ("half a body", JSON, b'{"message": "Hel'),
    ("an array", JSON, b"[1]"),
    ("null", JSON, b"null"),
    ("a string", JSON, b'"x"'),
    ("a number out of range", JSON, b"1e999"),
    ("bytes that are not UTF-8", JSON, b'{"message": "\xff\xfe"}'),
    ("a NUL character", JSON, b'{"message": "\\u0000", "query": "\\u0000"}'),
    (
        "a NUL character in a name",
        JSON,
        b'{"content": "\\u0000", "title": "\\u0000", "name": "\\u0000"}',
    ),
    ("half a surrogate pair", JSON, b'{"message": "\\ud800", "query": "\\ud800"}'),
    (
        "half of one in a name",
        JSON,
        b'{"content": "\\udfff", "title": "\\udfff", "name": "\\udfff"}',
    ),
    ("a body as deep as it is long", JSON, b"[" * 100_000),
    ("objects in objects", JSON, b'{"a":' * 100_000),
    ("the same name twice", JSON, b'{"message": "a", "message": "b", "query": "a", "query": "b"}'),
    ("no content type", None, b"{}"),
    ("text", "text/plain", b"hello"),
    ("another charset", "application/json; charset=utf-16", b"{}"),
    ("a content type that is none", "\xff/;;=", b"{}"),
    ("a form", "multipart/form-data; boundary=x", b"--x--"),
    ("more than a megabyte", JSON, b" " * (1 << 20) + b"{}"),
]
QUERIES = [
    "limit=%ff", "limit=-1", "limit=99999999999999999999", "limit=1&limit=2", "offset=-1",
    "offset=9223372036854775808", "offset=1e3", "limit=%00", "kind=%00", "as_of=yesterday",
    "as_of=9999999999-01-01T00:00:00Z", "as_of=-290000-01-01T00:00:00Z", "include_inactive=maybe",
    "conversation_id=x", "before=%f0%9f%92%a9", "&&==&", "x" * 7000,
]  # fmt: skip
IDS = [
    "%00", "%ff", "..%2f..", "x", "00000000-0000-0000-0000-000000000000", "%f0%9f%92%a9",
    "a" * 4000,
]  # fmt: skip
HEADERS = [
    {"X-User-Id": "\xff"}, {"X-User-Id": "a b"}, {"X-User-Id": "a" * 129}, {"X-User-Id": ""},
    {"Authorization": ""}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer "},
    {"Authorization": "Bearer \xff.\xff.\xff"}, {"Authorization": "Bearer e30.e30."},
    {"X-API-Key": ""}, {"X-API-Key": "user_alice_x"}, {"X-API-Key": "ck_1_2"},
    {"Idempotency-Key": ""}, {"Idempotency-Key": "\xff"}, {"Idempotency-Key": "a" * 256},
    {"If-Match": "x"}, {"If-Match": '"99999999999999999999"'}, {"Last-Event-ID": "x:-1"},
    {"Last-Event-ID": "\xff"}, {"Accept": "\xff"}, {"Accept": "image/png"},
    {"X-Request-Id": "\xff"}, {"X-Request-Id": "a" * 5000}, {"traceparent": "00-x-y-z"},
    {"Content-Length": "-1"}, {"Expect": "100-continue"}, {"Origin": "null"},
]  # fmt: skip


def send_malformed(url, credential, document, expected_5xx):
    """Sends all of it; gives how many requests were sent, and the problems found.
    `expected_5xx` are the operations that may answer for an LLM that is not there."""
    sender = Sender(url)
    problems = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method not in METHODS or path == "/users/me":
                continue
            name = f"{method.upper()} {path}"
            allowed = ABSENT_LLM if name in expected_5xx else set()
            for what, target, headers, body in cases(path, operation, credential):
                answer = sender.send(method.upper(), target, headers, body)
                for problem in judge(answer, allowed):
                    problems.append(f"{name}, {what}: {problem}")
    return sender.sent, problems


def cases(path, operation, credential):
    """(what, target, headers, body) of every request for an operation."""
    some = re.sub(r"\{[^}]*\}", "00000000-0000-0000-0000-000000000001", path)
    with_body = operation.get("requestBody") is not None
    valid = (b"{}", JSON) if with_body else (b"", None)
    for what, kind, body in BODIES if with_body else ():
        yield what, some, headers_of(credential, kind), body
    for identity in IDS if "{" in path else ():
        target = re.sub(r"\{[^}]*\}", identity, path)
        yield f"the id {identity[:40]}", target, headers_of(credential, valid[1]), valid[0]
    for query in QUERIES:
        yield f"?{query[:40]}", f"{some}?{query}", headers_of(credential, valid[1]), valid[0]
    for odd in HEADERS:
        headers = headers_of({**credential, **odd}, valid[1])
        yield f"the header {str(odd)[:60]}", some, headers, valid[0]
    yield "no credential", some, headers_of({}, valid[1]), valid[0]


def headers_of(credential, kind):
    return {**credential, **({"Content-Type": kind} if kind else {})}


class Sender:
    def __init__(self, url):
        self.url = urllib.parse.urlsplit(url)
        self.sent = 0

    def send(self, method, target, headers, body):
        """Gives (status, headers, body), or what went wrong instead."""
        secure = self.url.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self.url.hostname, self.url.port, timeout=ANSWER_LIMIT)
        self.sent += 1
        try:
            connection.putrequest(method, self.url.path + target, skip_accept_encoding=True)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                connection.putheader(name, value.encode("latin-1"))
            connection.endheaders(body or None)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        except (OSError, http.client.HTTPException) as error:
            return error
        finally:
            connection.close()


def judge(answer, allowed_5xx):
    """Problems with an answer. Input so broken that the connection is closed is no problem."""
    if isinstance(answer, Exception):
        if isinstance(answer, socket.timeout):  # TimeoutError only since Python 3.10
            yield f"no answer in {ANSWER_LIMIT} s"
        return
    status, headers, body = answer
    if status >= 500 and status not in allowed_5xx:
        yield f"answered with {status}: {body[:200]!r}"
        return
    if status < 400 or not body:  # a bare answer is the HTTP server's own, before any operation
        if status in (401, 403, 404, 405, 409, 412, 415, 422):
            yield f"{status} without a body"
        return
    if headers.get_content_type() != "application/problem+json":
        yield f"{status} is {headers.get('Content-Type')}, not application/problem+json"
        return
    try:
        problem = json.loads(body)
    except ValueError:
        yield f"{status} with a body that is not JSON: {body[:200]!r}"
        return
    if MEMBERS - set(problem):
        yield f"{status} without {', '.join(sorted(MEMBERS - set(problem)))}"
    if problem.get("status") != status:
        yield f"{status} that calls itself {problem.get('status')}"
    if status == 401 and headers.get("WWW-Authenticate") != "Bearer":
        yield f"401 with WWW-Authenticate: {headers.get('WWW-Authenticate')}"
    if status == 405 and not headers.get("Allow"):
        yield "405 without Allow"
    if status == 429 and not headers.get("Retry-After"):
        yield "429 without Retry-After"
