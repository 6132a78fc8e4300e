# Completion of xe(1) for bash: source it, or install it as /usr/share/bash-completion/completions/xe.
# All candidates come from `xe --complete`; values are asked of the server, and only when the settings of xe are
# enough to reach it without a question.

_xe() {
    local line=${COMP_LINE:0:COMP_POINT} word candidate
    local -a words
    # A blank within quotes would be one of the value's; then there are no candidates, which does no harm.
    IFS=$' \t' read -ra words <<<"$line"
    [[ $line == *[$' \t'] ]] && words+=("")
    word=${words[-1]}
    COMPREPLY=()
    compopt -o nospace 2>/dev/null
    while IFS= read -r candidate; do
        # bash takes the text behind '=' and ':' for the word; candidates are whole. They are quoted for the shell:
        # a VM may be called "$(reboot)".
        [[ $word == *=* ]] && candidate=${candidate#*=}
        case $candidate in
        *[=:]) COMPREPLY+=("$candidate") ;;
        *) COMPREPLY+=("$(printf '%q' "$candidate") ") ;;
        esac
    done < <(xe --complete -- "${words[@]:1}" 2>/dev/null </dev/null)
}
complete -F _xe xe
