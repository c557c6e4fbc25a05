#!/bin/bash
# 0112-install: what `make install` puts where, and that it works from there;
# completions; the doctor; what `make deps` would install
# shellcheck disable=SC2016 # what is in quotes is for other shells
. tests/lib.sh

need_root
need libexec/clustermatic/busd libexec/clustermatic/bpvnode bin/bpsh

# --- the programs

dest=$tmp/dest
place=$dest/opt/cm
ok 'make install' make -s --no-print-directory B="$CM_BUILD" ${CM_SAN:+SAN=1} \
    DESTDIR="$dest" PREFIX=/opt/cm install
names() { find "$1" -maxdepth 1 -type f -printf '%f\n' | sort; }
ok 'every command is there' diff <(names "$CM_BUILD/bin") <(names "$place/bin")
ok 'every service and helper' diff <(names "$libexec") <(names "$place/libexec/clustermatic")
ok 'and policy' diff <(ls "$libexec/policies") <(ls "$place/libexec/clustermatic/policies")
ok 'as is every manual page' diff <(cd "$CM_BUILD" && find share/man -type f ! -name '.*' | sort) \
    <(cd "$place" && find share/man -type f | sort)
ok 'the ghost may choose its pid' has cap_checkpoint_restore getcap \
    "$place/libexec/clustermatic/bpghost"
ok 'a library to link with' test -e "$place/lib/libbproc.so.4" -a -e "$place/include/sys/bproc.h"
ok 'nothing speaks of the place where it was built' \
    not grep -rqF "$CM_BUILD" "$place/lib/systemd" "$place/share" "$place/include"

export PATH="$place/bin:$PATH"
hash -r
cluster_up 2
ok 'a cluster comes up from there' is "$place/libexec/clustermatic/busd" \
    readlink "/proc/$(pid_of busd)/exe"
ok 'and programs run' is 'n0 n1' bash -c 'bpsh -s 0,1 hostname | paste -sd" "'
ok 'for users as well' is 12345 as 12345 bpsh 1 id -u
clustermatic status --json | python3 -c 'import json, sys
for s in json.load(sys.stdin)["services"]: print("clustermatic-" + s["name"] + ".service")' |
    sort >"$tmp/services"
ok 'it goes down' clustermatic down --name "$cluster"
export PATH="$CM_BUILD/bin:${PATH#*:}"
hash -r

# --- units

units=$place/lib/systemd/system
ok 'the target is there' test -s "$units/clustermatic.target"
runs_something() {
    local program
    program=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$1")
    [ -x "$dest$program" ] || { echo "$1 runs $program"; return 1; }
}
for unit in "$units"/*.service; do
    ok "$(basename "$unit") runs what was installed" runs_something "$unit"
    ok 'the target wants it' grep -q "Wants=.*$(basename "$unit")" "$units/clustermatic.target"
done
ok 'there is one for each service' diff "$tmp/services" \
    <(find "$units" -name '*.service' -printf '%f\n' | sort)

# --- the scripts of the article's time, where no systemd is

init() { # init SCRIPT VERB
    env CM_RUNDIR="$run" CM_STATEDIR="$state" CM_LOGDIR="$logs" CM_CONFIG="$tmp/config" \
        "$dest/etc/init.d/$1" "$2"
}
mkdir -p "$dest/etc"
sed -i "s|/opt/cm|$place|" "$dest/etc/init.d"/*
echo 'iprange 0 198.18.1.0 198.18.1.1' >"$tmp/config"
ok '/etc/init.d/clustermatic status: it does not run' exits 3 init clustermatic status
ok 'stop: nothing is to be done' init clustermatic stop
ok 'start' init clustermatic start
ok 'once more: it runs already' init clustermatic start
ok 'status' has '^nodemgr +ready' init clustermatic status
ok 'nodes are those of the configuration' is 2 bpstat -t all
echo 'iprange 0 198.18.1.0 198.18.1.2' >"$tmp/config"
ok 'reload' init clustermatic reload
ok 'reads it again' is 3 bpstat -t all
ok 'reloadlibs' init clustermatic reloadlibs
echo 'iprange 0 198.18.1.0 198.18.1.3' >"$tmp/config"
ok 'the boot server has its old name' is beoserv cat "/proc/$(pid_of bootsrv)/comm"
kill -HUP "$(pid_of bootsrv)" # killall -HUP beoserv, but for ours only
four() { [ "$(bpstat -t all)" = 4 ]; }
ok 'and reads it again on HUP' eventually 20 four
ok '/etc/init.d/bjs start: it runs' init bjs start
ok 'status' is 'bjs: the scheduler runs' init bjs status
ok 'stop' init bjs stop
ok 'it does not run' exits 3 init bjs status
others() { init clustermatic status | grep -qE '^nodemgr +ready'; }
ok 'the others do' others
ok 'start' init bjs start
ok 'it runs' is 'bjs: the scheduler runs' init bjs status
ok 'bjs restart' init bjs restart
ok 'bjs reload' init bjs reload
ok 'clustermatic restart' init clustermatic restart
ok 'wrong words' exits 2 init bjs strat
ok 'of either' exits 2 init clustermatic strat
ok 'bjs stop' init bjs stop
ok 'clustermatic stop, with a part of it' init clustermatic stop
ok 'nothing runs' exits 3 init clustermatic status

# --- completions: each option that --help tells of is offered

completions=$place/share/bash-completion/completions
complete_() { # PROGRAM WORD...: what bash offers for the last
    bash -c '. "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        function=$(complete -p "$1" | sed "s/.*-F \([^ ]*\) .*/\1/")
        "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf "%s\n" "${COMPREPLY[@]}"' - "$completions/$1" "$@" 2>&1
}
offers_all() { # PROGRAM: its long options
    complete_ "$1" -- >"$tmp/offered"
    "$1" --help | grep -oE '(^|[ ,])--[a-z][a-z-]+' | tr -d ' ,' | sort -u |
        grep -vxFf "$tmp/offered" >"$tmp/missing"
    [ -s "$tmp/offered" ] && [ ! -s "$tmp/missing" ] && return
    echo 'not offered:'; cat "$tmp/missing"
    return 1
}
for program in $(names "$place/bin" | grep -vx clustermatic) bjssub bjsstat bjsctl; do
    ok "completion knows the options of $program" offers_all $program
