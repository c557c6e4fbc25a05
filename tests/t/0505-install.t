#!/bin/bash
# shellcheck disable=SC2317 # functions are called by ok and eventually
# 0505-install: what `make install` puts where, used from there: a program finds
# libbproc by pkg-config, and runs on a cluster of the installed services
. tests/lib.sh

need_root
command -v pkg-config >"$tmp/out" || plan_skip 'pkg-config is not installed'
root=$tmp/root
chmod 755 "$tmp"
unset MAKEFLAGS MAKELEVEL MFLAGS
install_it() { make -s SAN="${CM_SAN:-}" install DESTDIR="$root" PREFIX=/usr; }
ok 'make install' install_it
missing() { # FILE...: those that are not there
    local file
    for file; do
        [ -s "$root/usr/$file" ] || echo "$file"
    done
}
ok 'programs are where they belong' is '' missing bin/clustermatic bin/bpsh bin/bpps bin/bptrace bin/bpmove \
    libexec/clustermatic/bpmover libexec/clustermatic/busd libexec/clustermatic/bpghost libexec/clustermatic/bpfwd
ok 'so is the library, in all its forms' is '' missing lib/libbproc.so lib/libbproc.so.4 \
    lib/libbproc.a lib/pkgconfig/bproc.pc include/sys/bproc.h
ok 'and manuals, of each call too' is '' missing share/man/man1/bpsh.1 share/man/man8/clustermatic.8 \
    share/man/man3/bproc.3 share/man/man3/bproc_vexecmove.3 share/man/man3/bproc_chmod.3 \
    share/man/man3/bproc_nodefilter.3 share/man/man3/_bproc_rfork_io.3
not_readable() { # manual pages that man cannot follow
    local page target
    for page in "$root"/usr/share/man/man3/*.3; do
        target=$(sed -n 's/^\.so //p' "$page" | head -n 1)
        [ -z "$target" ] || [ -s "$root/usr/share/man/$target" ] || echo "$page"
    done
}
ok 'each leads to a page' is '' not_readable
ok 'completions and units' is '' missing share/bash-completion/completions/bpsh \
    share/bash-completion/completions/bptrace lib/systemd/system/clustermatic.target

export PKG_CONFIG_PATH=$root/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root
ok 'pkg-config knows bproc' has '^4\.' pkg-config --modversion bproc
flags=()
[ -z "${CM_SAN:-}" ] || flags=("-fsanitize=address,undefined")
build_with() { # CC OUT: the example, with what pkg-config says and nothing else
    local cc=$1 out=$2 words
    words=$(pkg-config --cflags --libs bproc) || return
    # shellcheck disable=SC2086 # words
    $cc -Wall -Wextra -Werror ${flags[@]+"${flags[@]}"} -o "$out" doc/examples/everywhere.c $words
}
ok 'a program is built with what it says' build_with gcc "$tmp/everywhere"
static() {
    gcc ${flags[@]+"${flags[@]}"} -I"$root/usr/include" -o "$tmp/everywhere-a" \
        doc/examples/everywhere.c "$root/usr/lib/libbproc.a"
}
ok 'or with the archive' static

PATH=$root/usr/bin:${PATH#*:}
export LD_LIBRARY_PATH=$root/usr/lib
here() { [ "$(command -v bpsh)" = "$root/usr/bin/bpsh" ]; }
ok 'the installed programs are those that we use' here
cluster_up 2
ok 'a cluster of them is up' is 2 bpstat -t up
ghosts_of() { readlink "/proc/$(pgrep -P "$1" | head -n 1)/exe"; }
bpsh -N 0 sleep 1000 & job=$!
on_exit+=("kill -9 $job 2>/dev/null")
stands() { [ "$(ghosts_of $job)" = "$root/usr/libexec/clustermatic/bpghost" ]; }
ok 'with ghosts of the installed kind' eventually 10 stands
kill "$(pgrep -P $job)"
wait $job
ok 'the program runs on it' has '^1: exit 3$' "$tmp/everywhere" up sh -c 'exit 3'
ok 'with the archive too' has '^0: exit 4$' env CM_LIBEXEC="$root/usr/libexec/clustermatic" \
    "$tmp/everywhere-a" up sh -c 'exit 4'
clustermatic down --name "$cluster" --purge
done_testing
