from __future__ import annotations

import asyncio
import base64
import inspect
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray import errors
from fray.errors import (
    ActorDied,
    CallError,
    ChildFailed,
    ConnectionRefused,
    DeadlineExceeded,
    DeathCause,
    DeathKind,
    ErrorData,
    FrayError,
    JobNotFoundError,
    MailboxFull,
    RemoteError,
    SliceLost,
    Started,
    SupervisorFailed,
    remote_error,
)
from fray.runtime import error_data
from fray.runtime.error_data import data_of
from fray.runtime.error_envelope import EXCEPTION_PICKLE_BYTES_MAX, decode_error, encode_error
from fray.runtime.payload import Codec, Payload


def raised(exc: BaseException) -> BaseException:
    """The exception with a traceback, as an actor's runtime catches it."""
    try:
        raise exc
    except BaseException as caught:
        return caught


def travel(exc: BaseException, *, unpickle: bool = True) -> BaseException:
    return decode_error(encode_error(exc), actor="A", host="h1", unpickle=unpickle)


def account_of(exc: BaseException) -> ErrorData:
    account = remote_error(travel(exc))
    assert account is not None
    return account.data


class WithFields(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class WithState(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


@dataclass(frozen=True)
class Frozen(Exception):
    code: int

    def __reduce__(self) -> object:
        return Frozen, (self.code,)


class TwoParts(Exception):
    def __init__(self, a: int, b: str) -> None:
        super().__init__(f"{a}-{b}")
        self.a = a
        self.b = b


class Wrapped(ValueError):
    """Called with what it made of its message, it would wrap it twice."""

    def __init__(self, what: str) -> None:
        super().__init__(f"no {what}")


class Slotted(Exception):
    __slots__ = ("a", "b")

    def __init__(self, a: int, b: str) -> None:
        super().__init__(a)
        self.a = a
        self.b = b


@dataclass(frozen=True)
class Icy(Exception):
    code: int


@dataclass
class Kept(Exception):
    code: int


class Missing(ImportError):
    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"no {what}", name=what, path=where)


class Garbled(UnicodeDecodeError):
    def __init__(self, what: str) -> None:
        super().__init__("utf-8", what.encode(), 1, 2, "odd")


class Several(ExceptionGroup[Exception]):
    code: int

    def __new__(cls, text: str, code: int) -> Several:
        self = super().__new__(cls, text, [TwoParts(code, "one"), TwoParts(code, "two")])
        self.code = code
        return self

    def __init__(self, text: str, code: int) -> None: ...


class NewOnly(Exception):
    def __new__(cls, a: int, b: int) -> NewOnly:
        self = super().__new__(cls, f"{a}+{b}")
        self.a = a
        return self

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a}+{b}")

    a: int


class OwnCallError(CallError):
    """A user's class below one of fray's."""


# ---- the user's exceptions


def test_an_exception_comes_back_as_its_own_class_with_its_state() -> None:
    rebuilt = travel(raised(WithState(7, "seven")))
    assert type(rebuilt) is WithState
    assert (rebuilt.code, rebuilt.args) == (7, (7, "seven"))


def test_the_remote_account_is_the_cause_of_the_rebuilt_exception() -> None:
    rebuilt = travel(raised(ValueError("bad")))
    account = rebuilt.__cause__
    assert isinstance(account, RemoteError)
    assert (account.actor, account.host) == ("A", "h1")
    assert account.data.type_name == "ValueError"
    assert account.data.message == "bad"
    assert "in raised" in account.data.traceback
    assert "Remote traceback (actor A on h1)" in str(account)


def test_without_leave_to_unpickle_the_account_is_raised_and_nothing_runs() -> None:
    ran: list[int] = []

    class Runs(Exception):
        def __reduce__(self) -> object:
            return ran.append, (1,)

    rebuilt = travel(raised(Runs("x")), unpickle=False)
    assert type(rebuilt) is RemoteError
    assert rebuilt.data.message == "x"
    assert ran == []


def test_the_control_plane_can_leave_the_pickle_out() -> None:
    payload = encode_error(ValueError("x"), pickled=False)
    assert set(orjson.loads(payload.data)) == {"v", "error"}
    assert payload.codec is Codec.JSON
    assert type(decode_error(payload, unpickle=True)) is RemoteError


