#!/bin/sh
# Installs Debian packages with apt, as root or through sudo: debian-packages.sh [PACKAGE...]
# Without arguments: those that hold the programs which the tests start, if a program is missing.
# With "browser": those that `make browser` starts.
# With "rivals": those that hold the programs which the benchmark alone starts.
# The servers among them are used as plain programs: none is left running or set to start
# at boot.
set -eu

# Name servers live in sbin, which the PATH of an ordinary Debian user lacks.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

packages=$*
programs=
case $packages in
"")
    # dnsmasq-base is the program alone; the package dnsmasq adds only the system service.
    programs='unbound:unbound nsd:nsd dnsmasq:dnsmasq-base dnsperf:dnsperf kdig:knot-dnsutils
        dig:bind9-dnsutils delv:bind9-dnsutils ip:iproute2 dnsdist:dnsdist curl:curl
        fstrm_capture:fstrm-bin dnstap:golang-github-dnstap-golang-dnstap-cli
        prometheus:prometheus redis-server:redis-server' ;;
browser) programs='chromium:chromium chromedriver:chromium-driver' packages= ;;
rivals) programs='smartdns:smartdns h2load:nghttp2-client' packages= ;;
esac
if [ -n "$programs" ]; then
    for pair in $programs; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || packages="$packages ${pair#*:}"
    done
    [ -n "$packages" ] || exit 0
fi
packages=${packages# }

give_up() {
    echo "Please install these Debian packages first: $packages" >&2
    exit 1
}

command -v apt-get >/dev/null 2>&1 || give_up
if [ "$(id -u)" -eq 0 ]; then
    as_root() { "$@"; }
elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    as_root() { sudo "$@"; }
else
    give_up
fi

echo "Installing Debian packages: $packages"

# Maintainer scripts ask this file before they start a daemon; 101 forbids it. One that the
# machine already has is its owner's decision, and stays.
guard=/usr/sbin/policy-rc.d
guarded=
restore() {
    [ -z "$guarded" ] || as_root rm -f "$guard"
    guarded=
}
trap restore EXIT
trap 'exit 1' HUP INT TERM
if [ ! -e "$guard" ]; then
    guarded=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$guard" >/dev/null
    as_root chmod 755 "$guard"
fi

log=$(mktemp)
apt() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1
}
# A package source that is down need not be one of ours: the installation decides.
apt update || true
# The names are meant to be split.
# shellcheck disable=SC2086
apt install --yes --no-install-recommends $packages || {
    cat "$log" >&2
    rm -f "$log"
    give_up
}
rm -f "$log"

restore
for daemon in unbound nsd dnsdist smartdns prometheus redis-server; do
    case " $packages " in
    *" $daemon "*) as_root update-rc.d "$daemon" disable >/dev/null 2>&1 || true ;;
    esac
done
