"""``c2d completion``: a script that lets a shell ask ``c2d __complete`` what can come next."""

from __future__ import annotations

from argparse import ArgumentParser

from compute_to_data.cli.command import Call, Commands

_HINTS = {
    "bash": "bash: source <(c2d completion bash), or put that line into ~/.bashrc",
    "zsh": "zsh: source <(c2d completion zsh), or put that line into ~/.zshrc",
    "fish": "fish: c2d completion fish > ~/.config/fish/completions/c2d.fish",
}

# Bash divides words at = and : (COMP_WORDBREAKS), and replaces only what comes after them: the loop puts
# the words together again. Bash inserts an answer as it is, so what a shell would read is escaped.
_BASH = r"""
_c2d() {
    local rest="${COMP_LINE:0:COMP_POINT}" word prefix quote="" files="" words=()
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        [[ ${#words[@]} -gt 0 && "$rest" != [[:space:]]* ]] || words+=("")
        rest="${rest#"${rest%%[![:space:]]*}"}"
        words[${#words[@]}-1]+="${rest:0:${#word}}"
        rest="${rest:${#word}}"
    done
    word="${words[${#words[@]}-1]}" COMPREPLY=()
    prefix="${word%"$2"}"
    [[ "$word" != [\"\']* ]] || quote="${word:0:1}" word="${word:1}" prefix="${prefix:1}"
    [[ -n "$quote" ]] || word="${word//\\/}"
    words[${#words[@]}-1]="$word"
    while IFS= read -r word; do
        word="${word%%$'\t'*}"
        if [[ "$word" == :files ]]; then files=yes; break; fi
        word="${word#"$prefix"}"
        if [[ -z "$quote" ]]; then printf -v word %q "$word"; elif [[ "$word" == *[\"\'\`\$\\!]* ]]; then continue; fi
        COMPREPLY+=("$word")
    done < <(command c2d __complete "${words[@]:1}" 2>/dev/null)
    [[ -n "$files" ]] || compopt +o default -o nosort 2>/dev/null
}
complete -o default -F _c2d c2d
"""

_ZSH = r"""
(( $+functions[compdef] )) || { autoload -U compinit && compinit; }
_c2d() {
    local line found=() shown=()
    for line in "${(@f)$(command c2d __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}"; do
        if [[ $line == :files ]]; then
            [[ $PREFIX != --*=* ]] || compset -P '*='
            _files
            return
        fi
        [[ -z $line ]] || { found+=("${line%%$'\t'*}"); shown+=("${line/$'\t'/  }"); }
    done
    compadd -V c2d -l -d shown -- "${found[@]}"
}
compdef _c2d c2d
"""

_FISH = r"""
function __c2d_candidates
    set -l words (commandline -opc)
    set -l current (commandline -ct | string replace -r '^["\']' '')
    set -l answer (command c2d __complete $words[2..-1] "$current" 2>/dev/null)
    if test "$answer" = :files
        set -l option (string match -r -- '^--[^=]*=' $current; or echo)
        string join \n -- "$option"(__fish_complete_path (string replace -- "$option" "" "$current"))
    else
        string join \n -- $answer
    end
end
complete -c c2d -e
complete -c c2d -f -k -a "(__c2d_candidates)"
"""

STUBS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    commands.add(
        "completion",
        _completion,
        "a script that completes commands, options, and ids, images and resources of the zone",
        example="completion bash",
        arguments=_shell,
    )


def _shell(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(STUBS), help="which shell's script to print")


def _completion(call: Call) -> int:
    shell = call.options.shell
    call.out.text(STUBS[shell].lstrip("\n"))
    call.out.note(f"To use it in {_HINTS[shell]}" if call.out.is_terminal else "")
    return 0
