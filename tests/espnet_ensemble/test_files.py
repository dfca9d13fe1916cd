import itertools
import multiprocessing
import os
import re
import signal

import pytest
import yaml

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import (
    FileState,
    atomic_write,
    check_keys,
    edit_yaml,
    read_yaml,
    remove_unfinished,
    write_text,
    write_yaml,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def run_at_once(*targets):
    """Run each in a process of its own, and return their exit statuses."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=target) for target in targets]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def test_a_file_appears_when_it_is_complete(tmp_path):
    with atomic_write(tmp_path / "x") as part:
        part.write_text("half")
        assert not (tmp_path / "x").exists()
        assert part.parent == tmp_path and part.name.startswith(".x.")
        part.write_text("whole")
    assert (tmp_path / "x").read_text() == "whole"
    assert names(tmp_path) == ["x"]


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with atomic_write(str(tmp_path / "folder")) as part:
        part.mkdir()
        (part / "x").write_text("1")
        assert not (tmp_path / "folder").exists()
    assert (tmp_path / "folder" / "x").read_text() == "1"
    assert names(tmp_path) == ["folder"]


def test_a_link_is_replaced_not_what_it_leads_to(tmp_path):
    (tmp_path / "original").write_text("old")
    (tmp_path / "link").symlink_to("original")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "original").read_text() == "old"
    assert (tmp_path / "link").read_text() == "new"
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_file_and_nothing_else(error, tmp_path):
    (tmp_path / "x").write_text("old")
    with pytest.raises(error), atomic_write(tmp_path / "x") as part:
        part.write_text("new")
        raise error
    with pytest.raises(error), atomic_write(tmp_path / "folder") as part:
        part.mkdir()
        (part / "x").write_text("new")
        raise error
    assert (tmp_path / "x").read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_a_folder_with_content_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("old")
    with pytest.raises(OSError), atomic_write(tmp_path / "folder") as part:
        part.mkdir()
    assert (tmp_path / "folder" / "x").read_text() == "old"
    assert names(tmp_path) == ["folder"]


def test_two_processes_write_one_path_at_once(tmp_path):
    """With one temporary name for both, the second would find its file gone."""
    barrier = multiprocessing.get_context("fork").Barrier(2)

    def write(text):
        with atomic_write(tmp_path / "x") as part:
            part.write_text(text)
            barrier.wait(60)  # both are written, neither has its name

    assert run_at_once(lambda: write("one"), lambda: write("two")) == [0, 0]
    assert (tmp_path / "x").read_text() in ("one", "two")
    assert names(tmp_path) == ["x"]


def test_what_a_killed_process_left_can_be_removed(tmp_path):
    def die(name, make):
        with atomic_write(tmp_path / name) as part:
            make(part)
            os.kill(os.getpid(), signal.SIGKILL)

    (tmp_path / "sub").mkdir()
    run_at_once(
        lambda: die("sub/x", lambda part: part.write_text("half")),
        lambda: die("folder", lambda part: part.mkdir()),
    )
    (tmp_path / "y.tmp").write_text("of the user")
    (tmp_path / ".hidden.tmp").write_text("of the user")
    assert (len(names(tmp_path)), len(names(tmp_path / "sub"))) == (4, 1)
    remove_unfinished(tmp_path)
    assert names(tmp_path) == [".hidden.tmp", "sub", "y.tmp"]
    assert not names(tmp_path / "sub")


def test_text_is_utf8_with_line_feeds(tmp_path):
    write_text(tmp_path / "x", "ä\n日本\n")
    assert (tmp_path / "x").read_bytes() == "ä\n日本\n".encode()


def test_a_file_has_the_state_it_had_until_it_changes(tmp_path):
    path = tmp_path / "x"
    states = []
    for content, time in (("a", 1), ("a", 2), ("ab", 2)):
        path.write_text(content)
        os.utime(path, ns=(0, time))
        assert FileState.of(path) == FileState.of(str(path))
        states.append(FileState.of(path))
    assert states == [FileState(1, 1), FileState(1, 2), FileState(2, 2)]
    assert all(a != b for a, b in itertools.pairwise(states))


def test_no_file_has_no_state(tmp_path):
    with pytest.raises(FileNotFoundError):
        FileState.of(tmp_path / "x")


def test_yaml_keeps_values_and_order(tmp_path):
    content = {"b": 1, "a": {"z": [1.5, "x", None], "y": True}, "ä": "1"}
    write_yaml(tmp_path / "x.yaml", content)
    assert read_yaml(tmp_path / "x.yaml") == content
    assert list(read_yaml(tmp_path / "x.yaml")) == ["b", "a", "ä"]


@pytest.mark.parametrize(
    "content,message",
    [
        (b"a: [1", "expected YAML, found while parsing"),
        (b"a: \xff", "expected YAML, found "),
        (b"- a\n- b\n", "expected keys and values, found ['a', 'b']"),
        (b"", "expected keys and values, found None"),
        (b"!!python/object/apply:os.getcwd []", "expected YAML, found could not det"),
    ],
)
def test_what_is_no_yaml_of_keys_and_values(content, message, tmp_path):
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(EnsembleError, match=re.escape(f"{tmp_path}/x.yaml: {message}")):
        read_yaml(tmp_path / "x.yaml")


def test_missing_yaml(tmp_path):
    with pytest.raises(EnsembleError, match=r"x\.yaml: expected a file, found No such"):
        read_yaml(tmp_path / "x.yaml")
    with pytest.raises(EnsembleError, match="expected a file, found Is a directory"):
        read_yaml(tmp_path)


@pytest.mark.parametrize("found", [["lr"], ["lr", "seed"], {"seed": 1, "lr": 2}])
def test_known_keys(found):
    check_keys("x.yaml", found, required=["lr"], optional=["seed"])


@pytest.mark.parametrize(
    "found,message",
    [
        (["seed"], "x.yaml: missing key 'lr'; expected lr, seed"),
        (["lrr"], "x.yaml: unknown key 'lrr'; expected lr, seed"),
        (["lr", 1], "x.yaml: unknown key '1'; expected lr, seed"),
    ],
)
def test_unknown_or_missing_keys(found, message):
    with pytest.raises(EnsembleError, match=f"^{re.escape(message)}$"):
        check_keys("x.yaml", found, required=["lr"], optional=["seed"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2  # two\n", "a: 1\nb: [3]  # two\n"),
        ("b:\n  c:\n  - d\n\n# next\na: 1", "b: [3]\n\n# next\na: 1"),
        ("b:   # none\na: 1\n", "b: [3]   # none\na: 1\n"),
        ("a: 1", "a: 1\nb: [3]\n"),
        # What cannot be cut out is written anew.
        ("{a: 1, b: 2}", "a: 1\nb: [3]\n"),
        ("b: &x 2\na: *x\n", "b: [3]\na: 2\n"),
    ],
)
def test_edit_yaml(text, expected):
    edited = edit_yaml(text, {"b": [3]})
    assert edited.replace("b:\n- 3", "b: [3]") == expected
    assert yaml.safe_load(edited) == {**yaml.safe_load(text), "b": [3]}
