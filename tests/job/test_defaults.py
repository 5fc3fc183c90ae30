"""Which job context code gets."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

import fray.job
from fray.errors import InvalidRequestError
from fray.job import (
    ContextConfig,
    FrayContext,
    SyncContext,
    ThreadContext,
    create_job_ctx,
    fray_default_job_ctx,
    get_default_job_ctx,
)


def test_everything_that_is_promised_can_be_imported():
    for name in fray.job.__all__:
        assert getattr(fray.job, name) is not None


def test_contexts_are_made_by_type():
    assert isinstance(create_job_ctx("sync"), SyncContext)
    assert repr(create_job_ctx("threadpool")) == "<ThreadContext max_workers=1>"
    assert repr(create_job_ctx("threadpool", max_workers=3)) == "<ThreadContext max_workers=3>"
    assert repr(ContextConfig("threadpool", 2).create()) == "<ThreadContext max_workers=2>"


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="Unknown context type 'dask'"):
        create_job_ctx("dask")


def test_a_fray_context_needs_an_address():
    with pytest.raises(ValueError, match="controller_address"):
        create_job_ctx("fray")


def test_bounds_are_checked_before_anything_is_connected():
    for wrong in (
        {"max_workers": 0},
        {"min_workers": 9, "max_workers": 8},
        {"retries": -1},
        {"ttl_s": 0},
    ):
        with pytest.raises(InvalidRequestError):
            FrayContext("localhost:1", **wrong)
    with pytest.raises(InvalidRequestError, match="max_workers"):
        create_job_ctx("threadpool", max_workers=0)


def test_without_a_cluster_it_is_threads(monkeypatch):
    for spec in ("", "local", "local?max_workers=2"):
        monkeypatch.setenv("FRAY_CLUSTER_SPEC", spec)
        assert isinstance(create_job_ctx("auto"), ThreadContext)


def test_a_block_says_which_context_is_the_default():
    outer, inner = SyncContext(), ThreadContext()
    with fray_default_job_ctx(outer):
        assert get_default_job_ctx() is outer
        with fray_default_job_ctx(inner) as same:
            assert same is inner
            assert get_default_job_ctx() is inner
        assert get_default_job_ctx() is outer


def test_the_default_is_made_once_for_all_threads(monkeypatch):
    monkeypatch.delenv("FRAY_CLUSTER_SPEC", raising=False)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(get_default_job_ctx())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(context) for context in found}) == 1


def test_only_a_context_can_be_the_default():
    with pytest.raises(TypeError), fray_default_job_ctx("threads"):
        pass


CTRL_C = """
import os, pathlib, signal, sys, threading, time
from fray.errors import CallCancelled
from fray.job import FrayContext, ThreadContext

def wait(path):
    pathlib.Path(path).touch()
    while not os.path.exists(path + "-go-on"):
        time.sleep(0.01)
    return 1

def in_get():
    frame = sys._current_frames()[threading.main_thread().ident]
    while frame is not None and frame.f_code.co_name != "value_of":
        frame = frame.f_back
    return frame is not None

def press(path):
    while not (os.path.exists(path) and in_get()):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

def main(path):
    ctx = CONTEXT
    running, waiting = ctx.run(wait, path), ctx.run(print, "never")
    threading.Thread(target=press, args=(path,), daemon=True).start()
    try:
        ctx.get(waiting)
    except KeyboardInterrupt:
        pass
    assert isinstance(waiting.exception(20), CallCancelled), waiting
    pathlib.Path(path + "-go-on").touch()
    assert ctx.get(running) == 1
    ctx.shutdown()
    print("cancelled")

if __name__ == "__main__":
    main(sys.argv[1])
"""


@pytest.mark.parametrize("context", ["ThreadContext(1)", "FrayContext(max_workers=1)"])
def test_ctrl_c_cancels_what_was_not_started(context, tmp_path):
    script = CTRL_C.replace("CONTEXT", context)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "begun")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("cancelled\n", 0), done.stderr


def test_importing_it_is_quick_and_loads_no_ray():
    script = "import sys, fray.job; print('ray' in sys.modules, 'aiohttp' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout == "False False\n"
