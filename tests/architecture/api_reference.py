#!/usr/bin/env python3
"""docs/api.md from the contract's comments: `buf build -o -#format=json | api_reference.py > docs/api.md`."""

import json
import sys

HEADER = """# API reference

Made from the comments in [proto/headlight/v1](../proto/headlight/v1) by `./dev docs`; `./dev check` holds it to them.
Letters: B batch, Hq query heads, Hkv key/value heads, Tq query tokens, Tk key tokens, D head size, Dv value head size,
E width. [attention.md](attention.md) has the mathematics, [errors.md](errors.md) the errors, [clients.md](clients.md) how
to call.
"""
# Field numbers of FileDescriptorProto and what is in it, as paths of source locations use them.
MESSAGES, ENUMS, SERVICES = 4, 5, 6
FIELDS, METHODS, VALUES = 2, 2, 2


class File:
    """One file of the contract and what is said of each part of it."""

    def __init__(self, described: dict):
        self.described = described
        self.comments = {
            tuple(at.get("path", ())): at["leadingComments"]
            for at in described["sourceCodeInfo"]["location"]
            if "leadingComments" in at
        }

    def said(self, *path: int) -> str:
        """The comment on one line."""
        return " ".join(self.comments.get(path, "").split())


def anchor(name: str) -> str:
    return name.rsplit(".", 1)[-1].lower()


def kind_of(field: dict, entries: dict[str, dict]) -> str:
    """The field's type, linked where it is one of ours. `entries`: what maps are made of, by the message's name."""
    entry = entries.get(field.get("typeName", "").rsplit(".", 1)[-1])
    if entry is not None:
        key, value = (kind_of(part, {}) for part in entry["field"])
        return f"map of {key.removeprefix('optional ')} to {value.removeprefix('optional ')}"
    name = field["type"].removeprefix("TYPE_").lower()
    if "typeName" in field:
        short = field["typeName"].rsplit(".", 1)[-1]
        ours = field["typeName"].startswith(".headlight.v1.")
        name = f"[{short}](#{anchor(short)})" if ours else f"`{field['typeName'].lstrip('.')}`"
    if field.get("label") == "LABEL_REPEATED":
        return f"repeated {name}"
    return f"optional {name}" if field.get("proto3Optional") else name


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def services(file: File) -> list[str]:
    lines = []
    for s, service in enumerate(file.described.get("service", [])):
        lines += [f"## {service['name']}", "", file.said(SERVICES, s), ""]
        for m, method in enumerate(service["method"]):
            asked, answered = (method[side].rsplit(".", 1)[-1] for side in ("inputType", "outputType"))
            stream = "stream of " if method.get("clientStreaming") else ""
            back = "stream of " if method.get("serverStreaming") else ""
            lines += [
                f"### {method['name']}",
                "",
                f"{stream}[{asked}](#{anchor(asked)}) → {back}[{answered}](#{anchor(answered)})",
                "",
                file.said(SERVICES, s, METHODS, m),
                "",
            ]
    return lines


def message(file: File, described: dict, path: tuple[int, ...]) -> list[str]:
    lines = [f"### {described['name']}", "", file.said(*path), ""]
    entries = {one["name"]: one for one in described.get("nestedType", []) if one.get("options", {}).get("mapEntry")}
    if described.get("field"):
        lines += ["| field | type | |", "| --- | --- | --- |"]
    for f, field in enumerate(described.get("field", [])):
        in_choice = "oneofIndex" in field and not field.get("proto3Optional")
        choice = f" (one of `{described['oneofDecl'][field['oneofIndex']]['name']}`)" if in_choice else ""
        said = cell(file.said(*path, FIELDS, f))
        lines.append(f"| `{field['name']}` | {kind_of(field, entries)}{choice} | {said} |")
    return [*lines, ""]


def enum(file: File, described: dict, path: tuple[int, ...]) -> list[str]:
    lines = [f"### {described['name']}", "", file.said(*path), "", "| name | number | |", "| --- | --- | --- |"]
    for v, value in enumerate(described["value"]):
        lines.append(f"| `{value['name']}` | {value.get('number', 0)} | {cell(file.said(*path, VALUES, v))} |")
    return [*lines, ""]


def types(file: File) -> list[str]:
    """Messages and enums in the order of the file; those within messages are there none."""
    lines = [f"## {file.described['name'].rsplit('/', 1)[-1]}", ""]
    for m, described in enumerate(file.described.get("messageType", [])):
        nested = [n for n in described.get("nestedType", []) if not n.get("options", {}).get("mapEntry")]
        assert not nested and not described.get("enumType"), f"{described['name']}: nested types are not shown"
        lines += message(file, described, (MESSAGES, m))
    for e, described in enumerate(file.described.get("enumType", [])):
        lines += enum(file, described, (ENUMS, e))
    return lines


def main() -> None:
    image = json.load(sys.stdin)
    files = [File(one) for one in image["file"] if one["package"] == "headlight.v1"]
    parts = [line for file in files for line in services(file)]
    parts += [line for file in files for line in types(file)]
    text = "\n".join([HEADER, *parts])
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    sys.stdout.write(text.rstrip("\n") + "\n")


if __name__ == "__main__":
    main()
