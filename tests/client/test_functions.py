"""Python functions that run as tasks: what is sent, what is refused, what comes back."""

from __future__ import annotations

import contextlib
import enum
import functools
import json
import math
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.people import settings_of
from support.reading import ENOUGH
from support.site import BASE_IMAGE, HOME, TrialSite

import compute_to_data as c2d
from compute_to_data.client.python_functions import function_call, function_runner
from compute_to_data.documents import request
from compute_to_data.errors import InvalidRequest, Refused, TaskFailed

LIMIT = 5
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "python-functions.md"


class Colour(enum.IntEnum):
    RED = 1


def add(a: int, b: Path = None, *rest: int, scale: float = 1.0, **more: int) -> float:  # type: ignore[assignment]  # noqa: RUF013
    """Its annotations use names that do not exist in the container."""
    import math

    def inner(values: list[Any]) -> Any:
        return sum(values)

    class Total:
        start = 0
        values = [start, a]

    total: Path = inner([*Total.values, b or 0, *rest, *more.values()])
    return math.floor(total) * scale


def fail(text: str) -> None:
    raise ValueError(f"{text} was not to be")


def recursive(n: int) -> int:
    return 1 if n < 2 else n * recursive(n - 1)


def uses_a_constant() -> int:
    return LIMIT


def uses_a_module(x: float) -> float:
    return max(math.sin(one) for one in [x])


def has_a_computed_default(x: int = LIMIT) -> int:
    return x


def generates() -> Iterator[int]:
    yield 1


async def waits() -> None:
    return None


@contextlib.contextmanager
def wrapped() -> Iterator[int]:
    yield 1


def around(n: int) -> Any:
    def inside() -> int:
        return n

    return inside


def texts() -> str:
    return """a
  b
    
  c"""  # noqa: RUF001, W293 - such lines are what is tested


def made_inside() -> list[Any]:
    def indented() -> str:
        return """a
            b
    c"""

    def not_indented() -> str:
        return """a
b"""

    return [indented, not_indented]


def fails_at_length() -> None:
    raise ValueError("3 columns differ:\na, b, c")


class Counter:
    def count(self, name: str) -> int:
        return len(name)


def odd(kind: str) -> Any:
    return {
        "tuple": lambda: (1, 2), "nan": lambda: float("nan"), "key": lambda: {1: 2}, "set": lambda: [{1}],
        "deep": lambda: {"a": [{"b": object()}]}, "bytes": lambda: b"x",
    }[kind]()  # fmt: skip


# What travels


def called_elsewhere(function: Any, *args: Any, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """Run the program for the container in a new Python process, with its files in the working
    directory. The function's result is then in ``result.json``."""
    content = function_call.written(function, function_call.source_of(function), args, kwargs)
    Path("call.json").write_bytes(content)
    Path("result.json").unlink(missing_ok=True)
    program = function_call.runner().replace("/inputs/call.json", "call.json").replace("/outputs/", "")
    return subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1,), {}), ((1, 2, 3, 4), {"scale": 0.5, "x": 7}), ((), {"a": 10**20, "b": 3})],
)
def test_a_function_returns_the_same_in_a_task(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    done = called_elsewhere(add, *args, **kwargs)
    assert done.returncode == 0, done.stderr
    assert json.loads(Path("result.json").read_text())["result"] == add(*args, **kwargs)


@pytest.mark.usefixtures("elsewhere")
def test_a_function_may_call_itself() -> None:
    assert called_elsewhere(recursive, 5).returncode == 0
    assert json.loads(Path("result.json").read_text()) == {"result": 120}


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("function", [texts, *made_inside()])
def test_texts_of_several_lines_come_back_unchanged(function: Any) -> None:
    done = called_elsewhere(function)
    assert done.returncode == 0, done.stderr
    assert json.loads(Path("result.json").read_text())["result"] == function()


@pytest.mark.usefixtures("elsewhere")
def test_an_error_of_several_lines_ends_with_all_of_it_on_one() -> None:
    done = called_elsewhere(fails_at_length)
    assert done.stderr.splitlines()[-3:] == [
        "ValueError: 3 columns differ:",
        "a, b, c",
        "ValueError: 3 columns differ: a, b, c",
    ]


@pytest.mark.usefixtures("elsewhere")
def test_the_traceback_shows_the_functions_source() -> None:
    done = called_elsewhere(fail, "this")
    assert done.returncode == 1
    *above, last = done.stderr.strip().splitlines()
    assert last == "ValueError: this was not to be"
    assert any('raise ValueError(f"{text} was not to be")' in line for line in above)
    assert not Path("result.json").exists()


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("tuple", "the result is of type builtins.tuple"),
        ("nan", "the result is nan"),
        ("key", "the result has the key 1"),
        ("set", "the result[0] is of type builtins.set"),
        ("deep", "the result['a'][0]['b'] is of type builtins.object"),
        ("bytes", "the result is of type builtins.bytes"),
    ],
)
def test_a_result_that_json_cannot_carry_is_named(kind: str, said: str) -> None:
    done = called_elsewhere(odd, kind)
    assert done.returncode == 1
    assert said in done.stderr.strip().splitlines()[-1]
    assert not Path("result.json").exists()