def test_notes_travel_with_class_and_account() -> None:
    exc = ValueError("bad")
    exc.add_note("while reading row 7")
    rebuilt = travel(raised(exc))
    assert rebuilt.__notes__ == ["while reading row 7"]
    assert account_of(exc).notes == ("while reading row 7",)


def test_notes_survive_a_reduce_that_forgets_them() -> None:
    exc = WithReduce("x")
    exc.add_note("kept")
    assert travel(exc).__notes__ == ["kept"]


class WithReduce(Exception):
    def __reduce__(self) -> object:
        return WithReduce, self.args


def test_causes_travel_as_data() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as outer:
        data = account_of(outer)
    assert data.cause is not None
    assert (data.cause.type_name, data.cause.message) == ("KeyError", "'inner'")
    assert "led to this one" in data.format()


def test_an_unsuppressed_context_is_told_and_a_suppressed_one_is_not() -> None:
    def fail(suppress: bool) -> BaseException:
        try:
            try:
                raise KeyError("inner")
            except KeyError:
                if suppress:
                    raise ValueError("outer") from None
                raise ValueError("outer")  # noqa: B904
        except ValueError as outer:
            return outer

    assert account_of(fail(suppress=True)).cause is None
    context = account_of(fail(suppress=False)).cause
    assert context is not None
    assert context.type_name == "KeyError"


def test_groups_travel_with_all_their_members() -> None:
    group = ExceptionGroup("two", [raised(ValueError("a")), ExceptionGroup("in", [OSError("b")])])
    rebuilt = travel(raised(group))
    assert isinstance(rebuilt, ExceptionGroup)
    assert [type(member) for member in rebuilt.exceptions] == [ValueError, ExceptionGroup]
    data = account_of(group)
    assert [member.type_name for member in data.group] == ["ValueError", "ExceptionGroup"]
    assert data.group[1].group[0].message == "b"
    assert "in raised" in data.group[0].traceback


def test_a_class_of_a_function_body_is_rebuilt() -> None:
    class Local(Exception):
        pass

    rebuilt = travel(raised(Local("x")))
    assert type(rebuilt).__name__ == "Local"
    assert remote_error(rebuilt) is not None


def test_a_users_class_below_frays_comes_back_as_itself() -> None:
    assert type(travel(OwnCallError("mine", started=Started.NO))) is OwnCallError


def test_frozen_exceptions_can_be_given_their_cause() -> None:
    rebuilt = travel(raised(Frozen(3)))
    assert type(rebuilt) is Frozen
    assert isinstance(rebuilt.__cause__, RemoteError)


def test_a_syntax_error_shows_the_line_that_does_not_parse() -> None:
    with pytest.raises(SyntaxError) as caught:
        compile("a = = 1", "user.py", "exec")
    assert "a = = 1" in account_of(caught.value).traceback


# ---- what would do harm when raised


