from __future__ import annotations

import collections
import functools
import os
import pickle
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fray
from fray.errors import PayloadError
from fray.runtime.payload import Codec, Payload
from fray.runtime.serialization import (
    OUT_OF_BAND_BYTES_MIN,
    dumps,
    dumps_arguments,
    loads,
)

LARGE = OUT_OF_BAND_BYTES_MIN
SMALL = OUT_OF_BAND_BYTES_MIN - 1

plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.frozensets(st.integers())
    ),
    max_leaves=20,
)


@dataclass
class Holder:
    name: str
    lock: object


class Point(collections.namedtuple("Point", "x y")):
    pass


class Picklish:
    """Pickles something itself while it is pickled."""

    def __init__(self, inside: object) -> None:
        self.inside = inside

    def __reduce__(self) -> object:
        payload = dumps(self.inside)
        return _unpicklish, (payload.data, [bytes(buffer) for buffer in payload.buffers])


def _unpicklish(data: bytes, buffers: list[bytes]) -> Picklish:
    return Picklish(loads(Payload(data, buffers)))


class Remembers:
    pass


# ---- values


@given(plain_values)
def test_plain_values_come_back_equal(value: object) -> None:
    assert loads(dumps(value)) == value


def test_arguments_come_back_as_a_pair() -> None:
    assert loads(dumps_arguments((1, "a"), {"k": [2]})) == ((1, "a"), {"k": [2]})


def test_json_payloads_give_plain_json_values() -> None:
    assert loads(Payload(b'{"a":[1,null]}', codec=Codec.JSON)) == {"a": [1, None]}


def test_a_class_of_the_main_module_travels_by_value() -> None:
    cls = type("FromANotebook", (), {"__module__": "__main__", "double": lambda self: 2 * self.x})
    instance = cls()
    instance.x = 21
    rebuilt = loads(dumps(instance))
    assert type(rebuilt) is cls or rebuilt.double() == 42
    assert b"double" in dumps(instance).data


def test_functions_of_a_function_body_travel_by_value_with_what_they_close_over() -> None:
    offset = 40
    assert loads(dumps(lambda x: x + offset))(2) == 42


def test_functions_pickled_one_after_the_other_do_not_share_their_globals() -> None:
    def make(value: int) -> object:
        space = {"__name__": "__main__", "value": value}
        exec("def read():\n    return value", space)
        return space["read"]

    payloads = [dumps(make(number)) for number in range(50)]
    assert [loads(payload)() for payload in payloads] == list(range(50))


def test_a_value_may_pickle_others_while_it_is_pickled() -> None:
    rebuilt = loads(dumps([Picklish(Picklish([1, 2])), "after"]))
    assert rebuilt[1] == "after"
    assert rebuilt[0].inside.inside == [1, 2]


def test_nothing_of_a_value_is_kept_after_it_is_pickled() -> None:
    value = Remembers()
    gone = weakref.ref(value)
    dumps([value, np.zeros(LARGE, np.uint8)])
    del value
    assert gone() is None


def test_threads_may_pickle_at_once() -> None:
    start = threading.Barrier(4)

    def work(seed: int) -> bool:
        start.wait()
        return all(loads(dumps(v)) == v for v in ((seed, i, "x" * (i % 7)) for i in range(2000)))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_a_failure_does_not_spoil_the_next_value() -> None:
    for _ in range(20):
        with pytest.raises(PayloadError):
            dumps([1, np.zeros(LARGE, np.uint8), threading.Lock()])
        payload = dumps((1, "next"))
        assert loads(payload) == (1, "next")
        assert not payload.buffers


# ---- buffers


@pytest.mark.parametrize("size", [0, 1, SMALL, LARGE, LARGE + 1, 1 << 20])
@pytest.mark.parametrize("writable", [True, False])
def test_arrays_come_back_equal_and_as_writable_as_they_were(size: int, writable: bool) -> None:
    array = np.arange(size, dtype=np.uint8)
    array.flags.writeable = writable
    payload = dumps({"array": array})
    rebuilt = loads(payload)["array"]
    np.testing.assert_array_equal(rebuilt, array)
    assert rebuilt.flags.writeable is writable
    assert len(payload.buffers) == (1 if size >= LARGE else 0)


def test_writable_arrays_have_the_value_of_the_time_of_the_call() -> None:
    for size in (SMALL, LARGE):
        array = np.ones(size, np.uint8)
        payload = dumps(array)
        array[:] = 7
        assert loads(payload).max() == 1


def test_read_only_arrays_are_referred_to_and_not_copied() -> None:
    array = np.ones(LARGE, np.uint8)
    array.flags.writeable = False
    payload = dumps(array)
    assert np.shares_memory(np.frombuffer(payload.buffers[0], np.uint8), array)
    assert memoryview(payload.buffers[0]).readonly


