#!/usr/bin/env bash
# Brings programs that come with the system, not with Python: `need.sh nginx node`. Each argument is a row of the
# table below. What is missing is installed with apt-get when this may be done (Debian or Ubuntu, root); otherwise
# the script says what to install and fails. It knows nothing of the tests; the Makefile knows who needs what.
set -euo pipefail

have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }

# row NAME: prints the Debian package of NAME, after a test that is true when NAME is there already
row() {
    case "$1" in
        venv) python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv ;;
        nginx) have nginx || echo nginx-light ;;
        haproxy) have haproxy || echo haproxy ;;
        slowhttptest) have slowhttptest || echo slowhttptest ;;
        wrk) have wrk || echo wrk ;;
        node) have node || echo nodejs ;;
        chromium) have chromium || echo chromium ;;
        npm) have npm || echo npm ;;
        ip) have ip || echo iproute2 ;;
        prometheus) have prometheus || echo prometheus ;;
        alertmanager) have prometheus-alertmanager || echo prometheus-alertmanager ;;
        nft) have nft || echo nftables ;;
        rsyslogd) have rsyslogd || echo rsyslog ;;
        logrotate) have logrotate || echo logrotate ;;
        faketime) compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || echo libfaketime ;;
        *) echo "need.sh: no row for '$1'" >&2; exit 2 ;;
    esac
}

missing=()
for name in "$@"; do
    package=$(row "$name") || exit $?
    [ -z "$package" ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing Debian packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    if { apt-get -q update && apt-get -q -y --no-install-recommends install "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
        rm -f "$log"
        exit 0
    fi
    tail -n 20 "$log" >&2
    echo "apt-get could not install them; its last lines are above, the whole log is $log" >&2
    exit 1
fi
echo "These programs are missing and cannot be installed from here: ${missing[*]}" >&2
echo "On Debian or Ubuntu, run as root:  apt-get install ${missing[*]}" >&2
exit 1
