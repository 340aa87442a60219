"""completion: a script for bash or zsh.

Names of commands and flags, and values of flags where they are few, are in the script; only
containers, images, networks and volumes are requested from the daemon at each TAB.

Not by click's completion, which starts Python at each TAB: 0.17 s of CPU time beside 0.007.  It
knows only click's own options, and bash parts its words at colons, which names of images have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from netkit.cli import drivers
from netkit.cli.app import FLAGS
from netkit.cli.catalog import ROOT
from netkit.cli.commands import Command, Entry, command, exactly, load
from netkit.cli.completing import CHOICE, values
from netkit.client.failure import Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from netkit.cli.flags import Flag, Options
    from netkit.cli.session import Session

KINDS = {"LAB": "labs", "CONTAINER": "containers", "IMAGE": "images", "NETWORK": "networks",
         "VOLUME": "volumes", "SRC": "ends", "DST": "ends", "PORT": "services",
         "SOURCE_IMAGE": "images", "REPOSITORY": "images", "NAME|ID": "objects",
         "connections": "sections"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Words:
    """What can follow one command: words, flags, flags with a value, kinds of arguments."""

    path: str
    words: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    valued: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    values: tuple[tuple[str, str], ...] = ()


@command("bash|zsh", exactly(1))
def completion(session: Session, options: Options) -> None:
    shell = options.args[0]
    if shell not in ("bash", "zsh"):
        raise Misuse(f"no completion for {shell!r}: there is bash and zsh")
    print(script(shell))


def script(shell: str) -> str:
    """The tables first; then the code, which is the same in both shells but for the ends."""
    # `weave` begins at the words of `netkit weave`, with flags of its own.
    own = replace(Words("netkit weave", (), *_flags(FLAGS)), flags=())
    tables = "\n".join([*_tables(_walk("netkit", ROOT, FLAGS)), *_tables(iter([own]))])
    common = COMMON.replace("@DRIVERS@", " ".join(drivers.names()))
    if shell == "bash":
        return f"{BASH_HEAD}\n{tables}\n{common}\n{BASH_TAIL}"
    return f"{ZSH_HEAD}\n{tables}\n{common}\n{ZSH_TAIL}"


def _walk(path: str, entries: Mapping[str, Entry], flags: tuple[Flag, ...]) -> Iterator[Words]:
    shown = tuple(sorted(name for name, entry in entries.items() if not entry.hidden))
    yield Words(path, shown, *_flags(flags))
    for name, entry in entries.items():
        inner = f"{path} {name}"
        if entry.inside is not None:
            yield from _walk(inner, entry.inside, ())
            continue
        found = load(name, entry)
        assert isinstance(found, Command)
        chosen = tuple(CHOICE.get(name, k) if k == "containers" else k for k in kinds(found))
        yield Words(inner, (), *_flags(found.flags), chosen, tuple(values(inner, found.flags)))


def _flags(flags: tuple[Flag, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    shown = [flag for flag in flags if not flag.hidden]
    every = [f"--{flag.name}" for flag in shown]
    every += [f"-{flag.short}" for flag in shown if flag.short]
    with_value = [flag for flag in flags if flag.kind != "bool"]
    valued = [f"--{flag.name}" for flag in with_value]
    valued += [f"-{flag.short}" for flag in with_value if flag.short]
    return (*sorted(every), "--help"), tuple(sorted(valued))


def kinds(found: Command) -> tuple[str, ...]:
    """The kind of each argument; a last "..." when it may be repeated, "stop" before the
    command line of a container.  Addresses of weave's before the others do not count."""
    said: list[str] = []
    for word in found.usage.replace("[OPTIONS]", "").replace("[ADDR...] ", "").split():
        name = re.sub(r"[\[\]]", "", word).partition(":")[0]
        if name.endswith("...") and said:
            said.append("...")
        elif name.removesuffix("...") in ("COMMAND", "ps"):
            said.append("stop")
            break
        else:
            many, name = name.endswith("..."), name.removesuffix("...")
            said.append(KINDS.get(name) or KINDS.get(name.partition("|")[0], "files"))
            said += ["..."] * many
    return tuple(said)


def _tables(all_words: Iterator[Words]) -> Iterator[str]:
    offered: dict[str, str] = {}
    for each in all_words:
        offered |= dict(each.values)
        for table in ("words", "flags", "valued", "kinds"):
            if given := getattr(each, table):
                yield f"_netkit_{table}[{_key(each.path)}]='{' '.join(given)}'"
    for flag, words in offered.items():
        yield f"_netkit_values[{_key(flag)}]='{words}'"


def _key(path: str) -> str:
    """Keys without blanks or quotes read alike in both shells."""
    return path.replace(" ", "_")


BASH_HEAD = """\
# bash completion for netkit: eval "$(netkit completion bash)"
declare -gA _netkit_words _netkit_flags _netkit_valued _netkit_kinds _netkit_values"""

ZSH_HEAD = """\
#compdef netkit weave
# zsh completion for netkit: eval "$(netkit completion zsh)", or a file _netkit in $fpath
typeset -gA _netkit_words _netkit_flags _netkit_valued _netkit_kinds _netkit_values"""

