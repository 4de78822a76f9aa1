"""Strategies of hypothesis for texts of params.yaml: valid ones with odd values, and odd YAML of all kinds."""

from io import StringIO
from pathlib import Path

from hypothesis import strategies as st
from ruamel.yaml import YAML

PARAMS = YAML(typ="safe", pure=True).load((Path(__file__).parents[2] / "params.yaml").read_text())
GROUPS = list(PARAMS)
# YAML that has made a reader fail, or that a reader must refuse.
ODD = (
    "[" * 3000,
    "[" * 3000 + "]" * 3000,
    "{a: " * 500 + "1" + "}" * 500,
    "\n".join("  " * level + "a:" for level in range(300)),
    "- " * 2000,
    "&a [*a]",
    "&a {b: *a}",
    "&a [&b [*a, *b]]",
    "9" * 5000,
    "-" + "9" * 5000,
    "9" * 4000,
    "0x" + "f" * 5000,
    "1e400",
    "-.inf",
    ".nan",
    "2001-13-45",
    "2001-12-14t21:59:43.10-25:00",
    "!!int foo",
    "!!float foo",
    "!!bool maybe",
    "!!binary x",
    "!!timestamp x",
    "!!set {a, b}",
    "!!omap [a, b]",
    "!!pairs [a: b]",
    "!!python/object/apply:os.system [ls]",
    "!unknown {}",
    "!!null x",
    "{? [a, b] : c}",
    "{? {a: b} : c}",
    "{1: a, null: b, 2001-01-01: c, true: d}",
    "{<<: 5}",
    "{a: 1, a: 2}",
    '"\\ud800"',
    '"\\U00110000"',
    '"\\x00"',
    "%YAML 9.9",
    "--- a\n--- b",
    "*nobody",
    "'",
    "@",
    "\t",
    "\u0085\u2028",
)
ALIASES = "a: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"b{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**40), max_value=10**40),
    st.floats(),
    st.dates(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abz_", max_size=5), inner, max_size=3)
)


def _dumped(content):
    out = StringIO()
    YAML(typ="safe", pure=True).dump(content, out)
    return out.getvalue()


@st.composite
def changed_params(draw):
    """Return params.yaml with some values replaced by any value, keys removed, and unknown ones added."""
    content = {name: dict(group) for name, group in PARAMS.items()}
    for _ in range(draw(st.integers(1, 3))):
        group = content[draw(st.sampled_from(GROUPS))]
        key = draw(st.sampled_from([*group, "unknown"]) if group else st.just("unknown"))
        if draw(st.booleans()):
            group[key] = draw(VALUES)
        else:
            group.pop(key, None)
    return _dumped(content)


@st.composite
def with_odd_yaml(draw):
    """Return a params.yaml in which odd YAML is the value of a key, a group or everything."""
    odd = draw(st.sampled_from(ODD))
    group = draw(st.sampled_from(GROUPS))
    key = draw(st.sampled_from(list(PARAMS[group])))
    return draw(st.sampled_from([odd, f"{group}: {odd}\n", f"{group}:\n  {key}: {odd}\n", f"{odd}: {group}\n"]))


TEXTS = st.one_of(
    changed_params(),
    with_odd_yaml(),
    st.just(ALIASES),
    st.text(max_size=200),
    st.text("{}[]:,-&*!?|>'\"%@` \n\t#ab1.", max_size=80),
    st.dictionaries(st.sampled_from([*GROUPS, "x"]), VALUES, max_size=4).map(_dumped),
)