def test_no_two_loads_share_writable_memory() -> None:
    payload = dumps(np.ones(LARGE, np.uint8))
    first, second = loads(payload), loads(payload)
    first[:] = 7
    assert second.max() == 1
    assert loads(payload).max() == 1


def test_taken_buffers_become_the_memory_of_the_value() -> None:
    sent = dumps(np.ones(LARGE, np.uint8))
    received = bytearray(sent.buffers[0])
    array = loads(Payload(sent.data, [memoryview(received)]), take=True)
    assert array.flags.writeable
    assert np.shares_memory(array, np.frombuffer(received, np.uint8))


def test_received_read_only_buffers_give_read_only_arrays() -> None:
    array = np.ones(LARGE, np.uint8)
    array.flags.writeable = False
    sent = dumps(array)
    received = memoryview(bytearray(sent.buffers[0])).toreadonly()
    for take in (True, False):
        assert not loads(Payload(sent.data, [received]), take=take).flags.writeable


def test_copies_of_writable_buffers_go_where_the_caller_says() -> None:
    pool: list[bytearray] = []

    def allocate(nbytes: int) -> memoryview:
        pool.append(bytearray(nbytes))
        return memoryview(pool[-1])

    read_only = np.full(LARGE, 2, np.uint8)
    read_only.flags.writeable = False
    payload = dumps([np.full(LARGE, 1, np.uint8), read_only], allocate=allocate)
    assert [set(memory) for memory in pool] == [{1}]
    assert [int(array[0]) for array in loads(payload)] == [1, 2]


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(400 * 400).reshape(400, 400)),
        np.arange(400 * 400).reshape(400, 400)[::2, ::3],
        np.arange(400 * 400).reshape(400, 400).T,
        np.broadcast_to(np.arange(400), (400, 400)),
        np.array([{"a": 1}, None], dtype=object),
        np.zeros(3, dtype=[("x", "f4"), ("y", "i8")]),
    ],
    ids=["fortran", "strided", "transposed", "broadcast", "objects", "records"],
)
def test_arrays_of_any_layout_come_back_equal(array: np.ndarray) -> None:
    rebuilt = loads(dumps(array))
    np.testing.assert_array_equal(rebuilt, array)
    assert rebuilt.dtype == array.dtype


def test_a_bare_buffer_comes_back_with_its_bytes() -> None:
    for size in (SMALL, LARGE):
        rebuilt = loads(dumps(pickle.PickleBuffer(bytearray(b"x" * size))))
        assert bytes(rebuilt) == b"x" * size
        assert not memoryview(rebuilt).readonly


# ---- arrays that cannot do it themselves (what is skipped here runs where JAX is installed)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn", "int8", "bool"])
def test_large_jax_arrays_are_referred_to_and_come_back_equal(dtype: str) -> None:
    jax = pytest.importorskip("jax")
    array = (jax.numpy.arange(1 << 18) % 13).reshape(512, 512).astype(dtype)
    payload = dumps({"w": array})
    (buffer,) = payload.buffers
    assert memoryview(buffer).readonly
    assert memoryview(buffer).nbytes == array.nbytes
    assert len(payload.data) < 1000
    rebuilt = loads(payload)["w"]
    assert isinstance(rebuilt, jax.Array)
    assert (rebuilt.dtype, rebuilt.shape) == (array.dtype, array.shape)
    assert bool((rebuilt == array).all())


def test_jax_values_that_are_more_than_their_elements_pickle_themselves() -> None:
    jax = pytest.importorskip("jax")
    weak = jax.numpy.asarray(3.0)
    assert loads(dumps(weak)).weak_type == weak.weak_type
    assert loads(dumps(jax.numpy.ones(3))).shape == (3,)
    keys = jax.random.split(jax.random.key(0), 1 << 14)
    rebuilt = loads(dumps(keys))
    assert bool((jax.random.key_data(rebuilt) == jax.random.key_data(keys)).all())


def test_a_jax_array_keeps_its_value_whoever_donates_it() -> None:
    jax = pytest.importorskip("jax")
    bump = jax.jit(lambda x: x + 1, donate_argnums=0)
    array = jax.numpy.ones(LARGE)
    payload = dumps(array)
    bump(array).block_until_ready()
    received = loads(payload)
    assert float(received.max()) == 1
    bump(received).block_until_ready()
    assert float(loads(payload).max()) == 1


@pytest.mark.parametrize("writable", [True, False])
def test_numpy_arrays_of_foreign_element_types_travel_as_buffers(writable: bool) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.ones((512, 512), ml_dtypes.bfloat16)
    array.flags.writeable = writable
    payload = dumps(array)
    array = array.copy()
    rebuilt = loads(payload)
    assert len(payload.buffers) == 1
    assert (rebuilt.dtype, rebuilt.shape) == (array.dtype, array.shape)
    assert rebuilt.flags.writeable is writable
    np.testing.assert_array_equal(rebuilt, array)
    np.testing.assert_array_equal(loads(dumps(array[::2, ::2].T)), array[::2, ::2].T)


