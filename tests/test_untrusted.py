"""What strangers write is read within bounds, or refused in one short line."""

import pytest

from lhs.untrusted import MAX_DEPTH, MAX_LISTS, MAX_YAML, parse_json, parse_yaml, shortened


def refused(text: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_yaml(text)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


def test_plain_yaml_is_read():
    text = "a: {b: [1, 2.5, text, null, true]}\nc: 'it'\n"
    assert parse_yaml(text) == {"a": {"b": [1, 2.5, "text", None, True]}, "c": "it"}
    assert parse_yaml("") is None


def test_an_alias_bomb_is_refused_at_once():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    # Nine to the twelfth words: whoever writes them out does not come to an end.
    assert "line 1: anchors (&) and aliases (*) are not allowed" in refused("\n".join(lines))


@pytest.mark.parametrize("text", ["a: &x 1", "a: &x {b: 1}\nc: *x", "- &x [*x]", "*x"])
def test_anchors_and_aliases_are_refused(text):
    assert "anchors" in refused(text)


@pytest.mark.parametrize(
    "text",
    ["[\n" * 5000 + "]" * 5000, "{a: " * 5000 + "}" * 5000, "- " * 5000, "? " * 5000],
)
def test_deep_nesting_is_refused(text):
    assert f"nested deeper than the {MAX_DEPTH} levels" in refused(text)


def test_as_deep_as_is_allowed_is_read():
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_yaml(text) is not None
    assert "deeper" in refused(f"[{text}]")


@pytest.mark.parametrize(
    "text",
    [
        "!!int ''", "!!float ''", "!!bool maybe", "2001-99-99", "!!timestamp x",
        "!!binary é", "!!int [1]", "9" * 5000, "0x" + "f" * 5000, "0b" + "1" * 5000,
        ":".join("1" * 500), "? [1]\n: 2", "a: b: c", "{", "\t- a",
        "!!python/object/apply:os.getcwd []", "!mine 1", "a: [1}", "%YAML 9.9\n--- 1", "'", "\0",
        "--- 1\n--- 2", "x" * (MAX_YAML + 1),
    ],
)  # fmt: skip
def test_what_yaml_stumbles_over_is_refused(text):
    refused(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "lines 1 and 3: 'a' is given twice"),
        ("train:\n  rate: 1\n  'rate': 2\n", "lines 2 and 3: 'rate' is given twice"),
        ("- x: {b: 1, c: 2,\n  b: 1}\n", "lines 1 and 2: 'b' is given twice"),
        (
            "train: {a: 1}\nhierarchy: {a: 1}\ntrain: {b: 1}",
            "lines 1 and 3: 'train' is given twice",
        ),
    ],
)
def test_a_key_given_twice_is_refused_with_both_lines(text, message):
    assert message in refused(text)


def test_a_key_may_be_in_several_mappings_and_be_a_value():
    text = "a: {a: 1, b: a}\nb: {a: 2}\n1: x\n'1': y\n"
    assert parse_yaml(text) == {"a": {"a": 1, "b": "a"}, "b": {"a": 2}, 1: "x", "1": "y"}


def test_json():
    assert parse_json(b'{"a": [1, "\xc3\xa9"]}') == {"a": [1, "é"]}
    for content in (b"", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000):
        with pytest.raises(ValueError):  # noqa: PT011
            parse_json(content)
    with pytest.raises(ValueError, match="lists and mappings"):
        parse_json(b"[" + b"[]," * MAX_LISTS + b"0]")


def test_long_texts_are_cut():
    assert shortened("a" * 200) == "a" * 200
    assert shortened("a" * 5000) == "a" * 200 + "... (5000 characters)"