# What is refused


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (uses_a_constant, "uses LIMIT, defined outside the function"),
        (uses_a_module, "uses math, defined outside the function"),
        (has_a_computed_default, "has a default for x that is not a literal"),
        (around(1), "uses n from the enclosing function"),
        (generates, "is a generator"),
        (waits, "is a coroutine"),
        (wrapped, "is wrapped by another decorator"),
        (functools.partial(add, 1), "is not a function made with `def`"),
        (lambda x: x, "is not a function made with `def`"),
        (len, "is not a function made with `def`"),
        (Colour, "is not a function made with `def`"),
        (Counter.count, "is a method, and self does not travel"),
    ],
)
def test_a_function_that_uses_outside_names_is_refused_when_it_is_defined(function: Any, cause: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        c2d.as_task(image="python:3.12")(function)
    assert cause in caught.value.cause


def test_a_function_without_source_is_refused() -> None:
    namespace: dict[str, Any] = {}
    exec("def typed(): return 1", namespace)
    with pytest.raises(InvalidRequest, match="has no source"):
        function_call.source_of(namespace["typed"])


holds_itself: list[Any] = []
holds_itself.append(holds_itself)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((1, 2), "argument a is of type builtins.tuple"),
        (b"x", "argument a is of type builtins.bytes"),
        (Colour.RED, "argument a is of type"),
        (float("inf"), "argument a is inf"),
        ("\ud800", "argument a holds half a surrogate pair"),
        pytest.param(10**4300, "argument a is a number of more than 4300 digits", id="digits"),
        ({"x": [1, {2: 3}]}, "argument a['x'][1] has the key 2"),
        (holds_itself, "argument a is nested too deep, or contains itself"),
    ],
)
def test_an_argument_that_json_cannot_carry_is_named(value: Any, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        function_call.written(add, "", [value], {})
    assert said in str(caught.value)
    with pytest.raises(InvalidRequest):
        function_call.written(add, "", [1], {"more": value})


def test_wrong_arguments_raise_the_functions_type_error() -> None:
    with pytest.raises(TypeError, match=r"add\(\): missing a required argument: 'a'"):
        function_call.written(add, "", [], {})


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(), part, max_size=3),
    max_leaves=10,
)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    return type(left) is type(right) and left == right


@given(plain)
def test_accepted_values_come_back_unchanged(value: Any) -> None:
    if function_runner.problem(value, "it"):
        assert "\\ud" in json.dumps(value)  # half a character
        return
    call = json.loads(function_call.written(fail, "", [value], {}))
    assert same(call["args"], [value])


# As tasks


def doubled(numbers: list[int]) -> dict[str, Any]:
    import os

    print("said while it ran")
    return {"doubled": [2 * one for one in numbers], "seen": sorted(os.listdir("/inputs"))}


@pytest.fixture
def session(site: TrialSite, own_files: Path) -> Iterator[Any]:
    with site.working(), c2d.connect() as session:
        yield session


def test_a_function_runs_as_a_task(session: Any, site: TrialSite) -> None:
    call = c2d.as_task(image=site.image, limits={"walltime_seconds": 60})(add).submit(session, 1, 2, scale=3.0)
    assert call.result(60) == 9.0
    status = call.task.status()
    assert (status.name, status.state.value) == ("add", "COMPLETED")
    (call_json,) = status.inputs
    shown = json.loads(session.catalog.read(call_json, ENOUGH))
    assert shown["source"] == function_call.source_of(add)
    assert (shown["args"], shown["kwargs"]) == ([1, 2], {"scale": 3.0})


def test_calling_it_runs_a_task_and_wrapped_runs_here(session: Any, site: TrialSite) -> None:
    remote = c2d.as_task(image=site.image)(add)
    assert remote(1, 2) == remote.__wrapped__(1, 2) == 3.0
    assert (remote.__name__, remote.__doc__) == ("add", add.__doc__)


def test_a_function_that_raises_makes_the_task_fail(session: Any, site: TrialSite) -> None:
    call = c2d.as_task(image=site.image)(fail).submit(session, "this")
    with pytest.raises(TaskFailed, match="ValueError: this was not to be"):
        call.result(60)
    assert call.task.state.value == "FAILED"


def test_a_function_that_ends_the_program_gives_no_result(session: Any, site: TrialSite) -> None:
    def leaves() -> None:
        raise SystemExit(0)

    with pytest.raises(TaskFailed, match=r"result\.json"):
        c2d.as_task(image=site.image)(leaves).submit(session).result(60)


def test_an_identical_call_is_reused_on_request(session: Any, site: TrialSite) -> None:
    remote = c2d.as_task(image=site.image, reuse=True)(add)
    first = remote.submit(session, 1)
    assert first.result(60) == 1.0
    calls = f"{session.results}/calls"
    kept = session.catalog.children(calls)
    second, third = remote.submit(session, 1), remote.submit(session, 2)
    assert (second.task.collection, second.result(60)) == (first.task.collection, 1.0)
    assert (third.task.is_reused, third.result(60)) == (False, 2.0)
    assert len(session.catalog.children(calls)) == len(kept) + 1


