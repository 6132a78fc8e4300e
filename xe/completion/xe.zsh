#compdef xe
# Completion of xe(1) for zsh. All candidates come from `xe --complete`; see there.

_xe() {
    local -a candidates open
    candidates=("${(@f)$(xe --complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null </dev/null)}")
    open=(${(M)candidates:#*[=:]})
    candidates=(${candidates:#*[=:]})
    (( $#open )) && compadd -S '' -a open
    (( $#candidates )) && compadd -a candidates
}
_xe "$@"
