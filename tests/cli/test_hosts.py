from __future__ import annotations

import pytest

from fray.cli.errors import Failure
from fray.cli.hosts import check_port

from .samples import job


def test_port_that_a_job_does_not_have_is_told_with_those_that_it_has() -> None:
    check_port(job(ports=("http", "web")), "web")
    with pytest.raises(Failure, match=r"has no port 'wbe' \(it has: http, web\)"):
        check_port(job(ports=("http", "web")), "wbe")
    with pytest.raises(Failure, match="it has: none; `fray run --port NAME` gives it one"):
        check_port(job(), "web")
