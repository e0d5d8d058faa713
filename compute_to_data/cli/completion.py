"""``c2d completion``: a script that makes a shell complete commands and options."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from compute_to_data.cli.command import Call, Commands, LateParser

_HINTS = {
    "bash": "bash: source <(c2d completion bash), or put that line into ~/.bashrc",
    "zsh": "zsh: source <(c2d completion zsh), or put that line into ~/.zshrc",
    "fish": "fish: c2d completion fish > ~/.config/fish/completions/c2d.fish",
}

_BASH = """\
_c2d() {{
    local path="" option="" prefix="" candidates="" word current="${{COMP_WORDS[COMP_CWORD]}}"
    for word in "${{COMP_WORDS[@]:1:$((COMP_CWORD - 1))}}"; do
        [[ "$word" == "=" ]] && continue
        [[ -n "$option" ]] && {{ option=""; continue; }}
        case "$word" in
            --) return ;;
            {taking}) option="$word"; continue ;;
        esac
        case "$path $word" in
            {commands}) path="$path $word" ;;
        esac
    done
    if [[ "$current" == "=" ]]; then
        current=""
    elif [[ "$current" == --*=* ]]; then
        option="${{current%%=*}}" prefix="${{current%%=*}}=" current="${{current#*=}}"
    fi
    if [[ -n "$option" ]]; then
        case "$path $option" in
            {values}
        esac
    elif [[ "$current" == -* ]]; then
        case "$path" in
            {options}
        esac
    else
        case "$path" in
            {following}
        esac
    fi
    COMPREPLY=($(compgen -P "$prefix" -W "$candidates" -- "$current"))
}}
complete -o default -F _c2d c2d
"""

_ZSH = """\
(( $+functions[compdef] )) || {{ autoload -U compinit && compinit; }}
autoload -U bashcompinit && bashcompinit
"""

_FISH = """\
function __c2d_candidates
    set -l path ""
    set -l option ""
    set -l prefix ""
    set -l current (commandline -ct)
    set -l words (commandline -opc)
    for word in $words[2..-1]
        if test -n "$option"
            set option ""
            continue
        end
        switch $word
            case --
                __fish_complete_path $current
                return
            case {taking}
                set option $word
                continue
        end
        switch "$path $word"
            case {commands}
                set path "$path $word"
        end
    end
    if string match -q -- "--*=*" $current
        set option (string replace -r -- "=.*" "" $current)
        set prefix "$option="
    end
    set -l candidates
    if test -n "$option"
        switch "$path $option"
            {values}
        end
    else if string match -q -- "-*" $current
        switch "$path"
            {options}
        end
    else
        switch "$path"
            {following}
        end
    end
    if set -q candidates[1]
        printf "%s\\n" $prefix$candidates
    else
        __fish_complete_path $current
    end
end
complete -c c2d -e
complete -c c2d -f -a "(__c2d_candidates)"
"""


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    commands.add(
        "completion",
        _completion,
        "a script that completes commands and options",
        example="completion bash",
        arguments=_shell,
    )


def _shell(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(_HINTS), help="which shell's script to print")


def _completion(call: Call) -> int:
    from compute_to_data.cli.main import parser

    shell = call.options.shell
    known = list(nodes(parser()))
    script = _fish(known) if shell == "fish" else _bash(known)
    call.out.text(f"{_ZSH}{script}" if shell == "zsh" else script)
    call.out.note(f"To use it in {_HINTS[shell]}" if call.out.is_terminal else "")
    return 0


class Node(NamedTuple):
    """A word of the command line: ``path``, as `` dataset upload``; which words may follow; which
    long options there are, each with the values it takes (``None``: no value, empty: any)."""

    path: str
    following: list[str]
    options: dict[str, list[str] | None]


def nodes(parser: ArgumentParser, path: str = "") -> Iterator[Node]:
    """Every word of the command line, from ``c2d`` itself down."""
    if isinstance(parser, LateParser):
        parser.complete()
    below: dict[str, ArgumentParser] = {}
    following: list[str] = []
    options: dict[str, list[str] | None] = {}
    for action in parser._actions:
        values = [str(one) for one in action.choices or ()]
        if isinstance(action, argparse._SubParsersAction):
            below = dict(action.choices)
        for name in action.option_strings:
            if name.startswith("--") and action.help is not argparse.SUPPRESS:
                options[name] = None if action.nargs == 0 else values
        if not action.option_strings:
            following += values
    yield Node(path, following, options)
    for name, found in below.items():
        yield from nodes(found, f"{path} {name}")


def _written(template: str, known: Sequence[Node], either: str, case: str, indent: int) -> str:
    """A shell's script: ``either`` stands between the patterns of a case, ``case`` is one."""

    def cases(found: Mapping[tuple[str, ...], list[str]]) -> str:
        lines = [case.format(either.join(places), " ".join(words)) for words, places in found.items() if words]
        return ("\n" + " " * indent).join(lines)

    following, options, values = defaultdict(list), defaultdict(list), defaultdict(list)
    for node in known:
        following[tuple(node.following)].append(f'"{node.path}"')
        options[tuple(node.options)].append(f'"{node.path}"')
        for name, taken in node.options.items():
            values[tuple(taken or ())].append(f'"{node.path} {name}"')
    taking = {name for node in known for name, taken in node.options.items() if taken is not None}
    return template.format(
        taking=either.join(sorted(taking)),
        commands=either.join(f'"{node.path}"' for node in known if node.path),
        following=cases(following),
        options=cases(options),
        values=cases(values),
    )


def _bash(known: Sequence[Node]) -> str:
    return _written(_BASH, known, "|", '{}) candidates="{}" ;;', 12)


def _fish(known: Sequence[Node]) -> str:
    return _written(_FISH, known, " ", "case {}\n                set candidates {}", 12)
