# Completion of xe(1) for fish. All candidates come from `xe --complete`; see there.
function __xe_complete
    set -l words (commandline -opc)
    xe --complete -- $words[2..-1] (commandline -ct | string unescape) 2>/dev/null </dev/null
end
complete -c xe -f -a '(__xe_complete)'