# Sets _netkit_path, _netkit_count, _netkit_help and _netkit_host from the words before the cursor.
COMMON = """\
_netkit_has() { case " $1 " in *" $2 "*) return 0;; esac; return 1; }
_netkit_address() {
    case $1 in
        netkit_weave_*[0-9].[0-9]*/[0-9]* | netkit_weave_*:*/[0-9]* | netkit_weave_*net:default) ;;
        *) return 1;;
    esac
}

_netkit_look() {
    _netkit_path=$1; _netkit_count=0; _netkit_help=''; _netkit_host=(); shift
    local word flag=''
    for word in "$@"; do
        if [ -n "$flag" ]; then
            case $flag in -H|--host) _netkit_host=(-H "$word");; esac
            flag=''; continue
        fi
        case $word in
            --*=*) case $word in --host=*) _netkit_host=(-H "${word#--host=}");; esac; continue;;
            -*) _netkit_has "${_netkit_valued[$_netkit_path]-}" "$word" && flag=$word; continue;;
        esac
        if _netkit_has 'netkithelp netkit_weavehelp' "$_netkit_path$_netkit_help$word"; then
            _netkit_help=help # what follows is a command, and no argument of it
        elif _netkit_has "${_netkit_words[$_netkit_path]-}" "$word"; then
            _netkit_path=${_netkit_path}_$word
        elif _netkit_address "$_netkit_path$word"; then
            : # ADDR... before the container or the image
        else
            _netkit_count=$((_netkit_count + 1))
        fi
    done
    _netkit_flag=$flag
}

_netkit_kind() {
    # The kind of the argument under the cursor: the last but "..." again and again.
    local kind last='' n=0
    for kind in $(echo ${_netkit_kinds[$_netkit_path]-}); do
        if [ "$kind" = stop ]; then echo files; return; fi
        if [ "$kind" = ... ]; then echo "$last"; return; fi
        if [ $n -eq $_netkit_count ]; then echo "$kind"; return; fi
        last=$kind; n=$((n + 1))
    done
    echo files
}

_netkit_names() {
    case $1 in
        containers) netkit "${_netkit_host[@]}" ps -a --format '{{.Names}}';;
        running) netkit "${_netkit_host[@]}" ps --format '{{.Names}}';;
        stopped) netkit "${_netkit_host[@]}" ps -a -f status=created -f status=exited \\
            --format '{{.Names}}';;
        paused) netkit "${_netkit_host[@]}" ps -f status=paused --format '{{.Names}}';;
        sharing) _netkit_names running | sed 's/^/container:/';;
        images) netkit "${_netkit_host[@]}" images --format '{{.Repository}}:{{.Tag}}' \\
            | grep -v '<none>';;
        networks) netkit "${_netkit_host[@]}" network ls --format '{{.Name}}';;
        volumes) netkit "${_netkit_host[@]}" volume ls -q;;
        labs) netkit lab ls | awk 'NR > 1 {print $1}'; ls labs/*/lab.yml | sed 's,/lab.yml$,,';;
        drivers) echo "@DRIVERS@" | tr ' ' '\n';;
        ends) _netkit_names containers; printf 'host\\nworld\\n';;
        sections) printf 'connections\\npeers\\ntargets\\ndns\\nipam\\n';;
        services) printf '80/tcp\\n53/udp\\nicmp\\n';;
        objects) _netkit_names containers; _netkit_names images; _netkit_names networks
            _netkit_names volumes;;
    esac 2>/dev/null
}

_netkit_candidates() {
    # $1: the word under the cursor.  Nothing: let the shell offer files.
    local word offered
    if [ -n "$_netkit_flag" ]; then
        offered=${_netkit_values[$_netkit_path$_netkit_flag]-${_netkit_values[$_netkit_flag]-}}
        for word in $(echo $offered); do
            case $word in
                @*) _netkit_names "${word#@}";;
                *) printf '%s\\n' "$word";;
            esac
        done
        return
    fi
    if [ -n "$_netkit_help" ]; then
        printf '%s\\n' $(echo ${_netkit_words[$_netkit_path]-})
        return
    fi
    case $1 in
        -*) printf '%s\\n' $(echo ${_netkit_flags[$_netkit_path]-}); return;;
    esac
    if [ -n "${_netkit_words[$_netkit_path]-}" ]; then
        printf '%s\\n' $(echo ${_netkit_words[$_netkit_path]-})
    elif [ "$_netkit_path" = netkit_completion ]; then
        printf 'bash\\nzsh\\n'
    else
        _netkit_names "$(_netkit_kind)"
    fi
}"""

BASH_TAIL = """\
_netkit_complete() {
    local cur
    # Colons part words for readline, but not for us: a:b is one name.
    if type _get_comp_words_by_ref >/dev/null 2>&1; then
        local words cword prev
        _get_comp_words_by_ref -n : cur prev words cword
    else
        local words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
        cur=${COMP_WORDS[COMP_CWORD]}
    fi
    local _netkit_path _netkit_count _netkit_flag _netkit_help _netkit_host
    _netkit_look "$1" "${words[@]:1:cword-1}"
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "$(IFS=$' \\t\\n'; _netkit_candidates "$cur")" -- "$cur"))
    type __ltrim_colon_completions >/dev/null 2>&1 && __ltrim_colon_completions "$cur"
    return 0
}
_netkit() { _netkit_complete netkit; }
_netkit_as_weave() { _netkit_complete netkit_weave; }
complete -o bashdefault -o default -F _netkit netkit
complete -o bashdefault -o default -F _netkit_as_weave weave"""

ZSH_TAIL = """\
_netkit() {
    local _netkit_path _netkit_count _netkit_flag _netkit_help
    local -a _netkit_host found
    local begin=netkit
    case ${words[1]:t} in weave) begin=netkit_weave;; esac
    _netkit_look $begin "${(@)words[2,CURRENT-1]}"
    found=(${(f)"$(_netkit_candidates "${words[CURRENT]}")"})
    if (( $#found )); then compadd -- $found; else _files; fi
}
if [ "$funcstack[1]" = _netkit ]; then _netkit "$@"; else compdef _netkit netkit weave; fi"""