# ---- what cannot be pickled


def message_of(*args: object, **kwargs: object) -> str:
    with pytest.raises(PayloadError) as caught:
        dumps_arguments(args, kwargs)
    return str(caught.value).split(". ")[0]


def test_the_path_names_argument_and_attribute() -> None:
    holder = Holder("h", threading.Lock())
    assert message_of(1, holder) == "argument 2 → .lock: cannot pickle '_thread.lock' object"
    assert message_of(h=holder) == "argument 'h' → .lock: cannot pickle '_thread.lock' object"


def test_the_path_leads_through_containers() -> None:
    lock = threading.Lock()
    reason = "cannot pickle '_thread.lock' object"
    assert message_of([0, {"a": (1, lock)}]) == f"argument 1 → [1] → ['a'] → [1]: {reason}"
    assert message_of({frozenset([lock])}) == f"argument 1 → an element → an element: {reason}"
    assert message_of(Point(1, lock)) == f"argument 1 → .y: {reason}"
    assert message_of(collections.deque([1, lock])) == f"argument 1 → [1]: {reason}"
    assert message_of(collections.OrderedDict(a=lock)) == f"argument 1 → ['a']: {reason}"
    assert message_of(functools.partial(print, lock, end=1)) == f"argument 1 → .args[0]: {reason}"


def test_the_path_leads_into_functions() -> None:
    lock = threading.Lock()

    def closes() -> object:
        return lock

    def defaults(x: object = lock) -> object:
        return x

    assert message_of(closes).startswith("argument 1 → closure variable 'lock': cannot pickle")
    assert message_of(defaults).startswith("argument 1 → a default: cannot pickle")
    assert message_of(Holder("h", lock).__eq__).startswith(
        "argument 1 → .__self__ → .lock: cannot pickle"
    )


def test_the_path_ends_where_an_object_refuses_by_itself() -> None:
    class Refuses:
        def __reduce__(self) -> object:
            raise ValueError("never")

    assert message_of([Refuses()]) == "argument 1 → [0]: ValueError: never"


def test_the_search_ends_in_values_that_contain_themselves() -> None:
    holder = Holder("h", None)
    holder.lock = [holder, threading.Lock()]
    assert message_of(holder).startswith("argument 1 → .lock → [1]: cannot pickle")


def test_values_nested_too_deeply_are_refused_with_that_reason() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert message_of(nested) == "argument 1: is nested too deeply to be pickled"


def test_the_message_of_an_unpicklable_value_says_what_it_was_and_what_to_do() -> None:
    with pytest.raises(PayloadError, match=r"^result of Model\.predict: .*actor") as caught:
        dumps((x for x in ()), what="result of Model.predict")
    assert isinstance(caught.value.__cause__, TypeError)


# ---- what cannot be rebuilt


def test_a_missing_module_is_named_with_advice() -> None:
    data = b"\x80\x04\x8c\x0bno_such_mod\x94\x8c\x03Cls\x94\x93\x94."
    with pytest.raises(PayloadError, match=r"no module 'no_such_mod'.*[Ii]nstall"):
        loads(Payload(data))


def test_a_missing_class_is_named_with_its_module() -> None:
    data = b"\x80\x04\x8c\x0bcollections\x94\x8c\x07NoClass\x94\x93\x94."
    with pytest.raises(PayloadError, match=r"'collections' has no 'NoClass'.*versions"):
        loads(Payload(data), what="argument of A.m")


@pytest.mark.parametrize("data", [b"", b"\x80", b"garbage", dumps([1, 2]).data[:-1]])
def test_damaged_bytes_are_reported(data: bytes) -> None:
    with pytest.raises(PayloadError, match="argument cannot be rebuilt here"):
        loads(Payload(data), what="argument")


def test_missing_buffers_are_reported() -> None:
    payload = dumps(np.zeros(LARGE, np.uint8))
    with pytest.raises(PayloadError, match="damaged or incomplete"):
        loads(Payload(payload.data))


def test_damaged_json_is_reported() -> None:
    with pytest.raises(PayloadError, match="damaged or incomplete"):
        loads(Payload(b"{", codec=Codec.JSON))


def test_what_a_constructor_raises_is_told() -> None:
    class Refuses:
        def __reduce__(self) -> object:
            return int, ("not a number",)

    with pytest.raises(PayloadError, match="ValueError: invalid literal") as caught:
        loads(dumps(Refuses()))
    assert isinstance(caught.value.__cause__, ValueError)


# ---- what it must not know


def test_importing_it_does_not_import_numpy() -> None:
    root = Path(fray.__file__).parent.parent
    script = (
        "import sys, fray.runtime.serialization, fray.runtime.error_envelope as e;"
        "e.encode_error(ValueError());"
        "print([m for m in ('numpy', 'cattrs') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
