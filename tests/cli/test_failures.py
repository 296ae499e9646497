"""Errors as users see them."""

from __future__ import annotations

import errno
import inspect
import json

import pytest

from cli import failures
from cli.failures import EXIT_CODES, MAX_FAILURES, Failure, explain, suggestion
from dmqnode import errors
from storage.errors import StorageError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("x"), 2),
        (errors.InvalidRequest("x"), 2),
        (errors.QueueNotFound("x"), 4),
        (errors.MessageNotFound("x"), 4),
        (errors.StaleReceipt("x"), 4),
        (errors.NotAuthorized("x"), 5),
        (errors.Unavailable("x"), 6),
        (errors.QueueExists("x"), 7),
        (errors.Refused("x"), 7),
        (errors.Unknown("x"), 8),
        (errors.LimitExceeded("x", code="disk-full"), 9),
        (errors.PartlyFailed("x", [(3, errors.StaleReceipt("y"))]), 10),
        (errors.ProtocolError("x"), 1),
        (StorageError("x"), 1),
        (OSError(errno.ENOSPC, "No space left on device", "f"), 1),
    ],
)
def test_the_exit_code_of_each_error(error: Exception, code: int) -> None:
    found = explain(error)
    assert found is not None
    assert found.exit == code


def test_every_error_has_an_exit_code() -> None:
    kinds = [kind for kind, _ in EXIT_CODES]
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.DMQError):
            assert any(issubclass(kind, known) for known in kinds), name


def test_a_bug_is_not_explained() -> None:
    assert explain(KeyError("x")) is None
    assert explain(AssertionError("x")) is None


def test_one_line_whatever_the_message() -> None:
    assert Failure("c", "two\nlines", 1).line(as_json=False) == "dmq: two lines"


def test_json_says_what_is_known() -> None:
    found = explain(errors.Unknown("no answer"))
    assert found is not None
    assert json.loads(found.line(as_json=True)) == {
        "error": {"code": "unknown", "message": "no answer", "retryable": True, "stored": "unknown"}
    }


def test_json_tells_the_failures_of_a_batch() -> None:
    found = explain(errors.PartlyFailed("1 of 2", [(1, errors.StaleReceipt("late"))]))
    assert found is not None
    assert json.loads(found.line(as_json=True))["error"]["failures"] == [
        {"index": 1, "code": "stale-receipt", "message": "late", "stored": "no"}
    ]


def test_a_batch_of_which_some_may_be_stored() -> None:
    lost = [(n, errors.Unavailable("away")) for n in range(MAX_FAILURES)]
    found = explain(errors.PartlyFailed("101 of 200", [*lost, (150, errors.Unknown("no answer"))]))
    assert found is not None
    told = json.loads(found.line(as_json=True))["error"]
    assert (told["stored"], len(told["failures"])) == ("unknown", MAX_FAILURES)
    found = explain(errors.PartlyFailed("1 of 2", [(1, errors.Unknown("no answer"))]))
    assert found is not None
    assert json.loads(found.line(as_json=True))["error"]["failures"][0]["stored"] == "unknown"


def test_a_name_that_was_probably_meant() -> None:
    assert suggestion("ordrs", ["orders", "other"]) == "orders"
    assert suggestion("zzz", ["orders"]) is None


def test_every_exit_code_has_one_name() -> None:
    codes = [value for name, value in vars(failures).items() if name.isupper() and type(value) is int]
    assert sorted(c for c in codes if c <= 10) == list(range(11))