@pytest.mark.parametrize(
    "exc",
    [
        KeyboardInterrupt("k"),
        SystemExit(3),
        GeneratorExit(),
        asyncio.CancelledError("c"),
        StopIteration(1),
        StopAsyncIteration(),
        errors.JobStopped("j"),
        BaseExceptionGroup("g", [KeyboardInterrupt()]),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_what_would_stop_the_caller_is_only_told(exc: BaseException) -> None:
    rebuilt = travel(raised(exc))
    assert type(rebuilt) is RemoteError
    assert rebuilt.data.type_name.rpartition(".")[2] == type(exc).__name__


def test_a_pickle_that_gives_something_that_stops_the_caller_is_only_told() -> None:
    class Stops(Exception):
        def __reduce__(self) -> object:
            return SystemExit, (1,)

    assert type(travel(Stops("s"))) is RemoteError


# ---- hostile exceptions


class Hostile(Exception):
    """Base of those whose methods misbehave; by value, so that each test has its own."""


def hostile_str() -> BaseException:
    class StrRaises(Hostile):
        def __str__(self) -> str:
            raise SystemExit(9)

    return StrRaises("x")


def hostile_str_of_another_type() -> BaseException:
    class StrGivesInt(Hostile):
        def __str__(self) -> str:
            return 5  # type: ignore[return-value]

    return StrGivesInt()


def hostile_everything() -> BaseException:
    class Meta(type):
        def __getattribute__(cls, name: str) -> object:
            raise RuntimeError(name)

    class Everything(Hostile, metaclass=Meta):
        def __str__(self) -> str:
            raise KeyboardInterrupt

        __repr__ = __str__

        def __reduce__(self) -> object:
            raise SystemExit(1)

        def __getattribute__(self, name: str) -> object:
            raise RuntimeError(name)

        def __setattr__(self, name: str, value: object) -> None:
            raise RuntimeError(name)

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("eq")

        __hash__ = None  # type: ignore[assignment]

    return Everything("x")


def hostile_fields() -> BaseException:
    class Fields(Hostile):
        __cause__ = property(lambda self: 1 / 0)  # type: ignore[assignment]
        __context__ = property(lambda self: 1 / 0)  # type: ignore[assignment]
        __traceback__ = property(lambda self: 1 / 0)  # type: ignore[assignment]
        __notes__ = property(lambda self: 1 / 0)  # type: ignore[assignment]

    return Fields("x")


def hostile_notes() -> BaseException:
    exc = Hostile("x")
    exc.__notes__ = 5  # type: ignore[assignment]
    return exc


def hostile_surrogates() -> BaseException:
    return Hostile("undecodable \udcff\ud800")


HOSTILE: list[Callable[[], BaseException]] = [
    hostile_str,
    hostile_str_of_another_type,
    hostile_everything,
    hostile_fields,
    hostile_notes,
    hostile_surrogates,
]


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_hostile_exceptions_are_told_all_the_same(make: Callable[[], BaseException]) -> None:
    rebuilt = travel(raised(make()))
    account = remote_error(rebuilt)
    assert account is not None
    assert account.data.type_name
    assert "Remote traceback" in str(account)


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_hostile_members_and_causes_do_not_hide_the_rest(
    make: Callable[[], BaseException],
) -> None:
    group = ExceptionGroup("g", [make(), ValueError("good")])  # type: ignore[list-item]
    group.__cause__ = make()
    data = account_of(raised(group))
    assert data.group[1].message == "good"
    assert data.cause is not None


def test_what_cannot_be_had_of_an_exception_is_said_in_its_place() -> None:
    assert account_of(hostile_str()).message == "(its str() raised SystemExit)"


def test_an_exception_that_cannot_be_pickled_is_told_whole_with_the_reason() -> None:
    rebuilt = travel(raised(ValueError("no", threading.Lock())))
    assert type(rebuilt) is RemoteError
    assert rebuilt.data.type_name == "ValueError"
    assert "in raised" in rebuilt.data.traceback
    assert "cannot pickle '_thread.lock' object" in rebuilt.__notes__[0]


@pytest.mark.parametrize(
    "exc",
    [
        WithFields(code=3),
        TwoParts(1, "two"),
        Wrapped("x"),
        Slotted(5, "five"),
        Icy(7),
        Kept(code=8),
        Missing("spam", "eggs"),
        Garbled("spam"),
        Several("several", 2),
        NewOnly(1, 2),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_an_exception_comes_back_as_its_own_class_whatever_its_constructor_takes(
    exc: Exception,
) -> None:
    rebuilt = travel(raised(exc))
    assert type(rebuilt) is type(exc)
    assert str(rebuilt) == str(exc)
    assert repr(rebuilt.args) == repr(exc.args)
    for name in ("code", "a", "b", "name", "path", "reason", "start"):
        assert getattr(rebuilt, name, None) == getattr(exc, name, None), name
    assert isinstance(rebuilt.__cause__, RemoteError)
    assert "in raised" in rebuilt.__cause__.data.traceback


def test_an_exception_that_holds_itself_comes_back_holding_itself() -> None:
    exc = TwoParts(1, "two")
    exc.itself = exc  # type: ignore[attr-defined]
    rebuilt = travel(raised(exc))
    assert type(rebuilt) is TwoParts
    assert rebuilt.itself is rebuilt  # type: ignore[attr-defined]


def test_members_of_a_group_come_back_whatever_their_constructors_take() -> None:
    rebuilt = travel(raised(ExceptionGroup("g", [TwoParts(1, "two"), WithFields(code=3)])))
    assert isinstance(rebuilt, ExceptionGroup)
    assert [(type(e), str(e)) for e in rebuilt.exceptions] == [
        (TwoParts, "1-two"),
        (WithFields, "code 3"),
    ]


def test_an_exception_that_its_own_reduce_cannot_make_is_told_whole() -> None:
    class Careless(WithFields):
        def __reduce__(self) -> object:
            return Careless, self.args

    rebuilt = travel(raised(Careless(code=3)))
    assert type(rebuilt) is RemoteError
    assert rebuilt.data.message == "code 3"
    assert "cannot be rebuilt here: TypeError" in rebuilt.__notes__[0]


@pytest.mark.parametrize(
    "reduced",
    [
        (int, ("not a number",)),
        (int, ("5",)),
        (ValueError, ("another class",)),
        (exec, ("raise SystemExit(3)",)),
        (object, ()),
    ],
    ids=["raises", "an int", "another exception", "exits", "an object"],
)
def test_a_reduce_that_lies_gives_the_account(reduced: object) -> None:
    class Lies(Exception):
        def __reduce__(self) -> object:
            return reduced

    rebuilt = travel(raised(Lies("truth")))
    assert type(rebuilt) is RemoteError
    assert rebuilt.data.message == "truth"
    assert rebuilt.__notes__[0].startswith("It comes as data because")


def test_an_exception_with_a_large_attachment_is_told_without_it() -> None:
    payload = encode_error(ValueError("big", bytearray(4 * EXCEPTION_PICKLE_BYTES_MAX)))
    assert payload.nbytes < EXCEPTION_PICKLE_BYTES_MAX
    rebuilt = decode_error(payload, unpickle=True)
    assert type(rebuilt) is RemoteError
    assert "larger than" in rebuilt.__notes__[0]


# ---- bounds


def test_a_huge_message_is_cut_in_its_middle() -> None:
    data = data_of(ValueError("head" + "x" * 10_000_000 + "tail"))
    assert len(data.message) < 20_000
    assert data.message.startswith("head")
    assert data.message.endswith("tail")
    assert re.search(r"\[… 99\d+ characters left out …\]", data.message)


def test_causes_that_form_a_cycle_are_told_once() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    data = account_of(one)
    assert data.cause is not None
    assert data.cause.cause is None
    assert data.cause.notes == ("[its cause ValueError is told above already]",)


def test_an_endless_chain_of_causes_is_cut_with_a_remark() -> None:
    exc: BaseException = ValueError("innermost")
    for number in range(10_000):
        outer = ValueError(number)
        outer.__cause__ = exc
        exc = outer
    payload = encode_error(exc)
    data = account_of(exc)
    depth = 1
    while data.cause is not None:
        data, depth = data.cause, depth + 1
    assert depth == error_data.EXCEPTIONS_MAX
    assert "left out" in data.notes[-1]
    assert payload.nbytes < 100_000


def test_a_group_with_very_many_members_is_cut_with_a_remark() -> None:
    data = account_of(ExceptionGroup("many", [ValueError(n) for n in range(5_000)]))
    assert len(data.group) == error_data.EXCEPTIONS_MAX - 1
    assert "member 64 of 5000 is left out" in data.notes[-1]


def test_all_texts_of_a_tree_together_are_bounded() -> None:
    members = [ValueError("x" * 100_000) for _ in range(60)]
    for member in members:
        for _ in range(40):
            member.add_note("n" * 50_000)
    group = ExceptionGroup("m", members)
    payload = encode_error(group, pickled=False)
    assert payload.nbytes < 2 * error_data.TREE_CHARS_MAX


def test_a_very_deep_traceback_keeps_its_two_ends() -> None:
    def outermost(n: int) -> None:
        deeper(n)

    def deeper(n: int) -> None:
        if n == 0:
            raise ValueError("bottom")
        outermost(n - 1)

    with pytest.raises(ValueError, match="bottom") as caught:
        outermost(150)
    text = data_of(caught.value).traceback
    assert "frames left out" in text
    assert "outermost(150)" in text
    assert "ValueError: bottom" in text


def test_a_recursion_error_is_told() -> None:
    def endless() -> None:
        endless()

    with pytest.raises(RecursionError) as caught:
        endless()
    assert type(travel(caught.value)) is RecursionError


def test_frames_of_the_runtime_before_the_users_are_not_shown() -> None:
    space = {"__name__": "fray.runtime.cell"}
    exec("def dispatch(f):\n    f()", space)

    def method() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x") as caught:
        space["dispatch"](method)
    caught.value.__traceback__ = caught.value.__traceback__.tb_next  # this test's own frame
    text = data_of(caught.value).traceback
    assert "in method" in text
    assert "dispatch" not in text


# ---- fray's own errors


EXAMPLES: dict[str, FrayError] = {
    "ActorDied": ActorDied(
        "model",
        DeathCause(DeathKind.SIGNAL, "killed", exit_code=None, signal=9, host="w3"),
        started=Started.NO,
    ),
    "RemoteError": RemoteError(
        ErrorData("ValueError", "x", "tb", ("note",), ErrorData("KeyError", "k")),
        actor="B",
        host="h2",
    ),
    "ChildFailed": ChildFailed("worker", DeathCause(DeathKind.SIGNAL, "killed", signal=9)),
    "SupervisorFailed": SupervisorFailed("root", DeathCause(DeathKind.RESTART_LIMIT, "4 failures")),
    "SliceLost": SliceLost(
        "step was not answered",
        epoch=3,
        lost={(0, 2): DeathCause(DeathKind.SIGNAL, "killed", signal=9)},
        started=Started.NO,
    ),
    "ConnectionRefused": ConnectionRefused("bad token", status=403),
}

OWN_CLASSES = [
    cls
    for name in errors.__all__
    if inspect.isclass(cls := getattr(errors, name)) and issubclass(cls, FrayError)
]


def example(cls: type[FrayError]) -> FrayError:
    if cls.__name__ in EXAMPLES:
        return EXAMPLES[cls.__name__]
    if issubclass(cls, CallError):
        return cls("what happened", started=Started.NO)
    return cls("what happened")


@pytest.mark.parametrize("cls", OWN_CLASSES, ids=lambda cls: cls.__name__)
def test_frays_own_errors_come_back_whole_without_any_pickle(cls: type[FrayError]) -> None:
    exc = example(cls)
    payload = encode_error(exc)
    assert "pickle" not in orjson.loads(payload.data)
    rebuilt = decode_error(payload, unpickle=False)
    assert type(rebuilt) is cls
    assert str(rebuilt) == str(exc)
    assert rebuilt.args == exc.args
    assert vars(rebuilt) == vars(exc)
    assert rebuilt.__cause__ is None  # nobody raised it: there is nothing more to tell


def test_an_own_error_that_was_raised_brings_its_account_along() -> None:
    rebuilt = travel(raised(JobNotFoundError("no job x")), unpickle=False)
    assert type(rebuilt) is JobNotFoundError
    assert remote_error(rebuilt) is not None


def test_an_own_error_that_a_method_raised_does_not_say_that_this_call_did_not_start() -> None:
    # The method called a full actor. That call did not start; the method itself did run.
    for exc in (MailboxFull("inner is full"), ActorDied("inner", started=Started.NO)):
        payload = encode_error(raised(exc))
        for rebuilt in (
            decode_error(payload, unpickle=True),
            decode_error(payload, unpickle=False, raised=True),
        ):
            assert isinstance(rebuilt, CallError)
            assert rebuilt.started is Started.UNKNOWN
            assert "did not start" not in str(rebuilt)
        said_by_fray = decode_error(payload, unpickle=False)
        assert isinstance(said_by_fray, CallError)
        assert said_by_fray.started is Started.NO


def test_a_remote_error_passed_on_keeps_the_first_account() -> None:
    first = travel(raised(ValueError("code 1", threading.Lock())))
    second = travel(raised(first))
    assert type(second) is RemoteError
    assert second.data.type_name == "ValueError"


def test_own_errors_keep_their_notes() -> None:
    exc = DeadlineExceeded("late")
    exc.add_note("by 3 s")
    assert travel(exc, unpickle=False).__notes__ == ["by 3 s"]


def test_an_own_error_with_strange_attributes_is_told_as_data() -> None:
    exc = ConnectionRefused("x")
    exc.status = object()  # type: ignore[assignment]
    rebuilt = travel(exc)
    assert type(rebuilt) is RemoteError
    assert rebuilt.data.type_name == "fray.errors.ConnectionRefused"


# ---- hostile envelopes


def test_a_class_that_only_a_newer_fray_has_is_told_as_data() -> None:
    error = {"type": "fray.errors.NewError", "message": "m"}
    data = orjson.dumps({"v": 9, "error": error, "fray": {"class": "NewError"}, "new": 1})
    rebuilt = decode_error(Payload(data, codec=Codec.JSON), unpickle=False)
    assert type(rebuilt) is RemoteError
    assert rebuilt.data.message == "m"


def test_a_class_whose_constructor_differs_here_is_told_as_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def grown(self: FrayError, message: str, needed: int) -> None:
        raise NotImplementedError

    payload = encode_error(JobNotFoundError("no job x"))
    monkeypatch.setattr(JobNotFoundError, "__init__", grown)
    rebuilt = decode_error(payload, unpickle=False)
    assert type(rebuilt) is RemoteError
    assert rebuilt.data.message == "no job x"


def test_a_kind_of_death_that_only_a_newer_fray_has_is_unknown() -> None:
    payload = encode_error(ActorDied("a", DeathCause(DeathKind.PREEMPTED)))
    data = payload.data.replace(b'"preempted"', b'"abducted"')
    rebuilt = decode_error(Payload(data, codec=Codec.JSON), unpickle=False)
    assert isinstance(rebuilt, ActorDied)
    assert rebuilt.cause.kind is DeathKind.UNKNOWN


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
envelope_keys = st.sampled_from(
    ["v", "error", "fray", "pickle", "class", "message", "notes", "cause", "group", "type"]
)
envelopes = st.recursive(
    json_values | st.sampled_from([cls.__name__ for cls in OWN_CLASSES]),
    lambda inner: st.dictionaries(envelope_keys, inner, max_size=6),
    max_leaves=30,
)


@given(envelopes)
def test_any_json_is_decoded_to_some_exception(envelope: object) -> None:
    payload = Payload(orjson.dumps(envelope), codec=Codec.JSON)
    assert isinstance(decode_error(payload, unpickle=True), Exception)


@given(st.binary())
def test_any_bytes_are_decoded_to_some_exception(data: bytes) -> None:
    for codec in Codec:
        rebuilt = decode_error(Payload(data, codec=codec), unpickle=True)
        assert isinstance(rebuilt, RemoteError)


@given(st.binary())
def test_any_pickle_is_decoded_to_some_exception(data: bytes) -> None:
    packed = base64.b64encode(data).decode()
    envelope = {"error": {"type": "ValueError", "message": "x"}, "pickle": packed}
    rebuilt = decode_error(Payload(orjson.dumps(envelope), codec=Codec.JSON), unpickle=True)
    assert isinstance(rebuilt, RemoteError)


def test_causes_nested_too_deeply_by_a_peer_are_dropped() -> None:
    data = b'{"error":' + b'{"type":"E","cause":' * 500 + b"{}" + b"}" * 501
    rebuilt = decode_error(Payload(data, codec=Codec.JSON), unpickle=False)
    assert isinstance(rebuilt, RemoteError)
    assert rebuilt.data.type_name == "E"


def test_the_host_of_a_cause_is_told_once() -> None:
    cause = DeathCause(DeathKind.APP_ERROR, "exited with code 1", exit_code=1, host="w3")
    assert str(cause) == "exited with code 1 on w3"
    assert str(DeathCause(DeathKind.RESTART_LIMIT, str(cause), host="w3")) == str(cause)
