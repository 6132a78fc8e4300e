# Completion of xe(1) for bash: source it, or install it as /usr/share/bash-completion/completions/xe.
# Names of commands and parameters come from `xe help`; values are asked of the server, and only when
# the settings of xe are enough to reach it without a question.

_xe_ask() { xe --minimal "$@" 2>/dev/null </dev/null; }

# _xe_split TEXT: one item a line; "\," is a comma within an item.
_xe_split() {
    local text=${1//\\\\/$'\001'}
    text=${text//\\,/$'\002'}
    text=${text//,/$'\n'}
    text=${text//$'\002'/,}
    printf '%s\n' "${text//$'\001'/\\}"
}

# _xe_class COMMAND: the class of the command's uuid=, the longest name that has a list.
_xe_class() {
    local name=$1
    while [[ $name == *-* ]]; do
        name=${name%-*}
        if [[ $name != *-param && $_xe_commands == *$'\n'"$name-list"$'\n'* ]]; then
            printf '%s\n' "$name"
            return
        fi
    done
}

_xe_parameters() {
    local line
    xe help "$1" 2>/dev/null | while IFS= read -r line; do
        case $line in
        *'reqd params:'* | *'optional params:'*) _xe_split "${line#*: }" ;;
        esac
    done | sed 's/^ *//; /^$/d; /^</!s/$/=/; s/:=$/:/; s/<\(.*\)-selectors>/\1=/; s/:contains=$/:contains=/'
}

_xe_values() {
    local command=$1 name=$2 class
    case $name in
    vm | host | sr | template) _xe_split "$(_xe_ask "$name-list" params=name-label)" ;;
    params | param-name)
        class=$(_xe_class "$command")
        [[ $name == params ]] && printf 'all\n'
        _xe_parameters "$class-list" | sed -n 's/=$//p' | grep -v -e ':contains$' -e '^params$'
        ;;
    uuid) class=$(_xe_class "$command") && _xe_split "$(_xe_ask "$class-list" params=uuid)" ;;
    *-uuid) _xe_split "$(_xe_ask "${name%-uuid}-list" params=uuid)" ;;
    esac
}

# _xe_fit PREFIX SUFFIX: fills COMPREPLY with the lines of stdin that begin with PREFIX, quoted for the
# shell. (compgen -W would expand them: a VM may be called "$(reboot)".)
_xe_fit() {
    local line
    while IFS= read -r line; do
        [[ $line && $line == "$1"* ]] && COMPREPLY+=("$(printf '%q' "$line")$2")
    done
}

_xe() {
    local word=${COMP_LINE:0:COMP_POINT} command=${COMP_WORDS[1]}
    word=${word##* }
    COMPREPLY=()
    compopt -o nospace 2>/dev/null
    [[ ${_xe_commands-} ]] || _xe_commands=$'\n'$(_xe_split "$(xe help --minimal --all)")$'\nhelp\n'
    if ((COMP_CWORD == 1)) || [[ $command == help ]]; then
        _xe_fit "$word" ' ' <<<"$_xe_commands"
    elif [[ $word == *=* ]]; then
        _xe_fit "${word#*=}" ' ' < <(_xe_values "$command" "${word%%=*}")
    else
        _xe_fit "$word" '' < <(_xe_parameters "$command")
    fi
}
complete -F _xe xe
