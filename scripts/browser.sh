# A headless Chromium, for scripts that source this. Afterwards $profile is a folder of its own,
# which the caller removes; `browse` runs the browser, `browser_starts` says whether one starts
# here, with the reason why not in $browser_why.
for browser in chromium chromium-browser google-chrome; do command -v $browser >/dev/null &&
    break; done
profile=$(mktemp -d)

browse() { # SCHEME ARGUMENTS...: 0 is dark, 1 light
    local scheme=$1 sandbox=
    shift
    [ "$(id -u)" != 0 ] || sandbox=--no-sandbox
    timeout -k 5 60 $browser --headless $sandbox --disable-gpu --disable-dev-shm-usage \
        --hide-scrollbars \
        --user-data-dir="$profile" --blink-settings=preferredColorScheme="$scheme" \
        "$@" 2>"$profile/err"
}

browser_starts() {
    browser_why="no Chromium on this machine (Debian: chromium)"
    command -v $browser >/dev/null || return 1
    browse 1 --dump-dom 'data:text/html,<p>it starts</p>' | grep -q 'it starts' && return 0
    browser_why="Chromium does not start here: $(tail -n 1 "$profile/err" | cut -c 1-200)"
    return 1
}
