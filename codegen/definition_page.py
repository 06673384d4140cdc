"""The sections of docs/reference/definitions.md, from what the compiler of definitions checks against."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from tradegw_rest import (
    cases,
    compiling,
    costs,
    failures,
    inputs,
    operations,
    paging,
    reports,
    signers,
    streams,
    values,
)


def sections() -> list[tuple[str, str]]:
    """Return every section: its title and its text."""

    def rows(table: Mapping[str, str]) -> str:
        return "\n".join(
            ["| key | meaning |", "|---|---|", *(f"| `{k}` | {v} |" for k, v in table.items())]
        )

    def first_line(thing: object) -> str:
        return (inspect.getdoc(thing) or "").partition("\n")[0]

    where = {"both": "", "request": "requests", "answer": "answers"}
    verbs = [
        f"| `{name}` | {', '.join(f'`{key}`' for key in (*verb.required, *verb.optional))} "
        f"| {where[verb.where]} | {verb.doc} |"
        for name, verb in values.VERBS.items()
    ]
    classes = [
        f"| `{k}` | {outcome} | {words} |" for k, (outcome, words) in failures.CLASSES.items()
    ]
    return [
        ("The file", rows(compiling.TOP_KEYS)),
        ("`capabilities`", rows(compiling.CAPABILITY_KEYS)),
        (
            "`operations`",
            rows(operations.OPERATIONS)
            + "\n\nAn operation is one request or a list of alternatives. Of a command the first is meant "
            "whose `when` holds; of a question all whose `when` holds are asked in turn.",
        ),
        ("An operation's request", rows(operations.REQUEST_KEYS)),
        ("An operation's answer", rows(operations.ANSWER_KEYS)),
        ("Fields of a `report`", ", ".join(f"`{name}`" for name in reports.REPORT_FIELDS)),
        (
            "Fields of an `instrument`",
            ", ".join(f"`{name}`" for name in (*reports.INSTRUMENT_FIELDS, "aliases")),
        ),
        (
            "Values",
            "In requests plain text is itself, in answers it is a path. `$name` is an input in both.\n\n"
            + "\n".join(["| verb | with | only in | meaning |", "|---|---|---|---|", *verbs]),
        ),
        ("Inputs", rows({f"${name}": words for name, (_, words) in inputs.INPUTS.items()})),
        (
            "Conditions",
            (
                "A mapping; all of it must hold. A key is an input (in requests) or a path (in answers), a "
                "value is a text or a list of texts. `present` and `absent` look whether there is any, "
                "`{not: ...}` turns a value round, `$name` compares with an input and "
                "holds when that is absent."
            ),
        ),
        (
            "Paths",
            (
                "A strict subset of JMESPath: `a.b`, `a[0].b`, `\"odd name\".b`, `a[?k=='v'].b`, and that "
                "with ` | [0]` behind it; `@` is the row itself."
            ),
        ),
        (
            "`errors`",
            rows(failures.ERROR_KEYS) + "\n\nA rule:\n\n" + rows(failures.RULE_KEYS),
        ),
        (
            "Classes of failure",
            "\n".join(["| class | outcome of a command | meaning |", "|---|---|---|", *classes]),
        ),
        (
            "`stream`",
            rows(streams.STREAM_KEYS)
            + "\n\nA step of `open`:\n\n"
            + rows(streams.STEP_KEYS)
            + "\n\nAn event:\n\n"
            + rows(streams.EVENT_KEYS),
        ),
        ("Signers", rows({name: first_line(kind) for name, kind in signers.SIGNERS.items()})),
        ("Nonce sources", rows({name: words for name, (_, words) in signers.NONCES.items()})),
        ("Pagers", rows({name: first_line(pager) for name, pager in paging.PAGERS.items()})),
        ("Costs", ", ".join(f"`{name}`" for name in costs.COSTS) + ", beside plain numbers."),
        ("`cases`", rows(cases.CASE_KEYS)),
    ]