done
offers() { # WANT PROGRAM WORD...
    local want=$1
    shift
    is "$want" joined complete_ "$@"
}
joined() { "$@" | sort | paste -sd' '; }
ok 'and the commands of clustermatic' offers 'reload restart' clustermatic re
ok 'after one, its own options' offers '--purge' clustermatic down --p
ok 'services to restart' offers iofwd clustermatic restart io
ok 'words for nodes' offers 'all' bpstat al
ok 'also behind others' offers '0-3,up' bpsh 0-3,up
ok 'commands behind nodes' has '^hostname$' complete_ bpsh 0 hostn
ok 'users' has '^root$' complete_ bpctl -S 0 -u roo

# --- the doctor

ok 'the doctor finds that this machine will do' clustermatic doctor
ok 'says what of it was looked at' has '^ok +namespaces ' clustermatic doctor
all_ok() {
    clustermatic doctor --json | python3 -c 'import json, sys
v = json.load(sys.stdin)
v = v["checks"] if isinstance(v, dict) else v
assert len(v) > 8 and all("name" in c for c in v), v'
}
ok '--json' all_ok
mkdir "$tmp/bin"
for program in "$CM_BUILD/bin/clustermatic" /bin/sh; do ln -s "$program" "$tmp/bin"; done
poor() { env PATH="$tmp/bin" CM_LIBEXEC="$libexec" "$CM_BUILD/bin/clustermatic" "$@"; }
without() { poor doctor >"$tmp/doctor"; }
ok 'without s6 it fails' exits 1 without
ok 'with the command that mends it' has 'apt-get install s6' cat "$tmp/doctor"
ok 'up says so too, before anything is begun' fails_with 'apt-get install s6' \
    poor up --name "${cluster}s" --virtual 1
ok 'and has left nothing' not test -e "/run/clustermatic-${cluster}s"
ok 'an ordinary user is told that root is needed' has '^MISSING +root ' \
    bash -c "setpriv --reuid 12345 --clear-groups '$CM_BUILD/bin/clustermatic' doctor; true"

# --- make deps: what is missing, and only that

printf '#!/bin/sh\nfor last; do :; done\n[ "$last" = s6 ] || [ "$last" = fuse3 ] || echo -n installed\n' \
    >"$tmp/bin/dpkg-query"
printf '#!/bin/sh\necho "$@" >>"%s"\n' "$tmp/apt" >"$tmp/bin/apt-get"
chmod 755 "$tmp/bin"/{dpkg-query,apt-get}
deps() { env PATH="$tmp/bin:$PATH" make/deps.sh "$@"; }
ok 'nothing is installed where all is there' deps build
ok 'nobody is asked for it' not test -e "$tmp/apt"
ok 'where two packages are missing' deps build run
ok 'these are installed, and no other' \
    is 'install -y -q --no-install-recommends s6 fuse3' cat "$tmp/apt"
ok 'an ordinary user is told how' fails_with 'sudo apt-get install s6 fuse3' \
    as 12345 env PATH="$tmp/bin:$PATH" make/deps.sh run
done_testing
