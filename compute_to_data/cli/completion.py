"""``c2d completion``: a script that makes a shell complete commands and options."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from collections.abc import Iterator

from compute_to_data.cli.command import Call, Commands, LateParser

_HINTS = {
    "bash": "bash: source <(c2d completion bash), or put that line into ~/.bashrc",
    "zsh": "zsh: source <(c2d completion zsh), or put that line into ~/.zshrc",
    "fish": "fish: c2d completion fish > ~/.config/fish/completions/c2d.fish",
}

_BASH = """\
_c2d() {{
    local path="" word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$path $word" in
{descents}
        esac
    done
    local candidates=""
    case "$path" in
{candidates}
    esac
    COMPREPLY=($(compgen -W "$candidates" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _c2d c2d
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
    script = _fish(parser()) if shell == "fish" else _bash(parser())
    if shell == "zsh":
        script = f"autoload -U +X bashcompinit && bashcompinit\n{script}"
    call.out.text(script)
    call.out.note(f"To use it in {_HINTS[shell]}" if call.out.is_terminal else "")
    return 0


def nodes(
    parser: ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], list[str], list[str]]]:
    """Every word of the command line: how one gets there, which words follow, which options."""
    if isinstance(parser, LateParser):
        parser.complete()
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    named = {name: found for action in below for name, found in action.choices.items()}
    choices = [
        str(one)
        for action in parser._actions
        if not action.option_strings and not below
        for one in action.choices or ()
    ]
    options = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
    yield words, [*named, *choices], options
    for name, found in named.items():
        yield from nodes(found, (*words, name))


def _bash(parser: ArgumentParser) -> str:
    descents, candidates = [], []
    for words, following, options in nodes(parser):
        path = "".join(f" {word}" for word in words)
        if words:
            descents.append(f'            "{path}") path="{path}" ;;')
        candidates.append(f'        "{path}") candidates="{" ".join([*following, *options])}" ;;')
    return _BASH.format(descents="\n".join(descents), candidates="\n".join(candidates))


def _fish(parser: ArgumentParser) -> str:
    lines = ["complete -c c2d -e"]
    for words, following, options in nodes(parser):
        # Commands have at most two words here, so those seen say where one is.
        seen = [f"__fish_seen_subcommand_from {word}" for word in words]
        unseen = [f"not __fish_seen_subcommand_from {' '.join(following)}"] if following else []
        condition = "; and ".join([*seen, *unseen]) or "true"
        lines += [f"complete -c c2d -n '{condition}' -a '{word}'" for word in following]
        lines += [f"complete -c c2d -n '{'; and '.join(seen) or 'true'}' -l {name[2:]}" for name in options]
    return "\n".join(lines) + "\n"