def test_a_refused_call_leaves_nothing_behind(session: Any) -> None:
    with pytest.raises(Refused, match="not in this site's list"):
        c2d.as_task(image="another:1")(add).submit(session, 1)
    assert session.catalog.children(f"{session.results}/calls") == ()
    with pytest.raises(InvalidRequest, match="argument a"):
        c2d.as_task(image="another:1")(add)((1,))


def test_the_request_of_a_call_is_valid() -> None:
    remote = c2d.as_task(image="python:3.12", role="R", environment={"A": "b"})(doubled).on(f"{HOME}/x")
    task = request.parse(remote.document(f"{HOME}/calls/call.json", HOME))
    assert (task.name, task.role, task.expected_outputs) == ("doubled", "R", ("result.json",))
    assert [one.logical_path for one in task.inputs] == [f"{HOME}/calls/call.json", f"{HOME}/x"]
    assert task.process is not None
    (command,) = request.resolve_arguments(task.process, "", "")
    assert command == ("python3", "-c", function_call.runner())


@pytest.fixture
def sandboxed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker_answers: None) -> Iterator[Any]:
    """alice's session where tasks run in containers, with one data object."""
    site = TrialSite(tmp_path, {"name": "docker"}, BASE_IMAGE)
    site.alice.write(f"{HOME}/sea.txt", b"a whale, two whales")
    (tmp_path / "config.json").write_text(json.dumps(settings_of(site, "alice")))
    monkeypatch.setenv("C2D_CONFIG_FILE", str(tmp_path / "config.json"))
    monkeypatch.setenv("C2D_SESSION_FILE", str(tmp_path / "session.json"))
    with site.working(), c2d.connect() as session:
        yield session


@pytest.mark.docker
def test_a_function_runs_in_the_sandbox_beside_its_data(sandboxed: Any) -> None:
    call = c2d.as_task(image=BASE_IMAGE)(doubled).on(f"{HOME}/sea.txt").submit(sandboxed, [1, 2])
    assert call.result(60) == {"doubled": [2, 4], "seen": ["call.json", "sea.txt"]}
    assert sandboxed.catalog.read(f"{call.task.collection}/STDOUT.txt", ENOUGH) == b"said while it ran\n"


@pytest.mark.docker
def test_the_documented_example_runs(sandboxed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block, *_ = re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text("utf-8"), re.DOTALL)
    file = tmp_path / "documented.py"
    file.write_text(re.sub(r"python:[\w.-]+", BASE_IMAGE, block))
    runpy.run_path(str(file))
    assert capsys.readouterr().out == "2\n"


class TestTheImageOfAFunctionThatNamesNone:
    def test_the_only_image_is_taken(self, site: TrialSite, own_files: Path) -> None:
        @c2d.as_task
        def double(number: int) -> int:
            return 2 * number

        @c2d.as_task()
        def half(number: int) -> float:
            return number / 2

        with site.working():
            assert double(21) == 42
            assert half(3) == 1.5

    @pytest.mark.parametrize(
        ("images", "chosen"),
        [
            (("debian:bookworm", "lab:5000/python:3.12"), "lab:5000/python:3.12"),
            (
                ("debian:bookworm", "python:3.2", f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"),
                "slim",
            ),
            (("python:3.2", "python:2.7"), ""),
            (("debian:bookworm", "alpine:3"), ""),
            ((), ""),
        ],
    )
    def test_else_a_python(
        self, images: tuple[str, ...], chosen: str, site: TrialSite, own_files: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from compute_to_data.client.python_functions import python_images

        monkeypatch.setattr(python_images, "_names", lambda workbench: sorted(images))
        with c2d.connect() as session:
            if chosen:
                assert python_images.choose(session, "f").endswith(chosen)
                return
            with pytest.raises(InvalidRequest, match="function f: names no image") as refused:
                python_images.choose(session, "f")
            assert all(name in str(refused.value) for name in images)


def test_the_api_is_there_without_imports_of_its_modules() -> None:
    program = (
        "import compute_to_data as c2d, sys\n"
        "assert 'compute_to_data.client' not in sys.modules\n"
        "print(c2d.client.datasets.__name__, c2d.TaskFailed.__name__, c2d.errors.Refused.__name__)\n"
        "assert {'client', 'TaskFailed'} <= set(dir(c2d)) and 'datasets' in dir(c2d.client)\n"
        "try: c2d.client.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "compute_to_data.client.datasets TaskFailed Refused",
        "module 'compute_to_data.client' has no attribute 'nothing'",
    ]


def test_a_failed_call_raises_the_public_error_and_its_task_has_logs(site: TrialSite, own_files: Path) -> None:
    @c2d.as_task
    def fails() -> None:
        print("so far")
        raise ValueError("no")

    with site.working(), c2d.connect() as session:
        call = fails.submit(session)
        with pytest.raises(c2d.TaskFailed, match="no"):
            call.result()
        assert call.task.logs().stdout == b"so far\n"
        assert b"ValueError: no" in call.task.logs().stderr
